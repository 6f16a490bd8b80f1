"""Measure which lines the tests run, of Python and of Cython: python tools/measure_coverage.py [ARGUMENTS FOR PYTEST]

Everything happens in a copy of the tree, build/coverage, with extension modules that report each line to coverage.py.
The modules of the tree itself stay as they are. Only files that have changed are copied and compiled again. Without
arguments the tests of the wire, the session, the driver and the servers run.

Prints a figure for Python and one for Cython, and the files with the most lines that no test ran. The whole result,
line by line, is in build/coverage/html. The exit status is pytest's; failing tests do not prevent the report.

From Python 3.13 on, compiled code reports its lines through sys.monitoring, which Cython's plugin for coverage.py does
not support. The tool refuses to run there.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from coverage import Coverage

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tools import copied_tree  # noqa: E402

COPY = ROOT / "build" / "coverage"
DIRECTORIES = ("src", "tests", "tools", "examples", "docs")
FILES = ("setup.py", "pyproject.toml", "conftest.py", "README.md", "LICENSE")
GENERATED = COPY / "build" / "cython-coverage"
PACKAGE = COPY / "src" / "headrace"
REPORT = COPY / "html"

DEFAULT = [
    "tests",
    "--ignore=tests/compat",
    "--ignore=tests/fault",
    "--ignore=tests/tools",
    "-m",
    "not slow",
    # They count objects and memory, and the tracer has some of its own.
    "--ignore=tests/core/pipeline/test_leaks.py",
    # They break off a COPY of ten million rows; traced code cannot read the rest within the limit of five seconds.
    "--deselect=tests/copy/test_reader_and_writer.py::test_leaving_early_gives_the_connection_back",
    "--deselect=tests/copy/test_reader_and_writer.py::test_a_decoder_that_raises_ends_the_copy_and_nothing_else",
]
"""The tests that run without arguments."""

LISTED = 12
"""How many files of each kind are listed."""

TRACED_BELOW = (3, 13)


class Covered(NamedTuple):
    """The lines of one file that can run, and those of them that no test ran."""

    name: str
    lines: int
    missed: int


def main(arguments: list[str]) -> int:
    """Copy, build, run and report; return pytest's exit status."""
    if sys.version_info >= TRACED_BELOW:
        found, needed = (".".join(map(str, version[:2])) for version in (sys.version_info, TRACED_BELOW))
        raise SystemExit(f"coverage of Cython needs a Python older than {needed}, and this is {found}: see {__file__}")
    copied_tree.update(ROOT, COPY, (*DIRECTORIES, *FILES))
    build()
    status = run(arguments or DEFAULT)
    report()
    return status


def build() -> None:
    """Compile the extension modules of the copy, and put the generated C beside them."""
    copied_tree.build(COPY, "HEADRACE_COVERAGE", "for coverage")
    # Cython's plugin reads from the C file which lines of a module can run, and looks for it beside the module.
    for source in sorted(GENERATED.rglob("*.c")):
        link = COPY / source.relative_to(GENERATED)
        link.unlink(missing_ok=True)
        link.symlink_to(source)


def run(arguments: list[str]) -> int:
    """Run pytest in the copy, and combine what its workers and their subprocesses have measured."""
    environment = os.environ | {"PYTHONPATH": str(COPY / "src"), "PYTHONDONTWRITEBYTECODE": "1"}

    def measured(*command: str) -> int:
        return subprocess.run([sys.executable, "-m", "coverage", *command], cwd=COPY, env=environment).returncode

    measured("erase")
    options = ["-n", "auto", "--dist", "worksteal", "-p", "no:cacheprovider"]
    # Traced code is slow: the profile has no deadlines and fewer examples, and tests have half an hour.
    options += ["--hypothesis-profile=sanitized", "-o", "faulthandler_timeout=1800"]
    status = measured("run", "-m", "pytest", *options, *arguments)
    if measured("combine", "--quiet") != 0:
        raise SystemExit(f"nothing was measured; pytest's exit status is {status}")
    return status


@contextmanager
def package_in_root() -> Iterator[None]:
    """Link the package into the copy's root, and remove the link at the end.

    In generated C, .pyx files are named from the root and .pxd files from src. If Cython's plugin finds no file of that
    name, it can take another module's .pxd for it. While tests run, the link would be another package to import.
    """
    link = COPY / PACKAGE.name
    link.unlink(missing_ok=True)
    link.symlink_to(PACKAGE)
    try:
        yield
    finally:
        link.unlink()


@package_in_root()
def report() -> None:
    """Print the figures and write the HTML report."""
    from coverage import Coverage

    os.chdir(COPY)
    measured = Coverage()
    measured.load()
    found = {path: covered(measured, path) for path in sorted(measured.get_data().measured_files())}
    never_loaded = sorted(str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.pyx") if str(path) not in found)
    print()
    for language, suffixes in (("Python", (".py",)), ("Cython", (".pyx", ".pxd"))):
        summarize(language, [each for path, each in found.items() if path.endswith(suffixes)])
    if never_loaded:
        print(f"not in these figures, since no test loaded them: {', '.join(never_loaded)}\n")
    measured.html_report(directory=str(REPORT), title="headrace")
    print(f"line by line: {REPORT.relative_to(ROOT)}/index.html")


def covered(measured: Coverage, path: str) -> Covered:
    """Return the figures of one file."""
    _, lines, _, missed, _ = measured.analysis2(path)
    return Covered(str(Path(path).relative_to(PACKAGE)), len(lines), len(missed))


def summarize(language: str, files: list[Covered]) -> None:
    """Print the figure for one language and its files with the most lines that no test ran."""
    lines = sum(each.lines for each in files)
    missed = sum(each.missed for each in files)
    print(f"{language}: {percent(lines, missed)} of {lines:,} lines in {len(files)} files; {missed:,} did not run")
    for each in sorted(files, key=lambda each: -each.missed)[:LISTED]:
        if each.missed:
            print(f"  {each.name:<40} {percent(each.lines, each.missed):>7} {each.missed:>5} of {each.lines:,}")
    print()


def percent(lines: int, missed: int) -> str:
    """Return how many of the lines ran, rounded down so that 100.0 % means all of them."""
    return f"{int(1000 * (lines - missed) / lines) / 10 if lines else 100.0} %"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
