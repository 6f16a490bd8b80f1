"""Stream the catalogue, with only a few rows in memory at a time.

`export` gets the rows as bytes by COPY or, for Parquet, as record batches in Arrow's format, so that no row becomes an
object of Python. `stream_catalogue` yields them as records of a cursor.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import headrace
from storefront.formats import ROW_GROUP
from storefront.iteration import take
from storefront.rows import Output, ParquetOutput
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

    SKUs up to the id `since` are left out, then `skip` rows, and at most `limit` rows are written. It is one statement
    and therefore one snapshot. The server sends the rows by COPY, or to a ParquetOutput as record batches of a row
    group each. With `prefetch` the rows are those of `stream_catalogue`, which is slower.

    Raises the errors of the database and of the output. Then, and after a cancellation, the statement does not run any
    more, and the connection can be used.
    """
    encoder = output.encoder
    part = f"{CATALOGUE_SINCE}\nOFFSET $2 LIMIT $3"
    count = 0
    if prefetch is not None:
        async with aclosing(
            stream_catalogue(connection, prefetch=prefetch, skip=skip, limit=limit, since=since)
        ) as records:
            async for record in records:
                output.write(encoder.rows((record,)))
                count += 1
    elif isinstance(output, ParquetOutput):
        async with connection.stream_arrow(part, since, skip, limit, batch_rows=ROW_GROUP) as batches:
            async for batch in batches:
                # The next batch arrives meanwhile.
                await in_thread(output.write_batch, batch)
                count += batch.num_rows
    else:
        status = await connection.copy_from_query(
            part,
            since,
            skip,
            limit,
            output=lambda data: output.write(encoder.copied(data)),
            **encoder.copy_options,
        )
        count = int(status.removeprefix("COPY "))
    return count


async def in_thread(function: Callable[..., object], *args: Any) -> None:
    """Call a function in a thread. A cancellation is raised once it has returned, because its file is closed then."""
    running = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait((running,))
        running.exception()  # mark it as retrieved
        raise
