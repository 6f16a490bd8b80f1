"""Loading sample data: all of it or nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from storefront import CatalogueNotEmptyError, Loaded, Method, Sample, load, open_connection
from storefront.loading import CHUNK, count_rows

SMALL = Sample(brand_count=5, product_count=20, sku_count=300, seed=11)


class Interrupted(Exception):
    """A sample raises it in the middle of its SKUs."""


class BrokenSample(Sample):
    """A sample whose SKUs end in an error, after more than a chunk of them."""

    def skus(self) -> Iterator[tuple[int, int, int, int]]:
        for row in super().skus():
            if row[0] == CHUNK + 10:
                raise Interrupted
            yield row


@pytest.mark.parametrize("method", Method)
async def test_every_row_of_the_sample_is_loaded(empty: str, method: Method) -> None:
    async with open_connection(empty) as connection:
        assert await load(connection, SMALL, method=method) == Loaded(5, 20, 300)
        for table, rows in (("brand", SMALL.brands()), ("product", SMALL.products()), ("sku", SMALL.skus())):
            found = await connection.fetch(f"SELECT * FROM {table} ORDER BY 1")
            assert [tuple(row) for row in found] == list(rows)


@pytest.mark.parametrize("method", Method)
async def test_a_load_that_fails_leaves_nothing(empty: str, method: Method) -> None:
    async with open_connection(empty) as connection:
        with pytest.raises(Interrupted):
            await load(connection, BrokenSample(sku_count=CHUNK * 2), method=method)
        assert await count_rows(connection) == Loaded(0, 0, 0)
        assert await load(connection, SMALL, method=method) == Loaded(5, 20, 300)


async def test_a_load_that_is_cancelled_leaves_nothing(empty: str) -> None:
    begun = asyncio.Event()

    def progress(table: str, done: int, total: int) -> None:
        if table == "sku" and done:
            begun.set()

    async with open_connection(empty) as connection:
        loading = asyncio.create_task(load(connection, Sample(), progress=progress))
        await begun.wait()
        loading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loading
    async with open_connection(empty) as connection:
        assert await count_rows(connection) == Loaded(0, 0, 0)


async def test_a_catalogue_that_holds_rows_is_not_touched(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        with pytest.raises(CatalogueNotEmptyError, match=r"10 brands, 50 products and 1,000 SKUs: nothing was loaded"):
            await load(connection, SMALL)
        assert await count_rows(connection) == Loaded(10, 50, 1_000)


async def test_replacing_removes_the_old_rows(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await load(connection, SMALL, replace=True)
        assert await count_rows(connection) == Loaded(5, 20, 300)


async def test_a_replacement_that_fails_keeps_the_old_rows(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        with pytest.raises(Interrupted):
            await load(connection, BrokenSample(sku_count=CHUNK * 2), replace=True)
        assert await count_rows(connection) == Loaded(10, 50, 1_000)


async def test_new_rows_get_the_ids_after_the_sample(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        assert await connection.fetchval("INSERT INTO brand (brand_name) VALUES ('New') RETURNING brand_id") == 11


async def test_an_empty_sample_leaves_ids_to_begin_at_one(empty: str) -> None:
    async with open_connection(empty) as connection:
        assert await load(connection, Sample(0, 0, 0)) == Loaded(0, 0, 0)
        assert await connection.fetchval("INSERT INTO brand (brand_name) VALUES ('New') RETURNING brand_id") == 1


async def test_progress_tells_how_far_each_table_is(empty: str) -> None:
    told: list[tuple[str, int, int]] = []
    sample = Sample(brand_count=2, product_count=3, sku_count=CHUNK * 2 + 1)
    async with open_connection(empty) as connection:
        await load(connection, sample, progress=lambda *report: told.append(report))
    total = CHUNK * 2 + 1
    assert told == [
        ("brand", 0, 2),
        ("brand", 2, 2),
        ("product", 0, 3),
        ("product", 3, 3),
        ("sku", 0, total),
        ("sku", CHUNK, total),
        ("sku", CHUNK * 2, total),
        ("sku", total, total),
    ]


async def test_two_loads_at_once_end_with_one_loaded(empty: str) -> None:
    async with open_connection(empty) as first, open_connection(empty) as second:
        outcomes = await asyncio.gather(load(first, SMALL), load(second, SMALL), return_exceptions=True)
        assert sorted(map(type, outcomes), key=str) == [CatalogueNotEmptyError, Loaded]
        assert await count_rows(first) == Loaded(5, 20, 300)
