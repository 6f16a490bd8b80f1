"""numeric keeps every digit and every trailing zero, both ways."""

from __future__ import annotations

import decimal
from decimal import Decimal
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_hostile, check_refused, decoded, encoded

NUMERIC = 1700


class Rate(Enum):
    REDUCED = Decimal("0.07")


class Price(Decimal):
    def __str__(self) -> str:
        return f"{super().__str__()} euros"


GOLDEN = [
    ("0", "0000000000000000"),
    ("0.00", "0000000000000002"),
    ("1", "00010000000000000001"),
    ("-1", "00010000400000000001"),
    ("1.50", "000200000000000200011388"),
    ("10000", "00010001000000000001"),
    ("1000000", "00010001000000000064"),
    ("9999", "0001000000000000270f"),
    ("123456789.987654321", "0006000200000009000109291a852694153803e8"),
    ("-0.0001", "0001ffff400000040001"),
    ("0.00012345", "0002ffff0000000800010929"),
    ("1E-9", "0001fffd0000000903e8"),
    ("1E-16383", "0001f00000003fff000a"),
    ("1" + "0" * 131071, "00017fff0000000003e8"),
    ("12345678901234567890.12345678901234567890", "000a00040000001404d2162e23340d801ed204d2162e23340d801ed2"),
    ("100.0000", "00010000000000040064"),
    ("0.10", "0001ffff0000000203e8"),
]


@pytest.mark.parametrize(("text", "wire"), GOLDEN, ids=[text[:30] for text, _ in GOLDEN])
def test_golden(text: str, wire: str) -> None:
    value = Decimal(text)
    assert encoded(NUMERIC, value) == wire
    result = decoded(NUMERIC, wire)
    assert isinstance(result, Decimal)
    assert result.as_tuple() == value.as_tuple()


@pytest.mark.parametrize(
    ("text", "sent", "received"),
    [
        ("NaN", "00000000c0000000", "00000000c0000000"),
        ("Infinity", "00000000d0000000", "00000000d0000020"),
        ("-Infinity", "00000000f0000000", "00000000f0000020"),
    ],
)
def test_special_values(text: str, sent: str, received: str) -> None:
    assert encoded(NUMERIC, Decimal(text)) == sent
    assert str(decoded(NUMERIC, sent)) == text
    assert str(decoded(NUMERIC, received)) == text


@given(
    st.builds(
        lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
        st.integers(0, 1),
        st.lists(st.integers(0, 9), min_size=1, max_size=50).map(tuple),
        st.integers(-60, 60),
    )
)
def test_every_digit_comes_back(value: Decimal) -> None:
    result = decode(NUMERIC, encode(NUMERIC, value)[4:])
    assert isinstance(result, Decimal)
    assert result == value
    # What an exponent above 0 stands for is written out, as the server does, and there is no negative zero.
    assert format(result, "f") == format(value if value else abs(value), "f")


@given(st.integers())
def test_integers_are_sent_like_decimals(value: int) -> None:
    assert encode(NUMERIC, value) == encode(NUMERIC, Decimal(value))


def test_integers_at_the_edges() -> None:
    # The last has more digits than Python turns into a str (sys.set_int_max_str_digits).
    for value in (0, -1, 9999, 10**4, 10**16, 2**63 - 1, -(2**63), 2**63, 10**30, -(10**5000)):
        assert encode(NUMERIC, value) == encode(NUMERIC, Decimal(value))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, "1"),
        (0.5, "0.5"),
        (0.1, "0.1000000000000000055511151231257827021181583404541015625"),
        (float("inf"), "Infinity"),
        ("1.50", "1.50"),
        (" 1e3 ", "1000"),
        (Rate.REDUCED, "0.07"),
        (Price("1.50"), "1.50"),
        (Decimal("-0.00"), "0.00"),
        (Decimal("sNaN"), "NaN"),
        (Decimal("-NaN12"), "NaN"),
        (Decimal("0E+5"), "0"),
        (Decimal("00012.340"), "12.340"),
    ],
)
def test_what_else_is_taken(value: object, number: str) -> None:
    assert encode(NUMERIC, value) == encode(NUMERIC, Decimal(number))


def test_the_caller_s_decimal_context_changes_nothing() -> None:
    value = Decimal("123456789.123456789E+10")
    expected = encode(NUMERIC, value)
    with decimal.localcontext(decimal.Context(prec=3, capitals=0, traps=[])):
        assert encode(NUMERIC, value) == expected
        assert decode(NUMERIC, expected[4:]) == value
        assert encode(NUMERIC, 10**30) == encode(NUMERIC, "1" + "0" * 30)
        check_refused(NUMERIC, "abc", ValueError, "expected a number, got 'abc'")
    with decimal.localcontext(decimal.Context(traps=[decimal.FloatOperation, decimal.Inexact])):
        assert encode(NUMERIC, 0.5) == encode(NUMERIC, Decimal("0.5"))


def test_too_many_digits_after_the_point() -> None:
    check_refused(
        NUMERIC, Decimal("1E-16384"), ValueError, "cannot encode Decimal value into numeric: exponent is too small"
    )
    check_refused(NUMERIC, Decimal("0E-16384"), ValueError, "at most 16383 digits after the decimal point")


def test_too_many_digits_before_the_point() -> None:
    for value in (Decimal("1E+131072"), Decimal("-9E+999999999"), 10**131072, 1 << 10_000_000):
        check_refused(NUMERIC, value, OverflowError, "at most 131072 digits before the decimal point")


@pytest.mark.parametrize("text", ["", "abc", "1,5", "0x10", "1 2"])
def test_a_str_that_is_no_number(text: str) -> None:
    check_refused(NUMERIC, text, ValueError, f"expected a number, got {text!r}")


@pytest.mark.parametrize("value", [b"1", 1j, [1], (0, (1,), 0), object()])
def test_other_types_are_refused(value: object) -> None:
    check_refused(NUMERIC, value, TypeError, f"conversion from {type(value).__name__} to Decimal is not supported")


def test_a_display_scale_shorter_than_the_digits_cuts_them_as_the_server_would() -> None:
    assert str(decoded(NUMERIC, "00020000000000020001" + "04d2")) == "1.12"  # 1 and 1234/10000


def test_hostile_values() -> None:
    check_hostile(
        NUMERIC,
        "",
        "00000000000000",  # shorter than its head
        "ffff000000000000",  # 65,535 digits promised
        "00010000000000000001ff",  # a byte too many
        "00000000c00000000000",  # NaN with something behind it
        "00010000123400000001",  # no sign
        "00010000000040000001",  # a scale of 16,384
        "00010000000000002710",  # the digit 10000 in base 10000
        "000200000000000400012710",  # the same after the point
        "0002000100000000000f2710",  # and before it
    )
