"""Answer some lines of a job, as a part of its result that is compressed while it is written."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

import headrace
from storefront.batch import WINDOW, Strategy, answer
from storefront.catalogue import COLUMNS, Executor
from storefront.checkpoint import Tally
from storefront.formats import Format, GzipCompressor, encoder
from storefront.jobs.claims import Part
from storefront.jobs.lines import JobLine
from storefront.rows import RowWriter

PART_SIZE = 8 * 2**20
"""The number of bytes of result after which a part is ended. Lines that are being looked up then are still in it."""

COMPRESSION_LEVEL = 3
"""Levels above it take twice the time for a few per cent."""


class GzipMember:
    """Compresses bytes to one gzip member in memory. `size` is their number."""

    def __init__(self) -> None:
        self.size = 0
        self._compressor = GzipCompressor(COMPRESSION_LEVEL)
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self.size += len(data)
        if piece := self._compressor.compress(data):
            self._pieces.append(piece)

    def end(self) -> bytes:
        """Return the member. It is empty if nothing was written."""
        return b"".join([*self._pieces, self._compressor.end()])


class PartWriter(RowWriter):
    """Writes the rows of products to a gzip member. The first part of a result has its header."""

    def __init__(self, result_format: Format, *, header: bool) -> None:
        self.member = GzipMember()
        self._encoder = encoder(result_format, COLUMNS)
        if header:
            self.member.write(self._encoder.header())

    def write_product(self, rows: Sequence[headrace.Record]) -> None:
        """Write the rows of one product."""
        self.member.write(self._encoder.product([tuple(row) for row in rows]))


async def answer_part(
    executor: Executor,
    lines: Iterable[JobLine],
    result_format: Format,
    *,
    header: bool,
    skipped_lines: int = 0,
    strategy: Strategy = Strategy.AUTO,
    window: int = WINDOW,
    part_size: int = PART_SIZE,
) -> Part:
    """Look up lines until there are no more or the part is full, and return the part.

    At least one line is answered. The part says which line is the last in it. `skipped_lines` is added to the numbers
    in the report.
    """
    output = PartWriter(result_format, header=header)
    report = GzipMember()
    tally = Tally()
    last_line = 0

    def until_full() -> Iterator[JobLine]:
        nonlocal last_line
        for line in lines:
            last_line = line.number
            yield line
            if output.member.size >= part_size:
                return

    def tell(number: int, problem: str) -> None:
        report.write(
            json.dumps({"line": number + skipped_lines, "problem": problem}, ensure_ascii=False).encode() + b"\n"
        )

    await answer(executor, until_full(), output, report=tell, tally=tally, window=window, strategy=strategy)
    return Part(last_line, tally, output.member.size, output.member.end(), report.end())
