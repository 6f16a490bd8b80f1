"""A typed program for asyncpg and asyncpg-stubs, with headrace in place of asyncpg; type checkers check it.

It imports no submodule by itself, and has the annotations that programs for asyncpg-stubs have.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NewType, Optional, Self, TypeAlias, assert_type

import headrace as asyncpg
from headrace.pool import PoolConnectionProxy

AnyConnection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"
Executor: TypeAlias = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]
DBConnection = asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
UserId = NewType("UserId", int)

if TYPE_CHECKING:
    Pool = asyncpg.pool.Pool[asyncpg.Record]
    Statement = asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]
else:
    Pool = asyncpg.pool.Pool
    Statement = asyncpg.prepared_stmt.PreparedStatement


class Row(asyncpg.Record):
    def __getattr__(self, name: str) -> Any:
        return self[name]


class Tracing(asyncpg.Connection):
    """A subclass as programs without stubs write it."""

    async def traced(self, query: str) -> list[asyncpg.Record]:
        return await self.fetch(query)


class RowConnection(asyncpg.Connection[Row]):
    """A subclass as programs with stubs write it."""


class Jobs(asyncpg.Pool[Row]):
    async def jobs(self) -> list[Row]:
        return await self.fetch("SELECT * FROM job")


# -- annotations that are evaluated at run time ----------------------------------------------------------------------


@dataclass
class Runtime:
    pool: asyncpg.Pool[Any]
    rows: Annotated[asyncpg.Pool[Row], "depends"]
    connection: asyncpg.Connection[asyncpg.Record] | None = None
    writer: Optional[asyncpg.pool.Pool[asyncpg.Record]] = None  # noqa: UP045


class Repository:
    conn: asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

    def __init__(self, pool: asyncpg.Pool[Any], make: Callable[[asyncpg.Connection[Any]], object]) -> None:
        self._pool = pool
        self._make = make

    @classmethod
    async def open(cls, dsn: str) -> Self:
        return cls(await asyncpg.create_pool(dsn), print)

    def acquire(self) -> asyncpg.pool.PoolAcquireContext[asyncpg.Record]:
        return self._pool.acquire()

    async def close(self) -> None:
        await self._pool.close()


# -- functions that take connections and pools -----------------------------------------------------------------------


async def either(conn: AnyConnection, user: UserId) -> asyncpg.Record | None:
    return await conn.fetchrow("SELECT * FROM users WHERE id = $1", user)


async def executor(conn: Executor) -> str:
    return await conn.execute("TRUNCATE users")


async def plain(conn: asyncpg.Connection) -> list[asyncpg.Record]:
    return await conn.fetch("SELECT * FROM users")


async def with_record(conn: asyncpg.Connection[asyncpg.Record]) -> list[asyncpg.Record]:
    return await conn.fetch("SELECT * FROM users")


async def with_rows(conn: asyncpg.Connection[Row]) -> list[Row]:
    return await conn.fetch("SELECT * FROM users")


async def optional(conn: PoolConnectionProxy[asyncpg.Record] | None = None) -> asyncpg.Record | None:
    return None if conn is None else await conn.fetchrow("SELECT 1")


async def pool_of_any(pool: asyncpg.Pool[Any]) -> None:
    async with pool.acquire() as conn:
        assert_type(conn, PoolConnectionProxy[Any])
        await plain(conn)


async def pool_of_records(pool: asyncpg.Pool[asyncpg.Record]) -> list[asyncpg.Record]:
    return await pool.fetch("SELECT * FROM users")


async def bare_pool(pool: asyncpg.Pool) -> None:
    assert_type(pool, asyncpg.Pool[asyncpg.Record])
    await pool_of_records(pool)
    await pool_of_any(pool)


# -- calls -----------------------------------------------------------------------------------------------------------


async def connections(maybe: type[Row] | None) -> None:
    assert_type(await asyncpg.connect(), asyncpg.Connection)
    assert_type(await asyncpg.connect("postgres://localhost", user="me", timeout=5), asyncpg.Connection[asyncpg.Record])
    assert_type(await asyncpg.connect(record_class=Row), asyncpg.Connection[Row])
    assert_type(await asyncpg.connect(connection_class=Tracing), Tracing)
    assert_type(await asyncpg.connect(connection_class=RowConnection, record_class=Row), RowConnection)
    assert_type(await asyncpg.connection.connect(), asyncpg.connection.Connection[asyncpg.Record])

    conn = await asyncpg.connect(record_class=Row, ssl=True, server_settings={"search_path": "app"})
    assert_type(await conn.fetch("SELECT 1"), list[Row])
    assert_type(await conn.fetchrow("SELECT 1"), Row | None)
    assert_type(await conn.fetchmany("SELECT $1::int", [(1,)]), list[Row])
    assert_type(await conn.fetch("SELECT 1", record_class=asyncpg.Record), list[asyncpg.Record])
    assert_type(await conn.fetch("SELECT 1", record_class=maybe), list[Row])
    assert_type(await conn.fetchval("SELECT 1"), Any)
    await plain(conn)
    await with_record(conn)
    await with_rows(conn)
    await either(conn, UserId(1))
    await executor(conn)

    statement = await conn.prepare("SELECT 1")
    assert_type(statement, asyncpg.prepared_stmt.PreparedStatement[Row])
    assert_type(await statement.fetch(), list[Row])
    assert_type(await statement.fetchrow(), Row | None)
    assert_type(await statement.fetchmany([()]), list[Row])
    records: Statement = await conn.prepare("SELECT 1", record_class=asyncpg.Record)
    assert_type(await records.fetchrow(), asyncpg.Record | None)

    async with conn.transaction() as nothing:
        assert_type(nothing, None)
        assert_type(conn.cursor("SELECT 1"), asyncpg.cursor.CursorFactory[Row])
        assert_type(await conn.cursor("SELECT 1"), asyncpg.cursor.Cursor[Row])
        assert_type(await statement.cursor(), asyncpg.cursor.Cursor[Row])
        async for row in conn.cursor("SELECT 1"):
            assert_type(row, Row)
        async for row in conn.copy_out("SELECT 1"):
            assert_type(row, Row)
    transaction: asyncpg.transaction.Transaction = conn.transaction()
    await transaction.start()


async def tracing(conn: Tracing, rows: RowConnection) -> None:
    assert_type(await conn.fetch("SELECT 1"), list[asyncpg.Record])
    assert_type(await conn.traced("SELECT 1"), list[asyncpg.Record])
    assert_type(await rows.fetchrow("SELECT 1"), Row | None)
    await with_rows(rows)


def listener(conn: Executor, pid: int, channel: str, payload: object) -> None:
    print(conn.is_closed(), pid, channel, payload)


def log_listener(conn: Executor, message: asyncpg.PostgresLogMessage) -> None:
    print(conn.get_server_pid(), message.message)


async def listeners(conn: asyncpg.Connection[asyncpg.Record]) -> None:
    await conn.add_listener("jobs", listener)
    conn.add_log_listener(log_listener)
    conn.add_termination_listener(lambda conn: print(conn))


async def init(conn: asyncpg.Connection[Any]) -> None:
    await conn.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=str)


async def setup(conn: PoolConnectionProxy[asyncpg.Record]) -> None:
    await conn.execute("SET search_path = app")


async def pools() -> None:
    pool: asyncpg.Pool[asyncpg.Record] | None = await asyncpg.create_pool(
        dsn="postgres://localhost", min_size=1, max_size=4, init=init, setup=setup, command_timeout=60
    )
    assert pool is not None
    await bare_pool(pool)
    async with pool.acquire() as conn:
        assert_type(conn, PoolConnectionProxy[asyncpg.Record])
        async with conn.transaction():
            await plain(conn)
            await with_record(conn)
            await either(conn, UserId(1))
            await executor(conn)
            await optional(conn)
    leased = await pool.acquire(timeout=1)
    assert_type(leased, PoolConnectionProxy[asyncpg.Record])
    await pool.release(leased)

    async with asyncpg.create_pool(record_class=Row) as rows:
        assert_type(rows, asyncpg.Pool[Row])
        assert_type(await rows.fetch("SELECT 1"), list[Row])
        assert_type(await rows.fetchrow("SELECT 1"), Row | None)
        async for row in rows.copy_out("SELECT 1"):
            assert_type(row, Row)
        await bare_pool(rows)
        async with rows.acquire() as row_conn:
            assert_type(row_conn, PoolConnectionProxy[Row])
            assert_type(await row_conn.fetch("SELECT 1"), list[Row])
            await with_rows(row_conn)
    assert_type(asyncpg.create_pool(), asyncpg.pool.Pool[asyncpg.Record])
    assert_type(await asyncpg.create_pool(record_class=Row), Pool_of_rows)


Pool_of_rows = asyncpg.Pool[Row]


@asynccontextmanager
async def session(pool: Pool) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record], None]:
    async with pool.acquire() as conn:
        yield conn


async def dependency(pool: asyncpg.Pool) -> AsyncIterator[asyncpg.Connection]:
    async with pool.acquire() as conn, conn.transaction():
        yield conn


async def errors(conn: asyncpg.Connection[Any]) -> None:
    try:
        await conn.execute("DELETE FROM users")
    except asyncpg.exceptions.UniqueViolationError as error:
        assert_type(error.constraint_name, str | None)
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        print(error)


def modules(range_: asyncpg.types.Range[int], kind: asyncpg.types.Type, point: asyncpg.pgproto.types.Point) -> None:
    print(range_.lower, kind.name, point.x, asyncpg.protocol.protocol.Record, asyncpg.utils, asyncpg.connect_utils)


async def mistakes(conn: asyncpg.Connection, pool: asyncpg.Pool[Row]) -> None:
    """Mistakes that a type checker has to report: it reports an ignored error that is none as well."""
    await with_rows(conn)  # type: ignore[arg-type]
    async with pool.acquire() as leased:
        await leased.fetchh("SELECT 1")  # type: ignore[attr-defined]
    asyncpg.create_pool(record_class=int)  # type: ignore[type-var]
