"""What programs do with connections, one function each: the rows of the table in docs/poolers.md.

Each returns where it works, and raises where it does not. The one connection of each meets another backend with each
transaction, where the pooler switches them at all.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import headrace

SECONDS = 10.0


@dataclass(frozen=True)
class Way:
    """How to get connections and pools through the pooler, and one past it."""

    connect: Callable[[], Awaitable[headrace.Connection]]
    pool: Callable[[], Awaitable[headrace.Pool]]
    direct: Callable[[], Awaitable[headrace.Connection]]


Call = Callable[[Way], Awaitable[None]]

CALLS: dict[str, Call] = {}
"""The functions by the rows of the table."""


def row(title: str) -> Callable[[Call], Call]:
    """Name the row of the table that a function stands for."""

    def register(call: Call) -> Call:
        CALLS[title] = call
        return call

    return register


@row("queries with arguments, one after another")
async def one_by_one(way: Way) -> None:
    connection = await way.connect()
    for i in range(12):
        assert await connection.fetchval("SELECT $1::int", i) == i
        assert await connection.fetchrow("SELECT $1::text, 2", str(i)) == (str(i), 2)
        assert await connection.execute("SELECT $1::int", i) == "SELECT 1"


@row("queries at once on one connection")
async def at_once(way: Way) -> None:
    connection = await way.connect()
    for _ in range(3):
        got = await asyncio.gather(*(connection.fetchval("SELECT $1::int + 1", i) for i in range(300)))
        assert got == [i + 1 for i in range(300)]


@row("one that fails among them")
async def one_fails(way: Way) -> None:
    connection = await way.connect()
    for _ in range(5):
        calls = [connection.fetchval("SELECT 1 / $1::int", i) for i in (1, 0, 1)]
        first, second, third = await asyncio.gather(*calls, return_exceptions=True)
        assert (first, third) == (1, 1)
        assert getattr(second, "sqlstate", None) == "22012"


@row("`executemany()` and `fetchmany()`")
async def many(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("DROP TABLE IF EXISTS many; CREATE TABLE many (a int, b text)")
    for _ in range(4):
        await connection.executemany("INSERT INTO many VALUES ($1, $2)", [(i, str(i)) for i in range(5000)])
        rows = await connection.fetchmany("SELECT $1::int", [(i,) for i in range(100)])
        assert [value for (value,) in rows] == list(range(100))
    assert await connection.fetchval("SELECT count(*) FROM many") == 20_000
    with suppress(Exception):
        await connection.executemany("INSERT INTO many VALUES ($1, $2)", [(1, "a"), (1 << 40, "b")])
    assert await connection.fetchval("SELECT count(*) FROM many") == 20_000, "all or nothing"


@row("`insert_records()`")
async def insert_records(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("DROP TABLE IF EXISTS records; CREATE TABLE records (a int PRIMARY KEY, b text[])")
    for i in range(4):
        records = [(a, ["x", str(i)]) for a in range(3000 * i, 3000 * i + 3000)]
        if i % 2:
            assert await connection.insert_records("records", records) == 3000
        else:
            rows = await connection.insert_records("records", records, returning="a")
            assert [a for (a,) in rows] == [a for a, _ in records]
        again = [(a % 100, ["again"]) for a in range(250)]
        assert await connection.insert_records("records", again, on_conflict=("update", ["a"])) == 250
    assert await connection.fetchval("SELECT count(*) FROM records WHERE b = '{again}'") == 100


@row("`prepare()`, and the statement in several transactions")
async def prepared(way: Way) -> None:
    connection = await way.connect()
    statement = await connection.prepare("SELECT $1::int AS n")
    for i in range(6):
        assert await statement.fetchval(i) == i
        async with connection.transaction():
            assert await statement.fetch(i) == [(i,)]
    assert [column.name for column in statement.get_attributes()] == ["n"]


@row("transactions and savepoints")
async def transactions(way: Way) -> None:
    connection = await way.connect()
    for i in range(6):
        async with connection.transaction():
            backend = await connection.fetchval("SELECT pg_backend_pid()")
            with suppress(ZeroDivisionError):
                async with connection.transaction():
                    assert await connection.fetchval("SELECT $1::int", i) == i
                    raise ZeroDivisionError
            assert await connection.fetchval("SELECT pg_backend_pid()") == backend


@row("cursors")
async def cursors(way: Way) -> None:
    connection = await way.connect()
    for _ in range(4):
        async with connection.transaction():
            series = connection.cursor("SELECT generate_series(1, $1::int)", 200)
            assert [value async for (value,) in series] == list(range(1, 201))
            cursor = await connection.cursor("SELECT generate_series(1, $1::int)", 200)
            assert await cursor.forward(100) == 100
            assert await cursor.fetchrow() == (101,)


@row("streams")
async def streams(way: Way) -> None:
    connection = await way.connect()
    pool = await way.pool()
    for _ in range(4):
        for source in (connection, pool):
            series = source.stream("SELECT generate_series(1, $1::int)", 30_000)
            assert [value async for (value,) in series] == list(range(1, 30_001))
            async for (value,) in source.stream("SELECT generate_series(1, 1000000000)"):
                assert value == 1
                break
        async with connection.transaction():
            series = connection.stream("SELECT generate_series(1, $1::int)", 200)
            assert [value async for (value,) in series] == list(range(1, 201))


@row("COPY")
async def copies(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("DROP TABLE IF EXISTS copied; CREATE TABLE copied (a int, b text)")
    for _ in range(4):
        await connection.copy_records_to_table("copied", records=[(i, "x") for i in range(1000)])
        output = io.BytesIO()
        await connection.copy_from_query("SELECT $1::int", 7, output=output)
        assert output.getvalue() == b"7\n"
    assert await connection.fetchval("SELECT count(*) FROM copied") == 4000


@row("types of the database's own, `set_type_codec()`")
async def types(way: Way) -> None:
    connection = await way.connect()
    await connection.execute(
        "DROP TYPE IF EXISTS mood CASCADE; DROP TYPE IF EXISTS pair CASCADE;"
        "CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (m mood, n int)"
    )
    await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    for _ in range(4):
        assert await connection.fetchval("SELECT $1::mood", "glad") == "glad"
        assert await connection.fetchval("SELECT ARRAY[ROW('sad', 3)]::pair[]") == [("sad", 3)]
        assert await connection.fetchval("SELECT $1::jsonb", {"a": [1]}) == {"a": [1]}


@row("cancellation and time limits")
async def cancellation(way: Way) -> None:
    connection = await way.connect()
    observer = await way.direct()
    for _ in range(3):
        neighbour = asyncio.create_task(connection.fetchval("SELECT $1::int", 1))
        task = asyncio.create_task(connection.fetchval("SELECT pg_sleep($1)", 600))
        await until_running(observer, "pg_sleep($1)")
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert await neighbour == 1
        assert await connection.fetchval("SELECT $1::int", 2) == 2
    with suppress(TimeoutError):
        await connection.fetchval("SELECT pg_sleep($1)", 600, timeout=0.1)
    assert await connection.fetchval("SELECT $1::int", 3) == 3
    assert not await running(observer, "pg_sleep($1)")


@row("a table altered under statements in use")
async def altered(way: Way) -> None:
    connection = await way.connect()
    other = await way.direct()
    await other.execute("DROP TABLE IF EXISTS changing; CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
    for _ in range(6):
        assert await connection.fetch("SELECT * FROM changing WHERE a = $1", 1) == [(1,)]
    await other.execute("ALTER TABLE changing ALTER a TYPE bigint, ADD b text DEFAULT 'new'")
    for _ in range(6):
        assert await connection.fetch("SELECT * FROM changing WHERE a = $1", 1) == [(1, "new")]


@row("a pool's own methods")
async def pool_shared(way: Way) -> None:
    pool = await way.pool()
    got = await asyncio.gather(*(pool.fetchval("SELECT $1::int", i) for i in range(1000)))
    assert got == list(range(1000))


@row("`pool.acquire()`, with the reset after it")
async def pool_leases(way: Way) -> None:
    pool = await way.pool()

    async def lease(i: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("SET LOCAL work_mem = '1MB'")
            assert await connection.fetchval("SELECT $1::int", i) == i

    await asyncio.gather(*(lease(i) for i in range(50)))
    assert await pool.fetchval("SHOW work_mem") == "4MB"


@row("SET for the session")
async def settings(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("SET work_mem = '1MB'")
    try:
        for _ in range(6):
            assert await connection.fetchval("SHOW work_mem") == "1MB"
    finally:
        for _ in range(6):
            await connection.execute("RESET ALL")


@row("temporary tables")
async def temporary(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("CREATE TEMPORARY TABLE passing (a int)")
    try:
        for _ in range(6):
            await connection.execute("INSERT INTO passing VALUES ($1)", 1)
    finally:
        for _ in range(6):
            await connection.execute("DISCARD TEMP")


@row("advisory locks of the session")
async def locks(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("SELECT pg_advisory_lock(4711)")
    try:
        assert await connection.fetchval("SELECT pg_advisory_unlock(4711)")
    finally:
        for _ in range(6):
            await connection.execute("SELECT pg_advisory_unlock_all()")


@row("SQL cursors WITH HOLD")
async def held_cursors(way: Way) -> None:
    connection = await way.connect()
    await connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1 AS n")
    try:
        assert await connection.fetch("FETCH held") == [(1,)]
    finally:
        for _ in range(6):
            await connection.execute("CLOSE ALL")


@row("LISTEN")
async def listen(way: Way) -> None:
    connection = await way.connect()
    arrived = asyncio.Event()
    await connection.add_listener("news", lambda *_: arrived.set())
    try:
        for _ in range(6):
            assert await connection.fetch("SELECT pg_listening_channels()") == [("news",)]
        other = await way.direct()
        await other.execute("NOTIFY news")
        async with asyncio.timeout(SECONDS):
            await arrived.wait()
    finally:
        for _ in range(6):
            await connection.execute("UNLISTEN *")


async def running(observer: Any, text: str) -> bool:
    """True if a query with this text runs anywhere."""
    found = await observer.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE $1",
        f"%{text}%",
    )
    return bool(found)


async def until_running(observer: Any, text: str) -> None:
    """Wait until a query with this text runs."""
    async with asyncio.timeout(SECONDS):
        while not await running(observer, text):
            await asyncio.sleep(0.01)


__all__ = ["CALLS", "Way", "running", "until_running"]
