"""Look products up: their SKUs with size and colour by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import TypeAlias

import headrace
from storefront.errors import UnknownProductError, UsageError
from storefront.timing import timed

COLUMNS = ("product_id", "product_name", "brand_id", "sku_id", "product_color_name", "product_size_name")

LOOK_UP = """\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
FROM product AS p
JOIN sku AS s ON s.product_id = p.product_id
JOIN product_color AS c ON c.product_color_id = s.product_color_id
JOIN product_size AS z ON z.product_size_id = s.product_size_id
WHERE p.product_id = $1"""
"""The four-way join at its plainest, for the benchmark: no order, no row for a product without SKUs."""

LOOK_UP_PAGE = """\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
FROM product AS p
LEFT JOIN sku AS s ON s.product_id = p.product_id AND s.sku_id > $2
LEFT JOIN product_color AS c ON c.product_color_id = s.product_color_id
LEFT JOIN product_size AS z ON z.product_size_id = s.product_size_id
WHERE p.product_id = $1
ORDER BY s.sku_id
LIMIT $3"""
"""The same a page at a time, in the order of the SKUs. The outer joins tell a product without SKUs, which is
one row of nulls, from a product that does not exist, which is none."""

PAGE = 1_000
"""Rows fetched at once; what a look-up holds in memory does not grow with a product's SKUs."""

MAX_ID = 2**31 - 1

Executor: TypeAlias = headrace.Connection | headrace.Pool
"""What runs a single statement: a connection, or a pool, which finds one itself."""


def parse_product_id(text: str) -> int:
    """Read a product id as people write one: digits, from 1 to 2147483647; UsageError for anything else."""
    digits = text.strip()
    if digits.isascii() and digits.isdecimal() and len(digits) <= 10 and 1 <= int(digits) <= MAX_ID:
        return int(digits)
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    raise UsageError(f"{shown!r} is not a product id: expected a whole number from 1 to {MAX_ID}")


async def first_page(executor: Executor, product_id: int, *, page: int = PAGE) -> list[headrace.Record]:
    """Fetch a product's first SKUs: no row if there is no such product, one of nulls if it has no SKU."""
    rows: list[headrace.Record] = await executor.fetch(LOOK_UP_PAGE, product_id, 0, page)
    return rows


async def further_pages(
    executor: Executor, rows: Sequence[headrace.Record], *, page: int = PAGE
) -> AsyncIterator[list[headrace.Record]]:
    """Yield the pages that follow `rows`, a page of a product's SKUs; a page that is not full is the last."""
    while len(rows) == page:
        rows = await executor.fetch(LOOK_UP_PAGE, rows[-1]["product_id"], rows[-1]["sku_id"], page)
        if not rows or rows[0]["sku_id"] is None:
            return
        yield list(rows)


@timed
async def look_up(executor: Executor, product_id: int) -> list[headrace.Record]:
    """Return all SKUs of a product, by sku_id: records of COLUMNS.

    A product without SKUs is a single record whose sku_id is None. Raises UnknownProductError where there is
    no such product.
    """
    rows = await first_page(executor, product_id)
    if not rows:
        raise UnknownProductError(product_id)
    found = list(rows)
    async for page in further_pages(executor, rows):
        found += page
    return found
