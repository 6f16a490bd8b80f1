"""The interface of a driver to the workloads. Each adapter uses its driver as the driver's documentation advises.

The measured loops are in the adapters, so that no code of the benchmark runs once per query inside the measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

Rows = Sequence[Any]
"""Rows with every value decoded, each row indexable by position."""


class Unsupported(Exception):
    """The driver cannot do this. The message becomes a footnote of the table."""


@dataclass(frozen=True)
class Table:
    """A table for COPY: its schema, name, columns and their types, in order."""

    schema: str
    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def qualified(self) -> str:
        return f"{self.schema}.{self.name}"

    @property
    def insert(self) -> str:
        """The INSERT of one row, with a parameter for each column."""
        return f"INSERT INTO {self.qualified} VALUES ({', '.join(f'${i + 1}' for i in range(len(self.columns)))})"


class PeerConnection(Protocol):
    """One connection. SQL has ``$n`` parameters; statements stay prepared between calls."""

    async def fetch(self, sql: str, *args: object) -> Rows:
        """Return all rows of a query."""
        ...

    async def fetch_as(self, sql: str, row: type[Any]) -> Sequence[Any]:
        """Return all rows of a query as objects of a class whose fields have the names of the columns."""
        ...

    async def execute(self, sql: str) -> None:
        """Run a statement that returns no rows."""
        ...

    async def fetchrow_each(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the row of each key, with one query after another."""
        ...

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the row of each key, with all queries at once. Raises Unsupported if calls may not overlap."""
        ...

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the row of each key by one call. Raises Unsupported without one."""
        ...

    async def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement for each row, in one transaction if the driver does so."""
        ...

    async def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert Python rows into a table by INSERTs, or as the driver does that best; all or none."""
        ...

    async def insert_returning(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> Rows:
        """Insert Python rows, all or none, and return the first column of each. Raises Unsupported if it cannot."""
        ...

    async def copy_in(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Copy Python rows into a table in binary format."""
        ...

    async def copy_out(self, table: Table) -> int:
        """Copy a table out in binary format to a sink that drops it; return the number of bytes."""
        ...

    async def stream(self, sql: str) -> int:
        """Read the rows of a query one by one, in bounded memory, in the driver's fastest way; return their number."""
        ...

    async def cursor(self, sql: str, prefetch: int) -> int:
        """Read a query through a cursor, ``prefetch`` rows at a time; return the number of rows."""
        ...


class PeerLoader(Protocol):
    """Look-ups that a driver puts together, or each for itself on a connection acquired for it if it cannot."""

    async def load_at_once(self, keys: Sequence[int]) -> Rows:
        """Return the row of each key: by one future for each, all at once."""
        ...

    async def load_in_tasks(self, keys: Sequence[int]) -> Rows:
        """Return the row of each key, asked for by a task of its own."""
        ...

    async def load_many(self, keys: Sequence[int]) -> Rows:
        """Return the row of each key, by one call."""
        ...


class PeerPool(Protocol):
    """A pool of a fixed size, all its connections open."""

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the row of each key, all at once, with the pool's own method if it has one."""
        ...

    async def fetchrow_in_tasks(self, sql: str, keys: Sequence[int], tasks: int) -> Rows:
        """Return the row of each key with the pool's own method, in several tasks. Raises Unsupported without one."""
        ...

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the row of each key, all at once, each on a connection acquired for it."""
        ...

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        """Return the row of each key by one call, or in the way of `fetchrow_leased()` if there is no such call."""
        ...

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        """Run a statement for each key with the pool's own method, in several tasks. Raises Unsupported without one."""
        ...

    def loader(self, sql: str, column: str) -> PeerLoader:
        """Return the loader of a query that ends in `= $1`. Raises Unsupported if the driver is not measured on it."""
        ...


class Peer(Protocol):
    """A driver.

    overlapping: calls on one of its connections may overlap. only_at_once: it differs from another peer only for
    queries that run all at once, and is only measured on those.
    """

    name: str
    overlapping: bool
    only_at_once: bool

    def version(self) -> str: ...

    def connection(self, dsn: str) -> AbstractAsyncContextManager[PeerConnection]: ...

    def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AbstractAsyncContextManager[PeerPool]: ...

    async def connect_each(self, dsn: str, count: int) -> None:
        """Open and close a connection, ``count`` times, one after another."""
        ...

    def json(self, document: str) -> object:
        """Return a JSON document in the form that the driver accepts as an argument."""
        ...

    def range(self, lower: object, upper: object) -> object:
        """Return a range from `lower` to below `upper`, in the form that the driver accepts as an argument."""
        ...
