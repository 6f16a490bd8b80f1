"""The lines of a job, read from a stream in pieces and stored in parts."""

from __future__ import annotations

import io
import random

import pytest

from storefront import Order, OrderLine, UsageError
from storefront.jobs.lines import JobInput, LineReader, pack_lines, unpack_lines

BODIES = [
    b"",
    b"7\n3\n",
    b"7\r\n3\r\n7",
    b"\xef\xbb\xbf7\n7\n",
    b"\xef\xbb\xbf",
    b"\n\n5\n",
    b"abc\n\xff\xfe\n999999\n2147483648\n2147483648\n9223372036854775807\n9223372036854775808\n",
    b"1" * 5_000 + b"\n7\n",
    b" " * 2_000 + b"7\n8",
    "\u2028=7\n!7\n=7\n".encode(),
]


@pytest.mark.parametrize("size", [1, 3, 64, 10_000])
@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_lines_are_those_of_an_order(body: bytes, size: int) -> None:
    reader = LineReader()
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    reader.end()
    expected = [(line.number, line.product_id, line.malformed, line.repeated) for line in Order(io.BytesIO(body))]
    assert reader.count == len(expected)
    if expected:
        lines = unpack_lines(pack_lines(reader.take(len(expected))), 1, start=1)
        assert [(line.number, line.product_id, line.malformed, line.repeated) for line in lines] == expected
    assert (reader.stored, reader.skipped) == ([], 0)


def read(body: bytes, job_input: JobInput, size: int = 5) -> tuple[LineReader, list[OrderLine]]:
    """Read a body in small pieces. Return the reader and the lines."""
    reader = LineReader(job_input)
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    reader.end()
    return reader, list(unpack_lines(pack_lines(reader.take(reader.count)), 1, start=1))


@pytest.mark.parametrize(
    ("body", "skipped"),
    [
        (b"product_id,name\n7,chair\n3,table\n7,chair\n", 1),
        (b"\xef\xbb\xbfname;PRODUCT_ID \r\nchair;7\r\ntable;3\r\nchair;7\r\n", 1),
        (b'"name"\t"product_id"\n"a\n""b"", c"\t7\n"t"\t"3"\n\xff\t7', 1),
        (b"7\n3\n7\n", 0),
        (b"name,id\nchair,7\ntable,3\nchair,7\n", 1),
        (b"id;product_id\n1;7\n2;3\n3;7\n", 1),
        (b'"7";chair\n3;table\n7;chair\n', 0),
        (b'"product_id","name,\nin German"\n7,a\n3,b\n7,c\n', 1),
    ],
)
def test_the_ids_of_csv_are_in_a_column(body: bytes, skipped: int) -> None:
    reader, lines = read(body, JobInput.CSV)
    assert [(line.product_id, line.repeated) for line in lines] == [(7, False), (3, False), (7, True)]
    assert (reader.skipped, reader.count) == (skipped, 3)


def test_records_of_csv_without_an_id_are_malformed() -> None:
    _, lines = read(b'name,product_id\na,1\nb\n\nc,x\n5" disk,5\n', JobInput.CSV)
    assert [(line.number, line.product_id) for line in lines] == [(1, 1), (2, None), (3, None), (4, None), (5, 5)]
    assert [line.malformed for line in lines[1:4]] == [
        "the line has no field product_id",
        "the line is empty",
        "'x' is not a product id: expected a whole number from 1 to 9223372036854775807",
    ]


@pytest.mark.parametrize("more", [0, 20_000])
def test_a_quotation_mark_that_is_never_closed_loses_no_line(more: int) -> None:
    body = b'name,product_id\na,1\n"b,2\nc,3\n' + b"d,4\n" * more
    _, lines = read(body, JobInput.CSV, size=1_000)
    assert [line.product_id for line in lines[:3]] == [1, None, 3]
    assert [line.product_id for line in lines[3:]] == [4] * more


def test_csv_without_the_column_is_refused() -> None:
    with pytest.raises(UsageError, match="has no column product_id or id: its header is 'sku;name'"):
        read(b"sku;name\n1;a\n", JobInput.CSV)


@pytest.mark.parametrize("job_input", JobInput)
def test_utf_16_is_refused(job_input: JobInput) -> None:
    with pytest.raises(UsageError, match="UTF-16"):
        read("7\n3\n".encode("utf-16"), job_input)


def test_the_ids_of_ndjson_are_numbers_or_members_of_objects() -> None:
    body = b'7\n{"product_id": 3, "name": "\xc3\xa9"}\r\n{"product_id": "7"}\n"50"\n9223372036854775807'
    _, lines = read(body, JobInput.NDJSON)
    assert [line.product_id for line in lines] == [7, 3, 7, 50, 2**63 - 1]
    assert [line.repeated for line in lines] == [False, False, True, False, False]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "the line is empty"),
        (b"{", "'{' is not JSON"),
        (b'{"id": 1}', "the object has no product_id"),
        (b"[1]", "'[1]' is not a product id"),
        (b"null", "'null' is not a product id"),
        (b"true", "'true' is not a product id"),
        (b"-1", "'-1' is not a product id"),
        (b"1.0", "'1.0' is not a product id"),
        (b'{"product_id": ' + b"9" * 5_000 + b"}", "is not a product id"),
        (b"[" * 50_000, "is not JSON"),
        (b'{"product_id": "x"}', "'x' is not a product id"),
        (b'"\xff"', "not text in UTF-8"),
    ],
)
def test_lines_of_ndjson_without_an_id_are_malformed(line: bytes, problem: str) -> None:
    _, lines = read(b"1\n" + line + b"\n2\n", JobInput.NDJSON, size=1_000)
    assert [each.product_id for each in lines] == [1, None, 2]
    assert problem in str(lines[1].malformed)


def test_a_repeated_id_is_marked_in_whatever_part_it_is() -> None:
    reader = LineReader()
    reader.feed(b"1\n2\n1\n2\n3\n")
    first, second = reader.take(2), reader.take(3)
    assert [line.repeated for line in unpack_lines(pack_lines(first), 1, start=1)] == [False, False]
    assert [line.repeated for line in unpack_lines(pack_lines(second), 3, start=3)] == [True, True, False]


def test_a_part_is_read_from_the_line_that_is_next() -> None:
    data = pack_lines([str(number) for number in range(21, 31)])
    assert [line.number for line in unpack_lines(data, 21, start=28)] == [28, 29, 30]
    assert [line.product_id for line in unpack_lines(data, 21, start=28)] == [28, 29, 30]


def test_a_line_without_an_end_does_not_fill_the_memory() -> None:
    reader = LineReader()
    for _ in range(1_000):
        reader.feed(b"9" * 65_536)
    assert len(reader._rest) <= 1_000
    reader.end()
    assert reader.count == 1


def test_ten_thousand_ids_take_a_few_bytes_each() -> None:
    generator = random.Random(1)
    stored = [str(generator.randrange(1, 50_000)) for _ in range(10_000)]
    assert len(pack_lines(stored)) < 35_000
