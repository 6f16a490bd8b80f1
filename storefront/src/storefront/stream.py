"""Stream the whole catalogue through a cursor, never holding more than a few rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing

import headrace
from storefront.iteration import take
from storefront.rows import RowWriter
from storefront.timing import timed

PREFETCH = 50
"""Rows asked of the server at a time."""

COLUMNS = (
    "sku_id",
    "product_id",
    "product_name",
    "brand_id",
    "brand_name",
    "product_color_name",
    "product_size_name",
)

CATALOGUE = """\
SELECT s.sku_id, p.product_id, p.product_name, b.brand_id, b.brand_name,
       c.product_color_name, z.product_size_name
FROM sku AS s
JOIN product AS p ON p.product_id = s.product_id
JOIN brand AS b ON b.brand_id = p.brand_id
JOIN product_color AS c ON c.product_color_id = s.product_color_id
JOIN product_size AS z ON z.product_size_id = s.product_size_id
ORDER BY s.sku_id"""


async def stream_catalogue(
    connection: headrace.Connection, *, prefetch: int = PREFETCH, skip: int = 0, limit: int | None = None
) -> AsyncGenerator[headrace.Record]:
    """Yield every SKU of the catalogue by sku_id, `prefetch` rows fetched at a time.

    The first `skip` are left out, and there is an end after `limit`. The skipped rows are passed over on the
    server and never sent. One statement is one snapshot: what others change meanwhile does not show. The
    connection is inside a read-only transaction until the iterator is exhausted or closed
    (contextlib.aclosing).
    """
    async with connection.transaction(readonly=True):
        rows: AsyncIterable[headrace.Record]
        if skip:
            rows = _past(connection, prefetch, skip)
        else:
            rows = connection.cursor(CATALOGUE, prefetch=prefetch)
        async for record in rows if limit is None else take(limit, rows):
            yield record


async def _past(connection: headrace.Connection, prefetch: int, skip: int) -> AsyncIterator[headrace.Record]:
    """Move a cursor past `skip` rows and yield the others."""
    cursor = await connection.cursor(CATALOGUE)
    await cursor.forward(skip)
    while records := await cursor.fetch(prefetch):
        for record in records:
            yield record


@timed
async def export(
    connection: headrace.Connection,
    output: RowWriter,
    *,
    prefetch: int = PREFETCH,
    skip: int = 0,
    limit: int | None = None,
) -> int:
    """Write the catalogue as CSV, as `stream_catalogue` yields it, and return the number of rows."""
    count = 0
    async with aclosing(stream_catalogue(connection, prefetch=prefetch, skip=skip, limit=limit)) as records:
        async for record in records:
            if count == 0:
                output.write(COLUMNS)
            output.write(record)
            count += 1
    if count == 0:
        output.write(COLUMNS)
    return count
