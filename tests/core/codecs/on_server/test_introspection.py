"""Types that are not built in: looked up when they are met, on every server, without a trace in the session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace import Range
from headrace._core.codecs.introspection import QUERY
from headrace._core.codecs.typemap import INTROSPECTION_QUERY, TypeMap
from headrace.exceptions import InvalidTextRepresentationError

if TYPE_CHECKING:
    from tests.fixtures import Connect
    from tests.servers import Cluster

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN age AS int CHECK (VALUE >= 0);
CREATE DOMAIN ages AS int[];
CREATE TYPE pair AS (a int, b text);
CREATE TABLE wide (gone text, a age, moods mood[], pair pair, pairs pair[], also_gone int, kind regtype);
ALTER TABLE wide DROP COLUMN gone, DROP COLUMN also_gone;
CREATE DOMAIN good_pair AS pair;
CREATE TYPE floatrange AS RANGE (subtype = float8);
CREATE TYPE agerange AS RANGE (subtype = age);
CREATE TYPE nothing AS ();
"""

# Multiranges came with PostgreSQL 14, as those of every range.
VALUES: list[tuple[str, Any, str]] = [
    ("mood", "happy", "happy"),
    ("mood[]", ["sad", None, "happy"], "{sad,NULL,happy}"),
    ("age", 7, "7"),
    ("age[]", [[7], [8]], "{{7},{8}}"),
    ("ages", [1, 2], "{1,2}"),
    ("ages[]", [[1], [2, 3]], '{"{1}","{2,3}"}'),
    ("pair", (1, "a b"), '(1,"a b")'),
    ("pair[]", [(1, None), None], '{"(1,)",NULL}'),
    ("good_pair", (1, "x"), "(1,x)"),
    ("good_pair[]", [(1, "x")], '{"(1,x)"}'),
    ("floatrange", Range(1.5, None), "[1.5,)"),
    ("floatrange[]", [Range(1.5, None), Range(empty=True)], '{"[1.5,)",empty}'),
    ("floatmultirange", [Range(1.5, 2.5)], "{[1.5,2.5)}"),
    ("floatmultirange[]", [[Range(1.5, 2.5)], []], '{"{[1.5,2.5)}","{}"}'),
    ("agerange", Range(1, 5), "[1,5)"),
    ("nothing", (), "()"),
    (
        "wide",
        (7, ["happy"], (1, "a"), [(2, "b")], "integer"),
        '(7,{happy},"(1,a)","{""(2,b)""}",integer)',
    ),
]


@pytest.fixture
async def conn(connect: Connect) -> AsyncIterator[headrace.Connection]:
    connection = await connect()
    await connection.execute(f"CREATE SCHEMA made; SET search_path = made, public; {SCHEMA}")
    yield connection
    await connection.execute("DROP SCHEMA made CASCADE")


def plain(value: Any) -> Any:
    """Return Records as tuples, however deep."""
    if isinstance(value, headrace.Record):
        return tuple(plain(item) for item in value.values())
    return [plain(item) for item in value] if isinstance(value, list) else value


async def test_both_ways(conn: headrace.Connection) -> None:
    for name, value, text in VALUES:
        assert await conn.fetchval(f"SELECT $1::{name}::text", value) == text
        assert plain(await conn.fetchval(f"SELECT $1::{name}", value)) == value


async def test_several_unknown_types_at_once(conn: headrace.Connection) -> None:
    queries = [conn.fetchval(f"SELECT $1::{name}", value) for name, value, _ in VALUES]
    results = await asyncio.gather(*queries, conn.fetchval("SELECT 1"))
    assert [plain(result) for result in results] == [value for _, value, _ in VALUES] + [1]


async def test_names_of_a_row(conn: headrace.Connection) -> None:
    row = await conn.fetchval("SELECT row(7, '{sad}', row(1, 'x'), NULL, 'int4')::wide")
    assert list(row.keys()) == ["a", "moods", "pair", "pairs", "kind"]
    assert dict(row["pair"]) == {"a": 1, "b": "x"}
    assert row["kind"] == "integer"


async def test_rows_of_system_catalogues(conn: headrace.Connection) -> None:
    """Their columns have types that travel as text alone: aclitem, regproc, pg_node_tree."""
    for catalogue in ("pg_type", "pg_class", "pg_proc", "pg_attribute", "pg_index", "pg_statistic"):
        names = [row["attname"] for row in await conn.fetch(COLUMNS_OF, catalogue)]
        for row in await conn.fetch(f"SELECT c AS whole, c.* FROM {catalogue} AS c LIMIT 50"):
            whole = row["whole"]
            assert list(whole.keys()) == names
            assert {name: whole[name] for name in names} == {name: row[name] for name in names}


COLUMNS_OF = """
SELECT attname FROM pg_attribute
WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""


async def test_a_type_dropped_and_made_again(conn: headrace.Connection) -> None:
    assert plain(await conn.fetchval("SELECT $1::pair", (1, "a"))) == (1, "a")
    await conn.execute("DROP TYPE pair CASCADE; CREATE TYPE pair AS (a numeric, b int, c bool)")
    assert plain(await conn.fetchval("SELECT ($1::pair)", (1, 2, True))) == (Decimal(1), 2, True)


async def test_an_enum_that_grew(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT $1::mood", "sad") == "sad"
    await conn.execute("ALTER TYPE mood ADD VALUE 'elated'")
    assert await conn.fetchval("SELECT $1::mood", "elated") == "elated"
    with pytest.raises(InvalidTextRepresentationError, match="mood"):
        await conn.fetchval("SELECT $1::mood", "angry")


async def test_an_altered_type_is_looked_up_again(conn: headrace.Connection) -> None:
    assert plain(await conn.fetchval("SELECT row(1, 'a')::pair")) == (1, "a")
    await conn.execute("ALTER TYPE pair ADD ATTRIBUTE c bool CASCADE")
    assert plain(await conn.fetchval("SELECT row(1, 'a', true)::pair")) == (1, "a", True)


async def test_no_setting_is_changed(conn: headrace.Connection) -> None:
    settings = "SELECT name, setting, source FROM pg_settings ORDER BY name"
    before = await conn.fetch(settings)
    await test_both_ways(conn)
    assert await conn.fetch(settings) == before


async def test_it_works_whatever_the_search_path(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TABLE made.pg_type (oid int); SET search_path = made, pg_catalog")
    await conn.execute("CREATE FUNCTION made.unnest(oid[]) RETURNS SETOF oid LANGUAGE sql AS 'SELECT 1::oid'")
    assert await conn.fetchval("SELECT 'happy'::made.mood") == "happy"
    assert plain(await conn.fetchval("SELECT row(1, 'a')::made.pair")) == (1, "a")


async def test_it_is_too_cheap_to_be_compiled(conn: headrace.Connection) -> None:
    """The planner must not estimate more than jit_above_cost, 100,000, whatever is asked."""
    await conn.execute(f"PREPARE introspection (oid[]) AS {QUERY}")
    for mode in ("force_custom_plan", "force_generic_plan"):
        await conn.execute(f"SET plan_cache_mode = {mode}")
        many = ",".join(map(str, range(200)))
        plan = await conn.fetchval(f"EXPLAIN (FORMAT json) EXECUTE introspection ('{{{many}}}')")
        cost, *_ = (float(line.split(":")[1].strip(" ,")) for line in plan.splitlines() if "Total Cost" in line)
        assert cost < 50_000
    await conn.execute("DEALLOCATE introspection; RESET plan_cache_mode")


async def test_one_question_covers_all_a_type_is_made_of(conn: headrace.Connection) -> None:
    oid = await conn.fetchval("SELECT 'wide[]'::regtype::oid::int8")
    types = TypeMap()
    assert types.missing([oid]) == [oid]
    types.learn([oid], await conn.fetch(INTROSPECTION_QUERY, [oid]))
    parts = await conn.fetch("SELECT unnest('{wide,mood[],mood,age,pair,pair[]}'::regtype[])::oid AS oid")
    assert types.missing([row["oid"] for row in parts]) == []


async def test_every_type_of_the_server_has_a_codec(conn: headrace.Connection, server: Cluster) -> None:
    """A new version of PostgreSQL with a new type fails here until the type has a codec of its own."""
    rows = await conn.fetch(
        "SELECT oid, typname FROM pg_type WHERE oid < 10000 AND typtype <> 'c'"
        " AND typelem NOT IN (SELECT oid FROM pg_type WHERE typtype = 'c')"
    )
    types = TypeMap()
    assert [row["typname"] for row in rows if types.codec(row["oid"]) is None] == []
    # And all others can be looked up: those of information_schema, row types and their arrays.
    others = [row["oid"] for row in await conn.fetch("SELECT oid FROM pg_type") if types.codec(row["oid"]) is None]
    types.learn(others, await conn.fetch(INTROSPECTION_QUERY, others))
    assert types.missing(others) == []
    assert [oid for oid in others if types.codec(oid) is None] == []
