"""What a prepared statement tells of its types: OID, name, kind and schema, as asyncpg documents them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import headrace


@pytest.fixture
async def conn(conn: headrace.Connection) -> AsyncIterator[headrace.Connection]:
    await conn.execute(
        """CREATE SCHEMA told; SET search_path = told; CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int);
        CREATE DOMAIN small AS int; CREATE DOMAIN few AS small[]; CREATE TYPE span AS RANGE (subtype = float8);
        CREATE DOMAIN good AS pair"""
    )
    yield conn
    await conn.execute("DROP SCHEMA told CASCADE")


KINDS = [
    ("int", "int4", "scalar", "pg_catalog"),
    ("int[]", "int4[]", "array", "pg_catalog"),
    ("int4range", "int4range", "range", "pg_catalog"),
    ("int4multirange", "int4multirange", "multirange", "pg_catalog"),
    ("mood", "mood", "scalar", "told"),
    ("mood[]", "mood[]", "array", "told"),
    ("pair", "pair", "composite", "told"),
    ("pair[]", "pair[]", "array", "told"),
    ("span", "span", "range", "told"),
    # A domain has its own name, and the kind of what it is based on.
    ("small", "small", "scalar", "told"),
    ("few", "few", "array", "told"),
    ("good", "good", "composite", "told"),
]


async def test_parameters(conn: headrace.Connection) -> None:
    casts = ", ".join(f"${i}::{name}" for i, (name, *_) in enumerate(KINDS, 1))
    statement = await conn.prepare(f"SELECT {casts}")
    oids = [await conn.fetchval("SELECT $1::text::regtype::oid", name) for name, *_ in KINDS]
    found = statement.get_parameters()
    assert [(each.name, each.kind, each.schema) for each in found] == [tuple(kind) for _, *kind in KINDS]
    assert [each.oid for each in found] == oids


async def test_attributes(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT row(1) AS a, 'sad'::mood AS b, '{}'::mood[] AS c, '(1)'::pair AS d")
    found = [(each.name, each.type.name, each.type.kind) for each in statement.get_attributes()]
    # In results the server names no domains, and rows without a type are scalars.
    assert found == [
        ("a", "record", "scalar"),
        ("b", "mood", "scalar"),
        ("c", "mood[]", "array"),
        ("d", "pair", "composite"),
    ]
