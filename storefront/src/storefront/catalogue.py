"""Look products up: their SKUs with size and colour by name."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import headrace
from storefront.database import Executor as Executor
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
"""The plain four-way join, for the benchmark. It has no order, and no row for a product without SKUs."""

LOOK_UP_PAGE = """\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
FROM product AS p
LEFT JOIN sku AS s ON s.product_id = p.product_id AND s.sku_id > $2
LEFT JOIN product_color AS c ON c.product_color_id = s.product_color_id
LEFT JOIN product_size AS z ON z.product_size_id = s.product_size_id
WHERE p.product_id = $1
ORDER BY s.sku_id
LIMIT $3"""
"""The same join, one page at a time and ordered by SKU. A product without SKUs gives one row whose sku_id is null.
A product that does not exist gives no row."""

LOOK_UP_PAGES = """\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, s.product_color_name, s.product_size_name
FROM product AS p
LEFT JOIN LATERAL (
    SELECT sku.sku_id, c.product_color_name, z.product_size_name
    FROM sku
    JOIN product_color AS c ON c.product_color_id = sku.product_color_id
    JOIN product_size AS z ON z.product_size_id = sku.product_size_id
    WHERE sku.product_id = p.product_id
    ORDER BY sku.sku_id
    LIMIT $2
) AS s ON true
WHERE p.product_id = ANY($1)
ORDER BY p.product_id, s.sku_id"""
"""The first page of each of many products, as LOOK_UP_PAGE gives it for one, ordered by product and SKU."""

PAGE = 1_000
"""The number of rows fetched at once. A batch holds at most one page of a product in memory."""

MAX_ID = 2**31 - 1
"""The largest id that a row can have: the columns are of the type integer."""

MAX_WHOLE_NUMBER = 2**63 - 1
"""The largest number that is taken for an id. No product has an id above MAX_ID."""


def parse_product_id(text: str) -> int:
    """Read a product id: decimal digits, from 1 to 9223372036854775807. Raises UsageError for anything else."""
    digits = text.strip()
    if digits.isascii() and digits.isdecimal() and len(digits) <= 19 and 1 <= int(digits) <= MAX_WHOLE_NUMBER:
        return int(digits)
    shown = text if len(text) <= 40 else f"{text[:40]}..."
    raise UsageError(f"{shown!r} is not a product id: expected a whole number from 1 to {MAX_WHOLE_NUMBER}")


async def first_page(executor: Executor, product_id: int, *, page: int = PAGE) -> list[headrace.Record]:
    """Fetch the first SKUs of a product: no row if it does not exist, one row with a null sku_id if it has no SKU."""
    if product_id > MAX_ID:
        return []
    rows: list[headrace.Record] = await executor.fetch(LOOK_UP_PAGE, product_id, 0, page)
    return rows


async def further_pages(
    executor: Executor, rows: Sequence[headrace.Record], *, page: int = PAGE
) -> AsyncIterator[list[headrace.Record]]:
    """Yield the pages that follow `rows`, a page of the SKUs of a product. A page that is not full is the last."""
    while len(rows) == page:
        rows = await executor.fetch(LOOK_UP_PAGE, rows[-1]["product_id"], rows[-1]["sku_id"], page)
        if not rows or rows[0]["sku_id"] is None:
            return
        yield list(rows)


@timed
async def look_up(executor: Executor, product_id: int) -> list[headrace.Record]:
    """Return all SKUs of a product as records of COLUMNS, ordered by sku_id.

    A product without SKUs gives a single record whose sku_id is None. Raises UnknownProductError if the product does
    not exist.
    """
    rows = await first_page(executor, product_id)
    if not rows:
        raise UnknownProductError(product_id)
    found = list(rows)
    async for page in further_pages(executor, rows):
        found += page
    return found
