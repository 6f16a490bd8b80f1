"""bytea takes the bytes behind any buffer; "char" is one byte."""

from __future__ import annotations

from array import array
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, encoded

BYTEA, CHAR = 17, 18


class Magic(Enum):
    GIF = b"GIF"


@pytest.mark.parametrize("value", [b"", b"\x00\xff\x10", b"x" * 100_000])
def test_golden(value: bytes) -> None:
    check_both_ways(BYTEA, value.hex(), value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (bytearray(b"ab"), "6162"),
        (memoryview(b"ab"), "6162"),
        (memoryview(b"abcd")[::2], "6163"),
        (memoryview(b"abc")[::-1], "636261"),
        (memoryview(b""), ""),
        (array("B", [1, 2]), "0102"),
        (memoryview(b"abcdef").cast("B", shape=[2, 3]), "616263646566"),
        (Magic.GIF, "474946"),
    ],
)
def test_buffers_are_taken_in_their_own_order(value: object, wire: str) -> None:
    assert encoded(BYTEA, value) == wire


def test_a_buffer_is_let_go_of() -> None:
    data = bytearray(b"ab")
    encode(BYTEA, data)
    data.append(0)  # BufferError if it were still exported
    view = memoryview(bytearray(b"abcd"))[::2]
    encode(BYTEA, view)
    view.release()


@pytest.mark.parametrize("value", ["ab", 2, [1, 2], None])
def test_other_types_are_refused(value: object) -> None:
    check_refused(BYTEA, value, TypeError, f"a bytes-like object is required, not '{type(value).__name__}'")


@given(st.binary())
def test_every_value_comes_back(value: bytes) -> None:
    assert decode(BYTEA, encode(BYTEA, value)[4:]) == value


@pytest.mark.parametrize(("wire", "value"), [("78", b"x"), ("00", b"\0"), ("ff", b"\xff")])
def test_char_is_one_byte(wire: str, value: bytes) -> None:
    check_both_ways(CHAR, wire, value)


@pytest.mark.parametrize(("value", "wire"), [("x", "78"), ("", "00"), (b"", "00"), (bytearray(b"x"), "78")])
def test_char_takes_a_character_too(value: object, wire: str) -> None:
    assert encoded(CHAR, value) == wire


@pytest.mark.parametrize("value", ["xy", "é", b"xy"])
def test_more_than_one_byte_is_no_char(value: object) -> None:
    check_refused(CHAR, value, ValueError, "expected one byte or one ASCII character")


def test_an_integer_is_no_char() -> None:
    check_refused(CHAR, 120, TypeError, "a bytes-like object is required, not 'int'")


def test_a_char_of_another_length_is_refused() -> None:
    check_hostile(CHAR, "", "7879")
