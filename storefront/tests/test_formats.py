"""Rows as CSV, NDJSON and Parquet, and what the name of a file says."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from pathlib import Path

import pyarrow.parquet
import pytest
import zstandard

from storefront import UsageError, open_connection
from storefront.catalogue import COLUMNS
from storefront.formats import (
    CSV_BLOCK,
    ROW_GROUP,
    Compression,
    FileType,
    Format,
    ParquetFile,
    compressor,
    encoder,
    join_parquet,
    output_type,
)

NAMES = [
    "plain",
    "",
    " blanks ",
    'a "quoted", name\nof two lines',
    "tab\tand backslash \\ and \\v and \\\\n",
    "carriage\rreturn",
    "".join(map(chr, range(1, 32))),
    "\\N",
    "\\.",
    "null",
    "Größe €, 大きさ, 👕",
    "\x7f\u2028",
]
"""Texts that some format has to escape."""

ROWS = [(1, name, 2, number, "Blue", NAMES[-number]) for number, name in enumerate(NAMES, start=1)]

SERVERS_ROWS = """\
SELECT 1 AS product_id, a.name AS product_name, 2 AS brand_id, a.number::integer AS sku_id,
       'Blue' AS product_color_name, b.name AS product_size_name
FROM unnest($1::text[]) WITH ORDINALITY AS a (name, number)
JOIN unnest($1::text[]) WITH ORDINALITY AS b (name, number) ON a.number + b.number = $2
ORDER BY a.number"""


def objects(encoded: bytes) -> list[tuple[object, ...]]:
    """Read NDJSON. Return the values of each object, whose names must be the columns."""
    found = [json.loads(line) for line in encoded.decode().split("\n")[:-1]]
    assert all(tuple(each) == COLUMNS for each in found)
    return [tuple(each.values()) for each in found]


def test_csv_is_read_back() -> None:
    csv_encoder = encoder(Format.CSV, COLUMNS)
    encoded = csv_encoder.header() + csv_encoder.rows(ROWS)
    header, *rows = csv.reader(io.StringIO(encoded.decode(), newline=""))
    assert tuple(header) == COLUMNS
    assert rows == [[str(value) for value in row] for row in ROWS]


def test_ndjson_is_read_back() -> None:
    json_encoder = encoder(Format.NDJSON, COLUMNS)
    assert json_encoder.header() == b""
    assert objects(json_encoder.rows(ROWS)) == ROWS


@pytest.mark.parametrize("chosen", [Format.CSV, Format.NDJSON])
def test_the_rows_of_a_product_are_encoded_as_any_rows(chosen: Format) -> None:
    for name in NAMES:
        rows = [(7, name, 3, number, color, size) for number, color in enumerate(NAMES) for size in ("Small", name)]
        assert encoder(chosen, COLUMNS).product(rows) == encoder(chosen, COLUMNS).rows(rows)


@pytest.mark.parametrize("chosen", [Format.CSV, Format.NDJSON])
async def test_rows_are_encoded_as_those_that_the_server_has_copied(dsn: str, chosen: Format) -> None:
    written = encoder(chosen, COLUMNS)
    copied: list[bytes] = []
    async with open_connection(dsn) as connection:
        await connection.copy_from_query(
            SERVERS_ROWS,
            NAMES,
            len(NAMES) + 1,
            output=lambda data: copied.append(written.copied(data)),
            **written.copy_options,
        )
    assert b"".join(copied) == written.rows(ROWS)


async def test_objects_are_those_of_row_to_json(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        rows = await connection.fetch(f"SELECT row_to_json(r)::text FROM ({SERVERS_ROWS}) AS r", NAMES, len(NAMES) + 1)
    assert encoder(Format.NDJSON, COLUMNS).rows(ROWS).decode() == "".join(f"{row[0]}\n" for row in rows)


def test_a_null_differs_from_an_empty_text() -> None:
    rows = [(1, "", None)]
    assert encoder(Format.CSV, ("a_id", "b", "c")).rows(rows) == b'1,"",\n'
    assert encoder(Format.NDJSON, ("a_id", "b", "c")).rows(rows) == b'{"a_id":1,"b":"","c":null}\n'


@pytest.mark.parametrize("chosen", Format)
def test_no_rows_are_no_bytes(chosen: Format) -> None:
    assert encoder(chosen, COLUMNS).rows([]) == encoder(chosen, COLUMNS).copied(b"") == b""


@pytest.mark.parametrize(
    ("name", "expected", "compression"),
    [
        ("skus.csv", Format.CSV, Compression.NONE),
        ("skus.CSV.GZ", Format.CSV, Compression.GZIP),
        ("skus.ndjson.zst", Format.NDJSON, Compression.ZSTD),
        ("skus.jsonl", Format.NDJSON, Compression.NONE),
        ("skus.parquet", Format.PARQUET, Compression.NONE),
        ("skus.gz", Format.CSV, Compression.GZIP),
        ("skus", Format.CSV, Compression.NONE),
        ("parquet.d/skus", Format.CSV, Compression.NONE),
    ],
)
def test_a_name_says_format_and_compression(name: str, expected: Format, compression: Compression) -> None:
    assert output_type(Path(name)) == (expected, compression)
    assert output_type(Path(name), Format.NDJSON) == (Format.NDJSON, compression)


def test_a_name_without_a_known_ending_says_no_format() -> None:
    assert FileType.of(Path("order.txt.gz")) == (".txt", Compression.GZIP)
    assert FileType.of(Path("order.txt.gz")).format is None


def test_parquet_is_refused_if_it_cannot_be_written() -> None:
    with pytest.raises(UsageError, match=r"name the output skus.parquet instead of skus.parquet.gz"):
        output_type(Path("skus.parquet.gz"))
    with pytest.raises(UsageError, match="cannot be written to standard output: name a file by --output"):
        output_type(None, Format.PARQUET)
    assert output_type(None) == (Format.CSV, Compression.NONE)


@pytest.mark.parametrize("compression", Compression)
def test_compressed_members_are_read_as_one_file(compression: Compression) -> None:
    members = compressor(compression)
    assert members.end() == b"", "no member was begun"
    written = b"".join(
        members.compress(b"1,2\n" * 1_000) + members.compress(b"3,4\n") + members.end() + members.end()
        for _ in range(3)
    )
    expected = (b"1,2\n" * 1_000 + b"3,4\n") * 3
    if compression is Compression.GZIP:
        assert gzip.decompress(written) == expected
    elif compression is Compression.ZSTD:
        reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(written), read_across_frames=True)
        assert reader.read() == expected
    else:
        assert written == expected


def test_compression_does_not_depend_on_the_time() -> None:
    """The header of gzip has room for a time and a name. Both are left out."""
    assert compressor(Compression.GZIP).compress(b"")[:10].hex().startswith("1f8b080000000000")


def read_parquet(path: Path) -> list[tuple[object, ...]]:
    table = pyarrow.parquet.read_table(path)
    assert tuple(table.column_names) == COLUMNS
    return [tuple(row.values()) for row in table.to_pylist()]


def test_parquet_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "skus.parquet"
    file = ParquetFile(path, COLUMNS)
    file.write(encoder(Format.PARQUET, COLUMNS).product([(1, NAMES[3], 2, 3, "Blue", "")]))
    file.write(encoder(Format.PARQUET, COLUMNS).rows(ROWS))
    file.close()
    assert read_parquet(path) == [(1, NAMES[3], 2, 3, "Blue", ""), *ROWS]
    assert file.rows == 1 + len(ROWS)
    schema = pyarrow.parquet.read_schema(path)
    assert [str(field.type) for field in schema] == ["int32", "string", "int32", "int32", "string", "string"]
    assert not any(field.nullable for field in schema)


def test_parquet_of_no_rows_has_its_columns(tmp_path: Path) -> None:
    ParquetFile(tmp_path / "skus.parquet", COLUMNS).close()
    assert read_parquet(tmp_path / "skus.parquet") == []


def test_row_groups_have_the_same_size(tmp_path: Path) -> None:
    file = ParquetFile(tmp_path / "skus.parquet", ("sku_id",))
    rows = 2 * ROW_GROUP + 5
    for start in range(0, rows, 10_000):
        file.write(b"".join(b"%d\n" % number for number in range(start, min(rows, start + 10_000))))
    file.close()
    with pyarrow.parquet.ParquetFile(tmp_path / "skus.parquet") as written:
        sizes = [written.metadata.row_group(number).num_rows for number in range(written.num_row_groups)]
        assert sizes == [ROW_GROUP, ROW_GROUP, 5]
        assert written.read()["sku_id"].to_pylist() == list(range(rows))


def test_a_text_longer_than_a_block_is_one_value(tmp_path: Path) -> None:
    name = 'x"\n' * CSV_BLOCK
    file = ParquetFile(tmp_path / "skus.parquet", ("sku_id", "name"))
    file.write(encoder(Format.CSV, ("sku_id", "name")).rows([(1, name)]))
    file.close()
    assert pyarrow.parquet.read_table(tmp_path / "skus.parquet").to_pylist() == [{"sku_id": 1, "name": name}]


def test_parquet_files_are_joined(tmp_path: Path) -> None:
    parts = []
    for number, rows in enumerate((ROWS[:3], [], ROWS[3:])):
        parts.append(tmp_path / f"{number}.parquet")
        file = ParquetFile(parts[-1], COLUMNS)
        file.write(encoder(Format.PARQUET, COLUMNS).rows(rows))
        file.close()
    assert join_parquet(parts, tmp_path / "skus.parquet", COLUMNS) == len(ROWS)
    assert read_parquet(tmp_path / "skus.parquet") == ROWS


def test_a_library_that_is_not_installed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UsageError, match=r"Parquet needs pyarrow, .*: pip install 'storefront\[files\]'"):
        ParquetFile(tmp_path / "skus.parquet", COLUMNS)
    with pytest.raises(UsageError, match=r"zstd needs zstandard, .*: pip install 'storefront\[files\]'"):
        compressor(Compression.ZSTD)
    assert list(tmp_path.iterdir()) == []
