"""Programs written for asyncpg, each run by itself: what stands in for asyncpg does so for a whole process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Cluster

HERE = Path(__file__).parent
ROOT = HERE.parents[2]

PATIENCE = 120.0
"""Seconds after which a program is taken for hanging."""


def run(name: str, *args: str) -> str:
    """Run a program in development mode; fail, with what it wrote, where it does not come to its end."""
    command = [sys.executable, "-X", "dev", str(HERE / f"{name}_program.py"), *args]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    if done.returncode or not done.stdout.endswith("done\n"):
        pytest.fail(f"{name} {' '.join(args)}:\n{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def compare(name: str, server: Cluster) -> None:
    """Run a program with both drivers, each in a database of its own, and compare what they note (noting.py)."""
    theirs, ours = (noted(name, driver, server) for driver in ("asyncpg", "headrace"))
    for expected, found in zip(theirs, ours, strict=True):
        cause, *_ = causes if (causes := expected.pop("causes")) else [None]
        assert cause is None or cause in found["causes"], f"{name}: {cause} has become {found}"
        found.pop("causes")
        # headrace has hints of its own.
        assert expected["hint"] in (None, found.pop("hint")), name
        del expected["hint"]
        assert found == expected, name


PEP_249 = {
    "DatabaseError", "DataError", "IntegrityError", "InterfaceError", "InternalError", "NotSupportedError",
    "OperationalError", "ProgrammingError",
}  # fmt: skip


def compare_dialects(name: str, server: Cluster, other: set[str]) -> None:
    """Run a program through SQLAlchemy's asyncpg dialect and through headrace's own, and compare what they note.

    The classes of errors may differ: the own dialect has one for each class of SQLSTATEs. `other` has the beginnings of
    the labels of notes that differ for another reason.
    """
    theirs, ours = (noted(name, driver, server) for driver in ("headrace", "dialect"))
    different = set()
    for expected, found in zip(theirs, ours, strict=True):
        if expected["seen"] == found["seen"]:
            continue
        if found["seen"][0] in PEP_249 and expected["seen"][4:] == found["seen"][4:]:
            assert found["seen"][1] == found["seen"][0], f"{name}: {found}"
        else:
            different.add(expected["label"])
    unexplained = {label for label in different if not label.startswith(tuple(other))}
    assert not unexplained, f"{name}: {unexplained}"


def noted(name: str, driver: str, server: Cluster) -> list[dict[str, Any]]:
    """Return the notes of a program that a driver has run."""
    with server.database() as database:
        *lines, _done = run(name, driver, server.dsn(database)).splitlines()
        return [json.loads(line.replace(database, "DATABASE")) for line in lines if line.startswith("{")]
