"""What the driver asks for itself: the answers are read by built-in codecs, whatever codecs its user has set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

import headrace

SCHEMA = """CREATE SCHEMA own; SET search_path = own; CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TYPE pair AS (a int, b text); CREATE TABLE t (a int, mood mood)"""


@pytest.fixture
async def conn(conn: headrace.Connection) -> AsyncIterator[headrace.Connection]:
    await conn.execute(SCHEMA)
    yield conn
    await conn.execute("DROP SCHEMA own CASCADE")


def nonsense(_: Any) -> Any:
    raise LookupError("called for a question that is not its user's")


@pytest.mark.parametrize("form", ["text", "binary"])
@pytest.mark.parametrize("name", ["oid", "text", "bool", "int4", "name", "char"])
async def test_with_a_codec_for(conn: headrace.Connection, name: str, form: Literal["text", "binary"]) -> None:
    await conn.set_type_codec(name, schema="pg_catalog", encoder=nonsense, decoder=nonsense, format=form)
    # Types met for the first time, and types by name.
    assert await conn.fetchval("SELECT 'sad'::mood") == "sad"
    assert await conn.fetchval("SELECT $1::pair", None) is None
    await conn.set_type_codec("mood", schema="own", encoder=str.lower, decoder=str.upper)
    assert await conn.fetchval("SELECT $1::mood", "Happy") == "HAPPY"
    await conn.set_type_codec("pair", schema="own", encoder=tuple, decoder=tuple, format="tuple")
    # The columns of a table, the constants of a query, the isolation level.
    await conn.copy_records_to_table("t", records=[("sad",)], columns=["mood"])
    assert [row async for row in conn.copy_out("SELECT mood FROM t WHERE mood = $1", "Sad")] == [("SAD",)]
    async with conn.transaction(), conn.transaction(isolation="read_committed"):
        pass
    await conn.reset_type_codec(name, schema="pg_catalog")
    assert await conn.fetchval("SELECT a FROM t") is None
