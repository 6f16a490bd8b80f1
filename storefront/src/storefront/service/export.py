"""Stream the catalogue to a partner."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Callable
from importlib.util import find_spec
from typing import Final, Protocol

import headrace
from storefront.database import AnyPool
from storefront.formats import CsvEncoder, Format, NdjsonEncoder, ParquetFile
from storefront.service.batches import Write
from storefront.service.problems import ProblemError
from storefront.stream import CATALOGUE_SINCE, COLUMNS

PAGE: Final = 20_000
"""The number of SKUs that are read at once. Two pages take some 8 MB. With 5,000 an export takes half as long again."""

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
    return last, *await encoder.page(pool, after, last, timeout)


class ExportEncoder(Protocol):
    """Encodes an export: its pages, and an end that tells the outcome."""

    @property
    def media_type(self) -> str:
        """The Content-Type of the answer."""

    def header(self) -> bytes:
        """Return the beginning."""

    async def page(self, pool: AnyPool, after: int, last: int, timeout: float) -> tuple[int, bytes]:
        """Read the SKUs with an id greater than `after` up to `last`. Return their number and the next bytes."""

    async def complete(self, skus: int, last: int) -> bytes:
        """Encode the end of a complete export."""

    def failed(self, problem: ProblemError) -> bytes:
        """Encode the end of an export that has failed."""


class TextExport:
    """An export as NDJSON or CSV: the rows as COPY sends them, and a last line with the outcome."""

    def __init__(self, kind: type[NdjsonEncoder] | type[CsvEncoder]) -> None:
        self._json = kind is NdjsonEncoder
        self._encoder = kind(COLUMNS)
        self.media_type = (Format.NDJSON if self._json else Format.CSV).media_type
        self.header = self._encoder.header

    async def page(self, pool: AnyPool, after: int, last: int, timeout: float) -> tuple[int, bytes]:
        """Read a page."""
        data = bytearray()
        encoder = self._encoder
        status = await pool.copy_from_query(
            _PAGE,
            after,
            last,
            # Other requests are served between two pieces.
            output=lambda piece: data.extend(encoder.copied(piece)),
            timeout=timeout,
            **encoder.copy_options,
        )
        return int(status.removeprefix("COPY ")), bytes(data)

    async def complete(self, skus: int, last: int) -> bytes:
        """Encode the last line of a complete export."""
        if self._json:
            return f'{{"outcome":"complete","skus":{skus},"last":{last}}}\n'.encode()
        return f"complete skus={skus} last={last},,,,,,\n".encode()

    def failed(self, problem: ProblemError) -> bytes:
        """Encode the last line of an export that has failed."""
        if self._json:
            return json.dumps({"outcome": "failed", "problem": problem.members()}).encode() + b"\n"
        return CsvEncoder(COLUMNS).rows([(f"failed problem={problem}", *[None] * (len(COLUMNS) - 1))])


class ParquetExport:
    """An export as a Parquet file. The footer at its end tells that it is complete: it cannot be read without.

    The file is made in threads, because it takes a while to make columns, and to import the library for them.
    """

    media_type: Final = Format.PARQUET.media_type

    def __init__(self) -> None:
        self._written = io.BytesIO()
        self._file: ParquetFile | None = None

    def header(self) -> bytes:
        """Return nothing. The file begins with its first row group."""
        return b""

    async def page(self, pool: AnyPool, after: int, last: int, timeout: float) -> tuple[int, bytes]:
        """Read a page. Its rows are written once there are enough for a row group."""
        rows = await pool.fetch_arrow(_PAGE, after, last, timeout=timeout)
        return rows.num_rows, await asyncio.to_thread(self._write, rows)

    async def complete(self, skus: int, last: int) -> bytes:
        """Return the last row group and the footer."""
        return await asyncio.to_thread(self._write, None)

    def failed(self, problem: ProblemError) -> bytes:
        """Return nothing, so that the file has no footer."""
        return b""

    def _write(self, rows: headrace.arrow.ArrowTable | None) -> bytes:
        """Write rows, or the end if there are none. Return what was added to the file."""
        if self._file is None:
            self._file = ParquetFile(self._written, COLUMNS)
        if rows is None:
            self._file.close()
        else:
            self._file.write_batch(rows)
        data = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        return data


def encoders() -> dict[str, Callable[[], ExportEncoder]]:
    """Return a function for each media type that makes an encoder. Parquet needs a library."""
    offered: dict[str, Callable[[], ExportEncoder]] = {
        "application/x-ndjson": lambda: TextExport(NdjsonEncoder),
        "text/csv": lambda: TextExport(CsvEncoder),
    }
    if find_spec("pyarrow") is not None:
        offered[Format.PARQUET.media_type] = ParquetExport
    return offered
