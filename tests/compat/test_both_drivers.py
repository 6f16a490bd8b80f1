"""Programs written for asyncpg, run by asyncpg and by headrace on the same server: they come to the same.

A program is told which driver it has, and notes what it sees. Values must be equal and of equal types; an error must be
caught by whoever catches asyncpg's: asyncpg's class, by name, is among the classes of headrace's error. What differs on
purpose (README, "How it differs from asyncpg") is left out of the programs.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import decimal
import io
import ipaddress
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import headrace
from tests.servers import Cluster

Noted = tuple[str, ...] | BaseException


@dataclass
class Run:
    """One run of a program: its driver, a connection, and what it has noted."""

    driver: Any
    connection: Any
    dsn: str
    directory: Path
    noted: list[Noted] = field(default_factory=list)

    def note(self, *values: object) -> None:
        """Note some values."""
        self.noted.append(tuple(f"{type(value).__name__} {shown(value)}" for value in values))

    async def attempt(self, call: Callable[..., Awaitable[object]], *args: Any, **kwargs: Any) -> None:
        """Note what a call returns, or what it raises."""
        try:
            self.note(await call(*args, **kwargs))
        except Exception as error:
            self.noted.append(error)


def without_place(text: str) -> str:
    """Return the text of an error without the line and the caret, which headrace adds to the server's message."""
    return re.sub(r"\nLINE \d+: .*\n *\^", "", text).partition("\nQUERY:")[0]


def shown(value: object) -> str:
    """A text that is the same for equal values of both drivers."""
    if isinstance(value, (tuple, list)) and type(value) not in (tuple, list):
        value = tuple(value)
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}({', '.join(map(shown, value))})"
    if type(value).__name__ in ("Record", "Point", "Box", "Line", "LineSegment", "Circle", "Path", "Polygon"):
        return f"{type(value).__name__}({', '.join(map(shown, list(value)))})"  # type: ignore[call-overload]
    return repr(value)


async def users(run: Run) -> None:
    """A table, arguments of the right and of the wrong kind, records."""
    conn = run.connection
    await run.attempt(conn.execute, "CREATE TABLE users (id serial PRIMARY KEY, name text UNIQUE, dob date)")
    insert = "INSERT INTO users (name, dob) VALUES ($1, $2)"
    await run.attempt(conn.execute, insert, "Bob", dt.date(1984, 3, 1))
    row = await conn.fetchrow("SELECT * FROM users WHERE name = $1", "Bob")
    run.note(row["name"], row[1], row[-1], list(row.keys()), list(row.values()), list(row.items()), len(row))
    run.note("name" in row, "Bob" in row, row.get("x", 5), dict(row), row[0:2], row == (1, "Bob", dt.date(1984, 3, 1)))
    run.note(hash(row) == hash(tuple(row)), row == await conn.fetchrow("SELECT * FROM users"), repr(row))
    for wrong in ("zz", 9):
        with pytest.raises(LookupError) as caught:
            row[wrong]
        run.noted.append(caught.value)
    for args in (["Ann"], ["Ann", None, 1], ["Ann", "2020-01-01"], [5, None], ["Bob", None], ["Ann", dt.datetime.max]):
        await run.attempt(conn.execute, insert, *args)
    for query in ("SELEC", "SELECT * FROM nope", "SELECT 1/0", "SELECT nope()", "SELECT 'x'::int", "SELECT $1", ""):
        await run.attempt(conn.fetch, query)
    for number in (2**40, "1", None, True):
        await run.attempt(conn.fetchval, "SELECT $1::int", number)
    await run.attempt(conn.execute, "INSERT INTO users (name) VALUES ('x'); UPDATE users SET name = name")
    await run.attempt(conn.fetchval, "SELECT 1, 2 AS b", column="b")
    await run.attempt(conn.fetchval, "SELECT 1", column=3)
    await run.attempt(conn.fetchval, "SELECT 1 WHERE false")
    await run.attempt(conn.fetchmany, "SELECT $1::int + 1", [(1,), (2,)])
    await run.attempt(conn.execute, "SELECT pg_sleep(10)", timeout=0.05)
    await run.attempt(asyncio.wait_for, conn.execute("SELECT pg_sleep(10)"), 0.05)
    await run.attempt(conn.fetchval, "SELECT 1", timeout="soon")
    await run.attempt(conn.fetchrow, "SELECT 1", record_class=int)
    try:
        await conn.execute(insert, "Bob", None)
    except run.driver.UniqueViolationError as error:
        run.note(error.sqlstate, error.constraint_name, error.table_name, error.schema_name, error.detail, error.hint)
        run.note(error.message, without_place(str(error)), error.severity, error.column_name, sorted(error.as_dict()))


VALUES: dict[str, list[object]] = {
    "int2": [1, -1, 40_000, "1"],
    "int8": [2**62, 2**63],
    "float8": [1, 1.5, decimal.Decimal("1.5")],
    "numeric": [1, 1.5, "1.50", decimal.Decimal("-0.00100"), "x"],
    "text": ["a", "é€😀", b"a"],
    "bytea": [b"\0a", bytearray(b"a"), "a"],
    "bool": [True, None],
    "date": [dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, 5), 5],
    "timestamp": [dt.datetime(2020, 1, 1, 5, 6, 7, 8), dt.datetime(2020, 1, 1, tzinfo=dt.UTC)],
    "timestamptz": [dt.datetime(2020, 1, 1, tzinfo=dt.UTC)],
    "time": [dt.time(1, 2, 3, 4)],
    "timetz": [dt.time(1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))],
    "interval": [dt.timedelta(1, 2, 3), dt.timedelta(days=-400), 5],
    "uuid": [uuid.UUID(int=1), str(uuid.UUID(int=2)), 5],
    "json": ['{"a": 1}', {}],
    "jsonb": ['{"a": 1}', {}],
    "inet": ["10.0.0.1", "10.0.0.1/8", ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8")],
    "cidr": ["10.0.0.0/8", "10.0.0.1/8"],
    "int4[]": [[1, 2], (1,), [[1, 2], [3, 4]], [], [None], ["a"], "ab", [[1], [2, 3]]],
    "text[]": [["a", None], "abc"],
    "int4range": [(1, 5), [1, None], (), 5],
    "point": [(1, 2), 5],
    "box": [((3, 4), (1, 2))],
    "circle": [((1, 2), 3)],
    "path": [[(1, 2), (3, 4)]],
    "polygon": [[(1, 2), (3, 4), (5, 6)]],
    "macaddr": ["08:00:2b:01:02:03"],
    "money": ["12.50"],
    "oid": [5, -1],
    "mood": ["happy", "angry"],
    "pair": [(1, "x"), {"x": 1, "y": "z"}, (None, None)],
    "pair[]": [[(1, "x"), None]],
    "positive": [1],
}
LITERALS = """
    'NaN'::float8 'NaN'::numeric 1.10::numeric 'a'::char(3) 'infinity'::date '-infinity'::timestamptz
    '{[1,2),[5,6)}'::int4multirange 'empty'::int4range '[2:3]={1,2}'::int[] B'101'
    ROW(1,'a',NULL) ARRAY[ROW(1,'a')] 'pg_class'::regclass '1'::xid
    '(0,1)'::tid '0/16B3748'::pg_lsn 'a:1'::tsvector 'a&b'::tsquery '<a/>'::xml '1y2mon3d'::interval '{1,2,3}'::line
"""


async def values(run: Run) -> None:
    """A value of every type, there and back."""
    conn = run.connection
    await conn.execute(
        "CREATE TYPE mood AS ENUM ('happy'); CREATE TYPE pair AS (x int, y text);"
        "CREATE DOMAIN positive AS int CHECK (VALUE > 0)"
    )
    for kind, given in VALUES.items():
        for value in given:
            await run.attempt(conn.fetchval, f"SELECT $1::{kind}", value)
    for literal in LITERALS.split():
        await run.attempt(conn.fetchval, f"SELECT {literal}")
    await run.attempt(conn.fetchval, "SELECT $1::positive", -1)
    await conn.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await run.attempt(conn.fetchval, "SELECT $1::json", {"a": [1, None]})
    await conn.reset_type_codec("json", schema="pg_catalog")
    await run.attempt(conn.fetchval, "SELECT '[1]'::json")
    await run.attempt(conn.set_type_codec, "nope", encoder=str, decoder=str)
    await run.attempt(conn.set_type_codec, "_int4", schema="pg_catalog", encoder=str, decoder=str)
    await run.attempt(conn.set_type_codec, "pair", schema="public", encoder=str, decoder=str)


async def transactions(run: Run) -> None:
    """Transactions nested, by hand, in the wrong order; cursors; prepared statements."""
    conn = run.connection
    await conn.execute("CREATE TABLE t (a int)")
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(RuntimeError):
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (2)")
                raise RuntimeError
        run.note(conn.is_in_transaction())
    by_hand = conn.transaction()
    await run.attempt(by_hand.commit)
    await by_hand.start()
    await conn.execute("INSERT INTO t VALUES (3)")
    await run.attempt(by_hand.start)
    await by_hand.rollback()
    await run.attempt(by_hand.rollback)
    async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
        run.note(await conn.fetchval("SHOW transaction_isolation"), await conn.fetchval("SHOW transaction_read_only"))
    async with conn.transaction(isolation="repeatable_read"):
        await run.attempt(conn.transaction(isolation="serializable").start)
    await conn.execute("BEGIN")
    await run.attempt(conn.transaction().start)
    await conn.execute("ROLLBACK")
    run.note(await conn.fetch("SELECT * FROM t"), conn.is_in_transaction())

    async def first() -> object:
        async for row in conn.cursor("SELECT 1"):
            return row
        return None

    await run.attempt(first)
    async with conn.transaction():
        run.note([row[0] async for row in conn.cursor("SELECT generate_series(1, $1)", 120, prefetch=50)][-1])
        cursor = await conn.cursor("SELECT generate_series(0, 100)")
        run.note(await cursor.fetchrow(), await cursor.fetch(2), await cursor.forward(10), await cursor.fetchrow())
        run.note(len(await cursor.fetch(1000)), await cursor.fetchrow(), await cursor.fetch(1), await cursor.forward(1))
        await run.attempt(cursor.fetch, 0)
    await run.attempt(cursor.fetchrow)
    statement = await conn.prepare("SELECT $1::int + 1 AS r, $2::text AS s")
    run.note(statement.get_query(), statement.get_parameters(), statement.get_attributes())
    run.note(await statement.fetch(1, "a"), statement.get_statusmsg(), await statement.fetchval(1, "a", column=1))
    await run.attempt(statement.fetch, 1)
    run.note((await conn.prepare("SELECT 1", name="mine")).get_name(), type(await statement.explain(1, "a")))
    await run.attempt(conn.executemany, "INSERT INTO t VALUES ($1)", [(1,), ("x",)])
    await run.attempt(conn.executemany, "INSERT INTO t VALUES ($1)", ((n,) for n in range(5)))
    run.note(await conn.fetchval("SELECT count(*) FROM t"))


async def copies(run: Run) -> None:
    """COPY with every kind of source and sink."""
    conn = run.connection
    await conn.execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL)")
    out, path = io.BytesIO(), run.directory / f"{run.driver.__name__}.csv"
    await run.attempt(conn.copy_from_table, "t", columns=("b", "a"), output=out, format="csv", header=True)
    await run.attempt(conn.copy_from_query, "SELECT a, $1::text FROM t WHERE a > $2", "it's", 1, output=out)
    await run.attempt(conn.copy_from_table, "t", output=str(path), format="csv", delimiter=";", null="N")
    await run.attempt(conn.copy_to_table, "t", source=str(path), format="csv", delimiter=";", null="N")
    await run.attempt(conn.copy_to_table, "t", source=io.BytesIO(b"7\tseven\n"), columns=["a", "b"])
    await run.attempt(conn.copy_records_to_table, "t", records=[(4, "z"), (50, None)], where="a > 20")
    await run.attempt(conn.copy_records_to_table, "t", records=[("only",)], columns=["b"])

    async def records() -> AsyncIterator[tuple[int, str]]:
        yield 100, "hundred"

    await run.attempt(conn.copy_records_to_table, "t", records=records())
    run.note(out.getvalue(), path.read_text(), await conn.fetch("SELECT * FROM t ORDER BY a, b"))
    await run.attempt(conn.copy_records_to_table, "nope", records=[(1,)])
    await run.attempt(conn.copy_records_to_table, "t", records=[(1,)], columns=["nope"])
    await run.attempt(conn.copy_to_table, "t", source=io.BytesIO(b"x,y,z\n"), format="csv")
    await run.attempt(conn.copy_from_table, "t", output=5)
    await run.attempt(conn.fetchval, "SELECT 1")


async def pools(run: Run) -> None:
    """Leases, what a pool does by itself, and the wrong uses of both."""
    create_pool = run.driver.create_pool
    await run.attempt(create_pool(run.dsn).fetch, "SELECT 1")
    for wrong in ({"min_size": 5, "max_size": 2}, {"max_size": 0}, {"min_size": -1}, {"max_queries": 0}):
        await run.attempt(create_pool, run.dsn, **wrong)
    pool = await create_pool(run.dsn, min_size=1, max_size=2)
    run.note(await pool.fetchval("SELECT 1"), pool.get_size(), pool.get_min_size(), pool.get_max_size())
    async with pool.acquire() as leased:
        run.note(isinstance(leased, run.driver.Connection), await leased.fetchval("SELECT 1"))
        await leased.execute("SET application_name = 'changed'")
        second = await pool.acquire()
        await run.attempt(pool.acquire, timeout=0.05)
        await pool.release(second)
    await run.attempt(leased.fetchval, "SELECT 1")
    await run.attempt(pool.release, leased)
    await run.attempt(pool.release, run.connection)
    await run.attempt(pool.execute, "CREATE TABLE t (a int)")
    await run.attempt(pool.executemany, "INSERT INTO t VALUES ($1)", [(1,), (2,)])
    await run.attempt(pool.copy_records_to_table, "t", records=[(3,)])
    await run.attempt(pool.fetch, "SELECT * FROM t WHERE a > $1", 1)
    run.note(await pool.fetchval("SHOW application_name"))
    await pool.close()
    await run.attempt(pool.fetch, "SELECT 1")
    await run.attempt(pool.acquire)
    run.note(pool.is_closing())


async def connecting(run: Run) -> None:
    """Bad parameters, servers that refuse, and the end of a connection."""
    connect, conn = run.driver.connect, run.connection
    wrong: list[dict[str, Any]] = [
        {"database": "nope"},
        {"user": "nope"},
        {"command_timeout": -1},
        {"statement_cache_size": -1},
        {"server_settings": {"work_mem": "much"}},
        {"server_settings": {"work_mem": 5}},
        {"server_settings": {"nope": "5"}},
        {"ssl": "nope"},
        {"target_session_attrs": "standby"},
        {"connection_class": int},
        {"nope": 1},
    ]
    for arguments in wrong:
        await run.attempt(connect, run.dsn, **arguments)
    await run.attempt(connect, "http://localhost")
    await run.attempt(connect, host="127.0.0.1", port=1, user="postgres")
    run.note(conn.get_settings().server_encoding, conn.get_server_version()[0], conn.is_closed())
    ended: list[bool] = []
    conn.add_termination_listener(lambda connection: ended.append(connection is conn))
    await conn.close()
    await conn.close()
    await asyncio.sleep(0)
    run.note(ended, conn.is_closed())
    await run.attempt(conn.fetch, "SELECT 1")
    await run.attempt(conn.reset)


async def helpers(run: Run) -> None:
    """The functions of asyncpg.utils that programs use although their names begin with an underscore."""
    conn, mogrify = run.connection, run.driver.utils._mogrify
    await run.attempt(mogrify, conn, "SELECT $1::int, $2::text, $1 + 1", (5, "it's \\ here"))
    await run.attempt(mogrify, conn, "SELECT $1::date = any($2::date[])", (dt.date(2020, 1, 2), [dt.date(2020, 1, 2)]))
    await run.attempt(mogrify, conn, "SELECT 1", ())
    await run.attempt(mogrify, conn, "SELECT $1::int", ("x",))
    await run.attempt(mogrify, conn, "SELECT $1::int", ())
    await run.attempt(mogrify, conn, "SELEC $1", (1,))
    text = await mogrify(conn, "SELECT $2::int + $1, $3", (1, 2, "a$1"))
    run.note(text, await conn.fetchrow(text))


PROGRAMS = [users, values, transactions, copies, pools, connecting, helpers]


async def noted_by(driver: Any, program: Callable[[Run], Awaitable[None]], server: Cluster, path: Path) -> list[Noted]:
    with server.database() as name:
        dsn = server.dsn(name)
        connection = await driver.connect(dsn)
        run = Run(driver, connection, dsn, path)
        try:
            await program(run)
        finally:
            connection.terminate()
        return run.noted


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
async def test_both_come_to_the_same(
    program: Callable[[Run], Awaitable[None]], server: Cluster, tmp_path: Path
) -> None:
    await check_both(program, server, tmp_path)


async def check_both(program: Callable[[Run], Awaitable[None]], server: Cluster, path: Path) -> None:
    """Run a program with both drivers and compare what it has noted."""
    expected = await noted_by(asyncpg, program, server, path)
    found = await noted_by(headrace, program, server, path)
    for theirs, ours in zip(expected, found, strict=True):
        if isinstance(theirs, BaseException):
            classes = [each.__name__ for each in type(ours).__mro__]
            assert type(theirs).__name__ in classes, f"{theirs!r} has become {ours!r}"
        else:
            assert ours == theirs
