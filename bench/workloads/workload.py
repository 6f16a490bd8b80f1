"""A workload: its operation, the size of a sample, and the requirement on the result."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from bench.peers.peer import Peer

POOL_SIZE = 6


@dataclass(frozen=True)
class Scale:
    """The sizes: look-ups at once, rows written in bulk, rows streamed."""

    lookups: int = 10_000
    bulk_rows: int = 100_000
    stream_rows: int = 5_000_000


FULL = Scale()
QUICK = Scale(lookups=2_000, bulk_rows=10_000, stream_rows=250_000)


@dataclass(frozen=True)
class Job:
    """A workload opened on one peer: statements are prepared, connections are open.

    run: do a number of operations and return the last result. check: raise AssertionError if that result is wrong;
    awaited once, outside the measurement. reset: restore the database; awaited before each sample, outside the
    measurement. units: the units that one operation counts for, such as the rows of one fetch. note: a footnote for
    this peer's column.
    """

    run: Callable[[int], Awaitable[object]]
    check: Callable[[Any], Awaitable[None]]
    reset: Callable[[], Awaitable[object]] | None = None
    units: int = 1
    note: str = ""


Open = Callable[[Peer, str], AbstractAsyncContextManager[Job]]
"""Opens a workload on a peer, given the server's DSN."""


@dataclass(frozen=True)
class Limit:
    """The same work in C: a pgbench script. ``pipeline`` queries go out together (1: one at a time).

    queries: how many all clients run together in one sample. reconnect: a connection for each run of the
    script.
    """

    script: str
    clients: int
    queries: int
    pipeline: int = 1
    reconnect: bool = False


@dataclass(frozen=True)
class AtLeast:
    """headrace must be this many times as fast as a peer in the same run."""

    times: float
    over: str = "asyncpg"

    def __str__(self) -> str:
        return f"≥ {self.times:g}x"


@dataclass(frozen=True)
class Below:
    """headrace's peak memory must grow by less than this."""

    megabytes: float

    def __str__(self) -> str:
        return f"< {self.megabytes:g} MB"


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    batch: operations in a sample; None repeats one operation until the sample is long enough. at_once: all
    queries run at once. memory: memory is measured, from one sample in a new process.
    """

    name: str
    title: str
    unit: str
    group: str
    open: Open
    batch: int | None = None
    at_once: bool = False
    memory: bool = False
    requirement: AtLeast | Below | None = None
    limit: Limit | None = None


def expect(condition: bool, message: str) -> None:
    """Raise AssertionError with the message unless the condition holds, under ``-O`` too."""
    if not condition:
        raise AssertionError(message)
