"""Codecs that a program sets: in every format, for every kind of type, under SQL's names, with both drivers."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.compat.test_both_drivers import Run, check_both
from tests.servers import Cluster

SETUP = """
    CREATE TYPE mood AS ENUM ('happy', 'x'); CREATE TYPE pair AS (x int, y text);
    CREATE TYPE nested AS (p pair, ps pair[]); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN short AS varchar(3); CREATE TABLE t (a int, b text);
    CREATE SCHEMA other; CREATE TYPE other.thing AS ENUM ('happy'); CREATE TYPE "Q" AS ENUM ('q');
"""


def same(value: Any) -> Any:
    return value


def tagged(value: Any) -> tuple[str, Any]:
    return "decoded", value


def boom(_: Any) -> Any:
    raise RuntimeError("boom")


SETS: list[tuple[str, dict[str, Any], list[tuple[Any, ...]]]] = [
    ("json", {"encoder": json.dumps, "decoder": json.loads}, [("SELECT $1::json", {"a": [1]}), ("SELECT '{}'::json",)]),
    (
        "json",
        {"encoder": json.dumps, "decoder": json.loads},
        [("SELECT $1::json[]", [{}, None]), ("SELECT ROW($1::json)", 5)],
    ),
    (
        "jsonb",
        {
            "encoder": lambda value: b"\1" + json.dumps(value).encode(),
            "decoder": lambda data: json.loads(data[1:]),
            "format": "binary",
        },
        [("SELECT $1::jsonb", {"a": 1}), ("SELECT jsonb_agg(g) FROM generate_series(1, 3) AS g",)],
    ),
    (
        "integer",
        {"encoder": str, "decoder": tagged},
        [("SELECT $1::int", 5), ("SELECT ARRAY[1, 2]",), ("SELECT 1::positive",)],
    ),
    ("numeric", {"encoder": str, "decoder": float}, [("SELECT $1::numeric", 1.5), ("SELECT $1::numeric[]", [1.5])]),
    (
        "mood",
        {"encoder": str.lower, "decoder": str.upper},
        [("SELECT $1::mood", "HAPPY"), ("SELECT $1::mood[]", ["X"])],
    ),
    ("mood", {"encoder": str.encode, "decoder": tagged, "format": "binary"}, [("SELECT $1::mood", "x")]),
    (
        "float8",
        {
            "encoder": lambda value: struct.pack("!d", value),
            "decoder": lambda data: struct.unpack("!d", data)[0] * 2,
            "format": "binary",
        },
        [("SELECT $1::float8", 1.5), ("SELECT $1::float8[]", [1.5])],
    ),
    ("tsvector", {"encoder": str, "decoder": tagged}, [("SELECT $1::tsvector", "a:1")]),
    ("money", {"encoder": str, "decoder": tagged}, [("SELECT $1::money", 5)]),
    ("xml", {"encoder": str, "decoder": tagged}, [("SELECT '<a/>'::xml",)]),
    ("oid", {"encoder": str, "decoder": tagged}, [("SELECT 5::oid",), ("SELECT 'happy'::mood",)]),
    ("bytea", {"encoder": bytearray, "decoder": tagged, "format": "binary"}, [("SELECT $1::bytea", b"x")]),
    ("bytea", {"encoder": same, "decoder": tagged, "format": "binary"}, [("SELECT $1::bytea", "x")]),
    ("text", {"encoder": boom, "decoder": str}, [("SELECT $1::text", "x"), ("SELECT 'x'",)]),
    ("text", {"encoder": str, "decoder": boom}, [("SELECT 'x'::text",), ("SELECT 1",)]),
    ("text", {"encoder": len, "decoder": str}, [("SELECT $1::text", "x")]),
    ("money", {"encoder": None, "decoder": tagged}, [("SELECT '1.5'::money",)]),
    ("date", {"encoder": lambda n: (n,), "decoder": tagged, "format": "tuple"}, [("SELECT $1::date", 10)]),
    (
        "date",
        {"encoder": same, "decoder": tagged, "format": "tuple"},
        [("SELECT $1::date", [5]), ("SELECT 'infinity'::date",)],
    ),
    (
        "date",
        {"encoder": same, "decoder": tagged, "format": "tuple"},
        [("SELECT $1::date", 5), ("SELECT $1::date", (1, 2))],
    ),
    ("time", {"encoder": lambda n: (n,), "decoder": tagged, "format": "tuple"}, [("SELECT $1::time", 10)]),
    ("timetz", {"encoder": same, "decoder": tagged, "format": "tuple"}, [("SELECT $1::timetz", (10, 3600))]),
    ("timestamp", {"encoder": lambda n: (n,), "decoder": tagged, "format": "tuple"}, [("SELECT $1::timestamp", 10)]),
    (
        "timestamptz",
        {"encoder": lambda n: (n,), "decoder": tagged, "format": "tuple"},
        [("SELECT $1::timestamptz[]", [10])],
    ),
    ("interval", {"encoder": same, "decoder": tagged, "format": "tuple"}, [("SELECT $1::interval", (1, 2, 3))]),
    ("interval", {"encoder": same, "decoder": tagged, "format": "tuple"}, [("SELECT $1::interval", (1, 2))]),
    (
        "pair",
        {"encoder": lambda value: (value, "z"), "decoder": lambda record: tagged(tuple(record)), "format": "tuple"},
        [
            ("SELECT $1::pair", 5),
            ("SELECT ARRAY[(1, 'x')::pair, NULL]",),
            ("SELECT ROW((2, 'y')::pair, ARRAY[(3, 'z')::pair])::nested",),
        ],
    ),
    ("t", {"encoder": tuple, "decoder": list, "format": "tuple"}, [("SELECT (1, 'x')::t",)]),
    ("other.thing", {"encoder": lambda _: "happy", "decoder": tagged}, [("SELECT $1::other.thing", 5)]),
    ("Q", {"encoder": str, "decoder": tagged}, [("SELECT 'q'::\"Q\"",)]),
    # What is refused.
    ("int4range", {"encoder": str, "decoder": str}, []),
    ("_int4", {"encoder": str, "decoder": str}, []),
    ("pair", {"encoder": str, "decoder": str}, []),
    ("positive", {"encoder": str, "decoder": str}, []),
    ("mood", {"encoder": str, "decoder": str, "format": "tuple"}, []),
    ("text", {"encoder": str, "decoder": str, "format": "csv"}, []),
    ("nope", {"encoder": str, "decoder": str}, []),
    ("other.nope", {"encoder": str, "decoder": str}, []),
    ('"Q"', {"encoder": str, "decoder": str}, []),
]

BUILTIN: list[tuple[str, str, list[tuple[Any, ...]]]] = [
    ("positive", "int4", [("SELECT $1::positive", 5), ("SELECT 5::positive",)]),
    ("positive", "text", [("SELECT $1::positive", "5"), ("SELECT 5::positive",)]),
    ("short", "bytea", [("SELECT $1::short", b"abc")]),
    ("short", "pg_contrib.hstore", []),
    ("mood", "text", [("SELECT $1::mood", "happy")]),
    ("mood", "int", []),
    ("money", "int8", [("SELECT $1::money", 150), ("SELECT ARRAY['1.5'::money]",)]),
    ("regclass", "oid", [("SELECT $1::regclass", 1259)]),
    ("tsvector", "bytea", [("SELECT 'a'::tsvector",)]),
    ("pair", "int4", []),
    ("_int4", "int4", []),
    ("int4range", "int4", []),
    ("mood", "nope", []),
    ("nope", "int4", []),
]

PUBLIC = ("mood", "pair", "positive", "short", "t", "Q", '"Q"', "nope")


def place(name: str) -> tuple[str, str]:
    """Return the name of a type and its schema."""
    schema, _, bare = name.rpartition(".")
    return bare, schema or ("public" if name in PUBLIC else "pg_catalog")


async def within(run: Run, name: str, call: Callable[..., Any], queries: list[tuple[Any, ...]], **kwargs: Any) -> None:
    """Set a codec, note what queries come to, and take it away."""
    bare, schema = place(name)
    await run.attempt(call, bare, schema=schema, **kwargs)
    for query, *args in queries:
        await run.attempt(run.connection.fetchval, query, *args)
    await run.attempt(run.connection.reset_type_codec, bare, schema=schema)
    for query, *_ in queries:
        if "$1" not in query:
            await run.attempt(run.connection.fetchval, query)


async def set_by_functions(run: Run) -> None:
    await run.connection.execute(SETUP)
    for name, arguments, queries in SETS:
        await within(run, name, run.connection.set_type_codec, queries, **arguments)


async def set_by_name(run: Run) -> None:
    await run.connection.execute(SETUP)
    for name, codec, queries in BUILTIN:
        await within(run, name, run.connection.set_builtin_type_codec, queries, codec_name=codec)
    for format in ("text", "binary", "csv"):
        await within(run, "short", run.connection.set_builtin_type_codec, [], codec_name="text", format=format)


async def altered(run: Run) -> None:
    """Types that change: what asyncpg heals by itself, headrace does too."""
    conn = run.connection
    await conn.execute("CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (a int); CREATE TABLE t (a int)")
    run.note(await conn.fetchval("SELECT 'a'::mood"), await conn.fetchval("SELECT ROW(1)::pair"))
    await conn.execute("INSERT INTO t VALUES (1)")
    run.note(await conn.fetch("SELECT * FROM t"))
    await conn.execute("ALTER TYPE mood ADD VALUE 'b'")
    await conn.execute("DROP TYPE pair; CREATE TYPE pair AS (a text)")
    run.note(await conn.fetchval("SELECT $1::mood", "b"), await conn.fetchval("SELECT ROW('x')::pair AS p"))
    await conn.execute("ALTER TABLE t ADD COLUMN b text")
    await conn.reload_schema_state()
    run.note(await conn.fetch("SELECT * FROM t"), await conn.fetchval("SELECT t FROM t"))
    await conn.execute("ALTER TYPE pair RENAME ATTRIBUTE a TO z")
    await conn.reload_schema_state()
    run.note(list((await conn.fetchval("SELECT ROW('x')::pair AS p")).keys()))


async def test_codecs_by_functions(server: Cluster, tmp_path: Path) -> None:
    await check_both(set_by_functions, server, tmp_path)


async def test_codecs_by_name(server: Cluster, tmp_path: Path) -> None:
    await check_both(set_by_name, server, tmp_path)


async def test_altered_types(server: Cluster, tmp_path: Path) -> None:
    await check_both(altered, server, tmp_path)


async def hstores(run: Run) -> None:
    conn = run.connection
    await conn.execute("CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE DOMAIN features AS hstore")
    await conn.set_builtin_type_codec("hstore", codec_name="pg_contrib.hstore")
    run.note(await conn.fetchval("SELECT $1::hstore", {"a": None, "b": ""}), await conn.fetchval("SELECT ''::hstore"))
    run.note(
        await conn.fetchval("SELECT $1::hstore[]", [{"a": "b"}]), await conn.fetchval("SELECT ROW('a=>1'::hstore)")
    )
    for value in ([("a", "b")], {"a": 5}, {5: "a"}, {None: "a"}, "a=>1"):
        await run.attempt(conn.fetchval, "SELECT $1::hstore", value)
        await run.attempt(conn.fetchval, "SELECT $1::features", value)
    await conn.set_builtin_type_codec("features", codec_name="pg_contrib.hstore")
    run.note(await conn.fetchval("SELECT $1::features", {"a": "b"}), await conn.fetchval("SELECT 'a=>1'::features"))
    await conn.reset_type_codec("features")
    await conn.reset_type_codec("hstore")
    run.note(await conn.fetchval("SELECT $1::hstore", "a=>1"), await conn.fetchval("SELECT $1::citext[]", ["A"]))


async def test_hstore(server: Cluster, tmp_path: Path) -> None:
    available = server.sql("SELECT count(*) FROM pg_available_extensions WHERE name IN ('hstore', 'citext')")
    if available != [(2,)]:
        pytest.skip("this server has no contrib")
    await check_both(hstores, server, tmp_path)
