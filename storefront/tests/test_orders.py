"""A partner's file, line by line."""

from __future__ import annotations

import gzip
import hashlib
import io
import random
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from storefront import InputFormat, Order, OrderLine, StorefrontError, UsageError, lines_of, open_order
from storefront.orders import MAX_LINE, SeenIds


def read(content: bytes, input_format: InputFormat = InputFormat.IDS) -> list[OrderLine]:
    return list(Order(io.BytesIO(content), input_format))


def values(lines: list[OrderLine]) -> list[int | None]:
    return [line.product_id for line in lines]


def test_ids_come_in_the_order_of_the_lines() -> None:
    lines = read(b"30\n1\n20\n")
    assert [(line.number, line.product_id, line.end) for line in lines] == [(1, 30, 3), (2, 1, 5), (3, 20, 8)]
    assert not any(line.malformed or line.repeated for line in lines)


@pytest.mark.parametrize("content", [b"1\n2", b"1\n2\n", b"1\r\n2\r\n", b"\xef\xbb\xbf1\n2\n", b" 1 \n\t2\n"])
def test_line_ends_byte_order_mark_and_blanks_do_not_matter(content: bytes) -> None:
    assert [line.product_id for line in read(content)] == [1, 2]


def test_an_empty_file_has_no_lines() -> None:
    assert read(b"") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "the line is empty"),
        (b"abc", "'abc' is not a product id"),
        (b"0", "'0' is not a product id"),
        (b"product_id", "'product_id' is not a product id"),
        (b"1,2", "'1,2' is not a product id"),
        (b"9223372036854775808", "'9223372036854775808' is not a product id"),
        (b"caf\xe9", "the line is not text in UTF-8"),
        (b"\x001", r"'\x001' is not a product id"),
        (b"1" * 50, f"'{'1' * 40}...' is not a product id"),
    ],
)
def test_a_malformed_line_says_why(line: bytes, message: str) -> None:
    first, bad, last = read(b"1\n" + line + b"\n2\n")
    assert (first.product_id, last.product_id, last.number) == (1, 2, 3)
    assert bad.product_id is None
    assert bad.malformed is not None
    assert message in bad.malformed


@pytest.mark.parametrize("length", [MAX_LINE - 1, MAX_LINE, MAX_LINE + 1, 10 * MAX_LINE])
def test_a_line_of_any_length_is_one_line(length: int) -> None:
    content = b"x" * length + b"\n7\n"
    long, after = read(content)
    assert (long.number, long.product_id, long.end) == (1, None, length + 1)
    assert (after.number, after.product_id, after.end) == (2, 7, len(content))


def test_a_repeated_id_is_recognised_in_any_spelling() -> None:
    assert [line.repeated for line in read(b"5\n6\n5\n05\n 6\n7\n")] == [
        False,
        False,
        True,
        True,
        True,
        False,
    ]


def test_an_id_that_no_product_can_have_is_not_remembered() -> None:
    lines = read(b"2147483648\n2147483648\n9223372036854775807\n")
    assert [line.product_id for line in lines] == [2**31, 2**31, 2**63 - 1]
    assert not any(line.repeated for line in lines)


def test_a_malformed_line_that_comes_twice_is_malformed_twice() -> None:
    assert [line.malformed is not None for line in read(b"x\nx\n")] == [True, True]


def test_the_digest_depends_on_every_byte_read() -> None:
    digests = [line.digest for line in read(b"1\n2\n3\n")]
    assert len(set(digests)) == 3
    assert [line.digest for line in read(b"1\n2\n4\n")][:2] == digests[:2]
    assert [line.digest for line in read(b"1\n2\n4\n")][2] != digests[2]
    assert [line.digest for line in read(b"1 \n2\n3\n")][1] != digests[1]


def test_the_digest_is_that_of_the_file_up_to_the_line() -> None:
    content = b"\xef\xbb\xbf" + b"".join(b"%d\n" % number for number in range(1, 201)) + b"x" * 70 * MAX_LINE + b"\n5"
    for line in read(content):
        assert line.digest == hashlib.sha256(content[: line.end]).hexdigest()
    assert line.end == len(content)


def test_a_line_without_an_end_takes_little_memory() -> None:
    class Endless(io.RawIOBase):
        left = 20_000_000

        def read1(self, size: int = -1) -> bytes:
            read = min(size, self.left)
            self.left -= read
            return b"x" * read

    tracemalloc.start()
    (line,) = Order(Endless())  # type: ignore[arg-type]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert line.end == 20_000_000
    assert peak < 500_000


def test_seen_ids_are_a_set() -> None:
    choose = random.Random(1)
    ids = [
        choose.choice([choose.randint(1, 100), choose.randint(1, 70_000), choose.randint(1, 2**31 - 1)])
        for _ in range(30_000)
    ]
    seen, known = SeenIds(), set[int]()
    for product_id in ids:
        assert seen.add(product_id) == (product_id not in known)
        known.add(product_id)


@pytest.mark.parametrize(("step", "most"), [(1, 100_000), (10_000, 6_000_000)])
def test_many_ids_are_remembered_in_little_memory(step: int, most: int) -> None:
    """Neighbouring ids take bits. Ids from all over the range take bytes, beside the 32,768 pages that there are."""
    tracemalloc.start()
    seen = SeenIds()
    for product_id in range(1, 1 + 200_000 * step, step):
        seen.add(product_id)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < most


def test_a_line_that_spans_blocks_is_one_line() -> None:
    class Slow(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return self.read(1)

    content = b"12\r\n345\nx\n7"
    assert [(line.number, line.product_id, line.end, line.digest) for line in Order(Slow(content))] == [
        (line.number, line.product_id, line.end, line.digest) for line in read(content)
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"product_id\n5\n6\n",
        b"\xef\xbb\xbfproduct_id,name\r\n5,a\r\n6,b\r\n",
        b"name;Product_Id ;x\ncaf\xe9;5;1\nb;6;2",
        b"name\tproduct_id\na\t5\nb\t 6 \n",
        b'"name","product_id"\n"a, b","5"\n"two\nlines","6"\n',
        b"5\n6\n",
        b"id\n5\n6\n",
        b"name,ID\na,5\nb,6\n",
        b"id;product_id\n1;5\n2;6\n",
        b"5;a\n6;b\n",
        b'"5"\n"6"\n',
        b'5\n"6",b\n',
        b"5\n6,b\n",
    ],
)
def test_the_column_of_csv_is_found_by_the_header(content: bytes) -> None:
    lines = read(content, InputFormat.CSV)
    assert values(lines) == [5, 6]
    assert lines[-1].end == len(content)


def test_csv_may_begin_with_an_empty_line() -> None:
    assert values(read(b'\n5,a\n"6",b\n', InputFormat.CSV)) == [None, 5, 6]


def test_a_record_of_csv_has_the_number_of_its_first_line() -> None:
    lines = read(b'product_id,name\n5,"two\nlines"\nx,y\n\n,\n6\n5,\n', InputFormat.CSV)
    assert [(line.number, line.product_id, line.repeated) for line in lines] == [
        (2, 5, False),
        (4, None, False),
        (5, None, False),
        (6, None, False),
        (7, 6, False),
        (8, 5, True),
    ]
    assert [line.malformed is not None and line.malformed[:20] for line in lines] == [
        False,
        "'x' is not a product",
        "the line is empty",
        "'' is not a product ",
        False,
        False,
    ]


@pytest.mark.parametrize("more", [0, 50_000])
def test_a_quotation_mark_that_is_never_closed_loses_no_line(more: int) -> None:
    content = b'product_id,name\n1,a\n2,"b\n3,c\n' + b"4,d\n" * more
    lines = read(content, InputFormat.CSV)
    assert [(line.number, line.product_id) for line in lines[:3]] == [(2, 1), (3, 2), (4, 3)]
    assert values(lines[3:]) == [4] * more
    # A batch can be resumed behind each of them.
    assert [line.end for line in lines[:3]] == [20, 25, 29]
    assert lines[1].digest == hashlib.sha256(content[:25]).hexdigest()


@pytest.mark.parametrize("chosen", [InputFormat.AUTO, InputFormat.CSV])
def test_a_header_that_comes_in_pieces_is_read_whole(chosen: InputFormat) -> None:
    """As out of a pipe whose writer is slow."""

    class Pieces(io.BytesIO):
        def read1(self, size: int | None = -1) -> bytes:
            return super().read1(3)

    order = Order(Pieces(b"name,product_id\nchair,7\ntable,8\n"), chosen)
    lines = list(order)
    assert (order.format, values(lines)) == (InputFormat.CSV, [7, 8])
    assert [line.digest for line in lines] == [
        line.digest for line in read(b"name,product_id\nchair,7\ntable,8\n", InputFormat.CSV)
    ]


def test_a_record_of_csv_that_is_too_short_is_malformed() -> None:
    (line,) = read(b"name,product_id\nred\n", InputFormat.CSV)
    assert line.malformed == "the line has no field product_id"


def test_csv_without_the_column_is_refused() -> None:
    with pytest.raises(UsageError, match="has no column product_id or id: its header is 'sku,name'"):
        read(b"sku,name\n1,x\n", InputFormat.CSV)


def test_ndjson_has_objects_or_numbers() -> None:
    lines = read(b'{"product_id": 5}\n6\n {"a": [1], "product_id": 5}\r\n"7"\n{"product_id":"7"}', InputFormat.NDJSON)
    assert [(line.product_id, line.repeated) for line in lines] == [
        (5, False), (6, False), (5, True), (7, False), (7, True),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"", "the line is empty"),
        (b"{", "'{' is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"id": 5}', "the object has no product_id"),
        (b'{"product_id": "x"}', "'x' is not a product id"),
        (b"9" * 10_000, "is not a product id"),
        (b'{"product_id": ' + b"9" * 10_000 + b"}", "is not a product id"),
        (b"true", "'true' is not a product id"),
        (b"5.0", "'5.0' is not a product id"),
        (b"null", "'null' is not a product id"),
        (b"0", "'0' is not a product id"),
        (b"9223372036854775808", "'9223372036854775808' is not a product id"),
        (b'"caf\xe9"', "the line is not text in UTF-8"),
    ],
)
def test_a_malformed_line_of_ndjson_says_why(line: bytes, message: str) -> None:
    first, bad, last = read(b"1\n" + line + b"\n2\n", InputFormat.NDJSON)
    assert (first.product_id, bad.product_id, last.product_id) == (1, None, 2)
    assert message in str(bad.malformed)


def test_values_are_lines() -> None:
    lines = list(lines_of([5, "6", 5, True, None, 2**31, 2**63, "x"]))
    assert values(lines) == [5, 6, 5, None, None, 2**31, None, None]
    assert [line.repeated for line in lines].count(True) == 1
    assert lines[-1].malformed == "'x' is not a product id: expected a whole number from 1 to 9223372036854775807"


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"5\n", InputFormat.IDS),
        ("a.txt", b"name,product_id\nx,5\n", InputFormat.CSV),
        ("a", b'{"product_id":5}\n', InputFormat.NDJSON),
        ("a.jsonl.gz", gzip.compress(b"5\n", mtime=0), InputFormat.NDJSON),
        ("a.txt", b"id\n5\n", InputFormat.CSV),
        ("a.tsv", b"product_id\tx\n5\t1\n", InputFormat.CSV),
    ],
)
def test_the_format_is_recognised(tmp_path: Path, name: str, content: bytes, expected: InputFormat) -> None:
    (tmp_path / name).write_bytes(content)
    with open_order(tmp_path / name) as order:
        assert order.format is expected
        assert values(list(order)) == [5]


@pytest.mark.parametrize("name", ["order.gz", "order.zst"])
def test_a_compressed_order_is_read_to_where_it_is_cut_off(tmp_path: Path, name: str) -> None:
    choose = random.Random(1)
    content = b"".join(b"%d\n" % choose.randint(1, 10**9) for _ in range(100_000))
    compressed = gzip.compress(content, mtime=0) if name.endswith("gz") else zstandard.compress(content)
    (tmp_path / name).write_bytes(compressed)
    with open_order(tmp_path / name) as order:
        lines = list(order)
    assert lines[-1].digest == hashlib.sha256(content).hexdigest()
    (tmp_path / name).write_bytes(compressed[: len(compressed) // 2])
    read_lines: list[OrderLine] = []
    with (
        open_order(tmp_path / name) as order,
        pytest.raises(StorefrontError, match=rf"{name} is damaged or cut off: "),
    ):
        read_lines.extend(order)
    assert 10_000 < len(read_lines) < 100_000
    assert values(read_lines) == values(lines)[: len(read_lines)]
