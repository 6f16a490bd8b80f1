"""Fault 22: whatever is put into SQL as text comes back as it was, and a table that stands by survives.

Arguments and options of COPY have tests of their own (tests/copy/test_arguments.py); here are names.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace

pytestmark = pytest.mark.fault(number=22)

HOSTILE = [
    '"; DROP TABLE canary; --',
    "'; DROP TABLE canary; --",
    '"" ; DROP TABLE canary; --',
    "$$; DROP TABLE canary; $$",
    "$tag$; DROP TABLE canary; $tag$",
    "\\'; DROP TABLE canary; --",
    '\\"; DROP TABLE canary; --',
    "a -- b",
    "/* a",
    "-$1",
    "$1",
    "%s %L %I %%",
    ":name ?",
    "line\nbreak\ttab\r",
    "U&\\0027",
    "ünïcödé 𐐷 \u2028",
    "SELECT",
    "UPPER lower",
    " ",
    "x" * 63,
]

NOT_TEXT = ["a\0b", "\ud800", "\udcff"]
"""What no text of the server can be: a NUL, and what stands for bytes that are not UTF-8."""


@pytest.fixture(params=["on", "off"])
async def conn(request: pytest.FixtureRequest, connect: Any) -> AsyncIterator[headrace.Connection]:
    """A connection with either value of standard_conforming_strings, to a database with a table that must survive."""
    settings = {"standard_conforming_strings": request.param, "escape_string_warning": "off"}
    conn: headrace.Connection = await connect(server_settings=settings)
    await conn.execute("DROP TABLE IF EXISTS canary; CREATE TABLE canary (a int)")
    yield conn
    assert await conn.fetchval("SELECT count(*) FROM canary") == 0
    await conn.execute("DROP TABLE canary")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_channel(conn: headrace.Connection, name: str) -> None:
    heard: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
    listener = lambda *call: heard.put_nowait(call)  # noqa: E731  the same object twice
    await conn.add_listener(name, listener)
    assert await conn.fetch("SELECT * FROM pg_listening_channels()") == [(name,)]
    await conn.execute("SELECT pg_notify($1, $2)", name, name)
    async with asyncio.timeout(10):
        assert (await heard.get())[2:] == (name, name)
    await conn.remove_listener(name, listener)
    assert await conn.fetch("SELECT * FROM pg_listening_channels()") == []


@pytest.mark.parametrize("name", HOSTILE)
async def test_schema_table_and_column_of_a_copy(conn: headrace.Connection, name: str) -> None:
    rows = [(name,), (name[::-1],), (None,)]
    await conn.execute(
        f"CREATE SCHEMA {quoted(name)}; CREATE TABLE {quoted(name)}.{quoted(name)} ({quoted(name)} text)"
    )
    try:
        where: dict[str, Any] = {"schema_name": name, "columns": [name]}
        assert await conn.copy_records_to_table(name, records=rows, **where) == "COPY 3"
        output = io.BytesIO()
        assert await conn.copy_from_table(name, output=output, **where) == "COPY 3"
        output.seek(0)
        assert await conn.copy_to_table(name, source=output, **where) == "COPY 3"
        assert await conn.fetch(f"SELECT * FROM {quoted(name)}.{quoted(name)}") == rows * 2
    finally:
        await conn.execute(f"DROP SCHEMA {quoted(name)} CASCADE")


@pytest.mark.parametrize("text", HOSTILE)
async def test_arguments_and_separators_of_a_copy(conn: headrace.Connection, text: str) -> None:
    output = io.BytesIO()
    await conn.copy_from_query("SELECT $1::text, NULL", text, output=output, format="csv", null="\\'; --", header=True)
    assert output.getvalue().decode().endswith(",\\'; --\n")
    assert await conn.fetchval("SELECT $1::text", text) == text


@pytest.mark.parametrize("name", HOSTILE)
async def test_the_name_of_a_prepared_statement(conn: headrace.Connection, name: str) -> None:
    statement = await conn.prepare("SELECT $1::text", name=name)
    assert statement.get_name() == name
    assert await statement.fetchval(name) == name
    assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name = $1", name) == 1


@pytest.mark.parametrize("name", HOSTILE)
async def test_the_name_of_a_type(conn: headrace.Connection, name: str) -> None:
    await conn.execute(f"CREATE SCHEMA {quoted(name)}; CREATE TYPE {quoted(name)}.{quoted(name)} AS ENUM ('a', 'b')")
    try:
        await conn.set_type_codec(name, schema=name, encoder=str, decoder=lambda text: [text])
        assert await conn.fetchval(f"SELECT $1::{quoted(name)}.{quoted(name)}", "b") == ["b"]
        await conn.reset_type_codec(name, schema=name)
    finally:
        await conn.execute(f"DROP SCHEMA {quoted(name)} CASCADE")


@pytest.mark.parametrize("name", NOT_TEXT)
async def test_what_can_be_no_name_is_refused(conn: headrace.Connection, name: str) -> None:
    refusals: list[Any] = [
        lambda: conn.add_listener(name, print),
        lambda: conn.copy_from_table(name, output=io.BytesIO()),
        lambda: conn.copy_from_table("canary", columns=[name], output=io.BytesIO()),
        lambda: conn.copy_records_to_table(name, records=[(1,)]),
        lambda: conn.copy_from_query(f"SELECT '{name}'", output=io.BytesIO()),
        lambda: conn.copy_from_query("SELECT $1::text", name, output=io.BytesIO()),
        lambda: conn.fetch(f"SELECT '{name}'"),
        lambda: conn.fetch("SELECT $1::text", name),
        lambda: conn.execute(f"SELECT '{name}'"),
        lambda: conn.prepare("SELECT 1", name=name),
    ]
    for refused in refusals:
        # InterfaceError says so in our words; UnicodeEncodeError, a ValueError, in Python's.
        with pytest.raises((headrace.InterfaceError, ValueError)):
            await refused()
    assert await conn.fetchval("SELECT 1") == 1
