"""Random rows of all types go into a table by COPY and come out of it again, by COPY and by SELECT, exactly."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from tests.core.codecs.on_server.exactness import as_tuples, exactly
from tests.core.codecs.on_server.round_trip import batches
from tests.core.codecs.on_server.samples.every import AS_TEXT, SAMPLES
from tests.core.codecs.on_server.samples.made import composite_of
from tests.core.codecs.on_server.samples.sample import Sample, array_of

if TYPE_CHECKING:
    from tests.fixtures import Connect

BUILT_IN = [sample for sample in SAMPLES.values() if sample.name != "xml"]
COLUMNS = [*BUILT_IN, *map(array_of, BUILT_IN)]
IN_BINARY = [column for column in COLUMNS if column.name.removesuffix("[]") not in AS_TEXT]

NUMBERS = itertools.count(1)


@pytest.fixture
async def conn(connect: Connect) -> headrace.Connection:
    return await connect()


@pytest.mark.parametrize("columns", [IN_BINARY, COLUMNS], ids=["of_binary_types", "of_all_types"])
@batches
@given(data=st.data())
async def test_rows(conn: headrace.Connection, columns: list[Sample], data: st.DataObject) -> None:
    """A column that has no binary form has the whole COPY go by text: the values are the same."""
    chosen = data.draw(st.lists(st.sampled_from(columns), min_size=1, max_size=12))
    row = composite_of("row", chosen)
    rows = data.draw(st.lists(row.every, max_size=5))
    table = f"copied_{next(NUMBERS)}"
    await conn.execute(
        f"CREATE TEMPORARY TABLE {table} ({', '.join(f'c{at} {column.type}' for at, column in enumerate(chosen))})"
    )
    assert await conn.copy_records_to_table(table, records=rows) == f"COPY {len(rows)}"
    expected = exactly([row.returned(each) for each in rows])
    async with conn.copy_out(f"SELECT * FROM {table}") as reader:
        assert exactly([as_tuples(each) async for each in reader]) == expected
    assert exactly([as_tuples(each) for each in await conn.fetch(f"SELECT * FROM {table}")]) == expected
