"""set_type_codec, reset_type_codec, set_builtin_type_codec and reload_schema_state, by the names of types."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace


@pytest.fixture
async def conn(conn: headrace.Connection) -> AsyncIterator[headrace.Connection]:
    """A connection to a database with types of its own."""
    await conn.execute(
        """CREATE SCHEMA "my types"; CREATE TYPE "my types"."M ood" AS ENUM ('fine', 'bad');
        CREATE TYPE pair AS (a int, b text); CREATE DOMAIN small AS int"""
    )
    yield conn
    await conn.execute('DROP SCHEMA "my types" CASCADE; DROP DOMAIN small; DROP TYPE pair')


async def as_json(conn: headrace.Connection) -> None:
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


async def test_a_json_codec_is_one_line_and_goes_again(conn: headrace.Connection) -> None:
    query = "SELECT $1::jsonb"
    assert await conn.fetchval(query, '{"a": 1}') == '{"a": 1}'
    await as_json(conn)
    assert await conn.fetchval(query, {"a": [1, None]}) == {"a": [1, None]}
    assert await conn.fetchval("SELECT $1::jsonb[]", [{"a": 1}, None]) == [{"a": 1}, None]
    await conn.reset_type_codec("jsonb", schema="pg_catalog")
    assert await conn.fetchval(query, '{"a": 1}') == '{"a": 1}'


async def test_a_codec_holds_for_its_connection_alone(conn: headrace.Connection, connect: Any) -> None:
    other = await connect()
    await as_json(conn)
    assert await other.fetchval("SELECT '{}'::jsonb") == "{}"
    assert await conn.fetchval("SELECT '{}'::jsonb") == {}


async def test_types_go_by_the_names_sql_has_for_them(conn: headrace.Connection) -> None:
    for name in ("int", "integer", "int4"):
        await conn.set_type_codec(name, schema="pg_catalog", encoder=str, decoder=lambda text: f"number {text}")
        assert await conn.fetchval("SELECT 5") == "number 5"
        await conn.reset_type_codec(name, schema="pg_catalog")
        assert await conn.fetchval("SELECT 5") == 5
    await conn.set_type_codec(
        "timestamp with time zone",
        schema="pg_catalog",
        format="tuple",
        encoder=lambda micros: (micros,),
        decoder=lambda numbers: numbers[0],
    )
    assert await conn.fetchval("SELECT '2000-01-01 00:00:01Z'::timestamptz") == 1_000_000


async def test_types_of_the_database(conn: headrace.Connection) -> None:
    await conn.set_type_codec("M ood", schema="my types", encoder=str.lower, decoder=str.upper)
    assert await conn.fetchval("""SELECT $1::"my types"."M ood" """, "FINE") == "FINE"
    await conn.set_type_codec("pair", format="tuple", encoder=tuple, decoder=list)
    assert await conn.fetchval("SELECT $1::pair", iter((1, "x"))) == [1, "x"]


async def test_a_codec_is_used_from_the_next_query_on(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT '[1]'::jsonb")
    assert await statement.fetchval() == "[1]"
    await as_json(conn)
    assert await statement.fetchval() == [1]


async def test_while_queries_are_under_way(conn: headrace.Connection) -> None:
    results = await asyncio.gather(
        *(conn.fetchval("SELECT $1::int", i) for i in range(50)),
        as_json(conn),
        *(conn.fetchval("SELECT $1::int", i) for i in range(50)),
    )
    assert [each for each in results if each is not None] == [*range(50), *range(50)]


async def test_a_type_of_another_shape_on_the_wire(conn: headrace.Connection) -> None:
    await conn.set_builtin_type_codec("M ood", schema="my types", codec_name="text")
    assert await conn.fetchval("""SELECT 'bad'::"my types"."M ood" """) == "bad"
    await conn.reset_type_codec("M ood", schema="my types")


async def test_unknown_types(conn: headrace.Connection) -> None:
    for call in (
        conn.set_type_codec("missing", encoder=str, decoder=str),
        conn.reset_type_codec("missing"),
        conn.set_builtin_type_codec("missing", codec_name="int"),
    ):
        with pytest.raises(ValueError, match="unknown type: public.missing"):
            await call
    with pytest.raises(ValueError, match="unknown type: my types.jsonb"):
        await conn.reset_type_codec("jsonb", schema="my types")


async def test_types_that_take_no_codec_of_their_own(conn: headrace.Connection) -> None:
    def set_codec(name: str, schema: str = "pg_catalog", **kwargs: Any) -> Any:
        return conn.set_type_codec(name, schema=schema, encoder=str, decoder=str, **kwargs)

    for call, message in (
        (set_codec("_int4"), "neither a scalar type nor a composite type"),
        (set_codec("int4range"), "neither a scalar type nor a composite type"),
        (set_codec("small", "public"), "custom codecs on domain types are not supported"),
        (set_codec("pair", "public"), "only tuple-format codecs can be used on composite types"),
        (set_codec("int4", format="tuple"), "int4 type does not support the 'tuple' exchange format"),
        (
            set_codec("int4", format="json"),
            "invalid `format` argument, expected 'text', 'binary' or 'tuple', got 'json'",
        ),
        (conn.set_builtin_type_codec("pair", codec_name="int"), "."),
        (
            conn.set_builtin_type_codec("M ood", schema="my types", codec_name="nonsense"),
            "cannot alias M ood to nonsense: there is no text codec for nonsense",
        ),
        (
            conn.set_type_codec("int4", schema="pg_catalog", encoder=5, decoder=str),  # type: ignore[arg-type]
            "encoder is expected to be a function, got 5",
        ),
    ):
        with pytest.raises(headrace.InterfaceError, match=message):
            await call
    assert await conn.fetchval("SELECT 5") == 5


async def test_a_codec_that_raises_fails_its_own_query(conn: headrace.Connection) -> None:
    def wrong(value: Any) -> Any:
        raise LookupError("not this one")

    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=wrong, decoder=wrong)
    results = await asyncio.gather(
        conn.fetchval("SELECT 1"),
        conn.fetchval("SELECT '{}'::jsonb"),
        conn.fetchval("SELECT 2"),
        return_exceptions=True,
    )
    assert (results[0], type(results[1]), results[2]) == (1, LookupError, 2)
    assert getattr(results[1], "__notes__", None) == ["raised by the decoder set for type pg_catalog.jsonb"]
    with pytest.raises(headrace.DataError, match=r"argument \$1: {} \(not this one\)"):
        await conn.fetchval("SELECT $1::jsonb", {})
    assert await conn.fetchval("SELECT 3") == 3


async def test_a_type_altered_by_somebody_else(conn: headrace.Connection, connect: Any) -> None:
    other = await connect()
    assert await conn.fetchval("SELECT $1::pair", (1, "x")) == (1, "x")
    await other.execute("ALTER TYPE pair ADD ATTRIBUTE c int")
    await conn.reload_schema_state()
    assert await conn.fetchval("SELECT $1::pair", (1, "x", 2)) == (1, "x", 2)


async def test_on_a_closed_connection_and_a_released_proxy(conn: headrace.Connection, connect: Any, pool: Any) -> None:
    closed = await connect()
    await closed.close()
    with pytest.raises(headrace.InterfaceError, match="closed"):
        await as_json(closed)
    shared = await pool(min_size=1)
    leased = await shared.acquire()
    await shared.release(leased)
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        await leased.reload_schema_state()
