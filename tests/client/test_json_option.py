"""json=...: json and jsonb as objects on a connection and on all connections of a pool."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any

import msgspec
import pytest

import headrace

DOCUMENT = {"a": [1, 2.5, None], "ü": "x"}


class Library:
    """A library like orjson, whose dumps() returns bytes."""

    @staticmethod
    def loads(data: bytes | str) -> Any:
        return json.loads(data)

    @staticmethod
    def dumps(value: Any) -> bytes:
        return json.dumps(value).encode()


OPTIONS = [True, json, Library, msgspec.json, (json.loads, json.dumps)]


@pytest.mark.parametrize("option", OPTIONS)
async def test_everywhere_a_json_can_be(connect: Any, option: Any) -> None:
    conn = await connect(json=option)
    await conn.execute("CREATE TEMP TABLE t (a json, b jsonb)")
    await conn.execute("CREATE TYPE pg_temp.pair AS (a jsonb, b text)")
    assert await conn.fetchrow("INSERT INTO t VALUES ($1, $2) RETURNING *", DOCUMENT, DOCUMENT) == (DOCUMENT, DOCUMENT)
    assert await conn.fetchval("SELECT $1::jsonb[]", [DOCUMENT, None, 1]) == [DOCUMENT, None, 1]
    assert await conn.fetchval("SELECT $1::pg_temp.pair", (DOCUMENT, "x")) == (DOCUMENT, "x")
    assert await conn.fetchval("SELECT ROW(b, 1) FROM t") == (DOCUMENT, 1)
    assert await conn.copy_records_to_table("t", records=[([1], {"b": 2})]) == "COPY 1"
    assert await conn.fetch("SELECT * FROM t WHERE b = $1", {"b": 2}) == [([1], {"b": 2})]
    assert [row async for row in conn.copy_out("SELECT b FROM t WHERE b = $1", {"b": 2})] == [({"b": 2},)]
    async with conn.transaction():
        assert [row["b"] async for row in conn.cursor("SELECT b FROM t")] == [DOCUMENT, {"b": 2}]


async def test_a_type_that_travels_as_text_beside_it(connect: Any) -> None:
    """A composite with an attribute that is known as text only is text throughout."""
    for option in OPTIONS:
        conn = await connect(json=option)
        await conn.execute("CREATE TYPE pg_temp.mixed AS (a jsonb, b aclitem)")
        value = await conn.fetchval("SELECT ROW('[1]', NULL)::pg_temp.mixed")
        assert value[0] == [1]
        assert await conn.fetchval("SELECT ($1::pg_temp.mixed).a", ({"x": 1}, None)) == {"x": 1}


async def test_a_str_is_a_string_and_none_is_null(connect: Any) -> None:
    conn = await connect(json=True)
    assert await conn.fetchval("SELECT $1::jsonb", '{"a": 1}') == '{"a": 1}'
    assert await conn.fetchval("SELECT jsonb_typeof($1)", '{"a": 1}') == "string"
    assert await conn.fetchval("SELECT $1::jsonb IS NULL", None) is True
    assert await conn.fetchval("SELECT 'null'::jsonb") is None


async def test_it_is_the_connections_own(connect: Any) -> None:
    objects, text = await connect(json=True), await connect()
    query = "SELECT '[1]'::jsonb"
    assert await objects.fetchval(query) == [1]
    assert await text.fetchval(query) == "[1]"
    await objects.reset()
    assert await objects.fetchval(query) == [1]


async def test_a_codec_overrides_it_until_it_is_reset(connect: Any) -> None:
    conn = await connect(json=True)
    query = "SELECT $1::jsonb"
    assert await conn.fetchval(query, [1]) == [1]
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=lambda text: ("mine", text))
    assert await conn.fetchval(query, "[1]") == ("mine", "[1]")
    await conn.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=lambda data: b"\x01" + data, decoder=lambda data: data
    )
    assert await conn.fetchval(query, b"[2]") == b"\x01[2]"
    await conn.reset_type_codec("jsonb", schema="pg_catalog")
    assert await conn.fetchval(query, [1]) == [1]


async def test_errors_name_the_argument_or_are_those_of_loads(connect: Any) -> None:
    class Refusing(Library):
        @staticmethod
        def loads(data: bytes | str) -> Any:
            raise LookupError("refused")

    conn = await connect(json=True)
    with pytest.raises(headrace.ArgumentError, match=r"query argument \$1: .*not JSON serializable") as caught:
        await conn.fetchval("SELECT $1::jsonb", {"a": object()})
    assert "Pass a value that JSON can express" in str(caught.value.hint)
    with pytest.raises(headrace.ArgumentError, match="not JSON compliant"):
        await conn.fetchval("SELECT $1::jsonb", float("inf"))
    conn = await connect(json=Refusing)
    with pytest.raises(LookupError) as refused:
        await conn.fetch("SELECT '[1]'::jsonb")
    assert refused.value.__notes__ == ["raised by the decoder set for type pg_catalog.jsonb"]
    assert await conn.fetchval("SELECT 1") == 1


async def test_what_is_no_json_option(connect_kwargs: dict[str, Any]) -> None:
    for make in (headrace.connect, headrace.create_pool):
        with pytest.raises(ValueError, match="json is expected to be True, False, an object"):
            await make(**connect_kwargs, json="orjson")  # type: ignore[arg-type]


async def test_explain_is_parsed_once(connect: Any) -> None:
    conn = await connect(json=True)
    plan = await (await conn.prepare("SELECT 1")).explain()
    assert "Plan" in plan[0]


async def test_on_all_connections_of_a_pool(pool: Any) -> None:
    shared = await pool(min_size=2, max_size=2, json=True)
    values = await asyncio.gather(*(shared.fetchval("SELECT $1::jsonb", {"n": n}) for n in range(20)))
    assert values == [{"n": n} for n in range(20)]
    for _ in range(3):
        async with shared.acquire() as connection:
            assert await connection.fetchval("SELECT '[1]'::json") == [1]
    output = io.BytesIO()
    await shared.copy_from_query("SELECT $1::jsonb", [1], output=output)
    assert output.getvalue() == b"[1]\n"
    await shared.expire_connections()
    assert await shared.fetchval("SELECT '[1]'::json") == [1]
