"""Prepared statements, and the cache behind every query."""

from __future__ import annotations

import gc
from typing import Any

import pytest

import headrace
from headrace.types import Attribute, Type


async def test_the_whole_of_it(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT $1::int4 AS a, $2::text AS b")
    assert statement.get_query() == "SELECT $1::int4 AS a, $2::text AS b"
    assert statement.get_name()
    int4, text = Type(23, "int4", "scalar", "pg_catalog"), Type(25, "text", "scalar", "pg_catalog")
    assert statement.get_parameters() == (int4, text)
    assert statement.get_attributes() == (Attribute("a", int4), Attribute("b", text))
    assert await statement.fetch(1, "x") == [(1, "x")]
    assert statement.get_statusmsg() == "SELECT 1"
    assert await statement.fetchrow(2, "y") == (2, "y")
    assert await statement.fetchval(3, "z", column=1) == "z"
    assert await statement.fetchmany([(1, "a"), (2, "b")]) == [(1, "a"), (2, "b")]
    assert await statement.executemany([(1, "a")]) is None  # type: ignore[func-returns-value]


async def test_a_statement_without_a_result(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    statement = await conn.prepare("INSERT INTO t VALUES ($1)")
    assert statement.get_attributes() == ()
    assert await statement.fetch(1) == []
    assert statement.get_statusmsg() == "INSERT 0 1"


async def test_a_name_of_ones_own(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT 1", name="mine")
    assert statement.get_name() == "mine"
    assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'") == 1
    with pytest.raises(headrace.DuplicatePreparedStatementError):
        await conn.prepare("SELECT 2", name="mine")
    assert await statement.fetchval() == 1


async def test_explain(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    statement = await conn.prepare("INSERT INTO t SELECT * FROM generate_series(1, $1::int)")
    plan = await statement.explain(3)
    assert "Plan" in plan[0]
    plan = await statement.explain(3, analyze=True)
    assert "Execution Time" in plan[0]
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


async def test_what_does_not_parse(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.PostgresSyntaxError):
        await conn.prepare("SELEC")
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_closed_or_released_connection(conn: headrace.Connection, pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection:
        released = await connection.prepare("SELECT 1")
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        await released.fetch()
    statement = await conn.prepare("SELECT 1")
    await conn.close()
    with pytest.raises(headrace.InterfaceError, match="is closed"):
        await statement.fetch()


async def test_statements_are_closed_on_the_server_when_nobody_holds_them(connect: Any) -> None:
    conn = await connect(max_cacheable_statement_size=1)
    statement = await conn.prepare("SELECT 'held'")
    count = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%held''%' AND name <> ''"
    assert await conn.fetchval(count) == 1
    del statement
    gc.collect()
    assert await conn.fetchval(count) == 0


async def test_without_a_cache_prepared_statements_have_no_names(connect: Any) -> None:
    """As in asyncpg: behind PgBouncer a name would be missing on the next backend, or in the way of somebody else."""
    conn = await connect(statement_cache_size=0)
    one, other = await conn.prepare("SELECT $1::int"), await conn.prepare("SELECT $1::text")
    assert (one.get_name(), other.get_name()) == ("", "")
    assert (await one.fetchval(1), await other.fetchval("a"), await one.fetchval(2)) == (1, "a", 2)
    assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0
    async with conn.transaction():
        cursor = await one.cursor(3)
        assert await other.fetchval("b") == "b"
        assert await cursor.fetchrow() == (3,)
    named = await conn.prepare("SELECT 4", name="mine")
    assert (named.get_name(), await named.fetchval()) == ("mine", 4)


async def test_the_cache_keeps_the_most_recently_used(connect: Any) -> None:
    conn = await connect(statement_cache_size=3)
    for query in ("SELECT 1", "SELECT 2", "SELECT 3", "SELECT 1", "SELECT 4"):
        await conn.fetch(query)
    assert conn._driver.session.statements.cached_queries() == ["SELECT 4", "SELECT 1", "SELECT 3"]
    names = await conn.fetch("SELECT statement FROM pg_prepared_statements")
    assert {row[0] for row in names} == {"SELECT 4", "SELECT 1", "SELECT statement FROM pg_prepared_statements"}


async def test_no_cache_at_all(connect: Any) -> None:
    conn = await connect(statement_cache_size=0)
    for i in range(3):
        assert await conn.fetchval("SELECT $1::int", i) == i
    assert await conn.fetchmany("SELECT $1::int", [(1,), (2,)]) == [(1,), (2,)]
    async with conn.transaction():
        assert [row[0] async for row in conn.cursor("SELECT generate_series(1, 120)")] == list(range(1, 121))
    assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name <> ''") == 0


async def test_texts_too_long_for_the_cache(connect: Any) -> None:
    conn = await connect(max_cacheable_statement_size=20)
    assert await conn.fetchval("SELECT 1") == 1
    assert await conn.fetchval("SELECT 'a text longer than that'") == "a text longer than that"
    assert conn._driver.session.statements.cached_queries() == ["SELECT 1"]


async def test_execute_returns_the_command_tag(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    statement = await conn.prepare("INSERT INTO t VALUES ($1), ($1 + 1) RETURNING a")
    assert await statement.execute(1) == "INSERT 0 2"
    assert statement.get_statusmsg() == "INSERT 0 2"
    assert await conn.fetch("TABLE t") == [(1,), (2,)]
    with pytest.raises(headrace.ArgumentError):
        await statement.execute("x")
    with pytest.raises(TimeoutError):
        await (await conn.prepare("SELECT pg_sleep($1)")).execute(60, timeout=0.1)


@pytest.mark.parametrize("name", [False, ""])
async def test_an_unnamed_statement(conn: headrace.Connection, name: Any) -> None:
    statement = await conn.prepare("SELECT $1::int + 1", name=name)
    assert statement.get_name() == ""
    assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%::int + 1'") == 0
    assert await statement.fetchval(1) == 2
    assert await conn.fetchval("SELECT 5") == 5
    assert await statement.fetchval(2) == 3
    assert await statement.fetchmany([(1,), (2,)]) == [(2,), (3,)]


async def test_a_name_that_the_driver_chooses(connect: Any) -> None:
    for size, named in ((100, True), (0, False)):
        conn = await connect(statement_cache_size=size)
        assert (await conn.prepare("SELECT 1", name=True)).get_name()
        assert bool((await conn.prepare("SELECT 1")).get_name()) == named
        assert await (await conn.prepare("SELECT 1", name=True)).fetchval() == 1


@pytest.mark.parametrize("name", [1, b"mine", ("x",)])
async def test_a_name_that_is_none(conn: headrace.Connection, name: Any) -> None:
    with pytest.raises(headrace.InterfaceError, match="name is expected to be a str, True, False or None"):
        await conn.prepare("SELECT 1", name=name)
