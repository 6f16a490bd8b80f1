"""Floats keep every bit that their type has room for."""

from __future__ import annotations

import math
import struct
from decimal import Decimal
from enum import Enum
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_hostile, check_refused, decoded, encoded

FLOAT4, FLOAT8 = 700, 701


class Weight(Enum):
    HALF = 0.5


class Real:
    """What numpy's floats look like: no float, but with __float__."""

    def __float__(self) -> float:
        return 1.5


@pytest.mark.parametrize(
    ("oid", "wire", "value"),
    [
        (FLOAT4, "00000000", 0.0),
        (FLOAT4, "80000000", -0.0),
        (FLOAT4, "3fc00000", 1.5),
        (FLOAT4, "7f7fffff", 3.4028234663852886e38),
        (FLOAT4, "00000001", 1.401298464324817e-45),
        (FLOAT4, "7f800000", math.inf),
        (FLOAT4, "ff800000", -math.inf),
        (FLOAT8, "0000000000000000", 0.0),
        (FLOAT8, "8000000000000000", -0.0),
        (FLOAT8, "3fb999999999999a", 0.1),
        (FLOAT8, "7fefffffffffffff", 1.7976931348623157e308),
        (FLOAT8, "0000000000000001", 5e-324),
        (FLOAT8, "7ff0000000000000", math.inf),
        (FLOAT8, "fff0000000000000", -math.inf),
    ],
)
def test_golden(oid: int, wire: str, value: float) -> None:
    assert encoded(oid, value) == wire
    assert repr(decoded(oid, wire)) == repr(value)


@pytest.mark.parametrize(("oid", "wire"), [(FLOAT4, "7fc00000"), (FLOAT8, "7ff8000000000000")])
def test_not_a_number(oid: int, wire: str) -> None:
    assert encoded(oid, math.nan) == wire
    value = decoded(oid, wire)
    assert isinstance(value, float)
    assert math.isnan(value)


@given(st.floats(allow_nan=False))
def test_every_double_comes_back(value: float) -> None:
    assert repr(decode(FLOAT8, encode(FLOAT8, value)[4:])) == repr(value)


@given(st.floats(width=32, allow_nan=False))
def test_every_single_comes_back(value: float) -> None:
    assert repr(decode(FLOAT4, encode(FLOAT4, value)[4:])) == repr(value)


@given(st.floats(min_value=-3.4e38, max_value=3.4e38))
def test_float4_rounds_as_the_machine_does(value: float) -> None:
    assert decode(FLOAT4, encode(FLOAT4, value)[4:]) == struct.unpack("f", struct.pack("f", value))[0]


@pytest.mark.parametrize("oid", [FLOAT4, FLOAT8])
@pytest.mark.parametrize(
    ("value", "number"),
    [(1, 1.0), (True, 1.0), (Decimal("1.5"), 1.5), (Fraction(3, 2), 1.5), (Real(), 1.5), (Weight.HALF, 0.5)],
)
def test_other_numbers_are_taken(oid: int, value: object, number: float) -> None:
    assert encode(oid, value) == encode(oid, number)


@pytest.mark.parametrize("value", [3.4028236e38, -3.5e38, 1e300])
def test_float4_out_of_range(value: float) -> None:
    check_refused(FLOAT4, value, OverflowError, "value out of float32 range")


def test_an_integer_beyond_every_float() -> None:
    check_refused(FLOAT8, 10**400, OverflowError, "int too large to convert to float")


@pytest.mark.parametrize("oid", [FLOAT4, FLOAT8])
@pytest.mark.parametrize("value", ["1.5", b"1.5", 1j, [1.5]])
def test_other_types_are_refused(oid: int, value: object) -> None:
    check_refused(oid, value, TypeError, f"must be real number, not {type(value).__name__}")


def test_other_lengths_are_refused() -> None:
    check_hostile(FLOAT4, "", "00" * 3, "00" * 8)
    check_hostile(FLOAT8, "", "00" * 4, "00" * 9)
