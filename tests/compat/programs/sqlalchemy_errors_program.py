"""What goes wrong under SQLAlchemy: SQLSTATEs, constraints, conflicts, lost connections, cancellation, stale plans."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import noting
import sqlalchemy as sa
from noting import Notes
from sqlalchemy import event, exc, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

SQLSTATES = """
    03000 08000 08003 08006 08P01 0A000 0B000 21000 22000 22001 22003 22007 22012 22P02 23000 23001 23502 23503 23505
    23514 23P01 24000 25000 25001 25006 25P01 25P02 28000 28P01 2D000 34000 39000 3B001 3D000 3F000 40000 40001 40P01
    42000 42501 42601 42703 42883 42P01 42P07 53000 53300 54000 55000 55P03 57000 57014 58000 F0000 HV000 P0000 P0001
    P0002 XX000 XX001 ZZ999 U0001
"""

WRONG = (
    "SELEC", "SELECT nothing", "SELECT * FROM nothing", "SELECT nothing()", "SELECT 'x'::int", "SELECT 1/0",
    "INSERT INTO pg_class VALUES (1)", "DROP TABLE nothing", "CREATE TABLE pg_catalog.t (a int)", "VACUUM",
    "SELECT repeat('x', 2000000000)", "SET nothing = 1", "FETCH 1 FROM nothing", "RELEASE SAVEPOINT nothing",
    "SELECT $2", "ALTER SYSTEM SET work_mem = '1MB'", "CREATE DATABASE postgres",
)  # fmt: skip

TABLES = (
    "CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL, u int UNIQUE, c int CHECK (c > 0), v varchar(3))",
    "CREATE TABLE child (id int REFERENCES parent ON DELETE RESTRICT DEFERRABLE)",
    "CREATE TABLE apart (r int4range, EXCLUDE USING gist (r WITH &&))",
    "INSERT INTO parent VALUES (1, 1, 1, 1, 'a')",
    "INSERT INTO child VALUES (1)",
    "INSERT INTO apart VALUES ('[1,5)')",
)
VIOLATIONS = (
    "INSERT INTO parent VALUES (1, 1, 2, 1, 'a')",
    "INSERT INTO parent VALUES (2, NULL, 2, 1, 'a')",
    "INSERT INTO parent VALUES (2, 2, 1, 1, 'a')",
    "INSERT INTO parent VALUES (2, 2, 2, -1, 'a')",
    "INSERT INTO parent VALUES (2, 2, 2, 1, 'abcd')",
    "INSERT INTO child VALUES (7)",
    "DELETE FROM parent",
    "INSERT INTO apart VALUES ('[2,3)')",
)


async def server_errors(note: Notes, engine: AsyncEngine) -> None:
    """What SQLAlchemy makes of an error of each class."""
    raising = (
        "DO $$ BEGIN RAISE EXCEPTION USING message = 'm', errcode = '{}', detail = 'd', hint = 'h', column = 'c',"
        " constraint = 'k', datatype = 'dt', table = 't', schema = 's'; END $$"
    )
    async with engine.connect() as connection:
        for query in (*map(raising.format, SQLSTATES.split()), *WRONG):
            await note.attempt(query[-150:-60], connection.execute, text(query.replace(":", "\\:")))
            await connection.rollback()
        for statement in TABLES:
            await connection.execute(text(statement))
        await connection.commit()
        for query, parameters in itertools.product(VIOLATIONS, (None, [{}, {}])):
            await note.attempt(query, connection.execute, text(query), parameters)
            await connection.rollback()
        await connection.execute(text("SET CONSTRAINTS ALL DEFERRED"))
        await connection.execute(text("INSERT INTO child VALUES (8)"))
        await note.attempt("deferred", connection.commit)
        await connection.rollback()
        note("nothing is kept", await connection.scalar(text("SELECT count(*) FROM child")))


async def conflicts(note: Notes, engine: AsyncEngine) -> None:
    """A deadlock, a transaction that cannot be serialized, locks that are not to be had, a statement time-out."""

    async def change(connection: AsyncConnection, key: int) -> None:
        await connection.execute(text("UPDATE account SET v = v + 1 WHERE id = :id"), {"id": key})

    async with engine.connect() as one, engine.connect() as other:
        await one.execute(text("CREATE TABLE account (id int PRIMARY KEY, v int)"))
        await one.execute(text("INSERT INTO account VALUES (1, 0), (2, 0)"))
        await one.commit()
        await one.execute(text("SET LOCAL deadlock_timeout = '100ms'"))
        await other.execute(text("SET LOCAL deadlock_timeout = '1min'"))
        await change(one, 1)
        await change(other, 2)
        waiting = asyncio.create_task(change(other, 1))
        try:
            await change(one, 2)
        except exc.DBAPIError as error:
            note("deadlock", error, error.orig, error.orig.__cause__, getattr(error.orig, "sqlstate", None))
        await one.rollback()
        await waiting
        await note.attempt("nobody waits", one.execute, text("LOCK account NOWAIT"))
        await one.rollback()
        await one.execute(text("SET LOCAL lock_timeout = '10ms'"))
        await note.attempt("too long", one.execute, text("LOCK account"))
        await one.rollback()
        await one.execute(text("SET LOCAL statement_timeout = '10ms'"))
        await note.attempt("too slow", one.execute, text("SELECT pg_sleep(60)"))
        await one.rollback()
        await other.commit()
        one = await one.execution_options(isolation_level="SERIALIZABLE")
        other = await other.execution_options(isolation_level="SERIALIZABLE")
        for connection, key in ((one, 1), (other, 2)):
            await connection.scalar(text("SELECT sum(v) FROM account"))
            await change(connection, key)
        await one.commit()
        await note.attempt("not serializable", other.commit)
        await other.rollback()
        note("and then", await other.scalar(text("SELECT sum(v) FROM account")))


async def lost_connections(note: Notes, engine: AsyncEngine, dsn: str) -> None:
    """Backends that are terminated, and connections that are closed behind SQLAlchemy's back, wherever that may be."""
    outside = create_async_engine(dsn, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    handled: list[Any] = []
    event.listen(engine.sync_engine, "handle_error", lambda context: handled.append(context.is_disconnect))

    async def terminate(connection: AsyncConnection) -> None:
        pid = await connection.scalar(text("SELECT pg_backend_pid()"))
        async with outside.connect() as other:
            await other.execute(text(f"SELECT pg_terminate_backend({pid}, 10000)"))
        raw = await connection.get_raw_connection()
        while not raw.driver_connection.is_closed():  # the end has yet to be read
            await asyncio.sleep(0.01)

    async def close(connection: AsyncConnection) -> None:
        await (await connection.get_raw_connection()).driver_connection.close()

    async def query(connection: AsyncConnection) -> Any:
        return await connection.execute(text("SELECT 1"))

    async def rows(connection: AsyncConnection) -> Any:
        return await connection.execute(text("INSERT INTO child VALUES (:id)"), [{"id": 1}, {"id": 1}])

    async def use(lose: Any, then: Any, *, begun: bool) -> None:
        async with engine.connect() as connection:
            if begun:
                await connection.execute(text("SELECT 1"))
            await lose(connection)
            if not begun:
                await connection.rollback()
            label = f"{then.__name__} after {lose.__name__}, begun: {begun}"
            await note.attempt(label, then, connection)
            note("state", connection.invalidated, connection.closed)
            await connection.rollback()
            note("and again", await connection.scalar(text("SELECT 1")))

    for lose, then in itertools.product((terminate, close), (query, rows)):
        await use(lose, then, begun=True)
    await use(close, query, begun=False)
    async with engine.connect() as connection:
        await connection.execute(text("SELECT 1"))
        await close(connection)
        await note.attempt("commit", connection.commit)
    checked = create_async_engine(dsn, pool_pre_ping=True, pool_size=1)
    for _ in range(2):
        async with checked.connect() as connection:
            note("pre-ping", await connection.scalar(text("SELECT 1")))
            await terminate(connection)
            await note.attempt("closing", connection.rollback)
    await checked.dispose()
    note("is_disconnect", *handled)
    await outside.dispose()


async def cancellation(note: Notes, dsn: str) -> None:
    """Tasks that are cancelled or run out of time, in and outside of transactions; the pool of one goes on."""
    engine = create_async_engine(dsn, pool_size=1, max_overflow=0)

    async def sleep(seconds: float) -> None:
        async with engine.connect() as connection:
            await connection.execute(text(f"SELECT pg_sleep({seconds})"))

    async def works(label: str) -> None:
        async with engine.connect() as connection:
            idle = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
            note(label, await connection.scalar(text("SELECT 1")), await connection.scalar(text(idle)))

    for delay in (0, 0.001, 0.05):
        task = asyncio.create_task(sleep(60))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await works(f"cancelled: {task.cancelled()}")
    await note.attempt("out of time", asyncio.wait_for, sleep(60), 0.05)
    await works("after that")
    async with engine.connect() as connection:
        await connection.execute(text("CREATE TABLE never (a int)"))
        await note.attempt("in a transaction", asyncio.wait_for, connection.execute(text("SELECT pg_sleep(60)")), 0.05)
        note("state", connection.invalidated, connection.closed, connection.in_transaction())
        await note.attempt("and then", connection.scalar, text("SELECT 1"))
        await connection.rollback()
        note("and then", await connection.scalar(text("SELECT to_regclass('never')::text")))

    async def in_session() -> None:
        async with AsyncSession(engine) as session, session.begin():
            await asyncio.wait_for(session.execute(text("SELECT pg_sleep(60)")), 0.05)

    await note.attempt("in a session", in_session)
    await works("at the end")
    await engine.dispose()


async def stale_statements(note: Notes, engine: AsyncEngine, dsn: str) -> None:
    """DDL under prepared statements: by the engine itself, and by somebody else inside of a transaction."""
    select = text("SELECT * FROM changing")
    outside = create_async_engine(dsn, poolclass=NullPool, isolation_level="AUTOCOMMIT")

    async def alter(column: str) -> None:
        async with outside.connect() as other:
            await other.execute(text(f"ALTER TABLE changing ADD COLUMN {column} int"))

    async with engine.connect() as one, engine.connect() as other:
        await one.execute(text("CREATE TABLE changing (a int)"))
        await one.commit()
        for connection in (one, other):
            note("at first", list((await connection.execute(select)).keys()))
            await connection.commit()
        await one.execute(text("ALTER TABLE changing ADD COLUMN b int"))
        await one.commit()
        for connection in (one, other):
            await note.attempt("changed by the engine", keys, connection, select)
            await connection.rollback()
        await alter("c")
        await note.attempt("changed by somebody else", keys, other, select)
        await note.attempt("and then", other.execute, text("SELECT 1"))
        await other.rollback()
        await note.attempt("once more", keys, other, select)
    await outside.dispose()


async def keys(connection: AsyncConnection, query: Any) -> list[str]:
    return list((await connection.execute(query)).keys())


async def levels(note: Notes, engine: AsyncEngine) -> None:
    """Isolation levels, read-only and deferrable transactions, AUTOCOMMIT."""
    shown = [text(f"SHOW transaction_{name}") for name in ("isolation", "read_only", "deferrable")]
    for level, flag in itertools.product(("SERIALIZABLE", "REPEATABLE READ", "AUTOCOMMIT"), (True, False)):
        async with engine.connect() as connection:
            await connection.execution_options(
                isolation_level=level, postgresql_readonly=flag, postgresql_deferrable=flag
            )
            note(f"{level} {flag}", *[await connection.scalar(query) for query in shown])
            await note.attempt("writes", connection.execute, text("CREATE TABLE IF NOT EXISTS written (a int)"))
        async with engine.connect() as connection:
            note("the next user", *[await connection.scalar(query) for query in shown])
    for wrong in ("READ UNCOMMITTED", "SNAPSHOT"):
        async with engine.connect() as connection:
            await note.attempt(wrong, connection.execution_options, isolation_level=wrong)


async def program(note: Notes, dsn: str) -> None:
    dsn = noting.url(dsn)
    engine = create_async_engine(dsn)
    await server_errors(note, engine)
    await conflicts(note, engine)
    await lost_connections(note, engine, dsn)
    await cancellation(note, dsn)
    await stale_statements(note, engine, dsn)
    await levels(note, engine)
    missing = create_async_engine(sa.make_url(dsn).set(database="missing"))
    await note.attempt("no such database", missing.connect().start)
    await missing.dispose()
    await engine.dispose()


if __name__ == "__main__":
    noting.main(program)
