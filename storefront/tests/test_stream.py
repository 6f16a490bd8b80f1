"""Streaming the catalogue."""

from __future__ import annotations

import asyncio
import csv
import io
import threading
import tracemalloc
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from storefront import Compression, Encoder, Format, Sample, encoder, export, open_connection, stream_catalogue
from storefront.formats import ROW_GROUP
from storefront.rows import ParquetOutput, output_file
from storefront.stream import COLUMNS, in_thread


async def sku_ids(dsn: str, **options: int | None) -> list[int]:
    async with open_connection(dsn) as connection, aclosing(stream_catalogue(connection, **options)) as records:  # type: ignore[arg-type]
        return [record["sku_id"] async for record in records]


@pytest.mark.parametrize("prefetch", [1, 50, 999, 1_000, 5_000])
async def test_the_stream_is_complete_with_any_prefetch(dsn: str, prefetch: int) -> None:
    assert await sku_ids(dsn, prefetch=prefetch) == list(range(1, 1_001))


@pytest.mark.parametrize(
    ("skip", "limit", "expected"),
    [
        (500, 100, range(501, 601)),
        (0, 10, range(1, 11)),
        (990, None, range(991, 1_001)),
        (995, 100, range(996, 1_001)),
        (1_000, None, range(0)),
        (5_000, 10, range(0)),
        (10, 0, range(0)),
    ],
)
async def test_a_part_of_the_catalogue(dsn: str, skip: int, limit: int | None, expected: range) -> None:
    assert await sku_ids(dsn, skip=skip, limit=limit) == list(expected)


async def test_a_record_names_brand_colour_and_size(dsn: str, sample: Sample) -> None:
    brands = dict(sample.brands())
    products = {product_id: (name, brand_id) for product_id, name, brand_id in sample.products()}
    async with open_connection(dsn) as connection, aclosing(stream_catalogue(connection, limit=1)) as records:
        record = await anext(records)
    _, product_id, size_id, color_id = next(sample.skus())
    name, brand_id = products[product_id]
    color, size = {1: "Blue", 2: "Black"}[color_id], {1: "Small", 2: "Medium", 3: "Large"}[size_id]
    assert tuple(record) == (1, product_id, name, brand_id, brands[brand_id], color, size)


async def test_a_stream_left_early_leaves_no_transaction(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        async with aclosing(stream_catalogue(connection)) as records:
            await anext(records)
            assert connection.is_in_transaction()
        assert not connection.is_in_transaction()
        assert await connection.fetchval("SELECT count(*) FROM sku") == 1_000


async def test_a_stream_is_one_snapshot(dsn: str) -> None:
    async with open_connection(dsn) as connection, open_connection(dsn) as another:
        async with aclosing(stream_catalogue(connection, prefetch=10)) as records:
            await anext(records)
            await another.execute("DELETE FROM sku")
            assert len([record async for record in records]) == 999


async def test_a_long_stream_takes_little_memory(dsn: str) -> None:
    rows = 20_000
    async with open_connection(dsn) as connection:
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            f" SELECT 1, 1, 1 FROM generate_series(1, {rows})"
        )
        async with aclosing(stream_catalogue(connection)) as records:
            await anext(records)
            tracemalloc.start()
            try:
                assert sum([1 async for _ in records]) == rows + 999
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
    # All rows at once would take some ten million bytes. The list of ones takes 8 bytes per row.
    assert peak < 500_000


class Written(io.BytesIO):
    """An output in memory."""

    def __init__(self, chosen: Format = Format.CSV) -> None:
        super().__init__()
        self.encoder: Encoder = encoder(chosen, COLUMNS)


@pytest.mark.parametrize("prefetch", [None, 30])
async def test_the_catalogue_is_exported_as_csv(dsn: str, prefetch: int | None) -> None:
    file = Written()
    async with open_connection(dsn) as connection:
        await connection.execute("UPDATE product SET product_name = $1", 'a "quoted", name\nof two lines')
        assert await export(connection, file, prefetch=prefetch, skip=500, limit=100) == 100
    rows = list(csv.reader(io.StringIO(file.getvalue().decode(), newline="")))
    assert [int(row[0]) for row in rows] == list(range(501, 601))
    assert {row[2] for row in rows} == {'a "quoted", name\nof two lines'}


@pytest.mark.parametrize("chosen", [Format.CSV, Format.NDJSON])
@pytest.mark.parametrize(
    ("skip", "limit", "since"), [(0, None, 0), (5, 10, 0), (995, 100, 0), (1_000, None, 0), (0, 0, 0), (5, 10, 985)]
)
async def test_the_export_by_copy_is_that_of_a_cursor(
    dsn: str, skip: int, limit: int | None, since: int, chosen: Format
) -> None:
    written = []
    async with open_connection(dsn) as connection:
        await connection.execute("UPDATE product SET product_name = '' WHERE product_id = 7")
        for prefetch in (None, 50):
            file = Written(chosen)
            count = await export(connection, file, prefetch=prefetch, skip=skip, limit=limit, since=since)
            written.append((count, file.getvalue()))
    assert written[0] == written[1]
    assert written[0][0] == written[0][1].count(b"\n")


async def test_an_export_to_a_full_disk_is_an_error_and_leaves_the_connection_usable(dsn: str) -> None:
    class Full(Written):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    async with open_connection(dsn) as connection:
        with pytest.raises(OSError, match="No space left"):
            await export(connection, Full())
        assert await connection.fetchval("SELECT count(*) FROM sku") == 1_000


# -- Parquet, by record batches ---------------------------------------------------------------------------------------


class Columns(ParquetOutput):
    """A Parquet file in memory that takes no rows as CSV."""

    def __init__(self) -> None:
        self.file = io.BytesIO()
        super().__init__(self.file, COLUMNS)
        self.write = self.refuse

    def refuse(self, data: bytes) -> None:
        pytest.fail("rows came as CSV")


@pytest.mark.parametrize(
    ("skip", "limit", "since"), [(0, None, 0), (5, 10, 0), (995, 100, 0), (1_000, None, 0), (0, 0, 0), (5, 10, 985)]
)
async def test_parquet_by_record_batches_is_that_of_a_cursor(
    dsn: str, skip: int, limit: int | None, since: int, tmp_path: Path
) -> None:
    tables = []
    async with open_connection(dsn) as connection:
        await connection.execute("UPDATE product SET product_name = '' WHERE product_id = 7")
        for prefetch in (None, 50):
            path = tmp_path / f"{prefetch}.parquet"
            with output_file(path, Format.PARQUET, Compression.NONE, COLUMNS) as output:
                count = await export(connection, output, prefetch=prefetch, skip=skip, limit=limit, since=since)
            tables.append(pyarrow.parquet.read_table(path))
            assert tables[-1].num_rows == count
    assert tables[0].equals(tables[1])
    assert tables[0].schema == pyarrow.schema(
        [
            pyarrow.field(name, pyarrow.int32() if name.endswith("_id") else pyarrow.string(), nullable=False)
            for name in COLUMNS
        ]
    )


async def test_a_record_batch_is_a_row_group_and_no_row_is_csv(dsn: str) -> None:
    output = Columns()
    async with open_connection(dsn) as connection:
        await connection.execute(
            "INSERT INTO sku (product_id, product_size_id, product_color_id)"
            f" SELECT 1, 1, 1 FROM generate_series(1, {ROW_GROUP})"
        )
        assert await export(connection, output) == ROW_GROUP + 1_000
    output.close()
    with pyarrow.parquet.ParquetFile(output.file) as written:
        groups = [written.metadata.row_group(index).num_rows for index in range(written.num_row_groups)]
    assert groups == [ROW_GROUP, 1_000]


async def test_parquet_on_a_full_disk_is_an_error_and_leaves_the_connection_usable(dsn: str) -> None:
    class Full(Columns):
        def __init__(self) -> None:
            super().__init__()
            self.write_batch = self.fail

        def fail(self, batch: object) -> None:
            raise OSError(28, "No space left on device")

    async with open_connection(dsn) as connection:
        with pytest.raises(OSError, match="No space left"):
            await export(connection, Full())
        assert await connection.fetchval("SELECT count(*) FROM sku") == 1_000


async def test_a_cancelled_export_to_parquet_leaves_the_connection_usable(dsn: str) -> None:
    loop = asyncio.get_running_loop()
    writing, may_go_on = asyncio.Event(), threading.Event()

    class Slow(Columns):
        def __init__(self) -> None:
            super().__init__()
            self.write_batch = self.wait

        def wait(self, batch: Any) -> None:
            loop.call_soon_threadsafe(writing.set)
            may_go_on.wait(60)

    async with open_connection(dsn) as connection:
        exporting = asyncio.create_task(export(connection, Slow()))
        async with asyncio.timeout(60):
            await writing.wait()
            exporting.cancel()
            may_go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await exporting
        assert await connection.fetchval("SELECT count(*) FROM sku") == 1_000


async def test_a_cancellation_waits_for_a_thread_that_writes() -> None:
    """The file is closed after the export. A thread must not write to it then."""
    may_go_on = threading.Event()
    try:
        running = asyncio.create_task(in_thread(may_go_on.wait, 60))
        await asyncio.sleep(0)
        running.cancel()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not running.done()
    finally:
        may_go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await running
