"""Report the lines of an order that yield no SKUs, with the reason, in a file that can be cut back."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from storefront.errors import UsageError
from storefront.formats import Compression, CsvEncoder, FileType, Format

COLUMNS = ("line", "problem", "product_id", "text")
"""The columns of a report in CSV, and the members of its objects in NDJSON."""


class ProblemKind(StrEnum):
    """Why a line of an order yields no SKUs."""

    MALFORMED = "malformed"
    UNKNOWN = "unknown"
    WITHOUT_SKUS = "without_skus"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Problem:
    """A line of an order that yields no SKUs. `text` explains it to a person."""

    line: int
    kind: ProblemKind
    product_id: int | None
    text: str


Report = Callable[[Problem], None]
"""A function that is called with each problem of a batch, in the order of the lines."""


class ReportFile:
    """Writes problems to a file: as CSV or NDJSON if its name ends so, else as lines `order.txt:LINE: TEXT`.

    `order` is the name of the order. With `offset` an existing file is cut back to that many bytes and continued.
    Raises UsageError if the file cannot be opened.
    """

    def __init__(self, path: Path, order: str, offset: int | None = None) -> None:
        kind = FileType.of(path)
        if kind.compression is not Compression.NONE or kind.format is Format.PARQUET:
            raise UsageError(f"cannot report to {path}: a report is text, CSV or NDJSON, not compressed")
        self._format = kind.format
        self._order = order
        self._csv = CsvEncoder(COLUMNS)
        # A report into a pipe is read at once, and cannot be cut back.
        try:
            self._regular = not path.exists() or stat.S_ISREG(path.stat().st_mode)
            new = offset is None or not path.exists() or not self._regular
            self._file = open(path, "wb" if new else "r+b", buffering=-1 if self._regular else 0)  # noqa: SIM115
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        if not new and offset is not None:
            self._file.truncate(offset)
            self._file.seek(offset)
        elif self._format is Format.CSV:
            self._file.write(self._csv.header())

    def __call__(self, problem: Problem) -> None:
        """Write a problem. Raises OSError if the file cannot be written."""
        self._file.write(self._encoded(problem))

    def _encoded(self, problem: Problem) -> bytes:
        values = (problem.line, problem.kind.value, problem.product_id, problem.text)
        if self._format is Format.CSV:
            return self._csv.rows((values,))
        if self._format is Format.NDJSON:
            return (json.dumps(dict(zip(COLUMNS, values, strict=True)), ensure_ascii=False) + "\n").encode()
        return f"{self._order}:{problem.line}: {problem.text}\n".encode(errors="backslashreplace")

    def sync(self) -> int:
        """Pass everything to the disk. Return the offset of the end, or 0 for a pipe."""
        if not self._regular:
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.tell()

    def close(self) -> None:
        """Close the file. Raises OSError if the last lines cannot be written."""
        self._file.close()
