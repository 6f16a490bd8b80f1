"""Where a codec that a program has set holds: in arrays, composites, ranges, domains, rows without a type, and COPY."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

import headrace
from headrace import Range


@dataclass(frozen=True)
class Wrapped:
    """What the codecs of these tests make of every value: it keeps what the decoder was given."""

    inside: Any


@dataclass(frozen=True)
class Case:
    """A type with a codec in one of the forms, a value in that form, the server's text of it, and a range of it."""

    pg_type: str
    form: Literal["text", "binary", "tuple"]
    value: Any
    text: str
    range: str | None = None

    def __str__(self) -> str:
        return f"{self.pg_type}-{self.form}"


CASES = [
    Case("numeric", "text", "1.50", "1.50", "num"),
    Case("numeric", "binary", bytes.fromhex("000200000000000200011388"), "1.50", "num"),
    Case("int4", "text", "5", "5", "int4"),
    Case("int4", "binary", b"\0\0\0\5", "5", "int4"),
    Case("date", "text", "2000-01-06", "2000-01-06", "date"),
    Case("date", "binary", b"\0\0\0\5", "2000-01-06", "date"),
    Case("date", "tuple", (-746534,), "0045-01-23 BC", "date"),
    Case("timestamptz", "text", "2000-01-01 00:00:01.5+00", "2000-01-01 00:00:01.5+00", "tstz"),
    Case("timestamptz", "tuple", (1_000_000,), "2000-01-01 00:00:01+00", "tstz"),
    Case("interval", "text", "1 mon -2 days", "1 mon -2 days"),
    Case("interval", "tuple", (1, -2, 3_000_000), "1 mon -2 days +00:00:03"),
    Case("jsonb", "text", '{"a": "\\\\"}', '{"a": "\\\\"}'),
    Case("jsonb", "binary", b'\1{"a": 1}', '{"a": 1}'),
    Case("bytea", "text", "\\x00ff5c", "\\x00ff5c"),
    Case("mood", "text", "sad", "sad"),
    Case("mood", "binary", b"sad", "sad"),
    Case("pair", "tuple", (1, "a \\ b"), '(1,"a \\\\ b")', "pair"),
    Case("tsvector", "text", "'a' 'b\\\\'", "'a' 'b\\\\'"),
    Case("regtype", "text", "integer", "integer"),
    Case("money", "binary", (100).to_bytes(8, "big"), "$1.00"),
]


@pytest.fixture(params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found: Case = request.param
    return found


@pytest.fixture
async def conn(conn: headrace.Connection, case: Case) -> AsyncIterator[headrace.Connection]:
    """A connection where the case's codec is set and its type stands in types and a table of the schema places."""
    await conn.execute("CREATE SCHEMA places; SET search_path = places, pg_catalog; SET TimeZone = 'UTC'")
    await conn.execute("CREATE TYPE mood AS ENUM ('sad'); CREATE TYPE pair AS (a int, b text)")
    await conn.execute("CREATE TYPE pairrange AS RANGE (subtype = pair)")
    await conn.execute(
        f"CREATE TYPE holder AS (n numeric, v {case.pg_type}); CREATE DOMAIN kept AS {case.pg_type}; "
        f"CREATE TABLE t (id text, v {case.pg_type}, list {case.pg_type}[], holder holder)"
    )
    schema = "places" if case.pg_type in ("mood", "pair") else "pg_catalog"
    await conn.set_type_codec(
        case.pg_type, schema=schema, encoder=lambda value: value.inside, decoder=wrapped, format=case.form
    )
    yield conn
    await conn.execute("DROP SCHEMA places CASCADE")


def wrapped(value: Any) -> Wrapped:
    """Decode a value; a composite's comes as Record."""
    return Wrapped(tuple(value) if isinstance(value, headrace.Record) else value)


def number(case: Case, given: int) -> Any:
    """Return the number beside the value of a holder: for a numeric it is the case's value as well."""
    return Wrapped(case.value) if case.pg_type == "numeric" else given


async def check(conn: headrace.Connection, case: Case, name: str, value: Any, taken_out: str) -> None:
    """Check that the server finds the case's text where the expression says, and that the whole comes back."""
    assert await conn.fetchval(f"SELECT ({taken_out.format(f'($1::{name})')})::text", value) == case.text
    back = await conn.fetchval(f"SELECT $1::{name}", value)
    assert (tuple(back) if isinstance(back, headrace.Record) else back) == value


async def test_by_itself(conn: headrace.Connection, case: Case) -> None:
    await check(conn, case, case.pg_type, Wrapped(case.value), "{}")


async def test_in_arrays(conn: headrace.Connection, case: Case) -> None:
    value = Wrapped(case.value)
    await check(conn, case, f"{case.pg_type}[]", [value, None, value], "{}[3]")
    await check(conn, case, f"{case.pg_type}[]", [[value], [None]], "{}[1][1]")


async def test_in_composites(conn: headrace.Connection, case: Case) -> None:
    await check(conn, case, "holder", (number(case, 7), Wrapped(case.value)), "{}.v")


async def test_in_domains_and_arrays_of_them(conn: headrace.Connection, case: Case) -> None:
    await check(conn, case, "kept", Wrapped(case.value), "{}")
    await check(conn, case, "kept[]", [Wrapped(case.value)], "{}[1]")


async def test_in_ranges_and_multiranges(conn: headrace.Connection, case: Case) -> None:
    if case.range is None:
        pytest.skip("no range of this type")
    value: Range[Any] = Range(Wrapped(case.value), None)
    await check(conn, case, f"{case.range}range", value, "lower({})")
    await check(conn, case, f"{case.range}multirange", [value], "lower({})")


async def test_in_rows_without_a_type(conn: headrace.Connection, case: Case) -> None:
    if case.pg_type in ("tsvector", "regtype"):
        pytest.skip("has no place in the binary form of such a row")
    value = Wrapped(case.value)
    assert await conn.fetchval(f"SELECT NULL::{case.pg_type}[]") is None
    row = await conn.fetchval(f"SELECT row($1::{case.pg_type}, ARRAY[$1], 'x'::text)", value)
    assert row == (value, [value], "x")


async def test_in_copies(conn: headrace.Connection, case: Case) -> None:
    value = Wrapped(case.value)
    rows = [("a", value, [value, None], (number(case, 7), value)), ("b", None, None, None)]
    assert await conn.copy_records_to_table("t", records=rows) == "COPY 2"
    texts = await conn.fetchrow("SELECT v::text, list[1]::text, (holder).v::text FROM t WHERE id = 'a'")
    assert texts == (case.text,) * 3
    found = [row async for row in conn.copy_out("SELECT v, list FROM t WHERE id <= $1 ORDER BY id", "b")]
    assert [tuple(row) for row in found] == [(value, [value, None]), (None, None)]
