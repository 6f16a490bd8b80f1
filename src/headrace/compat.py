"""Replaces asyncpg for programs and libraries that import it by name."""

from __future__ import annotations

import importlib
import sys

# These two are exported because editors have inserted `from asyncpg.compat import StrEnum` into programs.
from asyncio import wait_for as wait_for
from collections.abc import Sequence
from enum import StrEnum as StrEnum
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

HOME = Path(__file__).parent

SUBMODULES = (
    "_version",
    "compat",
    "connect_utils",
    "connection",
    "cursor",
    "exceptions",
    "exceptions._base",
    "pgproto",
    "pgproto.pgproto",
    "pgproto.types",
    "pool",
    "prepared_stmt",
    "protocol",
    "protocol.protocol",
    "protocol.record",
    "serverversion",
    "transaction",
    "types",
    "utils",
)
"""The modules that headrace has in common with asyncpg. A package comes before its modules."""


class OwnFiles:
    """Refuses submodules of asyncpg that would be found only because headrace has a file of that name.

    Python looks for them in headrace's directory and would load such a file a second time, as another module whose
    exception classes are never raised.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return None, or raise ModuleNotFoundError if another finder would load headrace's own file for asyncpg."""
        if fullname.startswith("asyncpg."):
            found = PathFinder.find_spec(fullname, path, target)
            if found is not None and found.origin is not None and Path(found.origin).is_relative_to(HOME):
                raise ModuleNotFoundError(f"headrace is installed as asyncpg and has no {fullname}", name=fullname)
        return None


def install_as_asyncpg() -> None:
    """Install headrace as `asyncpg` with its submodules, for every `import asyncpg` from now on.

    Call it before anything imports asyncpg. It raises RuntimeError if the real asyncpg was imported already, because
    code that holds its classes would not match headrace's. Calling it twice has no effect.
    """
    package = importlib.import_module("headrace")
    present = sys.modules.get("asyncpg")
    if present is package:
        return
    if present is not None:
        raise RuntimeError(
            "asyncpg has been imported already: call headrace.install_as_asyncpg() before anything imports it"
        )
    sys.modules["asyncpg"] = package
    for name in SUBMODULES:
        sys.modules[f"asyncpg.{name}"] = importlib.import_module(f"headrace.{name}")
    sys.meta_path.insert(0, OwnFiles())
