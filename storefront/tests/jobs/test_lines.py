"""The lines of a job, read from a stream in pieces and stored in parts."""

from __future__ import annotations

import io
import random

import pytest

from storefront import Order
from storefront.jobs.lines import LineReader, pack_lines, unpack_lines

BODIES = [
    b"",
    b"7\n3\n",
    b"7\r\n3\r\n7",
    b"\xef\xbb\xbf7\n7\n",
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
    assert reader.stored == []


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
