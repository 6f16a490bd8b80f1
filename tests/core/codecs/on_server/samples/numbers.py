"""Numbers, true and false, and money."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.sample import Sample

INFINITY = float("inf")
NAN = float("nan")


def integers(low: int, high: int) -> SearchStrategy[int]:
    """Integers of all sizes, many of them next to a power of two."""
    powers = (sign * 2**bits + off for bits in range(65) for sign in (1, -1) for off in (-1, 0, 1))
    return st.integers(low, high) | st.sampled_from([number for number in powers if low <= number <= high])


def integer(name: str, low: int, high: int) -> Sample:
    return Sample(name, integers(low, high), edges=(low, 0, high))


def decimals(digits: int = 60, scale: int = 50) -> SearchStrategy[Decimal]:
    """Finite numbers, with the point anywhere and with zeros at both ends."""
    number = st.integers(0, 10**9) | st.integers(0, 10**digits) | st.integers(1, 99).map(lambda n: n * 10**20)
    return st.builds(
        lambda sign, number, exponent: Decimal((sign, tuple(map(int, str(number))), exponent)),
        st.integers(0, 1),
        number,
        st.integers(-scale, scale),
    )


def as_numeric(value: Decimal) -> Decimal:
    """Return what numeric holds of a Decimal: no negative zero, no exponent above 0, and one NaN."""
    if value.is_nan():
        return Decimal("NaN")
    sign, digits, exponent = value.as_tuple()
    if not isinstance(exponent, int):
        return value  # an infinity
    if exponent > 0:
        digits, exponent = (*digits, *(0,) * exponent), 0
    return Decimal((sign, digits, exponent)) if any(digits) else Decimal((0, (0,), exponent))


def as_money(cents: int) -> str:
    """What cash_out() prints where lc_monetary is C."""
    whole, rest = divmod(abs(cents), 100)
    return f"{'-' * (cents < 0)}${whole:,}.{rest:02}"


NUMERIC = Sample(
    "numeric",
    decimals(),
    literals.number,
    edges=tuple(
        Decimal(text)
        for text in (
            *("0", "-0", "0.00", "1", "1.50", "-1.50", "10000", "9999", "0.0001", "0.00010", "1E+20", "-1E-20"),
            *("1E+131071", "1E-16383", "123456789.000000000", "NaN", "sNaN", "NaN123", "Infinity", "-Infinity"),
        )
    ),
    returned=as_numeric,
)

NUMBERS = [
    Sample("bool", st.booleans(), literals.boolean, edges=(False, True)),
    integer("int2", -(2**15), 2**15 - 1),
    integer("int4", -(2**31), 2**31 - 1),
    integer("int8", -(2**63), 2**63 - 1),
    Sample(
        "float4",
        st.floats(width=32),
        repr,
        edges=(0.0, -0.0, 3.4028234663852886e38, 1.401298464324817e-45, INFINITY, -INFINITY, NAN),
    ),
    Sample(
        "float8",
        st.floats(),
        repr,
        edges=(0.0, -0.0, 0.1, 1.7976931348623157e308, 5e-324, INFINITY, -INFINITY, NAN),
    ),
    NUMERIC,
    Sample(
        "money",
        integers(-(2**63), 2**63 - 1).map(as_money),
        edges=tuple(map(as_money, (0, 1, -1, 123456, 2**63 - 1))),
    ),
]
