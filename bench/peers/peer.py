"""What a workload asks of a driver, so that each driver does it the way its own documentation would.

The measured loops live in the adapters: nothing of ours is called once a query between the clock and the
driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

Rows = Sequence[Any]
"""Rows with every value decoded, each row indexable by position."""


class Unsupported(Exception):
    """The driver has no way to do this; the message is the footnote of the table."""


@dataclass(frozen=True)
class Table:
    """A table to copy into or out of: its schema, name, columns and their types, in order."""

    schema: str
    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"


class PeerConnection(Protocol):
    """One connection. SQL has ``$n`` parameters; statements stay prepared between calls."""

    async def fetch(self, sql: str, *args: object) -> Rows:
        """Return all rows of a query."""
        ...

    async def fetch_as(self, sql: str, row: type[Any]) -> Sequence[Any]:
        """Return all rows of a query as objects of a class whose fields are called as the columns are."""
        ...

    async def execute(self, sql: str) -> None:
        """Run a statement that returns no rows."""
        ...

    async def fetchrow_each(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the one row of each key, asking one after another."""
        ...

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the one row of each key, asking all at once; Unsupported where calls may not overlap."""
        ...

    async def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement for each row, as one transaction where the driver makes it one."""
        ...

    async def copy_in(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Copy Python rows into a table in binary format."""
        ...

    async def copy_out(self, table: Table) -> int:
        """Copy a table out in binary format to a sink that drops it; return the number of bytes."""
        ...

    async def stream(self, sql: str, prefetch: int) -> int:
        """Read a query through a cursor, ``prefetch`` rows a time; return the number of rows seen."""
        ...


class PeerPool(Protocol):
    """A pool of a fixed size, all its connections open."""

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the one row of each key, all at once, by the pool's own method where it has one."""
        ...

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the one row of each key, all at once, each on a connection acquired for it."""
        ...

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        """Run a statement for each key by the pool's own method, in so many tasks; Unsupported if it has none."""
        ...


class Peer(Protocol):
    """A driver.

    overlapping: calls on one of its connections may overlap. only_at_once: it differs from another peer only
    in queries asked all at once, and is measured on those alone.
    """

    name: str
    overlapping: bool
    only_at_once: bool

    def version(self) -> str: ...

    def connection(self, dsn: str) -> AbstractAsyncContextManager[PeerConnection]: ...

    def pool(self, dsn: str, size: int) -> AbstractAsyncContextManager[PeerPool]: ...

    async def connect_each(self, dsn: str, count: int) -> None:
        """Open and close a connection, ``count`` times, one after another."""
        ...

    def json(self, document: str) -> object:
        """Return a JSON document as the driver takes it for an argument."""
        ...

    def range(self, lower: object, upper: object) -> object:
        """Return a range, lower bound included and upper excluded, as the driver takes it for an argument."""
        ...
