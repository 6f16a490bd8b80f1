"""Random values of types that the server was asked to make: enums, domains, ranges, and composites of anything."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from tests.core.codecs.on_server.exactness import as_tuples, exactly
from tests.core.codecs.on_server.round_trip import batches, check
from tests.core.codecs.on_server.samples.every import AS_TEXT, SAMPLES
from tests.core.codecs.on_server.samples.made import MADE, SCHEMA, composite_of
from tests.core.codecs.on_server.samples.sample import Sample, array_of

if TYPE_CHECKING:
    from tests.fixtures import Connect

BUILT_IN = [sample for sample in SAMPLES.values() if sample.name != "xml"]
IN_BINARY = [sample for sample in BUILT_IN if sample.name not in AS_TEXT]


@pytest.fixture
async def conn(connect: Connect) -> AsyncIterator[headrace.Connection]:
    connection = await connect()
    await connection.execute(f"CREATE SCHEMA made; SET search_path = made, public; {SCHEMA}")
    yield connection
    await connection.execute("DROP SCHEMA made CASCADE")


@pytest.mark.parametrize("made", MADE.values(), ids=repr)
@batches
@given(data=st.data())
async def test_values_and_arrays(conn: headrace.Connection, made: Sample, data: st.DataObject) -> None:
    await check(conn, made, [*made.edges, *data.draw(st.lists(made.every, max_size=10))])
    array = array_of(made)
    await check(conn, array, data.draw(st.lists(array.values, max_size=5)))


@pytest.mark.parametrize("columns", [IN_BINARY, BUILT_IN], ids=["of_binary_types", "of_all_types"])
@batches
@given(data=st.data())
async def test_composites(conn: headrace.Connection, columns: list[Sample], data: st.DataObject) -> None:
    """A column that has no binary form has the whole travel as text: the values are the same."""
    await check_made(conn, [*data.draw(st.lists(st.sampled_from(columns), min_size=1, max_size=12))], data)


Shape = Sample | list["Shape"] | tuple["Shape"]
"""A type to make: a composite of those in a list, or arrays of the one in a tuple."""

SHAPES: st.SearchStrategy[Shape] = st.recursive(
    st.sampled_from([*IN_BINARY, *MADE.values()]) | st.sampled_from(BUILT_IN),
    lambda parts: st.lists(parts, min_size=1, max_size=4) | st.tuples(parts),
    max_leaves=12,
)

NUMBERS = itertools.count(1)


async def make(conn: headrace.Connection, shape: Shape, gone: list[bool]) -> Sample:
    """Make the types for a shape; of a table's columns those are dropped before which `gone` says so."""
    if isinstance(shape, Sample):
        return shape
    if isinstance(shape, tuple):
        (part,) = shape
        # int[] and int[][] are one type.
        return await make(conn, part, gone) if isinstance(part, tuple) else array_of(await make(conn, part, gone))
    columns = [await make(conn, part, gone) for part in shape]
    name = f"table_{next(NUMBERS)}"
    declared = [f"column_{at} {column.type}" for at, column in enumerate(columns)]
    dropped = [f"gone_{at}" for at in range(len(columns)) if at < len(gone) and gone[at]]
    for each in dropped:
        declared.insert(int(each.removeprefix("gone_")), f"{each} int")
    await conn.execute(f"CREATE TABLE {name} ({', '.join(declared)})")
    for each in dropped:
        await conn.execute(f"ALTER TABLE {name} DROP COLUMN {each}")
    return composite_of(name, columns)


async def check_made(conn: headrace.Connection, shape: Shape, data: st.DataObject) -> None:
    made = await make(conn, shape, data.draw(st.lists(st.booleans(), max_size=3)))
    await check(conn, made, data.draw(st.lists(made.every, max_size=4)))


@batches
@given(data=st.data())
async def test_nested_composites(conn: headrace.Connection, data: st.DataObject) -> None:
    """Composites of composites, of arrays, ranges, domains and enums, and of tables that have lost columns."""
    await check_made(conn, data.draw(SHAPES), data)


@batches
@given(data=st.data())
async def test_anonymous_rows(conn: headrace.Connection, data: st.DataObject) -> None:
    """A row without a type of its own comes back as a tuple; what is in it has to have a binary form."""
    columns = data.draw(st.lists(st.sampled_from(IN_BINARY), min_size=1, max_size=6))
    values = data.draw(st.tuples(*(column.every | st.none() for column in columns)))
    items = ", ".join(f"${at}::{column.type}" for at, column in enumerate(columns, 1))
    row = await conn.fetchval(f"SELECT row({items})", *values)
    rows = await conn.fetchval(f"SELECT ARRAY[row({items}), NULL]", *values)
    expected = composite_of("row", columns).returned(values)
    assert exactly(as_tuples(row)) == exactly(expected)
    assert exactly(as_tuples(rows)) == exactly([expected, None])
