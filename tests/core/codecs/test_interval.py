"""interval as timedelta: months count as 30 days and years as 365, what does not fit is named."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, decoded, encoded

INTERVAL = 1186


class Duration(timedelta):
    """As pandas and pendulum have one, with attributes beside those of its base."""

    @property
    def days(self) -> int:
        return super().days + 365


class Odd(timedelta):
    @property
    def seconds(self) -> int:
        return 86400


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (timedelta(), "00000000000000000000000000000000"),
        (timedelta(days=1), "00000000000000000000000100000000"),
        (timedelta(days=-1), "0000000000000000ffffffff00000000"),
        (timedelta(days=-400, seconds=5, microseconds=7), "00000000004c4b47fffffe7000000000"),
        (timedelta.max, "000000141dd75fff3b9ac9ff00000000"),
        (timedelta.min, "0000000000000000c465360100000000"),
    ],
)
def test_golden(value: timedelta, wire: str) -> None:
    check_both_ways(INTERVAL, wire, value)


@given(st.timedeltas())
def test_every_timedelta_comes_back(value: timedelta) -> None:
    assert decode(INTERVAL, encode(INTERVAL, value)[4:]) == value


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (
            "000000036c966ee0000000030000000e",
            timedelta(days=428, hours=4, minutes=5, seconds=6, microseconds=700000),
        ),
        ("000000000000000000000000ffffffff", timedelta(days=-30)),
        ("0000000000000000000000000000000d", timedelta(days=395)),
        ("000000000000000000000000fffffff3", timedelta(days=-395)),
        ("0000000000000000fffffffd00000019", timedelta(days=757)),
        ("ffffffffffffffff0000000000000000", timedelta(microseconds=-1)),
        ("7fffffffffffffff0000000000000000", timedelta(microseconds=2**63 - 1)),
        ("80000000000000010000000000000000", timedelta(microseconds=1 - 2**63)),
    ],
)
def test_months_and_signs(wire: str, value: timedelta) -> None:
    assert decoded(INTERVAL, wire) == value


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("7fffffffffffffff7fffffff7fffffff", "the interval infinity"),
        ("80000000000000008000000080000000", "the interval -infinity"),
        ("0000000000000000000000007f50c600", "the interval 178000000 years"),
        ("fffffffffff85ee00000000280af39ff", r"-178000000 years -1 mons \+2 days -00:00:00.5"),
    ],
)
def test_what_a_timedelta_cannot_hold_is_named(wire: str, text: str) -> None:
    with pytest.raises(OverflowError, match=text):
        decoded(INTERVAL, wire)


def test_subclasses_are_taken_by_their_attributes() -> None:
    assert encoded(INTERVAL, Duration(days=1)) == encoded(INTERVAL, timedelta(days=366))
    check_refused(INTERVAL, Odd(), ValueError, "is not an interval")


@pytest.mark.parametrize("value", ["1 day", 86400, 1.5])
def test_other_types_are_refused(value: object) -> None:
    check_refused(INTERVAL, value, TypeError, "expected datetime.timedelta")


def test_hostile() -> None:
    check_hostile(INTERVAL, "", "00" * 15, "00" * 17)
