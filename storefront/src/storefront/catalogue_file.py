"""Read a catalogue from CSV, NDJSON or Parquet, one validated line after another.

A file has these columns. In CSV they are named by the first line, in NDJSON by the keys of each object:

    brand_name    required
    product_name  required
    color, size   by name; both empty for a product without SKUs
    brand_id, product_id, sku_id   optional

A line with a mistake is returned as RefusedLine, and reading goes on. A problem of the whole file raises UsageError.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
import re
import shutil
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from storefront.catalogue import MAX_ID
from storefront.errors import UsageError
from storefront.formats import (
    Compression,
    DamagedFileError,
    FileType,
    Format,
    compression_of,
    decompressed,
    require,
)

REQUIRED = ("brand_name", "product_name", "color", "size")
COLUMNS = (*REQUIRED, "brand_id", "product_id", "sku_id")

ALIASES = {
    "brand": "brand_name",
    "product": "product_name",
    "colour": "color",
    "product_color_name": "color",
    "product_size_name": "size",
}
"""Other names of columns. Those of `storefront export` are among them."""

MAX_NAME = 500
"""The longest name in characters. A longer one may not fit into an index of PostgreSQL."""

MAX_LINE = 2**20
"""The longest line in bytes."""

MAX_RECORD = 50
"""The largest number of lines that a record of CSV may go over. A missing quotation mark is noticed there."""

DELIMITERS = ",;\t|"
"""Characters that may separate fields of CSV. The first line shows which one does."""

PARQUET_ROWS = 5_000
"""The number of rows of a Parquet file that are read at once."""


class CatalogueLine(NamedTuple):
    """A valid line. `color` and `size` are both None for a product without SKUs. `text` is the line itself."""

    line: int
    brand_name: str
    product_name: str
    color: str | None
    size: str | None
    brand_id: int | None
    product_id: int | None
    sku_id: int | None
    text: str


class RefusedLine(NamedTuple):
    """A line that cannot be imported, and the reason."""

    line: int
    reason: str
    text: str


class _MistakeError(Exception):
    """The reason why a line is refused."""


class _LongRecordError(Exception):
    """A record of CSV goes over more lines than MAX_RECORD."""


# A name is shown on one line, and PostgreSQL stores neither NUL nor a lone surrogate.
_NOT_IN_A_NAME = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def parse_file_type(text: str) -> FileType:
    """Read the value of --format: `csv`, `ndjson` or `parquet`, and perhaps `.gz` or `.zst`. Raises UsageError."""
    found = FileType.of(PurePath(f"file.{text}"))
    if found.format is None:
        raise UsageError(f"{text!r} is not a format: expected csv, ndjson or parquet, such as csv or ndjson.gz")
    return found


class CatalogueFile:
    """A catalogue in a file, or on standard input if `path` is None. It is a context manager, and iterable once.

    `file_type` is by default what the file's name says. `encoding` is that of CSV and NDJSON. Iterating gives a
    CatalogueLine or a RefusedLine for each line. Only a few lines are in memory at a time.

    Raises UsageError, at once or while it is read, if the file cannot be read, if it is empty, if its content is not
    what its name says, if it is not text in `encoding`, or if columns are missing. Parquet and zstd need the extra
    `files`.
    """

    def __init__(self, path: Path | None, file_type: FileType | None = None, *, encoding: str = "utf-8") -> None:
        self.name = "standard input" if path is None else str(path)
        self.ignored_columns: tuple[str, ...] = ()
        self._rows_read = 0
        self._rows: int | None = None
        self._encoding = _known_encoding(encoding)
        if file_type is None:
            if path is None:
                raise UsageError("standard input has no name that tells its format: pass --format")
            file_type = FileType.of(path)
            if file_type.format is None:
                raise UsageError(f"the name {path} tells no format: expected .csv, .ndjson or .parquet, or --format")
        self._stack = ExitStack()
        try:
            with self._usage_errors():
                self._file, self._size = self._open(path)
                self._read = self._reader(file_type)
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> CatalogueFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[CatalogueLine | RefusedLine]:
        with self._usage_errors():
            yield from self._read()

    @property
    def fraction(self) -> float | None:
        """The part of the file that has been read, from 0 to 1, or None if its size is not known."""
        if self._rows is not None:
            return self._rows_read / self._rows if self._rows else 1.0
        return min(self._file.tell() / self._size, 1.0) if self._size else None

    @contextmanager
    def _usage_errors(self) -> Iterator[None]:
        """Raise UsageError for an error of reading or decompressing."""
        try:
            yield
        except DamagedFileError as error:
            raise UsageError(f"{self.name} is damaged or cut off: {error}") from error
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror or error}") from error

    def _open(self, path: Path | None) -> tuple[BinaryIO, int | None]:
        """Return the file and its size in bytes, which is None if it is not a regular file."""
        if path is None:
            return sys.stdin.buffer, None
        file = self._stack.enter_context(path.open("rb"))
        return file, os.fstat(file.fileno()).st_size if path.is_file() else None

    def _reader(self, file_type: FileType) -> Callable[[], Iterator[CatalogueLine | RefusedLine]]:
        """Check how the file begins. Return the function that reads it."""
        assert file_type.format is not None
        if file_type.format is Format.PARQUET:
            if file_type.compression is not Compression.NONE:
                raise UsageError(f"{self.name}: Parquet is compressed inside, and not once more as a whole")
            return self._parquet()
        text = _decompressed(self._file, file_type.compression, self.name)
        self._check_beginning(text, file_type.format)
        self._source = self._text_lines(text)
        if file_type.format is Format.CSV:
            return self._csv(next(self._source))
        return self._ndjson

    def _check_beginning(self, text: io.BufferedReader[Any], chosen: Format) -> None:
        beginning = text.peek(4)
        if not beginning:
            raise UsageError(f"{self.name} is empty")
        if (compression := compression_of(beginning)) is not Compression.NONE:
            raise UsageError(f"{self.name} is compressed by {compression}, and not {chosen.upper()}: {_NAME_IT}")
        for magic, what in _OTHER_CONTENTS.items():
            if beginning.startswith(magic):
                raise UsageError(f"{self.name} is {what}, and not {chosen.upper()}: {_NAME_IT}")
        if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and self._encoding == "utf-8":
            raise UsageError(f"{self.name} is text in UTF-16: convert it to UTF-8 (iconv -f utf-16 -t utf-8)")
        stripped = beginning.removeprefix(codecs.BOM_UTF8).lstrip()
        if chosen is Format.NDJSON and stripped and not stripped.startswith(b"{"):
            what = "a JSON array" if stripped.startswith(b"[") else "something else"
            raise UsageError(f"{self.name} is not NDJSON: expected an object on each line, found {what}")

    def _text_lines(self, file: io.BufferedReader[Any]) -> Iterator[str]:
        """Yield the lines as text. Raises UsageError for a line that is too long or not text."""
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise UsageError(f"{self.name}, line {number}: it is longer than {MAX_LINE:,} bytes")
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield line.decode(self._encoding)
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"{self.name}, line {number}: byte 0x{line[error.start]:02X} is not {self._encoding.upper()}; "
                    "--encoding names another encoding, such as latin-1"
                ) from error

    def _csv(self, first_line: str) -> Callable[[], Iterator[CatalogueLine | RefusedLine]]:
        headers = []
        for delimiter in DELIMITERS:
            try:
                header = next(csv.reader([first_line], delimiter=delimiter), [])
            except csv.Error:
                continue
            headers.append((sum(_column(name) in REQUIRED for name in header), delimiter, header))
        if not headers:
            raise UsageError(f"{self.name} is not CSV")
        # max() returns the first of equal ones.
        _, delimiter, header = max(headers, key=lambda each: each[0])
        places = self._places(header)

        def read() -> Iterator[CatalogueLine | RefusedLine]:
            for number, row, text in _csv_records(self._source, delimiter):
                if isinstance(row, str):
                    yield RefusedLine(number, row, text)
                elif len(row) != len(header):
                    yield RefusedLine(number, f"it has {len(row)} fields, and the first line has {len(header)}", text)
                else:
                    yield _validated(number, [None if i is None else row[i] for i in places], text)

        return read

    def _ndjson(self) -> Iterator[CatalogueLine | RefusedLine]:
        names: dict[str, str] = {}
        ignored: dict[str, None] = {}
        for number, line in enumerate(self._source, start=1):
            text = line.rstrip("\r\n")
            if not text or text.isspace():
                continue
            try:
                found = json.loads(text)
            except (ValueError, RecursionError) as error:
                why = error.msg if isinstance(error, json.JSONDecodeError) else "a value is too large"
                yield RefusedLine(number, f"it is not JSON: {why}", text)
                continue
            if not isinstance(found, dict):
                yield RefusedLine(number, "it is not a JSON object", text)
                continue
            values: dict[str, object] = {}
            for key, value in found.items():
                column = names.get(key)
                if column is None:
                    column = _column(key)
                    if column not in COLUMNS:
                        if len(ignored) < 20:
                            ignored[key] = None
                            self.ignored_columns = tuple(ignored)
                        continue
                    if len(names) < 100:
                        names[key] = column
                values[column] = value
            yield _validated(number, [values.get(column) for column in COLUMNS], text)

    def _parquet(self) -> Callable[[], Iterator[CatalogueLine | RefusedLine]]:
        arrow, parquet = require("pyarrow", "Parquet"), require("pyarrow.parquet", "Parquet")
        source: BinaryIO = self._file
        if self._size is None:
            # The end of the file is read first, so it has to be complete.
            source = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - closed by the stack
            shutil.copyfileobj(self._file, source)
            source.seek(0)
        if not source.read(1):
            raise UsageError(f"{self.name} is empty")
        source.seek(0)
        try:
            opened = self._stack.enter_context(parquet.ParquetFile(source))
        except arrow.ArrowException as error:
            raise UsageError(f"{self.name} is not Parquet: {error}") from error
        names = opened.schema_arrow.names
        places = self._places(names)
        self._rows = opened.metadata.num_rows

        def read() -> Iterator[CatalogueLine | RefusedLine]:
            wanted = [names[place] for place in places if place is not None]
            given = [column for column, place in zip(COLUMNS, places, strict=True) if place is not None]
            try:
                for batch in opened.iter_batches(PARQUET_ROWS, columns=wanted, use_threads=False):
                    columns = {name: batch.column(name).to_pylist() for name in wanted}
                    for row in zip(*(columns[name] for name in wanted), strict=True):
                        self._rows_read += 1
                        values = dict(zip(given, row, strict=True))
                        text = json.dumps(values, ensure_ascii=False, default=str)
                        yield _validated(self._rows_read, [values.get(column) for column in COLUMNS], text)
            except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
                raise UsageError(f"{self.name} is damaged after row {self._rows_read}: {error}") from error

        return read

    def _places(self, header: Sequence[str]) -> list[int | None]:
        """Return the place of each of COLUMNS in the header. Raises UsageError if one is missing or is there twice."""
        found = [_column(name) for name in header]
        missing = [name for name in REQUIRED if name not in found]
        if missing:
            shown = ", ".join(name.strip() for name in header)
            shown = shown if len(shown) <= 80 else f"{shown[:80]}..."
            raise UsageError(
                f"{self.name} has no column {', '.join(missing)}: expected {', '.join(REQUIRED)}, found {shown}"
            )
        for name in COLUMNS:
            if found.count(name) > 1:
                raise UsageError(f"{self.name} has the column {name} twice")
        self.ignored_columns = tuple(name for name, column in zip(header, found, strict=True) if column not in COLUMNS)
        return [found.index(name) if name in found else None for name in COLUMNS]


_NAME_IT = "name the file by its content, or pass --format, such as csv.gz"

_OTHER_CONTENTS = {
    b"PAR1": "Parquet",
    b"PK\x03\x04": "a ZIP file or a spreadsheet",
}


def _known_encoding(name: str) -> str:
    """Return the canonical name of an encoding in which each line ends in a line feed. Raises UsageError for others."""
    try:
        if "\n".encode(name) == b"\n":
            return codecs.lookup(name).name
    except (LookupError, UnicodeError):
        raise UsageError(f"--encoding {name!r} is not known: expected one such as utf-8, latin-1 or cp1252") from None
    raise UsageError(f"a file in {name} cannot be read line by line: convert it to UTF-8 (iconv -f {name} -t utf-8)")


def _column(name: str) -> str:
    """Return the column that a name in a file stands for, or the name itself."""
    lower = name.strip().lower()
    return ALIASES.get(lower, lower)


def _decompressed(file: BinaryIO, compression: Compression, name: str) -> io.BufferedReader[Any]:
    """Return the file as it is before compression. Raises UsageError if it is not compressed in this way."""
    unbuffered: Any = file
    raw = unbuffered if isinstance(unbuffered, io.BufferedReader) else io.BufferedReader(unbuffered)
    if compression is not Compression.NONE:
        beginning = raw.peek(4)
        if not beginning:
            raise UsageError(f"{name} is empty")
        if compression_of(beginning) is not compression:
            raise UsageError(f"{name} is not compressed by {compression}: {_NAME_IT}")
    return decompressed(raw, compression)


class _Lines:
    """An iterator over lines that records the lines of a record, and can take some of them back."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines = lines
        self._returned: deque[str] = deque()
        self.taken: list[str] = []

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        if len(self.taken) == MAX_RECORD:
            raise _LongRecordError
        line = self._returned.popleft() if self._returned else next(self._lines)
        self.taken.append(line)
        return line

    def give_back(self, lines: Sequence[str]) -> None:
        self._returned.extendleft(reversed(lines))


def _csv_records(source: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str] | str, str]]:
    """Yield the number of the first line of each record, its fields or the reason why it has none, and its text.

    A line with a missing quotation mark would swallow those after it. It is refused alone, and the next line is the
    beginning of the next record.
    """
    lines = _Lines(source)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 2
    while True:
        lines.taken = []
        row: list[str] | str
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, _LongRecordError) as error:
            first, *rest = lines.taken
            lines.give_back(rest)
            lines.taken = [first]
            row = f"it is not CSV: {error}" if not rest else "it is not CSV: a quotation mark is not closed"
        if row:
            yield number, row, "".join(lines.taken).rstrip("\r\n")
        number += len(lines.taken)


def _validated(line: int, values: Sequence[object], text: str) -> CatalogueLine | RefusedLine:
    """Validate the values of COLUMNS."""
    try:
        brand_name = _name("brand_name", values[0])
        product_name = _name("product_name", values[1])
        color, size = _name("color", values[2]), _name("size", values[3])
        if brand_name is None or product_name is None:
            raise _MistakeError(f"{'brand_name' if brand_name is None else 'product_name'} is missing")
        if (color is None) is not (size is None):
            raise _MistakeError(f"{'color' if color is None else 'size'} is missing")
        brand_id, product_id, sku_id = [_id(name, value) for name, value in zip(COLUMNS[4:], values[4:], strict=True)]
        if sku_id is not None and color is None:
            raise _MistakeError("it has a sku_id, but no color and no size")
    except _MistakeError as mistake:
        return RefusedLine(line, str(mistake), text)
    return CatalogueLine(line, brand_name, product_name, color, size, brand_id, product_id, sku_id, text)


def mistake_in_name(name: str) -> str | None:
    """Return what is wrong with a name that is not empty, or None."""
    if len(name) > MAX_NAME:
        return f"has {len(name)} characters, and at most {MAX_NAME} are allowed"
    if found := _NOT_IN_A_NAME.search(name):
        what = "half of a surrogate pair" if found[0] >= "\ud800" else "control character"
        return f"contains the {what} U+{ord(found[0]):04X}"
    return None


def _name(column: str, value: object) -> str | None:
    """Return a name without spaces around it, or None if it is empty."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise _MistakeError(f"{column} is not a text: {_shown(value)}")
    name = value.strip()
    if not name:
        return None
    if mistake := mistake_in_name(name):
        raise _MistakeError(f"{column} {mistake}")
    return name


def _id(column: str, value: object) -> int | None:
    """Return an id, or None if there is none."""
    if value is None:
        return None
    number = value
    if isinstance(value, str):
        digits = value.strip()
        if not digits:
            return None
        if digits.isascii() and digits.isdecimal() and len(digits) <= 10:
            number = int(digits)
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= MAX_ID:
        raise _MistakeError(f"{column} is not a whole number from 1 to {MAX_ID}: {_shown(value)}")
    return number


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
