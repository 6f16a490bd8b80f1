"""Stream the whole catalogue, with only a few rows in memory at a time: by COPY as CSV, or as records of a cursor."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from contextlib import aclosing

import headrace
from storefront.iteration import take
from storefront.rows import Output
from storefront.timing import timed

PREFETCH = 50
"""The number of rows fetched at a time."""

COLUMNS = (
    "sku_id",
    "product_id",
    "product_name",
    "brand_id",
    "brand_name",
    "product_color_name",
    "product_size_name",
)

CATALOGUE_SINCE = """\
SELECT s.sku_id, p.product_id, p.product_name, b.brand_id, b.brand_name,
       c.product_color_name, z.product_size_name
FROM sku AS s
JOIN product AS p ON p.product_id = s.product_id
JOIN brand AS b ON b.brand_id = p.brand_id
JOIN product_color AS c ON c.product_color_id = s.product_color_id
JOIN product_size AS z ON z.product_size_id = s.product_size_id
WHERE s.sku_id > $1
ORDER BY s.sku_id"""


async def stream_catalogue(
    connection: headrace.Connection,
    *,
    prefetch: int = PREFETCH,
    skip: int = 0,
    limit: int | None = None,
    since: int = 0,
) -> AsyncGenerator[headrace.Record]:
    """Yield every SKU of the catalogue, ordered by sku_id. `prefetch` rows are fetched at a time.

    SKUs up to the id `since` are left out, and then the first `skip` rows; the server does not send them. The stream
    ends after `limit` rows. It is one statement and therefore one snapshot, so concurrent changes do not show. The
    connection is in a read-only transaction until the iterator is exhausted or closed (contextlib.aclosing).
    """
    async with connection.transaction(readonly=True):
        rows: AsyncIterable[headrace.Record]
        if skip:
            rows = _past(connection, prefetch, skip, since)
        else:
            rows = connection.cursor(CATALOGUE_SINCE, since, prefetch=prefetch)
        async for record in rows if limit is None else take(limit, rows):
            yield record


async def _past(
    connection: headrace.Connection, prefetch: int, skip: int, since: int
) -> AsyncIterator[headrace.Record]:
    """Move a cursor past `skip` rows and yield the rows after them."""
    cursor = await connection.cursor(CATALOGUE_SINCE, since)
    await cursor.forward(skip)
    while records := await cursor.fetch(prefetch):
        for record in records:
            yield record


@timed
async def export(
    connection: headrace.Connection,
    output: Output,
    *,
    prefetch: int | None = None,
    skip: int = 0,
    limit: int | None = None,
    since: int = 0,
) -> int:
    """Write the catalogue, ordered by sku_id, and return the number of rows.

    SKUs up to the id `since` are left out, then `skip` rows, and at most `limit` rows are written. The server sends the
    rows by COPY, in one statement and therefore one snapshot. With `prefetch` the rows are those of `stream_catalogue`,
    which is slower.
    """
    encoder = output.encoder
    if prefetch is None:
        status = await connection.copy_from_query(
            f"{CATALOGUE_SINCE}\nOFFSET $2 LIMIT $3",
            since,
            skip,
            limit,
            output=lambda data: output.write(encoder.copied(data)),
            **encoder.copy_options,
        )
        return int(status.removeprefix("COPY "))
    count = 0
    async with aclosing(
        stream_catalogue(connection, prefetch=prefetch, skip=skip, limit=limit, since=since)
    ) as records:
        async for record in records:
            output.write(encoder.rows((record,)))
            count += 1
    return count
