"""The peers by name, in the order of the table's columns."""

from __future__ import annotations

from importlib.util import find_spec

from bench.peers.peer import Peer

OPTIONAL = {"fastpg": "fastpg", "adbc": "adbc_driver_postgresql"}
"""Peers that not every Python can have, and their modules."""

NAMES = (
    "headrace", "asyncpg", "psycopg", "psycopg-pipeline", "psqlpy",
    *(name for name, module in OPTIONAL.items() if find_spec(module)),
)  # fmt: skip


def load_peer(name: str) -> Peer:
    """Import a driver and return its adapter.

    Raises ImportError if the driver is not installed, ValueError if the name is not in NAMES.
    """
    # The imports are here, so that a peer's process loads only that peer.
    match name:
        case "headrace":
            from bench.peers.asyncpg_api import AsyncpgApi

            return AsyncpgApi("headrace", overlapping=True, typed=True)
        case "asyncpg":
            from bench.peers.asyncpg_api import AsyncpgApi

            return AsyncpgApi("asyncpg", overlapping=False, typed=False)
        case "psycopg":
            from bench.peers.psycopg import Psycopg

            return Psycopg()
        case "psycopg-pipeline":
            from bench.peers.psycopg import PsycopgPipeline

            return PsycopgPipeline()
        case "psqlpy":
            from bench.peers.psqlpy import Psqlpy

            return Psqlpy()
        case "fastpg":
            from bench.peers.fastpg import Fastpg

            return Fastpg()
        case "adbc":
            from bench.peers.adbc import Adbc

            return Adbc()
    raise ValueError(f"peer: expected one of {', '.join(NAMES)}, got {name!r}")
