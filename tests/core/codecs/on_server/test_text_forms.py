"""The text that a custom codec gets inside a composite is the server's own, and what the server prints is read back.

Each value goes to the server in binary, alone, and comes back as the text of its output function.
"""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from ipaddress import IPv4Interface, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

import headrace
from headrace._core.codecs.text_forms import TEXT_FORMS
from headrace.types import BitString, Box, Circle, Line, LineSegment, Path, Point, Polygon

if TYPE_CHECKING:
    from tests.fixtures import Connect

INDIA = dt.timezone(dt.timedelta(hours=5, minutes=30))

VALUES: dict[str, list[Any]] = {
    "bool": [True, False],
    "bytea": [b"", bytes(range(256))],
    '"char"': [b"a", b"\0", b"\x80", b"\\"],
    "int2": [0, -(2**15)],
    "int4": [2**31 - 1],
    "int8": [-(2**63)],
    "oid": [2**32 - 1],
    "xid8": [2**64 - 1],
    "int2vector": [[1, -2]],
    "oidvector": [[1, 2]],
    "float4": [
        0.0,
        -0.0,
        1.5,
        0.10000000149011612,
        999999.0,
        1e6,
        16777216.0,
        3.4028234663852886e38,
        3.4028232635611926e38,
        1.401298464324817e-45,
        float("inf"),
    ],
    "float8": [0.0, 1.0, -0.1, 1e15, 1e16, 123456789.0, 1e22, 1e-5, 5e-324, 1.7976931348623157e308, float("-inf")],
    "numeric": [Decimal(text) for text in ("0", "1.50", "-0.001", "1E+20", "1E-20", "Infinity", "-Infinity")],
    "text": ["", 'a "quoted" \\ text', "ä"],
    "json": ['{"a": 1}'],
    "jsonb": ['{"a": 1}'],
    "uuid": [UUID(int=1)],
    "date": [dt.date(2024, 2, 29), dt.date(1, 1, 2), dt.date.max, dt.date.min],
    "time": [dt.time(0), dt.time(23, 59, 59, 999999), dt.time(1, 2, 3, 400000), dt.time(10, 20, 30, 5)],
    "timetz": [dt.time(1, 2, 3, tzinfo=INDIA), dt.time(1, 0, tzinfo=dt.UTC)],
    "timestamp": [
        dt.datetime(2024, 2, 29, 1, 2, 3, 400000),
        dt.datetime(2024, 2, 29, 10, 20, 30),
        dt.datetime(2, 1, 1),
        dt.datetime.max,
        dt.datetime.min,
    ],
    "timestamptz": [
        dt.datetime(2024, 2, 29, 1, 2, 3, 4, INDIA),
        dt.datetime.max,
        dt.datetime(2024, 1, 1, tzinfo=INDIA),
    ],
    "interval": [
        dt.timedelta(),
        dt.timedelta(days=1),
        dt.timedelta(days=-1, seconds=1),
        dt.timedelta(days=2, seconds=3, microseconds=400000),
        dt.timedelta(days=-400, seconds=5, microseconds=7),
    ],
    "inet": [IPv4Interface("10.0.0.1/8"), IPv6Address("::1")],
    "cidr": [IPv6Network("2001:db8::/32")],
    "macaddr": ["08:00:2b:01:02:03"],
    "varbit": [BitString(""), BitString("101"), BitString("1" * 20)],
    "tid": [(1, 2)],
    "pg_lsn": [0x16B374D848, 2**64 - 1],
    "pg_snapshot": [(1, 1, ()), (5, 9, (5, 7))],
    "txid_snapshot": [(5, 9, (8,))],
    "point": [Point(1.5, -0.0), Point(1e300, float("-inf"))],
    "line": [Line(1, 0, -2.5)],
    "lseg": [LineSegment((0, 0), (1e-7, 2))],
    "box": [Box((1, 2.5), (-1, 0))],
    "path": [Path((1, 2)), Path((1, 2), (3.5, 4), is_closed=True)],
    "polygon": [Polygon((1, 2)), Polygon((1, 2), (3, 4), (5, 6))],
    "circle": [Circle((1, 2), 0.1)],
}


@pytest.fixture
async def conn(connect: Connect) -> headrace.Connection:
    return await connect(server_settings={"timezone": "UTC", "datestyle": "ISO", "intervalstyle": "postgres"})


@pytest.mark.parametrize("name", VALUES)
async def test_text_is_the_servers(conn: headrace.Connection, name: str) -> None:
    oid = await conn.fetchval("SELECT $1::text::regtype::oid", name)
    form = TEXT_FORMS[oid]
    for value in VALUES[name]:
        binary = await conn.fetchval(f"SELECT $1::{name}", value)
        # format() calls the output function; a cast to text is another thing for bool and inet.
        text = await conn.fetchval(f"SELECT format('%s', $1::{name})", value)
        assert form.to_text(binary) == text
        result = form.from_text(text)
        assert result == binary
        assert type(result) is type(binary)


def test_a_float_beyond_all_float4_is_refused() -> None:
    assert TEXT_FORMS[700].to_text(float("nan")) == "NaN"
    with pytest.raises(OverflowError, match="out of float32 range.* got -1e"):
        TEXT_FORMS[700].to_text(-1e300)


@pytest.mark.parametrize(
    "text",
    ["1 year 2 mons 3 days 04:05:06.7", "-1 years -2 mons +3 days -04:05:06.7", "1 mon", "-1 years -1 mons +1 day"],
)
async def test_intervals_with_months(conn: headrace.Connection, text: str) -> None:
    form = TEXT_FORMS[1186]
    assert await conn.fetchval("SELECT $1::text::interval::text", text) == text
    assert form.from_text(text) == await conn.fetchval("SELECT $1::text::interval", text)


async def test_bytea_in_escapes(conn: headrace.Connection) -> None:
    await conn.execute("SET bytea_output = escape")
    data = bytes(range(256))
    assert TEXT_FORMS[17].from_text(await conn.fetchval("SELECT $1::bytea::text", data)) == data


@pytest.mark.parametrize(
    ("oid", "text"),
    [(16, "yes"), (23, "1.5"), (1186, "P1D"), (1186, ""), (1082, "01.02.2024"), (2950, "x"), (1700, "x")],
)
def test_what_is_not_understood_is_an_error(oid: int, text: str) -> None:
    with pytest.raises(ValueError):
        TEXT_FORMS[oid].from_text(text)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(TypeError, match="expected str, got int"):
        TEXT_FORMS[25].to_text(5)
