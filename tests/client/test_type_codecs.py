"""set_type_codec, reset_type_codec, set_builtin_type_codec and reload_schema_state, by the names of types."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
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


@pytest.mark.parametrize("name", ["timestamp with timezone", "TIMESTAMP WITH TIME ZONE", "TimestampTZ"])
async def test_asyncpgs_spellings_in_any_case(conn: headrace.Connection, name: str) -> None:
    query = "SELECT '2000-01-01 00:00:01Z'::timestamptz"
    await conn.set_type_codec(
        name, schema="pg_catalog", format="tuple", encoder=lambda value: (value,), decoder=lambda numbers: numbers[0]
    )
    assert await conn.fetchval(query) == 1_000_000
    await conn.reset_type_codec(name, schema="pg_catalog")
    assert await conn.fetchval(query) == datetime.datetime(2000, 1, 1, 0, 0, 1, tzinfo=datetime.UTC)


async def test_char_is_the_type_character(conn: headrace.Connection) -> None:
    await conn.set_type_codec("char", schema="pg_catalog", encoder=str, decoder=str.upper)
    await conn.set_type_codec('"char"', schema="pg_catalog", encoder=str, decoder=lambda text: f"one byte: {text}")
    assert await conn.fetchrow("SELECT 'ab'::char(2), 'x'::\"char\"") == ("AB", "one byte: x")


@pytest.mark.parametrize("format", [None, "text", "binary"])
async def test_a_type_of_ones_own_as_decimal_in_either_format(conn: headrace.Connection, format: Any) -> None:
    await conn.set_builtin_type_codec("small", codec_name="int", format=format)
    assert await conn.fetchval("SELECT ARRAY[$1::small]", 5) == [5]
    await conn.execute("CREATE DOMAIN money_amount AS numeric")
    for name in ("decimal", "Numeric"):
        await conn.set_builtin_type_codec("money_amount", codec_name=name, format=format)
        value = await conn.fetchval("SELECT ARRAY[$1::money_amount]", Decimal("1.50"))
        assert value == [Decimal("1.50")]
        assert str(value[0]) == "1.50"
    await conn.execute("DROP DOMAIN money_amount")


async def test_statements_that_were_cached_before_a_codec_changed_are_dropped(conn: headrace.Connection) -> None:
    """A type that was dropped and made again has another OID, which no statement of before knows."""
    query = "SELECT $1::colour"
    await conn.execute("CREATE TYPE colour AS ENUM ('red')")
    try:
        assert await conn.fetchval(query, "red") == "red"
        await conn.execute("DROP TYPE colour; CREATE TYPE colour AS ENUM ('red')")
        await conn.set_type_codec("colour", encoder=str, decoder=str.upper)
        async with conn.transaction():
            assert await conn.fetchval(query, "red") == "RED"
        await conn.execute("DROP TYPE colour; CREATE TYPE colour AS ENUM ('red')")
        await conn.reset_type_codec("colour")
        async with conn.transaction():
            assert await conn.fetchval(query, "red") == "red"
        await conn.execute("DROP TYPE colour; CREATE TYPE colour AS ENUM ('red')")
        await conn.set_builtin_type_codec("colour", codec_name="text")
        async with conn.transaction():
            assert await conn.fetchval(query, "red") == "red"
    finally:
        await conn.execute("DROP TYPE colour")


async def test_a_codec_applies_to_prepared_statements_and_cursors_too(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT $1::jsonb AS doc")
    assert await statement.fetchval("[1]") == "[1]"
    await as_json(conn)
    assert await statement.fetchval([1]) == [1]
    assert statement.get_parameters()[0].name == "jsonb"
    async with conn.transaction():
        assert [row["doc"] async for row in statement.cursor([2])] == [[2]]
    await conn.reset_type_codec("jsonb", schema="pg_catalog")
    assert await statement.fetchval("[1]") == "[1]"


class Array:
    """A numpy array in short: sized, iterable, and not a list."""

    def __init__(self, *values: float) -> None:
        self.values = values

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[float]:
        return iter(self.values)


async def as_vectors(conn: headrace.Connection, make: Callable[[list[float]], Any]) -> None:
    """Have the enum-like text of a type read and written as pgvector's is."""
    await conn.set_type_codec(
        "path",
        schema="pg_catalog",
        encoder=lambda vector: "[" + ",".join(f"({x},0)" for x in vector) + "]",
        decoder=lambda text: make([float(pair.strip("()").split(",")[0]) for pair in text[1:-1].split("),(")]),
    )


async def test_an_array_object_is_one_element_if_the_element_type_has_a_codec(conn: headrace.Connection) -> None:
    await as_vectors(conn, tuple)
    vectors = [Array(1, 2), Array(3), None]
    assert await conn.fetchval("SELECT $1::path[]", vectors) == [(1.0, 2.0), (3.0,), None]
    assert await conn.fetchval("SELECT $1::path[]", [[Array(1, 2)], [Array(3)]]) == [[(1.0, 2.0)], [(3.0,)]]
    await conn.reset_type_codec("path", schema="pg_catalog")
    assert await conn.fetchval("SELECT $1::int[]", [Array(1, 2), Array(3, 4)]) == [[1, 2], [3, 4]]


async def test_numpy_arrays_are_elements_of_arrays(conn: headrace.Connection) -> None:
    numpy = pytest.importorskip("numpy")
    await as_vectors(conn, numpy.array)
    vectors = [numpy.array([1.0, 2.0]), numpy.array([3.0])]
    read = await conn.fetchval("SELECT $1::path[]", vectors)
    assert [list(vector) for vector in read] == [[1.0, 2.0], [3.0]]
    matrix = numpy.array([[1.0, 2.0], [3.0, 4.0]])
    assert [list(vector) for vector in await conn.fetchval("SELECT $1::path[]", matrix)] == [[1.0, 2.0], [3.0, 4.0]]
    await conn.execute('CREATE DOMAIN "route" AS path')
    try:
        assert len(await conn.fetchval('SELECT $1::"route"[]', vectors)) == 2
    finally:
        await conn.execute('DROP DOMAIN "route"')
    assert await conn.fetchval("SELECT $1::float8[]", matrix) == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize(
    ("name", "value"), [("int4", 1), ("text", 1), ("bool", 0), ("date", "2024-01-01"), ("jsonb", {})]
)
async def test_the_hint_for_a_value_that_an_encoder_refuses(
    conn: headrace.Connection, name: str, value: object
) -> None:
    """The values that the type takes without the codec do not matter."""
    await conn.set_type_codec(name, schema="pg_catalog", encoder={}.__getitem__, decoder=str)
    with pytest.raises(headrace.ArgumentError) as refused:
        await conn.fetch(f"SELECT $1::{name}", value)
    assert refused.value.hint == f"Pass a value that its encoder takes: set_type_codec() has set one for {name}."
    assert isinstance(refused.value.__cause__, (KeyError, TypeError))
