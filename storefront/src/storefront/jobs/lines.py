"""Read the lines of a job as they arrive, and store them in parts.

The lines are those of storefront.orders, or records of CSV, or objects of NDJSON with a member product_id. A stored
part is text compressed by zlib, with a line for each of them: the product id, `=` and the id if an earlier line has
the same id, or `!` and the problem with a malformed line. So repeated ids are found once, when the job is created, and
any part can be answered without the parts before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from enum import StrEnum

from storefront.catalogue import MAX_ID
from storefront.errors import UsageError
from storefront.orders import (
    BYTE_ORDER_MARK,
    MAX_LINE,
    CsvRecord,
    CsvRecords,
    Marked,
    OrderLine,
    SeenIds,
    ids_in_csv,
    no_column,
    read_json_id,
    read_product_id,
)

REPEATED = "="
MALFORMED = "!"
"""The marks of stored lines that are not to be looked up."""

MAX_RECORD = 100_000
"""The number of bytes of a line of CSV or NDJSON that are read. It may have other fields. The rest is skipped."""


class JobInput(StrEnum):
    """How the ids of a job are written."""

    IDS = "ids"
    """An id on each line."""
    CSV = "csv"
    """CSV with a column product_id or id, or without a header and with ids in the first column; see `ids_in_csv`."""
    NDJSON = "ndjson"
    """On each line an id, or an object with a member product_id."""


class LineReader:
    """Divides a stream of bytes into lines. Memory holds the lines of one piece, and the set of the ids seen.

    `stored` has the lines that were read and not taken yet, as they are stored. `count` is the number of lines. The
    header of CSV is not among them; `skipped` is then 1.
    """

    def __init__(self, job_input: JobInput = JobInput.IDS) -> None:
        self.stored: list[str] = []
        self.count = 0
        self.skipped = 0
        self._input = job_input
        self._parse: Callable[[bytes], int] = read_json_id if job_input is JobInput.NDJSON else read_product_id
        self._longest = MAX_LINE if job_input is JobInput.IDS else MAX_RECORD
        self._seen = SeenIds()
        self._rest = b""
        self._records: CsvRecords[None] = CsvRecords(",")
        self._before_header = False
        self._begun = False

    def feed(self, piece: bytes) -> None:
        """Read the next piece of the stream. A line that is not complete yet is kept for the next one.

        Raises UsageError if the stream is CSV without a column of ids, or not in UTF-8.
        """
        first, *others = piece.split(b"\n")
        # No more is kept of a line than is ever looked at, so that a line without an end does not fill the memory.
        self._rest += first[: max(0, self._longest - len(self._rest))]
        if not others:
            return
        lines = [self._rest, *others]
        self._rest = lines.pop()[: self._longest]
        self._read(lines)

    def end(self) -> None:
        """Read the last line, if it has no line feed."""
        if self._rest and (self._begun or self._rest != BYTE_ORDER_MARK):
            self._read([self._rest])
        self._rest = b""
        self._read_csv(self._records.end())

    def take(self, count: int) -> list[str]:
        """Take the first `count` lines out of `stored`."""
        taken, self.stored = self.stored[:count], self.stored[count:]
        return taken

    def _read(self, lines: list[bytes]) -> None:
        if not self._begun:
            self._begun = True
            if lines[0].startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UsageError("the lines are in UTF-16, expected UTF-8")
            lines[0] = lines[0].removeprefix(BYTE_ORDER_MARK)
            if self._input is JobInput.CSV:
                self._begin_csv(lines[0])
        if self._input is JobInput.CSV:
            for line in lines:
                self._read_csv(self._records.add(0, line, None))
        else:
            for line in lines:
                self._read_record(line)

    def _read_record(self, raw: bytes) -> None:
        self.count += 1
        try:
            product_id = self._parse(raw[: self._longest])
        except UsageError as error:
            self.stored.append(f"{MALFORMED}{error}")
            return
        # No product has an id above MAX_ID, so there are no SKUs that were written before.
        repeated = product_id <= MAX_ID and not self._seen.add(product_id)
        self.stored.append(f"{REPEATED}{product_id}" if repeated else str(product_id))

    def _read_csv(self, records: list[Marked[None]]) -> None:
        if self._before_header and records:
            # It may have several lines.
            self._before_header = False
            records = records[1:]
        for _, raw, _ in records:
            self._read_record(raw)

    def _begin_csv(self, line: bytes) -> None:
        """Find the column of the ids in the header."""
        head = line.decode(errors="replace").rstrip("\r")
        found = ids_in_csv(head)
        if found is None:
            raise UsageError(f"the CSV {no_column(head)}")
        if found.has_header:
            self._before_header = True
            self.skipped = 1
        self._parse = CsvRecord(found.column, found.delimiter)
        self._records = CsvRecords(found.delimiter)


def pack_lines(stored: list[str]) -> bytes:
    """Return a part of the input as it is stored in job_input."""
    return zlib.compress("\n".join(stored).encode(), level=1)


def unpack_lines(data: bytes, first_line: int, *, start: int) -> Iterator[OrderLine]:
    """Yield the lines of a stored part, which begins with `first_line`, from the line `start` on."""
    stored = zlib.decompress(data).decode().split("\n")
    for number, line in enumerate(stored[max(0, start - first_line) :], start=max(first_line, start)):
        if line.startswith(REPEATED):
            yield OrderLine(number, int(line[1:]), repeated=True)
        elif line.startswith(MALFORMED):
            yield OrderLine(number, None, malformed=line[1:])
        else:
            yield OrderLine(number, int(line))
