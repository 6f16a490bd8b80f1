"""The functions that programs import from asyncpg.utils, beyond what asyncpg itself can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.utils import _mogrify

if TYPE_CHECKING:
    import headrace


async def test_none_is_null(conn: headrace.Connection) -> None:
    assert await _mogrify(conn, "SELECT $1::int", [None]) == "SELECT NULL::int"


async def test_only_parameters_are_replaced(conn: headrace.Connection) -> None:
    query = """SELECT $1::int, '$1', "$1", $$ $1 $$ FROM (SELECT 1 AS "$1") t -- $1"""
    text = await _mogrify(conn, query, [7])
    assert text == query.replace("SELECT $1::int", "SELECT '7'::int")
    assert await conn.fetchrow(text) == (7, "$1", 1, " $1 ")


async def test_a_parameter_of_a_type_of_ones_own(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE TEMP TABLE t (mood text); CREATE TYPE pg_temp."Mood" AS ENUM ('so ''so')""")
    text = await _mogrify(conn, 'SELECT $1::pg_temp."Mood"', ["so 'so"])
    assert await conn.fetchval(text) == "so 'so"
