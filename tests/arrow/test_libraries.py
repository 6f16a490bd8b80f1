"""pyarrow, polars, pandas and DuckDB take results and record batches by the PyCapsule interface."""

from __future__ import annotations

import datetime
import uuid
from decimal import Decimal
from typing import Any

import duckdb
import pandas
import polars
import pyarrow
import pytest

import headrace

pytestmark = pytest.mark.any_server

QUERY = """
SELECT g::int4 AS number, 'row ' || g AS name, timestamptz '2024-02-29 12:00+00' AS at, g::numeric(12, 3) AS price,
    CASE WHEN g > 1 THEN g / 4.0::float8 END AS ratio, (array['sad', 'ok'])[g]::library_mood AS mood,
    array[g, NULL] AS list,
    '00112233-4455-6677-8899-aabbccddeeff'::uuid AS id, '{"a": 1}'::jsonb AS document, int4range(1, g + 1) AS range,
    g > 1 AS flag, date '2024-02-29' AS day, time '10:00' AS time, '\\x00ff'::bytea AS bytes
FROM generate_series(1, 2) AS g
"""
DAY = datetime.date(2024, 2, 29)
AT = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
ID = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


@pytest.fixture
async def result(conn: headrace.Connection) -> Any:
    await conn.execute("DROP TYPE IF EXISTS library_mood; CREATE TYPE library_mood AS ENUM ('sad', 'ok')")
    return await conn.fetch_arrow(QUERY)


async def test_pyarrow(result: Any) -> None:
    table = pyarrow.table(result)
    table.validate(full=True)
    assert table.to_pylist()[1] == {
        "number": 2,
        "name": "row 2",
        "at": AT,
        "price": Decimal("2.000"),
        "ratio": 0.5,
        "mood": "ok",
        "list": [2, None],
        "id": ID,
        "document": '{"a": 1}',
        "range": {"lower": 1, "upper": 3, "lower_inc": True, "upper_inc": False, "empty": False},
        "flag": True,
        "day": DAY,
        "time": datetime.time(10),
        "bytes": b"\0\xff",
    }
    assert pyarrow.record_batch(result.batches()[0]).num_rows == 2
    assert pyarrow.schema(result) == table.schema


async def test_polars(result: Any) -> None:
    for taken in (result, result.batches()[0]):
        frame = polars.DataFrame(taken)
        assert frame.shape == (2, 14)
        row = frame.row(1, named=True)
        assert (row["number"], row["price"], row["ratio"], row["mood"]) == (2, Decimal("2.000"), 0.5, "ok")
        assert (row["list"], row["at"], row["day"], row["bytes"]) == ([2, None], AT, DAY, b"\0\xff")
        assert frame["ratio"].null_count() == 1
    assert polars.from_arrow(pyarrow.table(result)).shape == (2, 14)  # type: ignore[union-attr]


async def test_pandas(result: Any) -> None:
    frames = [pyarrow.table(result).to_pandas()]
    if hasattr(pandas.DataFrame, "from_arrow"):  # since 3.0
        frames.append(pandas.DataFrame.from_arrow(result))
    for frame in frames:
        assert frame.shape == (2, 14)
        assert frame["number"].tolist() == [1, 2]
        assert frame["price"][1] == Decimal("2.000")
        assert frame["mood"].tolist() == ["sad", "ok"]


async def test_duckdb(result: Any) -> None:
    query = "SELECT number, price, mood, range.upper, list[1], day FROM result ORDER BY number DESC"
    assert duckdb.sql(query).fetchall()[0] == (2, Decimal("2.000"), "ok", 3, 2, DAY)
    assert duckdb.from_arrow(result).count("number").fetchall() == [(2,)]


async def test_a_library_that_refuses_a_column_leaves_the_result_usable(conn: headrace.Connection) -> None:
    found = await conn.fetch_arrow("SELECT 1 AS a, 2 AS a")
    with pytest.raises(polars.exceptions.DuplicateError):
        polars.DataFrame(found)
    assert pyarrow.table(found).num_columns == 2


async def test_batches_of_a_stream(conn: headrace.Connection) -> None:
    query = "SELECT g, 'row ' || g AS name FROM generate_series(1, 25) AS g"
    frames = [polars.DataFrame(batch) async for batch in conn.stream_arrow(query, batch_rows=10)]
    assert polars.concat(frames)["g"].to_list() == list(range(1, 26))
    async with conn.stream_arrow(query, batch_rows=10) as stream:
        schema = pyarrow.schema(stream)
        batches = [pyarrow.record_batch(batch) async for batch in stream]
    assert pyarrow.Table.from_batches(batches, schema).num_rows == 25
