"""create_pool(codecs=...): on every connection, for the pool's own methods and for leases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace
from headrace import TypeCodec, extensions

JSON = TypeCodec(typename="jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)


@pytest.fixture
async def conn(conn: headrace.Connection) -> AsyncIterator[headrace.Connection]:
    await conn.execute("CREATE TYPE pooled AS ENUM ('a', 'b'); CREATE TYPE pooled_pair AS (v pooled, doc jsonb)")
    yield conn
    await conn.execute("DROP TYPE pooled_pair; DROP TYPE pooled")


async def test_json_is_one_line(pool: Any) -> None:
    shared = await pool(min_size=3, max_size=3, codecs=[JSON])
    values = await asyncio.gather(*(shared.fetchval("SELECT $1::jsonb", {"n": n}) for n in range(30)))
    assert values == [{"n": n} for n in range(30)]
    connections = [await shared.acquire() for _ in range(3)]
    for connection in connections:
        assert await connection.fetchval("SELECT '[1]'::jsonb") == [1]
        await shared.release(connection)


async def test_types_of_the_database_and_init_behind_them(conn: headrace.Connection, pool: Any) -> None:
    seen = []

    async def init(connection: headrace.Connection) -> None:
        seen.append(await connection.fetchval("SELECT 'a'::pooled"))

    upper = TypeCodec(typename="pooled", encoder=str.lower, decoder=str.upper)
    shared = await pool(min_size=2, max_size=2, codecs=[upper, JSON], init=init)
    assert seen == ["A", "A"]
    value = await shared.fetchval("SELECT $1::pooled_pair", ("B", {"x": 1}))
    assert dict(value) == {"v": "B", "doc": {"x": 1}}
    assert await shared.fetchval("SELECT $1::pooled[]", ["A", None]) == ["A", None]


async def test_builtin_codecs_by_name(conn: headrace.Connection, pool: Any) -> None:
    shared = await pool(min_size=1, codecs=[TypeCodec(typename="pooled", codec_name="text")])
    assert await shared.fetchval("SELECT 'a'::pooled") == "a"


async def test_a_codec_that_cannot_be_set_fails_the_opening(
    conn: headrace.Connection, connect_kwargs: dict[str, Any]
) -> None:
    codec = TypeCodec(typename="missing", encoder=str, decoder=str)
    with pytest.raises(ValueError, match="unknown type: public.missing"):
        await headrace.create_pool(min_size=1, codecs=[codec], **connect_kwargs)
    connected = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(10):
        while await conn.fetchval(connected):
            pass


@pytest.mark.parametrize(
    ("codecs", "message"),
    [
        (
            [5],
            r"codecs is expected to be a list of headrace.TypeCodec\(...\) and of headrace.extensions, such as "
            r"Pgvector\(\), got 5$",
        ),
        (JSON, None),
        ({"jsonb": JSON}, "got 'jsonb'$"),
        ([extensions.Extension()], "got <headrace.*Extension object at"),
        (extensions.Extension, r"got <class '[\w.]+Extension'>$"),
        ([extensions.Pgvector], r"got <class 'headrace.extensions.Pgvector'>: write Pgvector\(\)$"),
        (TypeCodec, r"got <class '[\w.]+TypeCodec'>: write TypeCodec\(...\)$"),
    ],
)
async def test_what_is_no_codec(pool: Any, codecs: Any, message: str | None) -> None:
    if message is None:
        shared = await pool(min_size=1, codecs=codecs)
        assert await shared.fetchval("SELECT '1'::jsonb") == 1
        return
    with pytest.raises(TypeError, match=message):
        await pool(codecs=codecs)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "both encoder and decoder, or codec_name: got none of them"),
        ({"encoder": str}, "both encoder and decoder, or codec_name: got encoder"),
        ({"encoder": str, "codec_name": "int"}, "encoder and decoder, or codec_name: got codec_name and encoder"),
    ],
)
def test_what_a_codec_is_made_of(given: Any, message: str) -> None:
    with pytest.raises(headrace.InterfaceError, match=message):
        TypeCodec(typename="x", **given)
