"""Types met in values alone: within rows without a type, where no description tells of them beforehand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace


@pytest.fixture
async def conn(connect: Any) -> AsyncIterator[headrace.Connection]:
    connection: headrace.Connection = await connect(server_settings={"search_path": "hidden"})
    await connection.execute(
        """CREATE SCHEMA hidden; CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN age AS int;
        CREATE TYPE pair AS (a int, b mood); CREATE TYPE span AS RANGE (subtype = float8)"""
    )
    yield connection
    await connection.execute("DROP SCHEMA hidden CASCADE")


async def test_several_in_one_row(conn: headrace.Connection) -> None:
    row = await conn.fetchval(
        "SELECT row('sad'::mood, 5::age, row(1, 'sad')::pair, ARRAY['sad']::mood[], row(row(ARRAY[7]::age[])), "
        "'[1,2)'::span, NULL::age)"
    )
    assert row[:2] == ("sad", 5)
    assert dict(row[2]) == {"a": 1, "b": "sad"}
    assert row[3:] == (["sad"], ((([7],)),), headrace.Range(1.0, 2.0), None)


async def test_of_many_rows_none_is_lost(conn: headrace.Connection) -> None:
    rows = await conn.fetch(
        "SELECT CASE WHEN n % 3 = 0 THEN row(n, 'sad'::mood) WHEN n % 3 = 1 THEN row(n, 5::age) "
        "ELSE row(n, row(1, 'sad')::pair) END AS v FROM generate_series(1, 100) AS n"
    )
    assert [row["v"][0] for row in rows] == list(range(1, 101))
    assert {type(row["v"][1]) for row in rows} == {str, int, headrace.Record}


async def test_several_queries_at_once(conn: headrace.Connection) -> None:
    results = await asyncio.gather(
        conn.fetchval("SELECT row('sad'::mood)"),
        conn.fetchval("SELECT 1"),
        conn.fetchrow("SELECT row(5::age) AS v, 2 AS n"),
        conn.fetchval("SELECT $1::pair", (1, "sad")),
        conn.fetchval("SELECT row('sad'::mood, 5::age)"),
    )
    assert results[0] == ("sad",)
    assert results[1] == 1
    assert results[2] == ((5,), 2)
    assert tuple(results[3]) == (1, "sad")
    assert results[4] == ("sad", 5)


async def test_within_a_transaction(conn: headrace.Connection) -> None:
    async with conn.transaction():
        assert await conn.fetchval("SELECT row('sad'::mood)") == ("sad",)
        assert [row["v"] async for row in conn.cursor("SELECT row(5::age) AS v")] == [(5,)]


async def test_what_is_dropped_by_the_time_it_is_looked_up(conn: headrace.Connection) -> None:
    """Its own query fails, naming the type; the connection goes on."""
    async with conn.transaction():
        with pytest.raises(headrace.UnsupportedClientFeatureError, match="is not known yet"):
            # The look-up sees the catalogue as the drop has left it.
            await asyncio.gather(conn.fetchval("SELECT row('sad'::mood)"), conn.execute("DROP TYPE mood CASCADE"))
        assert await conn.fetchval("SELECT 1") == 1


async def test_when_the_caller_goes_away(conn: headrace.Connection) -> None:
    task = asyncio.create_task(conn.fetchval("SELECT row('sad'::mood)"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await conn.fetchval("SELECT row('sad'::mood, 5::age)") == ("sad", 5)
