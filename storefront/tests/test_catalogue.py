"""Looking products up."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import pytest

import headrace
from storefront import Sample, UnknownProductError, UsageError, look_up, open_connection, parse_product_id
from storefront.catalogue import COLUMNS, LOOK_UP, first_page, further_pages
from storefront.schema import COLORS, SIZES


def expected(sample: Sample) -> dict[int, list[tuple[object, ...]]]:
    """Return the rows that a look-up of each product of a sample must find."""
    products = {product_id: (name, brand_id) for product_id, name, brand_id in sample.products()}
    found: dict[int, list[tuple[object, ...]]] = defaultdict(list)
    for sku_id, product_id, size_id, color_id in sample.skus():
        found[product_id].append((product_id, *products[product_id], sku_id, COLORS[color_id], SIZES[size_id]))
    return found


async def test_a_look_up_finds_every_sku_with_size_and_colour_by_name(dsn: str, sample: Sample) -> None:
    async with open_connection(dsn) as connection:
        for product_id, rows in expected(sample).items():
            found = await look_up(connection, product_id)
            assert [tuple(record) for record in found] == rows
            assert tuple(found[0].keys()) == COLUMNS


async def test_concurrent_look_ups_on_one_connection_are_not_mixed_up(dsn: str, sample: Sample) -> None:
    by_product = expected(sample)
    ids = [*by_product, *reversed(by_product)]
    async with open_connection(dsn) as connection:
        found = await asyncio.gather(*(look_up(connection, product_id) for product_id in ids))
    assert [[tuple(record) for record in records] for records in found] == [by_product[each] for each in ids]


async def test_a_pool_can_look_products_up(dsn: str, sample: Sample) -> None:
    by_product = expected(sample)
    async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:
        found = await asyncio.gather(*(look_up(pool, product_id) for product_id in by_product))
    assert [[tuple(record) for record in records] for records in found] == list(by_product.values())


async def test_the_plain_join_finds_the_same_rows(dsn: str, sample: Sample) -> None:
    async with open_connection(dsn) as connection:
        found = await connection.fetch(LOOK_UP, 1)
    assert sorted(tuple(record) for record in found) == expected(sample)[1]


async def test_an_unknown_product_is_an_error(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        with pytest.raises(UnknownProductError, match="no product has the id 51") as caught:
            await look_up(connection, 51)
    assert caught.value.product_id == 51


async def test_a_product_without_skus_is_one_record_with_nulls(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        product_id = await connection.fetchval(
            "INSERT INTO product (product_name, brand_id) VALUES ('bare', 1) RETURNING product_id"
        )
        (record,) = await look_up(connection, product_id)
    assert tuple(record) == (product_id, "bare", 1, None, None, None)


@pytest.mark.parametrize("page", [1, 7, 1_000])
async def test_the_pages_together_are_complete(dsn: str, sample: Sample, page: int) -> None:
    async with open_connection(dsn) as connection:
        rows = await first_page(connection, 2, page=page)
        assert len(rows) == min(page, len(expected(sample)[2]))
        found = [tuple(record) for record in rows]
        async for further in further_pages(connection, rows, page=page):
            assert 1 <= len(further) <= page
            found += [tuple(record) for record in further]
    assert found == expected(sample)[2]


@pytest.mark.parametrize(
    ("text", "product_id"), [("1", 1), (" 42\t", 42), ("007", 7), ("2147483648", 2**31), (str(2**63 - 1), 2**63 - 1)]
)
def test_an_id_is_a_whole_number(text: str, product_id: int) -> None:
    assert parse_product_id(text) == product_id


@pytest.mark.parametrize("text", ["", "0", "-1", "+1", "1.0", "1e3", "1_000", "x", "٣", str(2**63), "9" * 5_000])
def test_anything_but_an_id_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a whole number from 1 to 9223372036854775807") as caught:
        parse_product_id(text)
    assert len(str(caught.value)) < 150
