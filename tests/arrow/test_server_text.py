"""Random values of every type become columns that agree with the server's own text."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace
from headrace._core.arrow.schema import Field
from headrace.exceptions import FeatureNotSupportedError
from tests.arrow.server_text import VECTORS, texts
from tests.core.codecs.on_server.samples.every import SAMPLES
from tests.core.codecs.on_server.samples.sample import Sample

if TYPE_CHECKING:
    from tests.fixtures import Connect

batches = settings(
    max_examples=settings().max_examples // 20,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
"""For tests whose examples are batches of values, each in one round trip."""

OUT_OF_RANGE = {"infinity", "-infinity", "24:00:00"}


@pytest.fixture
async def conn(connect: Connect) -> headrace.Connection:
    connection = await connect(server_settings={"TimeZone": "UTC"})
    await connection.execute("""
        DROP TYPE IF EXISTS arrow_pair, arrow_mood CASCADE;
        CREATE TYPE arrow_mood AS ENUM ('sad', 'ok', 'very happy');
        CREATE TYPE arrow_pair AS (
            number numeric(9, 2), name text, moods arrow_mood[], at timestamptz, during int4range
        )
    """)
    return connection


def text_of(value: str) -> str:
    """Return the SQL for the result of a type's output function, which a cast to text does not give for all types."""
    return f"CASE num_nulls({value}) WHEN 0 THEN format('%s', {value}) END"


async def check(conn: headrace.Connection, query: str, literals: list[str | None]) -> None:
    """Check that the column `value` of a query agrees with the column `text`, which the server prints."""
    found = await conn.fetch_arrow(query, literals, out_of_range="null")
    table = pyarrow.table(found)
    table.validate(full=True)
    expected = table.column("text").to_pylist()
    field = found.schema.fields[0]
    for shown, text in zip(texts(field, table.column("value")), expected, strict=True):
        if text is None:
            assert shown is None
        elif shown is None:
            # Infinity, an interval of centuries, a timestamp beyond 294247, or an array of two dimensions.
            assert any(place in text for place in OUT_OF_RANGE) or ":" in text or text.startswith("{{"), text
        else:
            assert comparable(field, shown) == comparable(field, text)


def comparable(field: Field, text: str) -> str:
    """Return a text with NULL for what is out of range, and all floating-point numbers in the way that Python has.

    Python and the server print the fewest digits that are read as the same number. Often there are several such texts.
    """
    leaf = field
    while leaf.children:
        leaf = leaf.children[0]
    if leaf.format in ("f", "g"):
        single = leaf.format == "f"

        def exact(found: re.Match[str]) -> str:
            number = float(found.group())
            return repr(struct.unpack("f", struct.pack("f", number))[0] if single else number)

        return re.sub(r"-?\d+(\.\d+)?(e[+-]\d+)?", exact, text)
    if field.kind in ("array", "range", "multirange"):
        nothing = "NULL" if not field.children[0].children and field.kind == "array" else ""
        return re.sub(r"-?infinity|24:00:00", nothing, text)
    return text


@batches
@given(data=st.data())
@pytest.mark.parametrize("sample", SAMPLES.values(), ids=repr)
async def test_values_and_arrays(conn: headrace.Connection, sample: Sample, data: st.DataObject) -> None:
    values = [*sample.edges, *data.draw(st.lists(sample.every, max_size=20))]
    literals = [None, *(sample.literal(value) for value in values)]
    kind = sample.type
    try:
        await check(
            conn, f"SELECT t::{kind} AS value, {text_of(f't::{kind}')} AS text FROM unnest($1::text[]) AS t", literals
        )
    except FeatureNotSupportedError:
        pytest.skip("this PostgreSQL was built without libxml")
    if sample.name in VECTORS:
        # Arrays are aggregated to arrays of two dimensions.
        return
    array = f"array_agg(t::{kind}) FILTER (WHERE i % 7 > 0)"
    await check(
        conn,
        f"SELECT {array} AS value, {text_of(array)} AS text "
        "FROM unnest($1::text[]) WITH ORDINALITY AS t (t, i) GROUP BY i / 5",
        literals,
    )


@batches
@given(data=st.data())
async def test_composites(conn: headrace.Connection, data: st.DataObject) -> None:
    mood = st.sampled_from(["sad", "ok", "very happy"])
    pairs = st.tuples(
        st.decimals(-(10**6), 10**6, places=2) | st.none(),
        SAMPLES["text"].every | st.none(),
        st.lists(mood | st.none(), max_size=3) | st.none(),
        st.datetimes(timezones=st.just(None)).map(str) | st.none(),
        st.sampled_from(["empty", "[1,5)", "(,3)", None]),
    )
    rows: list[Any] = data.draw(st.lists(pairs | st.none(), max_size=10))
    columns = [[row and row[i] for row in rows] for i in range(5)]
    texts_of = [
        [None if value is None else str(value) for value in columns[0]],
        columns[1],
        [
            None if value is None else "{" + ",".join("NULL" if m is None else f'"{m}"' for m in value) + "}"
            for value in columns[2]
        ],
        columns[3],
        columns[4],
    ]
    query = """
        SELECT value, value::text AS text,
            array[value, NULL, value]::text AS array_text, array[value, NULL, value] AS pairs
        FROM (
            SELECT CASE WHEN p THEN
                row(n::numeric(9, 2), t, m::arrow_mood[], (a || '+00')::timestamptz, d::int4range)::arrow_pair
            END
            FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bool[]) AS u (n, t, m, a, d, p)
        ) AS made (value)
    """
    found = await conn.fetch_arrow(query, *texts_of, [row is not None for row in rows])
    table = pyarrow.table(found)
    table.validate(full=True)
    assert found.schema.fields[0].children[0].arrow_name == "decimal128(9, 2)"
    assert texts(found.schema.fields[0], table.column("value")) == table.column("text").to_pylist()
    assert texts(found.schema.fields[3], table.column("pairs")) == table.column("array_text").to_pylist()


@pytest.mark.parametrize(("precision", "scale"), [(9, 2), (18, 6), (30, 10), (38, 0), (50, 25), (76, 3)])
@batches
@given(data=st.data())
async def test_declared_numerics(conn: headrace.Connection, precision: int, scale: int, data: st.DataObject) -> None:
    largest = 10**precision - 1
    values = data.draw(st.lists(st.integers(-largest, largest), max_size=30))
    kind = f"numeric({precision}, {scale})"
    await check(
        conn,
        f"SELECT t::{kind} AS value, (t::{kind})::text AS text FROM unnest($1::text[]) AS t",
        [None, "0", f"{largest}e-{scale}", f"-{largest}e-{scale}", *(f"{value}e-{scale}" for value in values)],
    )


@batches
@given(data=st.data())
async def test_rounding(conn: headrace.Connection, data: st.DataObject) -> None:
    numbers = [*SAMPLES["numeric"].edges, *data.draw(st.lists(SAMPLES["numeric"].every, max_size=20))]
    literals = [str(number) for number in numbers if number.is_finite() and abs(number) < 10**30]
    query = "SELECT t::numeric AS value, (t::numeric)::numeric(38, 7)::text AS text FROM unnest($1::text[]) AS t"
    table = pyarrow.table(await conn.fetch_arrow(query, literals, decimal=(38, 7)))
    assert [f"{value:f}" for value in table.column("value").to_pylist()] == table.column("text").to_pylist()
