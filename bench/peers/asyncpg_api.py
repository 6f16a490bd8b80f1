"""asyncpg and headrace, which has the same public API: one adapter for both modules."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench.peers.peer import PeerConnection, PeerLoader, PeerPool, Rows, Table, Unsupported


class AsyncpgConnection:
    """A connection of a module with asyncpg's API."""

    def __init__(self, connection: Any, overlapping: bool, typed: bool) -> None:
        self._connection = connection
        self._overlapping = overlapping
        self._typed = typed

    async def fetch(self, sql: str, *args: object) -> Rows:
        rows: Rows = await self._connection.fetch(sql, *args)
        return rows

    async def fetch_as(self, sql: str, row: type[Any]) -> Sequence[Any]:
        if self._typed:
            rows: list[Any] = await self._connection.fetch(sql, row=row)
            return rows
        return [row(**record) for record in await self._connection.fetch(sql)]

    async def execute(self, sql: str) -> None:
        await self._connection.execute(sql)

    async def fetchrow_each(self, sql: str, keys: Sequence[int]) -> Rows:
        connection = self._connection
        return [await connection.fetchrow(sql, key) for key in keys]

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        if not self._overlapping:
            raise Unsupported("a connection runs one query at a time")
        connection = self._connection
        return await asyncio.gather(*[connection.fetchrow(sql, key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        return [row async for row in _method(self._connection, "fetchrow_each")(sql, zip(keys))]

    async def executemany(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        await self._connection.executemany(sql, rows)

    async def insert(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        insert_records = getattr(self._connection, "insert_records", None)
        if insert_records is None:
            await self._connection.executemany(table.insert, rows)
        else:
            await insert_records(table.name, rows, columns=table.columns, schema_name=table.schema)

    async def insert_returning(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> Rows:
        column = table.columns[0]
        insert_records = getattr(self._connection, "insert_records", None)
        if insert_records is None:
            found: Rows = await _method(self._connection, "fetchmany")(f"{table.insert} RETURNING {column}", rows)
        else:
            found = await insert_records(
                table.name, rows, columns=table.columns, schema_name=table.schema, returning=[column]
            )
        return found

    async def copy_in(self, table: Table, rows: Sequence[tuple[Any, ...]]) -> None:
        copy = _method(self._connection, "copy_records_to_table")
        await copy(table.name, records=rows, columns=table.columns, schema_name=table.schema)

    async def copy_in_columns(self, table: Table, rows: Sequence[tuple[Any, ...]], columns: Any) -> None:
        copy = getattr(self._connection, "copy_arrow_to_table", None)
        if copy is None:
            await self.copy_in(table, rows)
        else:
            await copy(table.name, columns, schema_name=table.schema)

    async def copy_out(self, table: Table) -> int:
        size = 0

        async def sink(data: bytes) -> None:
            nonlocal size
            size += len(data)

        copy = _method(self._connection, "copy_from_table")
        await copy(table.name, output=sink, schema_name=table.schema, format="binary")
        return size

    async def stream(self, sql: str) -> int:
        stream = getattr(self._connection, "stream", None)
        if stream is None:
            return await self.cursor(sql, 1_000)
        seen = 0
        async for _ in stream(sql):
            seen += 1
        return seen

    async def cursor(self, sql: str, prefetch: int) -> int:
        seen = 0
        async with self._connection.transaction():
            async for _ in self._connection.cursor(sql, prefetch=prefetch):
                seen += 1
        return seen


class AsyncpgPool:
    """A pool of a module with asyncpg's API."""

    def __init__(self, pool: Any, loader: Any) -> None:
        self._pool = pool
        self._loader = loader

    async def fetchrow_at_once(self, sql: str, keys: Sequence[int]) -> Rows:
        pool = self._pool
        return await asyncio.gather(*[pool.fetchrow(sql, key) for key in keys])

    async def fetchrow_in_tasks(self, sql: str, keys: Sequence[int], tasks: int) -> Rows:
        pool, left = self._pool, iter(range(len(keys)))
        rows: list[Any] = [None] * len(keys)

        async def task() -> None:
            for number in left:
                rows[number] = await pool.fetchrow(sql, keys[number])

        await asyncio.gather(*[task() for _ in range(tasks)])
        return rows

    async def fetchrow_leased(self, sql: str, keys: Sequence[int]) -> Rows:
        pool = self._pool

        async def fetchrow(key: int) -> object:
            async with pool.acquire() as connection:
                return await connection.fetchrow(sql, key)

        return await asyncio.gather(*[fetchrow(key) for key in keys])

    async def fetchrow_in_one(self, sql: str, keys: Sequence[int]) -> Rows:
        each = getattr(self._pool, "fetchrow_each", None)
        if each is None:
            return await self.fetchrow_leased(sql, keys)
        return [row async for row in each(sql, zip(keys))]

    async def execute_each(self, sql: str, keys: Sequence[int], tasks: int) -> None:
        pool, left = self._pool, iter(keys)

        async def task() -> None:
            for key in left:
                await pool.execute(sql, key)

        await asyncio.gather(*[task() for _ in range(tasks)])

    def loader(self, sql: str, column: str) -> PeerLoader:
        if self._loader is None:
            return Acquiring(self, sql)
        return Loading(self._loader(self._pool, sql.replace("$1", "ANY($1)"), key=column))


class Acquiring:
    """Look-ups of a driver without a loader."""

    def __init__(self, pool: AsyncpgPool, sql: str) -> None:
        self._pool = pool
        self._sql = sql

    async def load_at_once(self, keys: Sequence[int]) -> Rows:
        return await self._pool.fetchrow_leased(self._sql, keys)

    load_in_tasks = load_many = load_at_once


class Loading:
    """Look-ups by a loader."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    async def load_at_once(self, keys: Sequence[int]) -> Rows:
        load = self._loader.load
        return await asyncio.gather(*[load(key) for key in keys])

    async def load_in_tasks(self, keys: Sequence[int]) -> Rows:
        loader = self._loader

        async def task(key: int) -> object:
            return await loader.load(key)

        return await asyncio.gather(*[task(key) for key in keys])

    async def load_many(self, keys: Sequence[int]) -> Rows:
        rows: Rows = await self._loader.load_many(keys)
        return rows


class AsyncpgApi:
    """A module with asyncpg's API.

    ``overlapping``: calls on one connection may overlap. ``typed``: fetch() can return objects of a class.
    """

    only_at_once = False

    def __init__(self, module: str, *, overlapping: bool, typed: bool) -> None:
        self.name = module
        self.overlapping = overlapping
        self._typed = typed
        self._module: Any = importlib.import_module(module)

    def version(self) -> str:
        return str(self._module.__version__)

    @asynccontextmanager
    async def connection(self, dsn: str) -> AsyncIterator[PeerConnection]:
        connection = await self._module.connect(dsn)
        try:
            yield AsyncpgConnection(connection, self.overlapping, self._typed)
        finally:
            await connection.close()

    @asynccontextmanager
    async def pool(self, dsn: str, size: int, *, lazy: bool = False) -> AsyncIterator[PeerPool]:
        options = {"lazy_acquire": True} if lazy and self.overlapping else {}
        async with self._module.create_pool(dsn, min_size=size, max_size=size, **options) as pool:
            yield AsyncpgPool(pool, getattr(self._module, "Loader", None))

    async def connect_each(self, dsn: str, count: int) -> None:
        connect = self._module.connect
        for _ in range(count):
            connection = await connect(dsn)
            await connection.close()

    def json(self, document: str) -> object:
        return document

    def range(self, lower: object, upper: object) -> object:
        return _method(self._module, "Range")(lower, upper)


def _method(holder: Any, name: str) -> Any:
    """Return an attribute of a connection or a module. Raises Unsupported if it does not exist yet."""
    try:
        return getattr(holder, name)
    except AttributeError:
        raise Unsupported(f"no {name} yet") from None
