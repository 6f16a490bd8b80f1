"""psqlpy, a driver on Rust's tokio-postgres."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import psqlpy

from bench.peers.peer import PeerConnection, PeerLoader, PeerPool, Rows, Table, Unsupported


class PsqlpyConnection:
    """A connection of psqlpy. Its Rust part pipelines overlapping calls."""

    def __init__(self, connection: psqlpy.Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> Rows:
        return (await self._connection.fetch(sql, list(args))).records()

    async def fetch_as(self, sql: str, row: type[Any]) -> Sequence[Any]:
        rows: list[Any] = (await self._connection.fetch(sql)).as_class(row)
        return rows

    async def execute(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def fetchrow_each(self, sql: str, keys: Sequence[int]) -> Rows:
        return [await _fetchrow(self._connection, sql, key) for key in keys]

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        return await asyncio.gather(*[_fetchrow(self._connection, sql, key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        raise Unsupported("there is no such call")

    async def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        async with self._connection.transaction() as transaction:
            # It accepts only lists; creating them is part of its cost.
            await transaction.execute_many(sql, [list(row) for row in rows])

    async def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        await self.executemany(table.insert, rows)

    async def insert_returning(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> Rows:
        raise Unsupported("its executemany returns no rows")

    async def copy_in(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        # Measured: with 100,000 rows every call hangs, with 10,000 one in ten, in a deadlock between the GIL and a
        # lock of psqlpy.
        raise Unsupported("copy_records_to_table hangs with many rows (psqlpy 0.13.1)")

    async def copy_out(self, table: Table) -> int:
        raise Unsupported("no COPY TO STDOUT")

    async def stream(self, sql: str) -> int:
        return await self.cursor(sql, 1_000)

    async def cursor(self, sql: str, prefetch: int) -> int:
        seen = 0
        async with self._connection.transaction() as transaction:
            # The third argument is the number of rows at a time. Its name differs between stub and module.
            cursor = transaction.cursor(sql, None, prefetch)
            await cursor.start()
            async for result in cursor:
                seen += len(result.records())
            cursor.close()
        return seen


class PsqlpyPool:
    """A pool of psqlpy. It has no query methods, so every query acquires a connection."""

    def __init__(self, pool: psqlpy.ConnectionPool) -> None:
        self._pool = pool

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        return await self.fetchrow_leased(sql, keys)

    async def fetchrow_in_tasks(self, sql: str, keys: Sequence[int], tasks: int) -> Rows:
        raise Unsupported("its pool has no query methods")

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        pool = self._pool

        async def fetchrow(key: int) -> object:
            async with pool.acquire() as connection:
                return await _fetchrow(connection, sql, key)

        return await asyncio.gather(*[fetchrow(key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        return await self.fetchrow_leased(sql, keys)

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        raise Unsupported("its pool has no query methods")

    def loader(self, sql: str, column: str) -> PeerLoader:
        raise Unsupported("it has no loader")


class Psqlpy:
    """psqlpy as a peer."""

    name = "psqlpy"
    overlapping = True
    only_at_once = False

    def version(self) -> str:
        return version("psqlpy")

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[PeerConnection]:
        connection = await psqlpy.connect(dsn)
        try:
            yield PsqlpyConnection(connection)
        finally:
            connection.close()

    @asynccontextmanager
    async def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AsyncIterator[PeerPool]:
        pool = psqlpy.ConnectionPool(dsn=dsn, max_db_pool_size=size)
        try:
            yield PsqlpyPool(pool)
        finally:
            pool.close()

    async def connect_each(self, dsn: str, count: int) -> None:
        for _ in range(count):
            connection = await psqlpy.connect(dsn)
            connection.close()

    def json(self, document: str) -> object:
        return json.loads(document)

    def range(self, lower: object, upper: object) -> object:
        raise Unsupported("no range types")


async def _fetchrow(connection: psqlpy.Connection, sql: str, key: int) -> object:
    return (await connection.fetch_row(sql, [key])).result(as_tuple=True)
