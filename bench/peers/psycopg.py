"""psycopg 3 with its C part, raw ``$n`` cursors and binary results; the same with its explicit pipeline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Json
from psycopg.types.range import Range
from psycopg_pool import AsyncConnectionPool

from bench.peers.peer import PeerConnection, PeerLoader, PeerPool, Rows, Table, Unsupported

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

OPTIONS: dict[str, Any] = {
    # One statement is one round trip, as in the other drivers.
    "autocommit": True,
    # `$n` is sent unchanged; no query is rewritten.
    "cursor_factory": psycopg.AsyncRawCursor,
    # Prepare at the first execution instead of the fifth.
    "prepare_threshold": 0,
}


class PsycopgConnection:
    """A connection of psycopg."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *args: object) -> Rows:
        cursor = await self._connection.execute(_sql(sql), args, binary=True)
        return await cursor.fetchall()

    async def fetch_as(self, sql: str, row: type[Any]) -> Sequence[Any]:
        async with self._connection.cursor(binary=True, row_factory=class_row(row)) as cursor:
            await cursor.execute(_sql(sql))
            return await cursor.fetchall()

    async def execute(self, sql: str) -> None:
        await self._connection.execute(_sql(sql))

    async def fetchrow_each(self, sql: str, keys: Sequence[int]) -> Rows:
        query = _sql(sql)
        return [await _fetchrow(self._connection, query, key) for key in keys]

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        query = _sql(sql)
        return await asyncio.gather(*[_fetchrow(self._connection, query, key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        raise Unsupported("there is no such call")

    async def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        async with self._connection.transaction(), self._connection.cursor() as cursor:
            await cursor.executemany(_sql(sql), rows)

    async def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        await self.executemany(table.insert, rows)

    async def insert_returning(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> Rows:
        found: list[Any] = []
        async with self._connection.transaction(), self._connection.cursor(binary=True) as cursor:
            await cursor.executemany(_sql(f"{table.insert} RETURNING {table.columns[0]}"), rows, returning=True)
            async for results in cursor.results():
                found += await results.fetchall()
        return found

    async def copy_in(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        statement = f"COPY {table.qualified} ({', '.join(table.columns)}) FROM STDIN (FORMAT binary)"
        async with self._connection.cursor() as cursor, cursor.copy(_sql(statement)) as copy:
            copy.set_types(table.types)
            for row in rows:
                await copy.write_row(row)

    async def copy_out(self, table: Table) -> int:
        size = 0
        statement = f"COPY {table.qualified} TO STDOUT (FORMAT binary)"
        async with self._connection.cursor() as cursor, cursor.copy(_sql(statement)) as copy:
            async for data in copy:
                size += len(data)
        return size

    async def stream(self, sql: str) -> int:
        seen = 0
        async with self._connection.cursor() as cursor:
            async for _ in cursor.stream(_sql(sql), binary=True):
                seen += 1
        return seen

    async def cursor(self, sql: str, prefetch: int) -> int:
        seen = 0
        async with (
            self._connection.transaction(),
            psycopg.AsyncServerCursor(self._connection, "stream") as cursor,
        ):
            cursor.itersize = prefetch
            await cursor.execute(_sql(sql), binary=True)
            async for _ in cursor:
                seen += 1
        return seen


class PsycopgPool:
    """A pool of psycopg. It has no query methods, so every query acquires a connection."""

    def __init__(self, pool: AsyncConnectionPool[Connection]) -> None:
        self._pool = pool

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        return await self.fetchrow_leased(sql, keys)

    async def fetchrow_in_tasks(self, sql: str, keys: Sequence[int], tasks: int) -> Rows:
        raise Unsupported("its pool has no query methods")

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        pool, query = self._pool, _sql(sql)

        async def fetchrow(key: int) -> object:
            async with pool.connection() as connection:
                return await _fetchrow(connection, query, key)

        return await asyncio.gather(*[fetchrow(key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        return await self.fetchrow_leased(sql, keys)

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        raise Unsupported("its pool has no query methods")

    def loader(self, sql: str, column: str) -> PeerLoader:
        raise Unsupported("it has no loader")


class Psycopg:
    """psycopg as a peer."""

    name = "psycopg"
    overlapping = True
    only_at_once = False

    def version(self) -> str:
        return f"{psycopg.__version__} ({psycopg.pq.__impl__})"

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[PeerConnection]:
        async with await _connect(dsn) as connection:
            yield PsycopgConnection(connection)

    @asynccontextmanager
    async def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AsyncIterator[PeerPool]:
        async with _pool(dsn, size) as pool:
            await pool.wait()
            yield PsycopgPool(pool)

    async def connect_each(self, dsn: str, count: int) -> None:
        for _ in range(count):
            connection = await _connect(dsn)
            await connection.close()

    def json(self, document: str) -> object:
        return Json(json.loads(document))

    def range(self, lower: object, upper: object) -> object:
        return Range(lower, upper)


class PipelineConnection(PsycopgConnection):
    """A connection of psycopg that sends look-ups inside ``connection.pipeline()``."""

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        return await _pipeline(self._connection, sql, keys)


class PipelinePool:
    """A pool of psycopg that divides the keys among its connections, with a pipeline on each."""

    def __init__(self, pool: AsyncConnectionPool[Connection], size: int) -> None:
        self._pool = pool
        self._size = size

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        async def fetchrows(part: Sequence[int]) -> Rows:
            async with self._pool.connection() as connection:
                return await _pipeline(connection, sql, part)

        share = -(-len(keys) // self._size)
        parts = [keys[start : start + share] for start in range(0, len(keys), share)]
        return [row for rows in await asyncio.gather(*[fetchrows(part) for part in parts]) for row in rows]

    async def fetchrow_in_tasks(self, sql: str, keys: Sequence[int], tasks: int) -> Rows:
        raise Unsupported("its pool has no query methods")

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        raise Unsupported("a lease for each query leaves nothing to pipeline")

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        return await self.fetchrow_at_once(sql, keys)

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        raise Unsupported("its pool has no query methods")

    def loader(self, sql: str, column: str) -> PeerLoader:
        raise Unsupported("it has no loader")


class PsycopgPipeline(Psycopg):
    """psycopg with its explicit pipeline, for look-ups at once only. The rest is in psycopg's column."""

    name = "psycopg-pipeline"
    only_at_once = True

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[PeerConnection]:
        async with await _connect(dsn) as connection:
            yield PipelineConnection(connection)

    @asynccontextmanager
    async def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AsyncIterator[PeerPool]:
        async with _pool(dsn, size) as pool:
            await pool.wait()
            yield PipelinePool(pool, size)


async def _connect(dsn: str) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, **OPTIONS)


def _pool(dsn: str, size: int) -> AsyncConnectionPool[Connection]:
    return AsyncConnectionPool(dsn, kwargs=OPTIONS, min_size=size, max_size=size, open=False)


async def _fetchrow(connection: Connection, query: LiteralString, key: int) -> object:
    cursor = await connection.execute(query, (key,), binary=True)
    return await cursor.fetchone()


async def _pipeline(connection: Connection, sql: str, keys: Sequence[int]) -> Rows:
    query = _sql(sql)
    async with connection.pipeline():
        cursors = [await connection.execute(query, (key,), binary=True) for key in keys]
        return [await cursor.fetchone() for cursor in cursors]


def _sql(text: str) -> LiteralString:
    """Return a statement as the literal that psycopg's types require. The SQL of every workload is one."""
    return text
