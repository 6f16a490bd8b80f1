"""What COPY takes as text: arguments of copy_from_query, names and options (fault 22).

Whatever is passed comes back as it was, and a table that stands by survives.
"""

from __future__ import annotations

import datetime
import decimal
import io
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace

AWKWARD = [
    "",
    "plain",
    "it's",
    "a\\b\\'c\\",
    "'); DROP TABLE canary; --",
    "'::text); DROP TABLE canary; --",
    "\\'); DROP TABLE canary; --",
    "$$; DROP TABLE canary; $$",
    "$1 $2 -- $3",
    "line\nbreak\ttab",
    "ünïcödé 𐐷 \u2028",
    '"quoted" %s %L %%',
]


@pytest.fixture
async def conn(conn: headrace.Connection) -> AsyncIterator[headrace.Connection]:
    """A connection to a database with a table that must survive."""
    await conn.execute("CREATE TABLE canary (a int)")
    yield conn
    assert await conn.fetchval("SELECT count(*) FROM canary") == 0
    await conn.execute("DROP TABLE canary")


@pytest.fixture(params=["on", "off"])
async def strings(request: pytest.FixtureRequest, conn: headrace.Connection) -> str:
    """Both values of standard_conforming_strings."""
    await conn.execute(f"SET escape_string_warning = off; SET standard_conforming_strings = {request.param}")
    return str(request.param)


async def rows(conn: headrace.Connection, query: str, *args: Any) -> list[list[str | None]]:
    """Copy the query's rows out, as lists of text."""
    output = io.BytesIO()
    await conn.copy_from_query(query, *args, output=output, format="binary")
    data, place, found = output.getvalue(), 19, []
    while (count := int.from_bytes(data[place : place + 2], "big", signed=True)) >= 0:
        place += 2
        row: list[str | None] = []
        for _ in range(count):
            size = int.from_bytes(data[place : place + 4], "big", signed=True)
            place += 4
            row.append(None if size < 0 else data[place : place + size].decode())
            place += max(size, 0)
        found.append(row)
    return found


@pytest.mark.usefixtures("strings")
async def test_text_comes_back_as_it_was(conn: headrace.Connection) -> None:
    for text in AWKWARD:
        assert await rows(conn, "SELECT $1::text, $2::text", text, text[::-1]) == [[text, text[::-1]]]
    assert await rows(conn, "SELECT unnest($1::text[])", AWKWARD) == [[text] for text in AWKWARD]


@pytest.mark.usefixtures("strings")
async def test_parameters_are_found_where_the_server_finds_them(conn: headrace.Connection) -> None:
    query = """
        SELECT $1::text || '$1' || E'\\'$1' || $tag$ $1 ' $tag$ || "$1" -- $1 '
             || /* $1 /* ' */ */ $1
        FROM (SELECT 'x'::text AS "$1", 'y'::text AS a$1) AS q WHERE a$1 = 'y'"""
    assert await rows(conn, query, "z") == [["z$1'$1 $1 ' xz"]]


@pytest.mark.parametrize(
    ("query", "args", "expected"),
    [
        ("SELECT (-$1::int)::text", (-5,), "5"),
        ("SELECT (1-$1)::text", (-5,), "6"),
        ("SELECT $1::int::text", (-5,), "-5"),
        ("SELECT ($1::int[])[2]::text", ([1, -2],), "-2"),
        ("SELECT '{7,8}'::int[] = $1 AND $1[2] = 8", ([7, 8],), b"\1"),
        ("SELECT a::text FROM generate_series(1, 5) AS a ORDER BY a OFFSET $1 LIMIT $2", (3, 1), "4"),
        ("SELECT x::text FROM (VALUES (1), (2)) AS v (x) WHERE x IN ($1, $2)", (2, 3), "2"),
        ("SELECT coalesce($1::int, 9)::text", (None,), "9"),
        ("SELECT $2::text || $1 || $10 || $2", ("1", "2", *"3456789", "10"), "21102"),
    ],
)
async def test_an_argument_may_stand_anywhere(
    conn: headrace.Connection, query: str, args: tuple[Any, ...], expected: Any
) -> None:
    if len(args) == 10:
        query = query.replace("SELECT", "SELECT $3::text || $4::text || $5::text || $6::text || $7::text ||"
                              " $8::text || $9::text ||")  # fmt: skip
        expected = "3456789" + expected
    expected = expected.decode() if isinstance(expected, bytes) else expected
    assert await rows(conn, query, *args) == [[expected]]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("bool", True),
        ("int8", -(2**63)),
        ("float8", 0.1 + 0.2),
        ("float8", float("-inf")),
        ("numeric", decimal.Decimal("1.2300")),
        ("bytea", bytes(range(256))),
        ("uuid", uuid.UUID(int=2**127 + 5)),
        ("date", datetime.date(1, 1, 1)),
        ("timestamptz", datetime.datetime(2020, 2, 29, 1, 2, 3, 4, datetime.UTC)),
        ("interval", datetime.timedelta(days=-3, microseconds=1)),
        ("jsonb", '{"a": "\\"\'"}'),
        ("bpchar", "many characters  "),
        ("varchar", "v"),
        ("bit", headrace.BitString("10110")),
        ("bit[]", [headrace.BitString("101")]),
        ('"char"', b"x"),
        ("name", "n"),
        ("int4range", headrace.Range(1, 5)),
        ("text[]", [["a", None], ['"', "{,}"]]),
        ("point", headrace.Point(1.5, -2)),
    ],
)
@pytest.mark.parametrize("style", ["default", "changed"])
async def test_every_type_arrives_exactly(conn: headrace.Connection, type_name: str, value: Any, style: str) -> None:
    if style == "changed":
        await conn.execute(
            "SET DateStyle = 'German, DMY'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape';"
            " SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = 3"
        )
    expected = await conn.fetchval(f"SELECT $1::{type_name}::text", value)
    assert await rows(conn, f"SELECT $1::{type_name}::text", value) == [[expected]]


async def test_types_of_other_schemas_and_custom_codecs(conn: headrace.Connection) -> None:
    await conn.execute(
        """CREATE SCHEMA "o'ther"; CREATE TYPE "o'ther"."M ood" AS ENUM ('it''s fine');
        CREATE TYPE "o'ther".pair AS (a int, b text)"""
    )
    try:
        assert await rows(conn, """SELECT $1::"o'ther"."M ood"::text""", "it's fine") == [["it's fine"]]
        assert await rows(conn, """SELECT ($1::"o'ther".pair).b""", (1, "x'(,)y")) == [["x'(,)y"]]
        await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        assert await rows(conn, "SELECT $1::jsonb ->> 'k'", {"k": "it's"}) == [["it's"]]
    finally:
        await conn.execute("""DROP SCHEMA "o'ther" CASCADE""")


async def test_wrong_arguments_are_named_before_anything_is_copied(conn: headrace.Connection) -> None:
    output = io.BytesIO()
    with pytest.raises(headrace.InterfaceError, match="expects 0 arguments for this query, 1 was passed"):
        await conn.copy_from_query("SELECT 1", 2, output=output)
    with pytest.raises(headrace.InterfaceError, match="expects 2 arguments for this query, 1 was passed"):
        await conn.copy_from_query("SELECT $1::int, $2::int", 2, output=output)
    with pytest.raises(headrace.UndefinedParameterError, match=r"there is no parameter \$1"):
        await conn.copy_from_query("SELECT $1::int", output=output)
    with pytest.raises(headrace.DataError, match=r"argument \$1: 'x' \(an integer is required"):
        await conn.copy_from_query("SELECT $1::int", "x", output=output)
    with pytest.raises(headrace.DataError, match="NUL"):
        await conn.copy_from_query("SELECT $1::text", "a\0b", output=output)
    with pytest.raises(headrace.PostgresSyntaxError):
        await conn.copy_from_query("SELEC $1::text", "a", output=output)
    assert output.getvalue() == b""


@pytest.mark.usefixtures("strings")
async def test_names_and_options_cannot_break_out(conn: headrace.Connection) -> None:
    evil = """t" FROM STDIN; DROP TABLE canary; --"""
    await conn.execute('CREATE TEMP TABLE "t"" FROM STDIN; DROP TABLE canary; --" ("a""; DROP TABLE canary; --" text)')
    column = 'a"; DROP TABLE canary; --'
    assert await conn.copy_to_table(evil, source=b"x'y\n", columns=[column]) == "COPY 1"
    assert await conn.copy_records_to_table(evil, records=[("z",)], columns=[column]) == "COPY 1"
    output = io.BytesIO()
    options: dict[str, Any] = {"format": "csv", "null": "); DROP TABLE canary; --", "quote": "'", "escape": "\\"}
    await conn.copy_from_table(evil, output=output, columns=[column], force_quote=[column], **options)
    assert output.getvalue() == b"'x\\'y'\n'z'\n"
    with pytest.raises(headrace.PostgresError):
        await conn.copy_from_table(evil, output=output, format="csv'); DROP TABLE canary; --")


@pytest.mark.usefixtures("strings")
@pytest.mark.parametrize("query", ["SELECT 1) TO STDOUT; DROP TABLE canary; --", "SELECT ')", "SELECT (1", "SELECT $$"])
async def test_a_query_cannot_end_the_command(conn: headrace.Connection, query: str) -> None:
    with pytest.raises((headrace.InterfaceError, headrace.PostgresSyntaxError)):
        await conn.copy_from_query(query, output=io.BytesIO())
    with pytest.raises((headrace.InterfaceError, headrace.PostgresSyntaxError)):
        async with conn.copy_out(query):
            pass


async def test_text_that_cannot_be_sent_is_refused(conn: headrace.Connection) -> None:
    for name in ("a\0b", "a\ud800b"):
        for call in (
            conn.copy_from_table(name, output=io.BytesIO()),
            conn.copy_from_table("canary", output=io.BytesIO(), columns=[name]),
            conn.copy_from_query(f"SELECT '{name}'", output=io.BytesIO()),
            conn.copy_to_table("canary", source=b"", where=f"'{name}' = ''"),
            conn.copy_to_table("canary", source=b"", null=name),
        ):
            with pytest.raises(headrace.InterfaceError, match="NUL character|lone surrogate"):
                await call
