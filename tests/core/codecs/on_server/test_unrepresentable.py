"""Values that Python's types do not hold: an error that says where, or with `out_of_range="text"` the server's text."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import headrace

if TYPE_CHECKING:
    from tests.fixtures import Connect

BEYOND = [
    ("date", "0044-03-15 BC"),
    ("date", "10000-01-01"),
    ("time", "24:00:00"),
    ("timetz", "24:00:00+05:30"),
    ("timestamp", "0044-03-15 12:00:00 BC"),
    ("timestamptz", "20000-01-01 00:00:00+00"),
    ("interval", "100000000 years"),
]


@pytest.mark.parametrize(("name", "text"), BEYOND)
async def test_the_error_names_column_and_type(conn: headrace.Connection, name: str, text: str) -> None:
    results: tuple[Any, ...] = await asyncio.gather(
        conn.fetchval("SELECT 1"),
        conn.fetch(f"SELECT 1 AS id, '{text}'::{name} AS moment"),
        conn.fetchval("SELECT 2"),
        return_exceptions=True,
    )
    before, failed, after = results
    assert (before, after) == (1, 2)
    assert isinstance(failed, headrace.UnrepresentableValueError)
    assert isinstance(failed, headrace.DataError)
    assert isinstance(failed, ValueError)
    assert str(failed).startswith(f"column 'moment' of type {name}: the ")
    assert (failed.column_name, failed.data_type_name) == ("moment", name)
    assert 'out_of_range="text"' in (failed.hint or "")


async def test_within_other_values(conn: headrace.Connection) -> None:
    for query in ("SELECT ARRAY['1 BC'::date]", "SELECT daterange('0001-01-01 BC', NULL)", "SELECT row('24:00'::time)"):
        with pytest.raises(headrace.UnrepresentableValueError, match="does not fit"):
            await conn.fetchval(query.replace("'1 BC'", "'0001-01-01 BC'"))


async def test_in_rows_of_other_classes_cursors_and_copies(conn: headrace.Connection) -> None:
    @dataclass
    class Row:
        d: dt.date

    query = "SELECT '0044-03-15 BC'::date AS d"
    with pytest.raises(headrace.UnrepresentableValueError, match="column 'd'"):
        await conn.fetch(query, row=Row)
    async with conn.transaction():
        with pytest.raises(headrace.UnrepresentableValueError, match="column 'd'"):
            assert [row async for row in conn.cursor(query)]
    with pytest.raises(headrace.UnrepresentableValueError, match="column 'd'"):
        assert [row async for row in conn.copy_out(query)]


@pytest.fixture
async def lenient(connect: Connect) -> headrace.Connection:
    return await connect(out_of_range="text")


@pytest.mark.parametrize(("name", "text"), BEYOND)
async def test_as_text_where_that_is_asked_for(lenient: headrace.Connection, name: str, text: str) -> None:
    await lenient.execute("SET TimeZone = 'UTC'")
    assert await lenient.fetchval(f"SELECT '{text}'::{name}") == text
    assert await lenient.fetchval(f"SELECT ARRAY['{text}'::{name}, NULL]") == [text, None]
    assert await lenient.fetchval(f"SELECT row('{text}'::{name})") == (text,)


async def test_what_python_holds_stays_as_it_is(lenient: headrace.Connection) -> None:
    row = await lenient.fetchrow(
        "SELECT '2024-02-29'::date, 'infinity'::timestamp, '24:00'::time, '1 day'::interval, "
        "daterange('0044-03-15 BC', '2024-02-29')"
    )
    assert row == (
        dt.date(2024, 2, 29),
        dt.datetime.max,
        "24:00:00",
        dt.timedelta(1),
        headrace.Range("0044-03-15 BC", dt.date(2024, 2, 29)),
    )


async def test_in_composites_that_travel_as_text(lenient: headrace.Connection) -> None:
    await lenient.execute("CREATE TYPE dated AS (d date, kind regtype)")
    value = await lenient.fetchval("SELECT row('0044-03-15 BC', 'int')::dated")
    assert tuple(value) == ("0044-03-15 BC", "integer")
    await lenient.execute("DROP TYPE dated")


async def test_infinite_intervals_as_text(lenient: headrace.Connection) -> None:
    if lenient.get_server_version() < (17,):
        pytest.skip("intervals can be infinite since PostgreSQL 17")
    assert await lenient.fetchval("SELECT '-infinity'::interval") == "-infinity"


async def test_in_a_pool(pool: Any) -> None:
    shared = await pool(min_size=1, out_of_range="text")
    assert await shared.fetchval("SELECT '0044-03-15 BC'::date") == "0044-03-15 BC"


async def test_what_the_option_takes(connect: Connect) -> None:
    with pytest.raises(ValueError, match="out_of_range is expected to be 'error' or 'text', got 'none'"):
        await connect(out_of_range="none")
