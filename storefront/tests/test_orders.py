"""A partner's file, line by line."""

from __future__ import annotations

import hashlib
import io
import random
import tracemalloc

import pytest

from storefront import Order, OrderLine
from storefront.orders import MAX_LINE, SeenIds


def read(content: bytes) -> list[OrderLine]:
    return list(Order(io.BytesIO(content)))


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

        def readline(self, size: int | None = -1) -> bytes:
            assert size is not None
            self.left -= size
            return b"x" * size if self.left >= 0 else b""

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
