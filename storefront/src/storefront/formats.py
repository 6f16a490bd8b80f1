"""Write rows as CSV, NDJSON and Parquet, and compress files by gzip and zstd.

An `Encoder` turns rows into bytes of CSV or NDJSON. Rows are records of headrace, or the data of a COPY, which cost
least. CSV is RFC 4180 in UTF-8, but a line ends in a line feed alone. NDJSON has an object for each row. Both are
written exactly as the server writes them: CSV as COPY, an object as row_to_json().

A `ParquetFile` takes rows in Arrow's format. It also takes them as CSV, since Arrow reads CSV faster than Python makes
columns of objects.

A column whose name ends in `_id` holds whole numbers, every other column holds text.
"""

from __future__ import annotations

import gzip
import importlib
import io
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from json.encoder import encode_basestring
from pathlib import Path, PurePath
from typing import Any, BinaryIO, NamedTuple, Protocol

from storefront.errors import UsageError

ROW_GROUP = 32_768
"""The number of rows in a row group of a Parquet file."""

CSV_BLOCK = 2**19
"""The number of bytes of CSV that are made into columns at once."""


class Format(StrEnum):
    """How rows are written."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"

    @property
    def media_type(self) -> str:
        """The value of Content-Type for this format."""
        return _MEDIA_TYPES[self]


_MEDIA_TYPES = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.NDJSON: "application/x-ndjson",
    Format.PARQUET: "application/vnd.apache.parquet",
}


class Compression(StrEnum):
    """How a file is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


class FileType(NamedTuple):
    """The content of a file, by its name. `ending` is the ending without that of the compression."""

    ending: str
    compression: Compression

    @property
    def format(self) -> Format | None:
        """The format that the ending names, or None if it names none."""
        return _FORMATS.get(self.ending)

    @classmethod
    def of(cls, path: PurePath) -> FileType:
        """Return the type of a file by the ending of its name, such as `.csv.gz`."""
        ending = path.suffix.lower()
        compression = _COMPRESSIONS.get(ending, Compression.NONE)
        return cls(ending if compression is Compression.NONE else PurePath(path.stem).suffix.lower(), compression)


_COMPRESSIONS = {".gz": Compression.GZIP, ".zst": Compression.ZSTD}
_FORMATS = {
    ".csv": Format.CSV,
    ".ndjson": Format.NDJSON,
    ".jsonl": Format.NDJSON,
    ".parquet": Format.PARQUET,
}


def output_type(path: PurePath | None, wanted: Format | None = None) -> tuple[Format, Compression]:
    """Return the format and the compression of an output. `path` is None for standard output.

    The format is `wanted` or, if that is None, the one that the name's ending stands for, or else CSV. Raises
    UsageError for Parquet that is compressed once more or written to standard output.
    """
    if path is None:
        if wanted is Format.PARQUET:
            raise UsageError("Parquet cannot be written to standard output: name a file by --output")
        return wanted or Format.CSV, Compression.NONE
    named = FileType.of(path)
    chosen = wanted or named.format or Format.CSV
    if chosen is Format.PARQUET and named.compression is not Compression.NONE:
        raise UsageError(f"Parquet is compressed inside: name the output {path.stem} instead of {path.name}")
    return chosen, named.compression


# ---------------------------------------------------------------------------------------------------------------------
# Rows as text


class Encoder(Protocol):
    """Turns rows into bytes. The results of its methods are joined in the order of the calls."""

    @property
    def copy_options(self) -> Mapping[str, Any]:
        """The options of copy_from_query() for data that `copied` takes."""

    def header(self) -> bytes:
        """Return the beginning of the file."""

    def rows(self, rows: Iterable[Iterable[object]]) -> bytes:
        """Encode rows. Numbers are ints, texts are strs, and None is a null."""

    def product(self, rows: Sequence[Iterable[Any]]) -> bytes:
        """Encode rows of the columns catalogue.COLUMNS, without nulls, that are all of one product."""

    def copied(self, data: bytes) -> bytes:
        """Encode whole rows without nulls that a COPY with `copy_options` has sent."""


def encoder(chosen: Format, columns: Sequence[str]) -> Encoder:
    """Return a new encoder for rows of these columns. For Parquet it makes the CSV that ParquetFile takes."""
    return NdjsonEncoder(columns) if chosen is Format.NDJSON else CsvEncoder(columns)


_QUOTED = re.compile(r'[",\r\n]')


def _csv_text(text: str) -> str:
    """Return a text as a field of CSV. An empty text is quoted, because an empty field is a null."""
    return '"{}"'.format(text.replace('"', '""')) if not text or _QUOTED.search(text) else text


def _csv_value(value: object) -> str:
    return "" if value is None else _csv_text(value) if isinstance(value, str) else str(value)


_csv_name = lru_cache(1_024)(_csv_text)
"""Returns the name of a colour or a size as a field of CSV. There are few of them."""


class CsvEncoder:
    """Encodes rows as CSV with a header."""

    copy_options: Mapping[str, Any] = {"format": "csv"}

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns

    def header(self) -> bytes:
        """Return the line with the names of the columns."""
        return self.rows((self._columns,))

    def rows(self, rows: Iterable[Iterable[object]]) -> bytes:
        """Encode rows as lines of CSV."""
        return "".join([f"{','.join(map(_csv_value, row))}\n" for row in rows]).encode()

    def product(self, rows: Sequence[Iterable[Any]]) -> bytes:
        """Encode the rows of one product, whose first three columns are put into CSV only once."""
        product_id, product_name, brand_id, *_ = rows[0]
        product = f"{product_id},{_csv_text(product_name)},{brand_id}"
        lines = [f"{product},{sku_id},{_csv_name(color)},{_csv_name(size)}\n" for _, _, _, sku_id, color, size in rows]
        return "".join(lines).encode()

    def copied(self, data: bytes) -> bytes:
        """Return the data as they are: the server has made the CSV."""
        return data


def _json_value(value: object) -> str:
    return "null" if value is None else encode_basestring(value) if isinstance(value, str) else str(value)


_json_name = lru_cache(1_024)(encode_basestring)
"""Returns the name of a colour or a size as JSON."""

# COPY's text format escapes as JSON does, with three exceptions: quotation marks, the vertical tab, which is \v, and
# the other control characters, which are sent as they are.
_NOT_JSON = re.compile(rb'"|\\\\|\\v|[\x00-\x08\x0b\x0c\x0e-\x1f]')
_MAYBE_NOT_JSON = b'"\\' + bytes(set(range(0x20)) - set(b"\t\n"))


def _as_json(found: re.Match[bytes]) -> bytes:
    text = found[0]
    if text == b'"':
        return b'\\"'
    if text == b"\\\\":
        return text
    return b"\\u000b" if text == b"\\v" else b"\\u%04x" % text[0]


class NdjsonEncoder:
    """Encodes each row as a JSON object on a line."""

    copy_options: Mapping[str, Any] = {"format": "text"}

    def __init__(self, columns: Sequence[str]) -> None:
        self._names = [f"{encode_basestring(name)}:" for name in columns]
        # The bytes before the field of each column, and after the last one.
        before, end = [], "{"
        for column, name in zip(columns, self._names, strict=True):
            quote = "" if _is_number(column) else '"'
            before.append((end + name + quote).encode())
            end = f"{quote},"
        self._first = before[0]
        self._end = (end.removesuffix(",") + "}\n").encode()
        self._before = [self._end + before[0], *before[1:]]

    def header(self) -> bytes:
        """Return nothing: NDJSON has no header."""
        return b""

    def rows(self, rows: Iterable[Iterable[object]]) -> bytes:
        """Encode rows as objects."""
        lines = []
        for row in rows:
            fields = [name + _json_value(value) for name, value in zip(self._names, row, strict=True)]
            lines.append(f"{{{','.join(fields)}}}\n")
        return "".join(lines).encode()

    def product(self, rows: Sequence[Iterable[Any]]) -> bytes:
        """Encode the rows of one product, whose first three columns are put into JSON only once."""
        product_id, product_name, brand_id, *_ = rows[0]
        first, second, third, fourth, fifth, sixth = self._names
        product = f"{{{first}{product_id},{second}{encode_basestring(product_name)},{third}{brand_id},{fourth}"
        lines = [
            f"{product}{sku_id},{fifth}{_json_name(color)},{sixth}{_json_name(size)}}}\n"
            for _, _, _, sku_id, color, size in rows
        ]
        return "".join(lines).encode()

    def copied(self, data: bytes) -> bytes:
        """Encode rows in COPY's text format."""
        if not data:
            return b""
        if len(data.translate(None, _MAYBE_NOT_JSON)) != len(data):
            data = _NOT_JSON.sub(_as_json, data)
        fields = data.replace(b"\n", b"\t").split(b"\t")
        fields.pop()
        pieces = [b""] * (2 * len(fields))
        pieces[::2] = self._before * (len(fields) // len(self._before))
        pieces[1::2] = fields
        pieces[0] = self._first
        pieces.append(self._end)
        return b"".join(pieces)


def _is_number(column: str) -> bool:
    return column.endswith("_id")


# ---------------------------------------------------------------------------------------------------------------------
# Compression


class Compressor:
    """Passes bytes on as they are. The classes derived from it compress them, in members that can be joined."""

    def __init__(self) -> None:
        self.begun = False
        """True if a member has been begun and not ended."""

    def compress(self, data: bytes) -> bytes:
        """Compress data. The result may come with a later call. Empty data begin a member too."""
        return data

    def end(self) -> bytes:
        """End the member that has been begun, if any. Return the rest of it."""
        return b""


class GzipCompressor(Compressor):
    """Compresses to members of a gzip file (RFC 1952, section 2.2)."""

    def __init__(self, level: int = 6) -> None:
        super().__init__()
        self._level = level
        self._member = self._new()

    def _new(self) -> Any:
        # With 16 added to the bits of the window the result has gzip's header, with no name and no time in it.
        return zlib.compressobj(self._level, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def compress(self, data: bytes) -> bytes:
        """Compress data into the member."""
        self.begun = True
        compressed: bytes = self._member.compress(data)
        return compressed

    def end(self) -> bytes:
        """End the member."""
        if not self.begun:
            return b""
        rest: bytes = self._member.flush()
        self._member, self.begun = self._new(), False
        return rest


class ZstdCompressor(Compressor):
    """Compresses to frames of a Zstandard file (RFC 8878, section 3.1), each with a checksum."""

    def __init__(self, level: int = 3) -> None:
        super().__init__()
        self._compressor = require("zstandard", "zstd").ZstdCompressor(level=level, write_checksum=True)
        self._frame = self._compressor.compressobj()

    def compress(self, data: bytes) -> bytes:
        """Compress data into the frame."""
        self.begun = True
        compressed: bytes = self._frame.compress(data)
        return compressed

    def end(self) -> bytes:
        """End the frame."""
        if not self.begun:
            return b""
        rest: bytes = self._frame.flush()
        self._frame, self.begun = self._compressor.compressobj(), False
        return rest


def compressor(compression: Compression) -> Compressor:
    """Return a new compressor. Raises UsageError if the library for zstd is not installed."""
    if compression is Compression.GZIP:
        return GzipCompressor()
    return ZstdCompressor() if compression is Compression.ZSTD else Compressor()


_MAGIC = {b"\x1f\x8b": Compression.GZIP, b"\x28\xb5\x2f\xfd": Compression.ZSTD}
"""The first bytes of a compressed file (RFC 1952, section 2.3.1; RFC 8878, section 3.1.1)."""


class DamagedFileError(Exception):
    """A compressed file is damaged or cut off. The text says in which way."""


def compression_of(head: bytes) -> Compression:
    """Return how a file is compressed, by its first bytes. Four are enough."""
    return next((each for magic, each in _MAGIC.items() if head.startswith(magic)), Compression.NONE)


def decompressed(file: io.BufferedReader[Any], compression: Compression) -> io.BufferedReader[Any]:
    """Return a file as it is before compression. Reading it raises DamagedFileError if it is not compressed so.

    Members of gzip and frames of zstd that follow each other are one content. Raises UsageError if the library for zstd
    is not installed.
    """
    if compression is Compression.NONE:
        return file
    return io.BufferedReader(
        _Decompressed(_Gunzipped(file) if compression is Compression.GZIP else _Unzstd(file)), 2**16
    )


class _Gunzipped:
    """Reads the content of a gzip file."""

    errors: tuple[type[Exception], ...] = (EOFError, gzip.BadGzipFile, zlib.error)

    def __init__(self, file: BinaryIO) -> None:
        self.read = gzip.GzipFile(fileobj=file).read1


class _Unzstd:
    """Reads the content of a zstd file, frame by frame. A file that ends within a frame is an error."""

    _PIECE = 1_024
    """The number of bytes that are decompressed at once. At worst they give some 32 MB."""

    def __init__(self, file: BinaryIO) -> None:
        library = require("zstandard", "zstd")
        self.errors: tuple[type[Exception], ...] = (EOFError, library.ZstdError)
        self._file = file
        self._new = library.ZstdDecompressor().decompressobj
        self._frame: Any = None
        self._data = b""
        self._output = b""

    def read(self, size: int) -> bytes:
        while not self._output:
            if not self._data:
                self._data = self._file.read(self._PIECE)
            if not self._data:
                if self._frame is not None:
                    raise EOFError("the file ends within a frame")
                return b""
            if self._frame is None:
                self._frame = self._new()
            self._output = self._frame.decompress(self._data)
            self._data = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = None
        result, self._output = self._output[:size], self._output[size:]
        return result


class _Decompressed(io.RawIOBase):
    """Decompresses a file. Every kind of damage is a DamagedFileError."""

    def __init__(self, source: _Gunzipped | _Unzstd) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        try:
            data = self._source.read(len(view))
        except self._source.errors as error:
            raise DamagedFileError(str(error)) from error
        view[: len(data)] = data
        return len(data)


def require(module: str, purpose: str) -> Any:
    """Import a module of the extra `files`. Raises UsageError if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise UsageError(f"{purpose} needs {name}, which is not installed: pip install 'storefront[files]'") from error


# ---------------------------------------------------------------------------------------------------------------------
# Parquet


class ParquetFile:
    """Writes rows that come as CSV, or in Arrow's format, to a Parquet file, in row groups of ROW_GROUP rows.

    Memory holds at most one row group, as columns. Raises UsageError if pyarrow is not installed.
    """

    def __init__(self, file: BinaryIO | Path, columns: Sequence[str]) -> None:
        self._arrow = arrow = require("pyarrow", "Parquet")
        self._columns = columns
        types = {name: arrow.int32() if _is_number(name) else arrow.string() for name in columns}
        self._schema = arrow.schema([arrow.field(name, kind, nullable=False) for name, kind in types.items()])
        self._writer = require("pyarrow.parquet", "Parquet").ParquetWriter(file, self._schema, compression="zstd")
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._tables: list[Any] = []
        self._table_rows = 0
        self.rows = 0
        """The number of rows taken so far."""

    def write(self, data: bytes) -> None:
        """Take whole rows of CSV without a header."""
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes >= CSV_BLOCK:
            self._convert_waiting()

    def write_batch(self, batch: Any) -> None:
        """Take rows as an object with the Arrow PyCapsule interface, such as a record batch, of the same columns."""
        self._convert_waiting()
        # pyarrow.table() imports pandas if it is installed, which takes 35 MB.
        self._add(self._arrow.RecordBatchReader.from_stream(batch).read_all())

    def _convert_waiting(self) -> None:
        data = b"".join(self._waiting)
        self._waiting, self._waiting_bytes = [], 0
        if data:
            csv = require("pyarrow.csv", "Parquet")
            table = csv.read_csv(
                self._arrow.BufferReader(self._arrow.py_buffer(data)),
                read_options=csv.ReadOptions(
                    column_names=list(self._columns), use_threads=False, block_size=max(2 * CSV_BLOCK, len(data) + 1)
                ),
                parse_options=csv.ParseOptions(newlines_in_values=True),
                convert_options=csv.ConvertOptions(
                    column_types={field.name: field.type for field in self._schema},
                    null_values=[],
                    strings_can_be_null=False,
                ),
            )
            self._add(table)

    def _add(self, table: Any) -> None:
        # No value is null. The fields of `table` do not say so.
        self._tables.append(self._arrow.Table.from_arrays(table.columns, schema=self._schema))
        self._table_rows += table.num_rows
        self.rows += table.num_rows
        while self._table_rows >= ROW_GROUP:
            whole = self._arrow.concat_tables(self._tables)
            self._writer.write_table(whole.slice(0, ROW_GROUP), row_group_size=ROW_GROUP)
            self._table_rows -= ROW_GROUP
            # An empty slice would keep the memory of all rows.
            self._tables = [whole.slice(ROW_GROUP)] if self._table_rows else []

    def close(self) -> None:
        """Write the last row group and the footer."""
        self._convert_waiting()
        if self._table_rows:
            self._writer.write_table(self._arrow.concat_tables(self._tables), row_group_size=ROW_GROUP)
        self._tables, self._table_rows = [], 0
        self._writer.close()

    def abandon(self) -> None:
        """Close the file after an error, without the rows that were not written yet."""
        self._waiting, self._tables = [], []
        self._writer.close()


def join_parquet(parts: Iterable[Path], output: BinaryIO | Path, columns: Sequence[str]) -> int:
    """Write the rows of several Parquet files to one, and return their number. Memory holds two row groups at most."""
    arrow, parquet = require("pyarrow", "Parquet"), require("pyarrow.parquet", "Parquet")
    # The rows of the last part are written. Their memory would be held besides that of the join.
    arrow.default_memory_pool().release_unused()
    joined = ParquetFile(output, columns)
    try:
        for part in parts:
            with parquet.ParquetFile(part, pre_buffer=False) as source:
                for batch in source.iter_batches(ROW_GROUP // 4, use_threads=False):
                    joined.write_batch(batch)
    except BaseException:
        joined.abandon()
        raise
    joined.close()
    return joined.rows
