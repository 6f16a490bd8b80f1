"""Ranges and multiranges: what the server makes of each is worked out here once more."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from headrace import Range
from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.numbers import as_numeric, decimals, integers
from tests.core.codecs.on_server.samples.sample import Sample
from tests.core.codecs.on_server.samples.times import DAY, MOMENTS, in_utc

EMPTY: Range[Any] = Range(empty=True)


@st.composite
def range_values(draw: DrawFn, bounds: SearchStrategy[Any]) -> Range[Any]:
    """Ranges with and without bounds, in order, inclusive or not; among them the empty one."""
    if draw(st.integers(0, 9)) == 9:
        return EMPTY
    lower, upper = draw(st.none() | bounds), draw(st.none() | bounds)
    if lower is not None and upper is not None and upper < lower:
        lower, upper = upper, lower
    return Range(lower, upper, lower_inc=draw(st.booleans()), upper_inc=draw(st.booleans()))


@st.composite
def multirange_values(draw: DrawFn, bounds: SearchStrategy[Any], *, discrete: bool) -> list[Range[Any]]:
    """Ranges that do not touch each other, in any order; the server drops an empty one."""
    chosen = sorted(draw(st.lists(bounds, max_size=8, unique=True)))
    if len(chosen) % 2:
        del chosen[-1]
    pairs = list(zip(chosen[::2], chosen[1::2], strict=True))
    made: list[Range[Any]] = []
    for at, (lower, upper) in enumerate(pairs):
        made.append(
            Range(
                None if at == 0 and draw(st.booleans()) else lower,
                None if at == len(pairs) - 1 and draw(st.booleans()) else upper,
                lower_inc=discrete or draw(st.booleans()),
                upper_inc=not discrete and draw(st.booleans()),
            )
        )
    if draw(st.booleans()):
        made.append(EMPTY)
    return draw(st.permutations(made))


def canonical(value: Range[Any], subtype: Sample, step: Any) -> Range[Any]:
    """Return what a range type holds of a range.

    Where nothing lies between, it is empty. One of discrete values, `step` apart, includes its lower bound and not its
    upper one (rangetypes-discrete).
    """
    if value.isempty:
        return value
    lower = None if value.lower is None else subtype.returned(value.lower)
    upper = None if value.upper is None else subtype.returned(value.upper)
    lower_inc, upper_inc = value.lower_inc, value.upper_inc
    if step is not None:
        if lower is not None and not lower_inc:
            lower, lower_inc = lower + step, True
        if upper is not None and upper_inc:
            upper, upper_inc = upper + step, False
    if lower is None or upper is None or lower < upper or (lower == upper and lower_inc and upper_inc):
        return Range(lower, upper, lower_inc=lower_inc, upper_inc=upper_inc)
    return EMPTY


def range_of(name: str, subtype: Sample, step: Any = None, *, sql: str = "") -> Sample:
    """Sample a range type; `step` lies between two of its discrete values, None where they are continuous."""
    return Sample(
        name,
        range_values(subtype.values),
        literals.range_of(subtype.literal),
        edges=(EMPTY, Range()),
        returned=lambda value: canonical(value, subtype, step),
        sql=sql,
    )


def multirange_of(name: str, subtype: Sample, step: Any = None, *, sql: str = "") -> Sample:
    """Sample a multirange type."""

    def returned(value: list[Range[Any]]) -> list[Range[Any]]:
        held = [canonical(each, subtype, step) for each in value if not each.isempty]
        return sorted(held, key=lambda each: (each.lower is not None, each.lower))

    return Sample(
        name,
        multirange_values(subtype.values, discrete=step is not None),
        literals.multirange_of(subtype.literal),
        edges=([], [Range()]),
        returned=returned,
        nests=False,
        sql=sql,
    )


# A bound that is excluded moves by one, so the very last values are left out.
SUBTYPES: list[tuple[str, Sample, Any]] = [
    ("int4", Sample("int4", integers(-(2**31), 2**31 - 2)), 1),
    ("int8", Sample("int8", integers(-(2**63), 2**63 - 2)), 1),
    (
        "num",
        Sample(
            "numeric",
            decimals() | st.sampled_from((Decimal("Infinity"), Decimal("-Infinity"))),
            literals.number,
            returned=as_numeric,
        ),
        None,
    ),
    ("date", Sample("date", st.dates(dt.date.min + DAY, dt.date.max - DAY), literals.date), DAY),
    ("ts", Sample("timestamp", st.datetimes(), literals.timestamp), None),
    ("tstz", Sample("timestamptz", MOMENTS, literals.timestamp, returned=in_utc), None),
]

RANGES = [
    *(range_of(f"{prefix}range", subtype, step) for prefix, subtype, step in SUBTYPES),
    *(multirange_of(f"{prefix}multirange", subtype, step) for prefix, subtype, step in SUBTYPES),
]
