"""What docs/types.md says of values for which PostgreSQL and Python are not alike."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

import headrace
from headrace import BitString, Range
from headrace.exceptions import DataError, UnsupportedClientFeatureError
from tests.core.codecs.on_server.exactness import exactly

TOO_FAR = [
    ("date", "0044-03-15 BC", ValueError),
    ("date", "10000-01-01", ValueError),
    ("time", "24:00:00", ValueError),
    ("timetz", "24:00:00+00", ValueError),
    ("timestamp", "0044-03-15 12:00:00 BC", OverflowError),
    ("timestamptz", "20000-01-01 00:00:00+00", OverflowError),
    ("interval", "100000000 years", OverflowError),
]
"""What Python's classes do not reach to: the type, the text, and what reading it raises."""


@pytest.mark.parametrize(("name", "text", "error"), TOO_FAR)
async def test_beyond_python(conn: headrace.Connection, name: str, text: str, error: type[Exception]) -> None:
    """Reading fails, with the value in the error; the queries around it do not."""
    query = f"SELECT $1::text::{name}"
    results: tuple[Any, ...] = await asyncio.gather(
        conn.fetchval("SELECT 1"), conn.fetchval(query, text), conn.fetchval("SELECT 2"), return_exceptions=True
    )
    before, failed, after = results
    assert (before, after) == (1, 2)
    assert isinstance(failed, headrace.UnrepresentableValueError)
    assert isinstance(failed, error)
    shown = "24:00:00" if name == "timetz" else text
    assert shown in str(failed)
    assert await conn.fetchval(f"SELECT ({query})::text", text) == text


async def test_the_numbers_of_a_date(conn: headrace.Connection) -> None:
    await conn.set_type_codec(
        "date", schema="pg_catalog", format="tuple", encoder=lambda day: (day,), decoder=lambda numbers: numbers[0]
    )
    days = await conn.fetchval("SELECT '0044-03-15 BC'::date - '2000-01-01'::date")
    assert await conn.fetchval("SELECT '0044-03-15 BC'::date") == days
    assert await conn.fetchval("SELECT $1::date::text", days) == "0044-03-15 BC"


async def test_infinities(conn: headrace.Connection) -> None:
    for name, values in (
        ("date", (dt.date.min, dt.date.max)),
        ("timestamp", (dt.datetime.min, dt.datetime.max)),
        ("timestamptz", (dt.datetime.min, dt.datetime.max)),
    ):
        for value, text in zip(values, ("-infinity", "infinity"), strict=True):
            assert exactly(await conn.fetchval(f"SELECT '{text}'::{name}")) == exactly(value)
            assert await conn.fetchval(f"SELECT $1::{name}::text", value) == text
    assert await conn.fetchval("SELECT $1::timestamptz::text", dt.datetime.max.replace(tzinfo=dt.UTC)) == "infinity"
    assert await conn.fetchval("SELECT '9999-12-31'::date") == dt.date.max


async def test_infinite_intervals(conn: headrace.Connection) -> None:
    if conn.get_server_version() < (17,):
        pytest.skip("intervals can be infinite since PostgreSQL 17")
    with pytest.raises(OverflowError, match="infinity"):
        await conn.fetchval("SELECT 'infinity'::interval")


async def test_months(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT '1 year 1 mon'::interval") == dt.timedelta(395)
    assert await conn.fetchval("SELECT '-1 year -1 mon +1 day'::interval") == dt.timedelta(-394)


async def test_time_zones(conn: headrace.Connection) -> None:
    await conn.execute("SET timezone = 'Asia/Kolkata'")
    noon = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    assert exactly(await conn.fetchval("SELECT '2024-02-29 17:30'::timestamptz")) == exactly(noon)
    naive = dt.datetime(2024, 2, 29, 12)
    assert await conn.fetchval("SELECT $1::timestamptz", naive) == naive.astimezone()
    for name, value in (("timestamp", noon), ("time", noon.timetz()), ("timetz", naive.time())):
        with pytest.raises(DataError):
            await conn.fetchval(f"SELECT $1::{name}", value)
    assert await conn.fetchval("SELECT $1::timestamp", dt.date(2024, 2, 29)) == dt.datetime(2024, 2, 29)
    assert await conn.fetchval("SELECT $1::date", noon) == dt.date(2024, 2, 29)


async def test_numeric(conn: headrace.Connection) -> None:
    for value, expected in (
        (0.1, "0.1000000000000000055511151231257827021181583404541015625"),
        ("0.10", "0.10"),
        (7, "7"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0.0"), "0.0"),
    ):
        assert exactly(await conn.fetchval("SELECT $1::numeric", value)) == exactly(Decimal(expected))
    longest = Decimal("9" * 131072 + "." + "9" * 16383)
    assert await conn.fetchval("SELECT $1::numeric", longest) == longest
    assert await conn.fetchval("SELECT $1::numeric = ($1::numeric::text)::numeric", longest) is True


async def test_lower_bounds(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT '[5:6][-1:0]={{1,2},{3,4}}'::int[]") == [[1, 2], [3, 4]]
    assert await conn.fetchval("SELECT '[0:1]={$1.00,$2.00}'::money[]") == ["$1.00", "$2.00"]
    assert await conn.fetchval("SELECT $1::int[]::text", [[1, 2], [3, 4]]) == "{{1,2},{3,4}}"
    assert await conn.fetchval("SELECT $1::int[]", [[], []]) == []


async def test_six_dimensions(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT $1::int[]", [[[[[[1, None]]]]]]) == [[[[[[1, None]]]]]]


async def test_ranges_as_asyncpg_takes_them(conn: headrace.Connection) -> None:
    for value, expected in (
        ((1, 5), Range(1, 6)),
        ([None, 5], Range(None, 6)),
        ((1,), Range(1)),
        ((), Range(empty=True)),
    ):
        assert await conn.fetchval("SELECT $1::int4range", value) == expected


async def test_enum_members(conn: headrace.Connection) -> None:
    class Member(enum.Enum):
        WORD = "red"
        NUMBER = 7
        UNIQUE = UUID(int=1)
        BITS = BitString("101")
        DAY = dt.date(2024, 2, 29)
        NOON = dt.time(12)
        NOON_UTC = dt.time(12, tzinfo=dt.UTC)
        MOMENT = dt.datetime(2024, 2, 29, 12)
        HOUR = dt.timedelta(hours=1)

    for name, member in (
        *(("text", Member.WORD), ("int", Member.NUMBER), ("numeric", Member.NUMBER), ("float8", Member.NUMBER)),
        *(("uuid", Member.UNIQUE), ("varbit", Member.BITS), ("date", Member.DAY), ("time", Member.NOON)),
        *(("timetz", Member.NOON_UTC), ("timestamp", Member.MOMENT), ("interval", Member.HOUR)),
    ):
        assert await conn.fetchval(f"SELECT $1::{name}", member) == member.value
        assert await conn.fetchval(f"SELECT $1::{name}[]", [member]) == [member.value]
    assert await conn.fetchval("SELECT $1::timestamptz", Member.MOMENT) == Member.MOMENT.value.astimezone()
    with pytest.raises(DataError, match="expected datetime.date"):
        await conn.fetchval("SELECT $1::date", Member.NUMBER)


async def test_anonymous_rows(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT ROW(1, 'a', ROW(2, NULL))") == (1, "a", (2, None))
    assert await conn.fetchval("SELECT ROW('pg_class'::regclass)") == ("1259",)
    # What is known as text alone comes as the bytes of its binary form.
    assert await conn.fetchval("SELECT ROW('a'::tsvector, '1.5'::money)") == (b"\0\0\0\1a\0\0\0", (150).to_bytes(8))
    assert await conn.fetchval("SELECT ARRAY[ROW(1, ARRAY['1.5'::money])]") == [(1, [(150).to_bytes(8)])]
    with pytest.raises(UnsupportedClientFeatureError, match="input of anonymous composite types"):
        await conn.fetchval("SELECT $1::record", (1, 2))


async def test_composites_by_name_and_with_a_column_of_text(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TYPE priced AS (price money, at timestamptz, spot point)")
    at = dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)
    value: Any = await conn.fetchval("SELECT $1::priced", {"price": "1.5", "at": at})
    assert dict(value.items()) == {"price": "$1.50", "at": at, "spot": None}
    await conn.execute("SET timezone = 'Asia/Kolkata'")
    value = await conn.fetchval("SELECT $1::priced", (None, at, (1, 2)))
    assert exactly(tuple(value)) == exactly((None, at, headrace.types.Point(1, 2)))
    await conn.execute("DROP TYPE priced")
