"""Ranges and multiranges: bounds that are there or not, inclusive or not, and the empty range."""

from __future__ import annotations

import struct
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.container_oids import RANGES
from headrace._core.codecs.testing import decode, encode, format_of
from headrace.types import Range

from .wire import check_both_ways, check_hostile, check_refused, decoded, encoded

INT4RANGE, NUMRANGE, DATERANGE = 3904, 3906, 3912
INT4MULTIRANGE = 4451


@pytest.mark.parametrize(
    ("oid", "value", "wire"),
    [
        (INT4RANGE, Range(1, 5), "0200000004000000010000000400000005"),
        (INT4RANGE, Range(None, 5), "080000000400000005"),
        (INT4RANGE, Range(1, None), "120000000400000001"),
        (INT4RANGE, Range(), "18"),
        (INT4RANGE, Range(empty=True), "01"),
        (
            NUMRANGE,
            Range(Decimal("1.5"), Decimal(2), lower_inc=False, upper_inc=True),
            "040000000c0002000000000001000113880000000a00010000000000000002",
        ),
        (DATERANGE, Range(date(2000, 1, 1), date.max), "0200000004000000000000000" + "47fffffff"),
    ],
)
def test_range(oid: int, value: Range[Any], wire: str) -> None:
    check_both_ways(oid, wire, value)


def test_a_range_from_the_server_is_as_good_as_one_made_by_hand() -> None:
    value = decoded(INT4RANGE, "0200000004000000010000000400000005")
    assert isinstance(value, Range)
    assert (value.lower, value.upper, value.lower_inc, value.upper_inc) == (1, 5, True, False)
    assert not value.isempty
    assert not value.lower_inf
    assert repr(value) == "<Range [1, 5)>"
    assert hash(value) == hash(Range(1, 5))


BOUND = st.none() | st.integers(-(2**31), 2**31 - 1)
ANY_RANGE = st.builds(
    lambda lower, upper, lower_inc, upper_inc, empty: Range(
        lower, upper, lower_inc=lower_inc, upper_inc=upper_inc, empty=empty
    ),
    BOUND,
    BOUND,
    st.booleans(),
    st.booleans(),
    st.booleans(),
)


@given(ANY_RANGE)
def test_every_range_comes_back(value: Range[int]) -> None:
    assert decode(INT4RANGE, encode(INT4RANGE, value)[4:]) == value


@given(st.lists(ANY_RANGE, max_size=4))
def test_every_multirange_comes_back(value: list[Range[int]]) -> None:
    assert decode(INT4MULTIRANGE, encode(INT4MULTIRANGE, value)[4:]) == value


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ((), Range(empty=True)),
        ([], Range(empty=True)),
        ((1,), Range(1)),
        ((1, 5), Range(1, 5, upper_inc=True)),
        ([1, 5], Range(1, 5, upper_inc=True)),
        ((None, 5), Range(None, 5, upper_inc=True)),
        ((None, None), Range()),
    ],
)
def test_lists_and_tuples_include_their_upper_bound(value: object, same: Range[int]) -> None:
    assert encoded(INT4RANGE, value) == encoded(INT4RANGE, same)


def test_what_is_no_range_is_refused() -> None:
    for value in ("[1,5)", 5, {1, 5}, range(1, 5)):
        check_refused(INT4RANGE, value, TypeError, f"list, tuple or Range object expected (got type {type(value)})")
    check_refused(INT4RANGE, (1, 5, "[]"), ValueError, "expected 0, 1 or 2 elements in range (got 3)")
    check_refused(INT4RANGE, Range("a", "b"), TypeError, "an integer is required")


def test_a_subclass_of_range() -> None:
    class Stay(Range[int]):
        pass

    assert encoded(INT4RANGE, Stay(1, 5)) == encoded(INT4RANGE, Range(1, 5))


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ([], "00000000"),
        (
            [Range(1, 3), Range(7, 9)],
            "00000002000000110200000004000000010000000400000003000000110200000004000000070000000400000009",
        ),
    ],
)
def test_multirange(value: list[Range[int]], wire: str) -> None:
    check_both_ways(INT4MULTIRANGE, wire, value)


def test_what_is_no_sequence_of_ranges_is_refused() -> None:
    values: list[Any] = [Range(1, 5), "{}", 5, {Range(1, 5)}, iter([])]
    for value in values:
        check_refused(INT4MULTIRANGE, value, TypeError, f"expected a sequence (got type {type(value).__name__!r})")
    check_refused(
        INT4MULTIRANGE, [None], TypeError, "list, tuple or Range object expected (got type <class 'NoneType'>)"
    )
    check_refused(INT4MULTIRANGE, (1, 5), TypeError, "got type <class 'int'>")


def test_every_fixed_range_type_has_a_codec() -> None:
    for oid, name, _, multirange, _ in RANGES:
        assert format_of(oid) == format_of(multirange) == 1, name


def test_hostile() -> None:
    check_hostile(
        INT4RANGE,
        "",
        "02",
        "02000000040000",
        "0100",
        "1800",
        "12ffffffff",
        "127fffffff00000001",
        "12000000050000000100",
    )
    check_hostile(
        INT4MULTIRANGE,
        "",
        "000000",
        "00000001",
        "7fffffff",
        "ffffffff",
        struct.pack("!ii", 1, 9).hex() + "01",
        struct.pack("!ii", 1, -1).hex() + "01",
        struct.pack("!ii", 1, 1).hex() + "0100",
        struct.pack("!ii", 1, 0).hex() + "00",
    )
