"""Integers are sent whole and in range, or not at all."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum, IntEnum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused

INT8, INT2, INT4, OID, XID, CID, PG_LSN, XID8, OID8 = 20, 21, 23, 26, 28, 29, 3220, 5069, 6437

RANGES = {
    INT2: (-(2**15), 2**15 - 1),
    INT4: (-(2**31), 2**31 - 1),
    INT8: (-(2**63), 2**63 - 1),
    OID: (0, 2**32 - 1),
    XID: (0, 2**32 - 1),
    CID: (0, 2**32 - 1),
    XID8: (0, 2**64 - 1),
    OID8: (0, 2**64 - 1),
    PG_LSN: (0, 2**64 - 1),
}


class Size(IntEnum):
    SMALL = 3


class Endpoint(Enum):
    FIRST = 1
    NOWHERE = "nowhere"


class Indexable:
    """What numpy's integers look like: no int, but with __index__."""

    def __index__(self) -> int:
        return 7


@pytest.mark.parametrize(
    ("oid", "wire", "value"),
    [
        (INT2, "0000", 0),
        (INT2, "8000", -32768),
        (INT2, "7fff", 32767),
        (INT4, "00000000", 0),
        (INT4, "ffffffff", -1),
        (INT4, "80000000", -2147483648),
        (INT4, "7fffffff", 2147483647),
        (INT8, "0000000000000000", 0),
        (INT8, "ffffffffffffffff", -1),
        (INT8, "8000000000000000", -9223372036854775808),
        (INT8, "7fffffffffffffff", 9223372036854775807),
        (OID, "00000000", 0),
        (OID, "ffffffff", 4294967295),
        (XID, "00000003", 3),
        (CID, "ffffffff", 4294967295),
        (XID8, "ffffffffffffffff", 18446744073709551615),
        (PG_LSN, "0000000000000000", 0),
        (PG_LSN, "00000016b374d848", 0x16B374D848),
        (PG_LSN, "ffffffffffffffff", 0xFFFFFFFFFFFFFFFF),
    ],
)
def test_golden(oid: int, wire: str, value: int) -> None:
    check_both_ways(oid, wire, value)


@given(data=st.data(), oid=st.sampled_from(sorted(RANGES)))
def test_every_value_in_range_comes_back(data: st.DataObject, oid: int) -> None:
    value = data.draw(st.integers(*RANGES[oid]))
    assert decode(oid, encode(oid, value)[4:]) == value


@pytest.mark.parametrize(("oid", "low", "high"), [(oid, *bounds) for oid, bounds in RANGES.items()])
def test_out_of_range(oid: int, low: int, high: int) -> None:
    for value in (low - 1, high + 1, -(2**63) - 1, 2**64, -(10**30), 10**30):
        check_refused(oid, value, OverflowError, f"range: expected {low} to {high}, got {value}")
    check_refused(oid, 1 << 100_000, OverflowError, "got an integer of 100001 bits")


@pytest.mark.parametrize("oid", RANGES)
@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1),
        (Size.SMALL, 3),
        (Endpoint.FIRST, 1),
        (Indexable(), 7),
        (2.0, 2),
        (Decimal("2.00"), 2),
        (Fraction(4, 2), 2),
    ],
)
def test_whole_numbers_of_other_kinds_are_taken(oid: int, value: object, number: int) -> None:
    assert encode(oid, value) == encode(oid, number)


@pytest.mark.parametrize("oid", RANGES)
@pytest.mark.parametrize("value", [2.5, Decimal("0.1"), Fraction(1, 3)])
def test_nothing_is_rounded(oid: int, value: object) -> None:
    check_refused(oid, value, ValueError, f"expected a whole number, got {value!r}")


@pytest.mark.parametrize("value", [float("inf"), float("nan"), Decimal("Infinity"), Decimal("NaN")])
def test_what_is_no_finite_number_is_refused(value: object) -> None:
    with pytest.raises((OverflowError, ValueError), match="cannot convert"):
        encode(INT4, value)


@pytest.mark.parametrize("value", ["1", b"1", 1j, [1], object(), Endpoint.NOWHERE])
def test_other_types_are_refused(value: object) -> None:
    check_refused(INT4, value, TypeError, "object cannot be interpreted as an integer")


@pytest.mark.parametrize(
    ("oid", "size"), [(INT2, 2), (INT4, 4), (INT8, 8), (OID, 4), (XID, 4), (CID, 4), (XID8, 8), (OID8, 8), (PG_LSN, 8)]
)
def test_other_lengths_are_refused(oid: int, size: int) -> None:
    check_hostile(oid, "", "00" * (size - 1), "00" * (size + 1))
