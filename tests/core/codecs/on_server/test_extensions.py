"""Types of extensions, on servers that have them: hstore, citext, ltree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import headrace


async def extended(conn: headrace.Connection, extension: str) -> None:
    """Install an extension, or skip the test on a server that comes without it."""
    if not await conn.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = $1", extension):
        pytest.skip(f"this PostgreSQL comes without {extension}")
    await conn.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}")


async def test_hstore_is_text_until_it_is_asked_for(conn: headrace.Connection) -> None:
    await extended(conn, "hstore")
    assert await conn.fetchval("SELECT $1::hstore", "a=>1") == '"a"=>"1"'
    await conn.set_builtin_type_codec("hstore", codec_name="pg_contrib.hstore")
    values: list[dict[str, Any]] = [{}, {"a": "1", "b": None, 'q"\\': "ä, =>"}]
    for value in values:
        assert await conn.fetchval("SELECT $1::hstore", value) == value
    assert await conn.fetchval("SELECT $1::hstore[]", values) == values
    assert await conn.fetchval("SELECT $1::hstore -> 'a'", {"a": "1"}) == "1"
    await conn.reset_type_codec("hstore")
    assert await conn.fetchval("SELECT 'a=>1'::hstore") == '"a"=>"1"'


async def test_citext(conn: headrace.Connection) -> None:
    await extended(conn, "citext")
    assert await conn.fetchval("SELECT $1::citext", "Ärger") == "Ärger"
    assert await conn.fetchval("SELECT $1::citext = 'ABC'", "abc") is True
    assert await conn.fetchval("SELECT $1::citext[]", [["a"], [None]]) == [["a"], [None]]
    await conn.execute("CREATE TYPE tagged AS (tag citext, n int)")
    assert tuple(await conn.fetchval("SELECT $1::tagged", ("A", 1))) == ("A", 1)


@pytest.mark.parametrize(("name", "value"), [("ltree", "a.b.c"), ("lquery", "a.*"), ("ltxtquery", "a & b")])
async def test_ltree(conn: headrace.Connection, name: str, value: str) -> None:
    await extended(conn, "ltree")
    assert await conn.fetchval(f"SELECT $1::{name}", value) == value
    assert await conn.fetchval(f"SELECT $1::{name}[]", [value, None]) == [value, None]
    assert await conn.fetchval(f"SELECT row($1::{name})::text", value)
