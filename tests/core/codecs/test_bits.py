"""bit and varbit become BitString, of exactly as many bits."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode
from headrace.types import BitString

from .wire import check_both_ways, check_hostile, check_refused, decoded, encoded

BIT, VARBIT = 1560, 1562


@pytest.mark.parametrize("oid", [BIT, VARBIT])
@pytest.mark.parametrize(
    ("wire", "bits"),
    [
        ("00000000", ""),
        ("0000000180", "1"),
        ("00000003a0", "101"),
        ("00000008aa", "10101010"),
        ("00000009aa80", "101010101"),
    ],
)
def test_golden(oid: int, wire: str, bits: str) -> None:
    check_both_ways(oid, wire, BitString(bits))


@given(st.text("01", max_size=70))
def test_every_value_comes_back_like_one_from_the_constructor(bits: str) -> None:
    value = BitString(bits)
    result = decode(VARBIT, encode(VARBIT, value)[4:])
    assert isinstance(result, BitString)
    assert result == value
    assert hash(result) == hash(value)
    assert (len(result), result.bytes, result.as_string()) == (len(bits), value.bytes, value.as_string())
    assert pickle.loads(pickle.dumps(result)) == value


@pytest.mark.parametrize("value", [b"\xa0", bytearray(b"\xa0"), memoryview(b"\xa0\xff")[::2]])
def test_of_bytes_all_bits_count(value: object) -> None:
    assert encoded(VARBIT, value) == "00000008a0"


def test_unused_bits_are_no_part_of_the_value() -> None:
    assert decoded(VARBIT, "00000003bf") == BitString("101")


def test_clearing_unused_bits_leaves_the_bytes_of_others_alone() -> None:
    """The interpreter keeps one object for each bytes of length one: none of them may be written to."""
    one_byte = [bytes([i]) for i in range(256)]
    for i in range(256):
        decode(BIT, bytes([0, 0, 0, 1, i]))
    assert [each[0] for each in one_byte] == list(range(256))


def test_a_str_could_mean_either() -> None:
    check_refused(VARBIT, "101", TypeError, "a bytes-like object is required, not 'str': write BitString('101')")


@pytest.mark.parametrize("value", [5, None, [1, 0]])
def test_other_types_are_refused(value: object) -> None:
    check_refused(VARBIT, value, TypeError, f"a bytes-like object is required, not '{type(value).__name__}'")


def test_hostile_values() -> None:
    check_hostile(
        VARBIT,
        "",
        "000000",
        "00000001",  # a bit without its byte
        "0000000080",  # a byte without its bit
        "00000009aa",
        "ffffffff",  # -1 bits
        "7fffffff80",  # 2**31 - 1 bits
    )
