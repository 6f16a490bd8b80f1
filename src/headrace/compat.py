"""Standing in for asyncpg: for programs and libraries that import it by name."""

from __future__ import annotations

import importlib
import sys

# These two are here because editors that write imports have put `from asyncpg.compat import StrEnum` into programs.
from asyncio import wait_for as wait_for
from enum import StrEnum as StrEnum

SUBMODULES = {
    "compat": "headrace.compat",
    "connect_utils": "headrace.connect_utils",
    "connection": "headrace.connection",
    "cursor": "headrace.cursor",
    "exceptions": "headrace.errors",
    "exceptions._base": "headrace.errors._base",
    "pgproto": "headrace.pgproto",
    "pgproto.pgproto": "headrace.pgproto.pgproto",
    "pgproto.types": "headrace.types",
    "pool": "headrace.pool",
    "prepared_stmt": "headrace.prepared",
    "protocol": "headrace.protocol",
    "protocol.protocol": "headrace.protocol",
    "protocol.record": "headrace.protocol",
    "transaction": "headrace.transaction",
    "types": "headrace.types",
    "utils": "headrace.utils",
}
"""Submodule of asyncpg -> the module that stands in for it."""


def install_as_asyncpg() -> None:
    """Put headrace in the place of `asyncpg` and its submodules, for every `import asyncpg` from now on.

    To be called before anything imports asyncpg; raises RuntimeError where the real one was imported already, since
    what holds its classes would not find them again. Calling it twice does nothing.
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
    for name, module in SUBMODULES.items():
        stand_in = importlib.import_module(module)
        sys.modules[f"asyncpg.{name}"] = stand_in
        if "." not in name and not hasattr(package, name):
            setattr(package, name, stand_in)
