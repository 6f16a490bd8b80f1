"""fastpg, a driver in Rust whose pool shares its connections. It needs Python 3.13."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

import fastpg

from bench.peers.peer import PeerConnection, PeerLoader, PeerPool, Rows, Table, Unsupported


class FastpgConnection:
    """A connection of fastpg, which pipelines overlapping calls."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> Rows:
        rows: Rows = await self._connection.select_many(sql, *args)
        return rows

    async def fetch_as(self, sql: str, row: type[Any]) -> Sequence[Any]:
        raise Unsupported("its rows become msgspec Structs, NamedTuples or dicts")

    async def execute(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def fetchrow_each(self, sql: str, keys: Sequence[int]) -> Rows:
        connection = self._connection
        return [await connection.select_one(sql, key) for key in keys]

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        connection = self._connection
        return await asyncio.gather(*[connection.select_one(sql, key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        raise Unsupported("there is no such call")

    async def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        await self._connection.execute_many(sql, rows)

    async def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        await self.executemany(table.insert, rows)

    async def insert_returning(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> Rows:
        raise Unsupported("its bulk writes return no rows")

    async def copy_in(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        await self._connection.copy_in((table.schema, table.name), rows, columns=table.columns)

    async def copy_out(self, table: Table) -> int:
        raise Unsupported("no COPY TO STDOUT")

    async def stream(self, sql: str) -> int:
        raise Unsupported("no streams")

    async def cursor(self, sql: str, prefetch: int) -> int:
        raise Unsupported("no cursors")


class FastpgPool:
    """A pool of fastpg. Its own methods share connections, as headrace's do."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        pool = self._pool
        return await asyncio.gather(*[pool.select_one(sql, key) for key in keys])

    async def fetchrow_in_tasks(self, sql: str, keys: Sequence[int], tasks: int) -> Rows:
        pool, left = self._pool, iter(range(len(keys)))
        rows: list[Any] = [None] * len(keys)

        async def task() -> None:
            for number in left:
                rows[number] = await pool.select_one(sql, keys[number])

        await asyncio.gather(*[task() for _ in range(tasks)])
        return rows

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        pool = self._pool

        async def fetchrow(key: int) -> object:
            async with pool.acquire() as connection:
                return await connection.select_one(sql, key)

        return await asyncio.gather(*[fetchrow(key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        return await self.fetchrow_leased(sql, keys)

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        pool, left = self._pool, iter(keys)

        async def task() -> None:
            for key in left:
                await pool.execute(sql, key)

        await asyncio.gather(*[task() for _ in range(tasks)])

    def loader(self, sql: str, column: str) -> PeerLoader:
        raise Unsupported("it has no loader")


class Fastpg:
    """fastpg as a peer."""

    name = "fastpg"
    overlapping = True
    only_at_once = False

    def version(self) -> str:
        return version("fastpg")

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[PeerConnection]:
        connection = await fastpg.connect(dsn)
        try:
            yield FastpgConnection(connection)
        finally:
            await connection.close()

    @asynccontextmanager
    async def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AsyncIterator[PeerPool]:
        async with await fastpg.create_pool(dsn, min_size=size, max_size=size) as pool:
            yield FastpgPool(pool)

    async def connect_each(self, dsn: str, count: int) -> None:
        for _ in range(count):
            connection = await fastpg.connect(dsn)
            await connection.close()

    def json(self, document: str) -> object:
        return json.loads(document)

    def range(self, lower: object, upper: object) -> object:
        raise Unsupported("no range types")
