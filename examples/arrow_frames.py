"""Results as columns in Arrow's format: data frames of polars and pyarrow, and a Parquet file written in batches.

python examples/arrow_frames.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import polars
import pyarrow
import pyarrow.parquet

import headrace

SCHEMA = """
DROP SCHEMA IF EXISTS example_arrow CASCADE;
CREATE SCHEMA example_arrow;
CREATE TYPE example_arrow.mood AS ENUM ('sad', 'ok', 'happy');
CREATE TABLE example_arrow.sale (
    id int PRIMARY KEY, price numeric(10, 2), at timestamptz, mood example_arrow.mood, tags text[]
);
INSERT INTO example_arrow.sale
SELECT i, i * 0.25, timestamptz '2024-01-01 00:00+00' + i * interval '1 minute',
    (ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::example_arrow.mood, ARRAY['tag ' || i % 5]
FROM generate_series(1, 10000) AS i;
"""


async def main(dsn: str) -> None:
    async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:
        await pool.execute(SCHEMA)
        try:
            with tempfile.TemporaryDirectory() as directory:
                await columns(pool, Path(directory))
        finally:
            await pool.execute("DROP SCHEMA IF EXISTS example_arrow CASCADE")


async def columns(pool: headrace.Pool, directory: Path) -> None:
    # A data frame. Nothing is copied, and no value becomes a Python object.
    result = await pool.fetch_arrow("SELECT * FROM example_arrow.sale WHERE price < $1", 1000)
    frame = polars.DataFrame(result)
    print("polars:", frame.shape, dict(frame.group_by("mood").len().sort("len", "mood").iter_rows()))

    # The same result, once more.
    table = pyarrow.table(result)
    print("pyarrow:", table.num_rows, "rows of", ", ".join(map(str, table.schema.types[:3])))

    # A numeric whose scale is not declared is text, unless you say what it is.
    query = "SELECT mood, avg(price) AS price FROM example_arrow.sale GROUP BY mood ORDER BY mood"
    print("averages:", polars.DataFrame(await pool.fetch_arrow(query, decimal=(12, 4)))["price"].to_list())

    # A file that is written as the rows come.
    path = directory / "sales.parquet"
    async with pool.stream_arrow("SELECT id, price, at FROM example_arrow.sale", batch_rows=4096) as stream:
        with pyarrow.parquet.ParquetWriter(path, pyarrow.schema(stream)) as writer:
            async for batch in stream:
                writer.write_batch(pyarrow.record_batch(batch))
    print("file:", pyarrow.parquet.read_metadata(path).num_rows, "rows")

    # A value that has no place in its column.
    query = "SELECT 'infinity'::date AS day"
    try:
        await pool.fetch_arrow(query)
    except headrace.DataError as error:
        print("refused:", error)
    print("as NULL:", pyarrow.table(await pool.fetch_arrow(query, out_of_range="null")).to_pylist())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
