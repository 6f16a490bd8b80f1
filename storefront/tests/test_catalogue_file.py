"""Reading a catalogue from CSV, NDJSON and Parquet, line by line."""

from __future__ import annotations

import gzip
import io
import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from storefront import CatalogueFile, CatalogueLine, RefusedLine, UsageError
from storefront.catalogue_file import MAX_LINE, parse_file_type

HEADER = "brand_name,product_name,color,size"
LINE = "Aurora,Chair,Blue,Small"
CHAIR = CatalogueLine(2, "Aurora", "Chair", "Blue", "Small", None, None, None, LINE)

Write = Callable[[str, str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that writes a file and returns its path."""

    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def read(path: Path, **options: str) -> list[CatalogueLine | RefusedLine]:
    with CatalogueFile(path, **options) as file:  # type: ignore[arg-type]
        return list(file)


def reasons(path: Path) -> dict[int, str]:
    """Return the line numbers and reasons of the refused lines."""
    return {line.line: line.reason for line in read(path) if isinstance(line, RefusedLine)}


def parquet(path: Path, columns: dict[str, list[object]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), path)
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{LINE}\n",
        f"{HEADER}\r\n{LINE}\r\n",
        f"\ufeff{HEADER}\n{LINE}",
        f"{HEADER}\n{LINE}\n\n",
        f" Brand_Name , PRODUCT_NAME,color,size\n{LINE}\n",
        f"brand,product,colour,size\n{LINE}\n",
        f"brand_name,product_name,product_color_name,product_size_name\n{LINE}\n",
    ],
)
def test_csv_is_read_by_the_names_of_its_columns(write: Write, text: str) -> None:
    assert read(write("a.csv", text)) == [CHAIR]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_the_first_line_shows_the_delimiter(write: Write, delimiter: str) -> None:
    text = f"{HEADER}\nAurora,Chair,Blue,Small\n".replace(",", delimiter)
    assert read(write("a.csv", text)) == [CHAIR._replace(text=LINE.replace(",", delimiter))]


def test_columns_come_in_any_order_and_others_are_ignored(write: Write) -> None:
    text = (
        'price,size,sku_id,color,product_id,product_name,brand_id,brand_name\n9,Small,3,Blue,2,"Chair, ""red""",1,A\n'
    )
    with CatalogueFile(write("a.csv", text)) as file:
        (line,) = file
        assert file.ignored_columns == ("price",)
    assert line[:8] == (2, "A", 'Chair, "red"', "Blue", "Small", 1, 2, 3)


def test_a_product_without_skus_has_no_colour_and_no_size(write: Write) -> None:
    (line,) = read(write("a.csv", f"{HEADER}\nAurora, Chair ,, \n"))
    assert line[:5] == (2, "Aurora", "Chair", None, None)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("Aurora,Chair,Blue", "it has 3 fields, and the first line has 4"),
        (",Chair,Blue,Small", "brand_name is missing"),
        ("Aurora, ,Blue,Small", "product_name is missing"),
        ("Aurora,Chair,Blue,", "size is missing"),
        ("Aurora,Chair,,Small", "color is missing"),
        (f"Aurora,{'x' * 501},Blue,Small", "product_name has 501 characters, and at most 500 are allowed"),
        ("Aurora,Cha\tir,Blue,Small", "product_name contains the control character U+0009"),
        ("Aurora,Cha\0ir,Blue,Small", "product_name contains the control character U+0000"),
        ('Aurora,"Chair\nlong",Blue,Small', "product_name contains the control character U+000A"),
        ('Aurora,"Chair"s,Blue,Small', "it is not CSV: ',' expected after '\"'"),
    ],
)
def test_a_line_with_a_mistake_is_refused_alone(write: Write, line: str, reason: str) -> None:
    first, bad, last = read(write("a.csv", f"{HEADER}\n{LINE}\n{line}\n{LINE}\n"))
    assert bad == RefusedLine(3, reason, line)
    assert (first, last) == (CHAIR, CHAIR._replace(line=4 + line.count("\n")))


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        ("7", True),
        (" 7 ", True),
        ("2147483647", True),
        ("2147483648", False),
        ("0", False),
        ("-1", False),
        ("1.0", False),
        ("x", False),
        ("9" * 5_000, False),
        ("٣", False),
    ],
)
def test_an_id_is_a_whole_number_that_a_column_can_hold(write: Write, value: str, is_valid: bool) -> None:
    (line,) = read(write("a.csv", f"{HEADER},product_id\n{LINE},{value}\n"))
    if is_valid:
        assert isinstance(line, CatalogueLine)
        assert line.product_id == int(value)
    else:
        assert isinstance(line, RefusedLine)
        assert line.reason.startswith("product_id is not a whole number from 1 to 2147483647: '")
        assert len(line.reason) < 120


def test_a_sku_id_needs_a_colour_and_a_size(write: Write) -> None:
    assert reasons(write("a.csv", f"{HEADER},sku_id\nAurora,Chair,,,5\n")) == {
        2: "it has a sku_id, but no color and no size"
    }


def test_a_missing_quotation_mark_does_not_swallow_the_lines_after_it(write: Write) -> None:
    lines = [LINE] * 200
    lines[3] = 'Aurora,"Chair,Blue,Small'
    lines[100] = '"Aurora,Chair,Blue,Small'
    path = write("a.csv", "\n".join([HEADER, *lines]))
    assert reasons(path) == dict.fromkeys((5, 102), "it is not CSV: a quotation mark is not closed")
    assert len(read(path)) == 200


def test_ndjson_has_an_object_on_each_line(write: Write) -> None:
    chair = {"brand_name": "Aurora", "product_name": "Chair", "color": "Blue", "size": "Small", "price": 9}
    lines = [
        json.dumps(chair),
        "",
        json.dumps({**chair, "product_id": 5, "sku_id": "6"}),
        json.dumps({**chair, "color": None, "size": None}),
        "{",
        "[1]",
        json.dumps({**chair, "product_name": 12}),
        json.dumps({**chair, "product_id": True}),
        json.dumps({**chair, "product_id": 5.5}),
        '{"brand_name": "\\ud800", "product_name": "x"}',
        '{"brand_id": ' + "9" * 5_000 + "}",
        "[" * 100_000,
        "{}",
    ]
    path = write("a.ndjson", "\n".join(lines))
    with CatalogueFile(path) as file:
        found = list(file)
        assert file.ignored_columns == ("price",)
    assert [line[:8] for line in found if isinstance(line, CatalogueLine)] == [
        (1, "Aurora", "Chair", "Blue", "Small", None, None, None),
        (3, "Aurora", "Chair", "Blue", "Small", None, 5, 6),
        (4, "Aurora", "Chair", None, None, None, None, None),
    ]
    assert reasons(path) == {
        5: "it is not JSON: Expecting property name enclosed in double quotes",
        6: "it is not a JSON object",
        7: "product_name is not a text: 12",
        8: "product_id is not a whole number from 1 to 2147483647: True",
        9: "product_id is not a whole number from 1 to 2147483647: 5.5",
        10: "brand_name contains the half of a surrogate pair U+D800",
        11: "it is not JSON: a value is too large",
        12: "it is not JSON: a value is too large",
        13: "brand_name is missing",
    }


def test_parquet_has_a_line_for_each_row(tmp_path: Path) -> None:
    columns: dict[str, list[object]] = {
        "price": [1, 2, 3],
        "brand_name": ["Aurora", None, "Boreal"],
        "product_name": ["Chair"] * 3,
        "color": ["Blue", "Blue", None],
        "size": ["Small", "Small", None],
        "product_id": [7, None, None],
    }
    with CatalogueFile(parquet(tmp_path / "a.parquet", columns)) as file:
        first, second, third = file
        assert (file.ignored_columns, file.fraction) == (("price",), 1.0)
    assert first[:8] == (1, "Aurora", "Chair", "Blue", "Small", None, 7, None)
    assert isinstance(second, RefusedLine)
    assert second[:2] == (2, "brand_name is missing")
    assert json.loads(second.text)["product_name"] == "Chair"
    assert third[:5] == (3, "Boreal", "Chair", None, None)


def test_a_file_may_be_compressed(write: Write) -> None:
    zstandard = pytest.importorskip("zstandard")
    text = f"{HEADER}\n{LINE}\n".encode()
    two_parts = [text[:20], text[20:]]
    assert read(write("a.csv.gz", b"".join(map(gzip.compress, two_parts)))) == [CHAIR]
    assert read(write("a.csv.zst", b"".join(map(zstandard.compress, two_parts)))) == [CHAIR]


def test_standard_input_needs_a_format(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="standard input has no name that tells its format: pass --format"):
        CatalogueFile(None)
    text = f"{HEADER}\n{LINE}\n".encode()
    for given, content in {"csv": text, "csv.gz": gzip.compress(text, mtime=0)}.items():
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
        with CatalogueFile(None, parse_file_type(given)) as file:
            assert file.fraction is None
            assert list(file) == [CHAIR]
    content = parquet(tmp_path / "x.parquet", {name: ["A"] for name in HEADER.split(",")}).read_bytes()
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    with CatalogueFile(None, parse_file_type("parquet")) as file:
        assert [line[:3] for line in file] == [(1, "A", "A")]


def test_another_encoding_is_read_if_it_is_named(write: Write) -> None:
    path = write("a.csv", f"{HEADER}\nÅke,Möbel,Blau,Groß\n".encode("cp1252"))
    (line,) = read(path, encoding="cp1252")
    assert line[1:5] == ("Åke", "Möbel", "Blau", "Groß")
    with pytest.raises(UsageError, match="a.csv, line 2: byte 0xC5 is not UTF-8; --encoding names another"):
        read(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.ndjson", b"", "is empty"),
        ("a.parquet", b"", "is empty"),
        ("a.csv.gz", b"", "is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "is empty"),
        ("a.txt", b"x", "tells no format: expected .csv, .ndjson or .parquet, or --format"),
        ("a.csv", b"brand_name,color\nA,B\n", "has no column product_name, size: expected brand_name, product_name"),
        ("a.csv", f"{HEADER},brand\n".encode(), "has the column brand_name twice"),
        ("a.csv", b'{"brand_name": "A"}\n', "has no column brand_name, product_name, color, size"),
        ("a.csv", gzip.compress(b"x", mtime=0), "is compressed by gzip, and not CSV: name the file by its content"),
        ("a.csv", b"PAR1....", "is Parquet, and not CSV"),
        ("a.csv", b"PK\x03\x04....", "is a ZIP file or a spreadsheet, and not CSV"),
        ("a.csv", HEADER.encode("utf-16"), "is text in UTF-16: convert it to UTF-8"),
        ("a.csv", f"{HEADER}\n".encode() + b"x" * (MAX_LINE + 1), "line 2: it is longer than 1,048,576 bytes"),
        ("a.csv.gz", b"brand_name", "is not compressed by gzip"),
        ("a.csv.zst", b"brand_name", "is not compressed by zstd"),
        ("a.csv.gz", gzip.compress(f"{HEADER}\n{LINE}\n".encode() * 999, mtime=0)[:-20], "is damaged or cut off"),
        (
            "a.csv.gz",
            gzip.compress(f"{HEADER}\n{LINE}\n".encode(), mtime=0)[:-8] + bytes(8),
            "is damaged or cut off",
        ),
        ("a.ndjson", b'[{"brand_name": "A"}]', "expected an object on each line, found a JSON array"),
        ("a.ndjson", HEADER.encode(), "expected an object on each line, found something else"),
        ("a.parquet", HEADER.encode(), "is not Parquet"),
        ("a.parquet.gz", b"\x1f\x8b", "Parquet is compressed inside"),
    ],
)
def test_a_problem_of_the_whole_file_is_a_usage_error(write: Write, name: str, content: bytes, message: str) -> None:
    with pytest.raises(UsageError) as error:
        read(write(name, content))
    assert message in str(error.value)
    assert "a." in str(error.value)


def test_a_zstd_file_that_ends_in_a_frame_is_incomplete(write: Write) -> None:
    zstandard = pytest.importorskip("zstandard")
    whole = zstandard.compress(f"{HEADER}\n{LINE}\n".encode())
    for content in (whole[:-3], whole[:10] + b"x" * 20):
        with pytest.raises(UsageError, match="is damaged or cut off"):
            read(write("a.csv.zst", content))


def test_a_parquet_file_with_damaged_pages_is_reported(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", {name: [f"{name} {i}" for i in range(1000)] for name in HEADER.split(",")})
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(UsageError, match="damaged after row 0"):
        read(path)


def test_a_file_that_cannot_be_opened_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read .*missing.csv: No such file or directory"):
        CatalogueFile(tmp_path / "missing.csv")
    (tmp_path / "a.csv").mkdir()
    with pytest.raises(UsageError, match="cannot read .*a.csv: Is a directory"):
        CatalogueFile(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("encoding", "message"), [("klingon", "is not known"), ("utf-16", "cannot be read line by line")]
)
def test_an_encoding_has_to_be_known_and_have_lines(write: Write, encoding: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        read(write("a.csv", HEADER), encoding=encoding)


def test_a_format_has_to_be_known() -> None:
    with pytest.raises(UsageError, match="'xls' is not a format: expected csv, ndjson or parquet"):
        parse_file_type("xls")


def test_a_missing_library_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (("pyarrow", "a.parquet"), ("zstandard", "a.csv.zst")):
        monkeypatch.setitem(sys.modules, module, None)
        path = write(name, b"\x28\xb5\x2f\xfd rest")
        with pytest.raises(UsageError, match=r"pip install 'storefront\[files\]'"):
            read(path)


def test_only_a_part_of_the_file_is_in_memory(write: Write) -> None:
    lines = 60_000
    path = write("a.csv", f"{HEADER}\n" + f"{LINE}\n" * lines)
    assert path.stat().st_size > 1_000_000
    tracemalloc.start()
    try:
        with CatalogueFile(path) as file:
            assert sum(1 for _ in file) == lines
            assert file.fraction == 1.0
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
