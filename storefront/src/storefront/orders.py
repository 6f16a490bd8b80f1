"""Read a partner's order: product ids, one per line, as CSV with a column of ids, or as NDJSON.

No line is left out: a line without an id, and a line that repeats an earlier id, are marked as such. Lines end in LF or
CRLF. Text is UTF-8, with or without a byte order mark; columns other than that of the ids may have any encoding that
keeps ASCII. An order may be compressed by gzip or zstd.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, BinaryIO, Generic, NamedTuple, TypeAlias, TypeVar, cast

from storefront.catalogue import MAX_ID, MAX_WHOLE_NUMBER, parse_product_id
from storefront.errors import DamagedInputError, UsageError
from storefront.formats import Compression, DamagedFileError, FileType, compression_of, decompressed
from storefront.signals import raised_at_once

T = TypeVar("T")

Marked: TypeAlias = tuple[int, bytes, T]
"""A line or record of CSV: its number, its text, and something that belongs to its end."""

BLOCK = 65_536
"""The number of bytes that are read at once."""

MAX_LINE = 1_000
"""The number of bytes of a line of ids that are read. An id has 19 digits at most; the rest of the line is skipped."""

MAX_RECORD = 1_000_000
"""The number of bytes that are read of a line of CSV or NDJSON, which may have other fields."""

MAX_OPEN = 100_000
"""The number of bytes after which a quotation mark of CSV counts as one that is never closed."""

COLUMN = "product_id"

COLUMNS = (COLUMN, "id")
"""The names of the column with the ids in CSV. The first is taken if there are both."""

DELIMITERS = ",;\t"
"""The delimiters of CSV that are tried."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class InputFormat(StrEnum):
    """How an order is written."""

    AUTO = "auto"
    """By the ending of the file's name or, if that does not say, by its first line."""
    IDS = "ids"
    """An id on each line."""
    CSV = "csv"
    """CSV with a column product_id or id, or without a header and with ids in the first column; see `ids_in_csv`."""
    NDJSON = "ndjson"
    """On each line an id, or an object with a member product_id; see `read_json_id`."""


_ENDINGS = {
    ".txt": InputFormat.AUTO,
    ".csv": InputFormat.CSV,
    ".tsv": InputFormat.CSV,
    ".ndjson": InputFormat.NDJSON,
    ".jsonl": InputFormat.NDJSON,
}


class _Block:
    """A part of the file: its bytes, the offset of its end, and the SHA-256 of everything before it.

    The digest up to a line is computed only if it is asked for, which is at few lines.
    """

    def __init__(self, before: _Block | None, data: bytes) -> None:
        self.data = data
        self.end: int = len(data) + (before.end if before else 0)
        self._hash = before.hash_to(before.end) if before else hashlib.sha256()

    def hash_to(self, end: int) -> hashlib._Hash:
        """Return the hash of the file up to an offset in this block."""
        result = self._hash.copy()
        result.update(memoryview(self.data)[: len(self.data) - (self.end - end)])
        return result


class OrderLine:
    """A line of an order: an id to look up, or the reason why there is none.

    `number` counts lines from 1. A record of CSV has the number of its first line. `end` is the offset of the next line
    in bytes of the order, uncompressed.
    """

    __slots__ = ("_block", "end", "malformed", "number", "product_id", "repeated")

    def __init__(
        self,
        number: int,
        product_id: int | None,
        malformed: str | None = None,
        repeated: bool = False,
        end: int = 0,
        block: _Block | None = None,
    ) -> None:
        self.number = number
        self.product_id = product_id
        self.malformed = malformed
        self.repeated = repeated
        self.end = end
        self._block = block

    def __repr__(self) -> str:
        return f"OrderLine({self.number}, {self.product_id}, {self.malformed!r}, {self.repeated})"

    @property
    def digest(self) -> str:
        """The SHA-256 of the order up to `end`, in hexadecimal.

        A resumed batch recognises by it whether the order has changed.
        """
        return (self._block.hash_to(self.end) if self._block else hashlib.sha256()).hexdigest()


class SeenIds:
    """The set of ids of products seen so far. An id takes two bytes or, among many neighbours, one bit.

    Ids have 31 bits. They are kept in pages of 65,536 by their first bits. A page is a sorted array of the other 16
    bits or, if it holds so many that this is smaller, a bitmap.
    """

    _PAGE = 65_536
    _MANY = _PAGE // 16

    def __init__(self) -> None:
        self._pages: dict[int, array[int] | bytearray] = {}

    def add(self, product_id: int) -> bool:
        """Add an id. Return whether it is new."""
        number, place = divmod(product_id, self._PAGE)
        page = self._pages.get(number)
        if page is None:
            self._pages[number] = array("H", (place,))
            return True
        if isinstance(page, bytearray):
            mask = 1 << (place & 7)
            if page[place >> 3] & mask:
                return False
            page[place >> 3] |= mask
            return True
        index = bisect_left(page, place)
        if index < len(page) and page[index] == place:
            return False
        page.insert(index, place)
        if len(page) == self._MANY:
            bitmap = self._pages[number] = bytearray(self._PAGE // 8)
            for each in page:
                bitmap[each >> 3] |= 1 << (each & 7)
        return True


def lines_of(ids: Iterable[object]) -> Iterator[OrderLine]:
    """Yield a line for each of some values, such as the elements of a JSON array. See `read_json_id`."""
    seen = SeenIds()
    for number, value in enumerate(ids, start=1):
        try:
            product_id = id_of_json(value)
        except UsageError as error:
            yield OrderLine(number, None, str(error))
        else:
            yield OrderLine(number, product_id, None, product_id <= MAX_ID and not seen.add(product_id))


class Order:
    """Iterates once over the lines of an order, from the beginning of a binary file.

    `name` is the file in messages. Raises UsageError if the file is not an order of the format: it is in another
    encoding, or it is CSV without a column of ids.
    """

    def __init__(self, file: BinaryIO, input_format: InputFormat = InputFormat.IDS, name: str = "the order") -> None:
        self._file = file
        self._name = name
        self._longest = MAX_LINE
        self._block: _Block | None = None
        self._end = 0
        first = self._read_head()
        self.is_empty = not first
        """True if the file has no bytes."""
        _refuse_encodings(first, name)
        self._marked = first.startswith(BYTE_ORDER_MARK)
        head = first.removeprefix(BYTE_ORDER_MARK).split(b"\n", 1)[0]
        if input_format is InputFormat.AUTO:
            input_format = recognise(head)
        self.format = input_format
        """The format in which the order is read."""
        self._raw = self._read_raw(first)
        if input_format is not InputFormat.IDS:
            self._longest = MAX_RECORD
        if input_format is InputFormat.CSV:
            self._lines = self._csv_lines(head)
        elif input_format is InputFormat.NDJSON:
            self._lines = self._read(read_json_id)
        else:
            self._lines = self._read(read_product_id)

    def __iter__(self) -> Iterator[OrderLine]:
        return self._lines

    def __next__(self) -> OrderLine:
        return next(self._lines)

    def _read_head(self) -> bytes:
        """Read the first block, with the whole first line, which tells the format. A pipe may give less at once."""
        head = data = self._read_piece()
        while data and b"\n" not in head and len(head) < BLOCK:
            data = self._read_piece()
            head += data
        self._block = _Block(None, head)
        return head

    def _read_block(self) -> bytes:
        data = self._read_piece()
        self._block = _Block(self._block, data)
        return data

    def _read_piece(self) -> bytes:
        # A pipe gives what it has. Waiting for a whole block would delay the answers.
        try:
            data: bytes = self._file.read1(BLOCK)  # type: ignore[attr-defined]
        except DamagedFileError as error:
            raise DamagedInputError(f"{self._name} is damaged or cut off: {error}") from error
        return data

    def _read_raw(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines without their ends. After each, `_end` and `_block` say where the next one begins.

        A line that is longer than `_longest` is cut.
        """
        rest, cut = b"", 0
        if self._marked:
            data, self._end = data[len(BYTE_ORDER_MARK) :], len(BYTE_ORDER_MARK)
        while data:
            lines = (rest + data).split(b"\n")
            rest = lines.pop()
            for line in lines:
                self._end += len(line) + 1 + cut
                cut = 0
                yield line if len(line) <= self._longest else line[: self._longest]
            if len(rest) > self._longest:
                cut += len(rest) - self._longest
                rest = rest[: self._longest]
            data = self._read_block()
        if rest:
            self._end += len(rest) + cut
            yield rest

    def _read(self, parse: Any) -> Iterator[OrderLine]:
        add, number = SeenIds().add, 0
        for raw in self._raw:
            number += 1
            # This is the usual case: nothing but digits. Everything else is for `parse`.
            if raw.isdigit() and len(raw) < 19 and (product_id := int(raw)):
                malformed = None
            else:
                try:
                    product_id, malformed = parse(raw), None
                except UsageError as error:
                    yield OrderLine(number, None, str(error), False, self._end, self._block)
                    continue
            # No product has an id above MAX_ID, so there are no SKUs that were written before.
            repeated = product_id <= MAX_ID and not add(product_id)
            yield OrderLine(number, product_id, malformed, repeated, self._end, self._block)

    def _csv_lines(self, head: bytes) -> Iterator[OrderLine]:
        """Find the column in the header, and return the lines after it."""
        text = head.decode(errors="surrogateescape").rstrip("\r")
        found = ids_in_csv(text)
        if found is None:
            raise UsageError(f"{self._name} {no_column(text)}")
        if text.strip().isdigit():
            # A single column without a header is read line by line, which is faster.
            return self._read(CsvRecord(found.column, found.delimiter))
        return self._read_csv(found)

    def _read_csv(self, found: CsvIds) -> Iterator[OrderLine]:
        seen, parse = SeenIds(), CsvRecord(found.column, found.delimiter)
        marked = ((raw, (self._end, self._block)) for raw in self._raw)
        records = csv_records(marked, found.delimiter)
        if found.has_header:
            next(records, None)
        for number, raw, (end, block) in records:
            product_id = malformed = None
            try:
                product_id = parse(raw)
            except UsageError as error:
                malformed = str(error).encode(errors="backslashreplace").decode()
            repeated = product_id is not None and product_id <= MAX_ID and not seen.add(product_id)
            yield OrderLine(number, product_id, malformed, repeated, end, block)


class CsvIds(NamedTuple):
    """The column of the ids in CSV, and whether a header names it."""

    column: int
    delimiter: str
    has_header: bool


class CsvRecord:
    """Reads the id in a record of CSV."""

    def __init__(self, column: int, delimiter: str) -> None:
        self._column = column
        self._delimiter = delimiter

    def __call__(self, raw: bytes) -> int:
        """Return the id. Raises UsageError that says what is wrong with the record."""
        try:
            record = fields_of(raw, self._delimiter)
        except csv.Error as error:
            raise UsageError(f"the line is not CSV: {error}") from None
        if self._column >= len(record):
            raise UsageError(f"the line has no field {COLUMN}" if record else "the line is empty")
        return parse_product_id(record[self._column])


def fields_of(raw: bytes, delimiter: str) -> list[str]:
    """Return the fields of a record of CSV; none of an empty line. Raises csv.Error if the record is not CSV."""
    text = raw.decode(errors="surrogateescape").rstrip("\r")
    if '"' not in text:
        return text.split(delimiter) if text else []
    return next(csv.reader((f"{line}\n" for line in text.split("\n")), delimiter=delimiter), [])


class CsvRecords(Generic[T]):
    """Puts lines of CSV together to records: a field in quotation marks may have line feeds in it.

    If a quotation mark is never closed, or not within MAX_OPEN bytes, each of its lines is a record, so that no line is
    lost.
    """

    def __init__(self, delimiter: str) -> None:
        self.opened: list[Marked[T]] = []
        """The lines of a record that goes on."""
        self._size = 0
        self._delimiter = delimiter

    def add(self, number: int, raw: bytes, mark: T) -> list[Marked[T]]:
        """Return the records that end with the next line: the number of the first line, the text, the last mark."""
        line = (number, raw, mark)
        if not self.opened:
            if b'"' not in raw or not self._begins(raw):
                return [line]
            self.opened, self._size = [line], len(raw)
            return []
        self.opened.append(line)
        self._size += len(raw) + 1
        if raw.count(b'"') % 2:
            # A quotation mark inside of the field is doubled.
            lines = self.end()
            return [(lines[0][0], b"\n".join(text for _, text, _ in lines), mark)]
        return self.end() if self._size >= MAX_OPEN else []

    def end(self) -> list[Marked[T]]:
        """Return the lines of a record that goes on, each as a record."""
        lines, self.opened = self.opened, []
        return lines

    def _begins(self, raw: bytes) -> bool:
        """Return whether a record goes on after its first line, because a quotation mark is not closed."""
        try:
            list(csv.reader([raw.decode(errors="replace")], delimiter=self._delimiter, strict=True))
        except csv.Error as error:
            return "unexpected end of data" in str(error)
        return False


def csv_records(lines: Iterable[tuple[bytes, T]], delimiter: str) -> Iterator[Marked[T]]:
    """Yield the records of CSV, as `CsvRecords` puts them together."""
    records: CsvRecords[T] = CsvRecords(delimiter)
    for number, (raw, mark) in enumerate(lines, start=1):
        if b'"' not in raw and not records.opened:
            yield number, raw, mark
        else:
            yield from records.add(number, raw, mark)
    yield from records.end()


def ids_in_csv(head: str) -> CsvIds | None:
    """Return where the ids are in CSV, by its first line. This is one rule for orders, batches and jobs.

    They are in the column `product_id` or `id` or, if the first line begins with an id or is empty, in the first column
    of a file without a header. Otherwise there are none, and the result is None.
    """
    for column in COLUMNS:
        for delimiter in DELIMITERS:
            names = [name.strip().lower() for name in _fields(head, delimiter)]
            if column in names:
                return CsvIds(names.index(column), delimiter, has_header=True)
    if not head.strip():
        return CsvIds(0, ",", has_header=False)
    for delimiter in DELIMITERS:
        first = _fields(head, delimiter)[0].strip()
        if first.isascii() and first.isdigit():
            return CsvIds(0, delimiter, has_header=False)
    return None


def no_column(head: str) -> str:
    """Return what is wrong with CSV in which `ids_in_csv` finds no ids."""
    return f"has no column {' or '.join(COLUMNS)}: its header is {_shown(head)}"


def _fields(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter), None) or [""]
    except csv.Error:
        return [""]


def recognise(head: bytes) -> InputFormat:
    """Return the format of a file by its first line."""
    if head.lstrip().startswith(b"{"):
        return InputFormat.NDJSON
    found = ids_in_csv(head.decode(errors="surrogateescape").rstrip("\r"))
    return InputFormat.CSV if found and found.has_header else InputFormat.IDS


def _refuse_encodings(first: bytes, name: str) -> None:
    """Raise UsageError if a file begins like one that is not text in UTF-8."""
    utf_16 = first.startswith((b"\xff\xfe", b"\xfe\xff")) or any(
        len(half) > 1 and not any(half) for half in (first[:64:2], first[1:64:2])
    )
    if utf_16:
        raise UsageError(f"{name} is in UTF-16 or UTF-32, expected UTF-8: convert it, as by iconv -f UTF-16 -t UTF-8")
    if first.startswith(b"PAR1"):
        raise UsageError(f"{name} is a Parquet file: expected ids, CSV or NDJSON")


def read_product_id(raw: bytes) -> int:
    """Read the product id on a line. Raises UsageError that says what is wrong with the line."""
    digits = raw.strip()
    if digits.isdigit() and len(digits) <= 19 and 1 <= (product_id := int(digits)) <= MAX_WHOLE_NUMBER:
        return product_id
    if not digits:
        raise UsageError("the line is empty: expected a product id")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise UsageError("the line is not text in UTF-8: expected a product id") from None
    return parse_product_id(text.rstrip("\r\n"))


def read_json_id(raw: bytes) -> int:
    """Read the id on a line of NDJSON: a number, a string of digits, or one of them as the member product_id.

    Raises UsageError that says what is wrong with the line.
    """
    text = raw.strip()
    if text.isdigit():
        return read_product_id(text)
    if not text:
        raise UsageError(f"the line is empty: expected an object with a {COLUMN}")
    try:
        return id_of_json(load_json(raw))
    except UnicodeDecodeError:
        raise UsageError("the line is not text in UTF-8: expected JSON") from None
    except (ValueError, RecursionError):
        shown = _shown(text[:50].decode(errors="replace"))
        raise UsageError(f"{shown} is not JSON: expected an object with a {COLUMN}") from None


def load_json(text: bytes | bytearray) -> object:
    """Return a value of JSON. A number that is too long to be an id is its digits. Raises ValueError as json.loads."""
    # int() refuses thousands of digits.
    return json.loads(text, parse_int=lambda digits: int(digits) if len(digits) <= 20 else digits)


def id_of_json(value: object) -> int:
    """Return the id that a value of JSON is, or has as its member product_id. Raises UsageError if there is none."""
    if isinstance(value, dict):
        if COLUMN not in value:
            raise UsageError(f"the object has no {COLUMN}")
        value = value[COLUMN]
    if isinstance(value, str):
        return parse_product_id(value)
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_WHOLE_NUMBER:
        return value
    try:
        text = json.dumps(value, ensure_ascii=False, default=repr)
    except (ValueError, RecursionError):
        text = type(value).__name__
    raise UsageError(f"{_shown(text)} is not a product id: expected a whole number from 1 to {MAX_WHOLE_NUMBER}")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:40]}...")


# ---------------------------------------------------------------------------------------------------------------------
# Files


@contextmanager
def open_order(path: Path | None, input_format: InputFormat = InputFormat.AUTO) -> Iterator[Order]:
    """Open the order in a file, or on standard input if `path` is None.

    It is decompressed if it begins as a file of gzip or zstd does, or is named as one. Raises UsageError if the file
    cannot be read or is not an order, and DamagedInputError from the iteration if a compressed file is damaged.
    """
    if path is None:
        raw = cast(io.RawIOBase, getattr(sys.stdin.buffer, "raw", sys.stdin.buffer))
        name = "standard input"
        yield Order(_decompressed(io.BufferedReader(_Interruptible(raw), BLOCK), ""), input_format, name)
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    with file:
        if input_format is InputFormat.AUTO:
            input_format = _ENDINGS.get(FileType.of(path).ending, InputFormat.AUTO)
        yield Order(_decompressed(file, path.name), input_format, str(path))


class _Interruptible(io.RawIOBase):
    """A pipe or a terminal. A signal ends the wait for what comes next."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        with raised_at_once():
            return self._raw.readinto(buffer)


def _decompressed(file: io.BufferedReader, file_name: str) -> BinaryIO:
    head = file.peek(4)[:4]
    compression = compression_of(head)
    if compression is Compression.NONE and head and file_name:
        compression = FileType.of(Path(file_name)).compression
    return decompressed(file, compression)
