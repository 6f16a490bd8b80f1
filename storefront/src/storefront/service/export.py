"""Stream the catalogue to a partner."""

from __future__ import annotations

import asyncio
import json
from typing import Final

from storefront.database import AnyPool
from storefront.formats import CsvEncoder, Format, NdjsonEncoder
from storefront.service.batches import Write
from storefront.service.problems import ProblemError
from storefront.stream import CATALOGUE_SINCE, COLUMNS

PAGE: Final = 5_000
"""The number of SKUs that are read at once."""

_LAST_OF_PAGE: Final = """\
SELECT max(sku_id) FROM (SELECT sku_id FROM sku WHERE sku_id > $1 ORDER BY sku_id LIMIT $2) AS page"""

_PAGE: Final = CATALOGUE_SINCE.replace("ORDER BY", "AND s.sku_id <= $2\nORDER BY")


async def stream_pages(
    pool: AnyPool, encoder: ExportEncoder, write: Write, *, after: int, timeout: float
) -> tuple[int, int]:
    """Write the SKUs with an id greater than `after`, and return their number and the last id.

    The catalogue is read in pages, so a client that reads slowly holds no connection and no transaction. A page is read
    while the one before it is sent. Rows that change meanwhile are as they are when their page is read. An error or a
    cancellation leaves no query running.
    """
    count = 0
    await write(encoder.header())
    reading = asyncio.create_task(_read_page(pool, encoder, after, timeout))
    try:
        while (page := await reading) is not None:
            last, size, data = page
            reading = asyncio.create_task(_read_page(pool, encoder, last, timeout))
            await write(data)
            count, after = count + size, last
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    return count, after


async def _read_page(
    pool: AnyPool, encoder: ExportEncoder, after: int, timeout: float
) -> tuple[int, int, bytes] | None:
    """Return the last id of the next page, the number of its rows, and its data; None if there is none."""
    last: int | None = await pool.fetchval(_LAST_OF_PAGE, after, PAGE, timeout=timeout)
    if last is None:
        return None
    data = bytearray()
    status = await pool.copy_from_query(_PAGE, after, last, output=data.extend, timeout=timeout, **encoder.copy_options)
    return last, int(status.removeprefix("COPY ")), encoder.copied(bytes(data))


class ExportEncoder:
    """Encodes an export: the rows, and a last line with the outcome."""

    def __init__(self, kind: type[NdjsonEncoder] | type[CsvEncoder]) -> None:
        self._json = kind is NdjsonEncoder
        self.media_type = (Format.NDJSON if self._json else Format.CSV).media_type
        encoder = kind(COLUMNS)
        self.header = encoder.header
        self.copied = encoder.copied
        self.copy_options = encoder.copy_options

    def complete(self, skus: int, last: int) -> bytes:
        """Encode the end of a complete export."""
        if self._json:
            return f'{{"outcome":"complete","skus":{skus},"last":{last}}}\n'.encode()
        return f"complete skus={skus} last={last},,,,,,\n".encode()

    def failed(self, problem: ProblemError) -> bytes:
        """Encode the end of an export that has failed."""
        if self._json:
            return json.dumps({"outcome": "failed", "problem": problem.members()}).encode() + b"\n"
        return CsvEncoder(COLUMNS).rows([(f"failed problem={problem}", *[None] * (len(COLUMNS) - 1))])
