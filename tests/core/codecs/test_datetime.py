"""Dates and times: to the microsecond, with infinities, and nothing out of range goes unseen."""

from __future__ import annotations

import time as time_module
from datetime import UTC, date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace._core.codecs.testing import decode, encode

from .wire import check_both_ways, check_hostile, check_refused, decoded, encoded

DATE, TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ = 1082, 1083, 1266, 1114, 1184

INDIA = timezone(timedelta(hours=5, minutes=30))
KEPT_TO_THE_SECOND = timezone(timedelta(hours=5, minutes=30, seconds=15))


class Moment(datetime):
    """As freezegun, pandas and pendulum have one: a datetime of a class of its own."""


class NotATime(datetime):
    """Like pandas.NaT, which is a datetime without being one."""

    @property
    def year(self) -> float:  # type: ignore[override]
        return float("nan")


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (date(2000, 1, 1), "00000000"),
        (date(2024, 2, 29), "00002279"),
        (date(1999, 12, 31), "ffffffff"),
        (date(1, 1, 2), "fff4dbfa"),
        (date(9999, 12, 30), "002c95d2"),
        (date.max, "7fffffff"),
        (date.min, "80000000"),
    ],
)
def test_date(value: date, wire: str) -> None:
    check_both_ways(DATE, wire, value)


@given(st.dates(date(1, 1, 2), date(9999, 12, 30)))
def test_every_date_comes_back(value: date) -> None:
    data = encode(DATE, value)[4:]
    assert int.from_bytes(data, "big", signed=True) == value.toordinal() - date(2000, 1, 1).toordinal()
    assert decode(DATE, data) == value


def test_a_datetime_is_a_date() -> None:
    assert encoded(DATE, datetime(2024, 2, 29, 23, 59)) == "00002279"


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("fff49d7b", "0044-03-15 BC"),
        ("ffda97cd", "4713-01-01 BC"),
        ("0064511d", "20000-01-01"),
        ("7fda970c", "5874897-12-31"),
    ],
)
def test_a_date_that_python_cannot_hold_is_named(wire: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        decoded(DATE, wire)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (time(0), "0000000000000000"),
        (time(4, 5, 6, 789000), "000000036c97ca88"),
        (time.max, "000000141dd75fff"),
    ],
)
def test_time(value: time, wire: str) -> None:
    check_both_ways(TIME, wire, value)


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (time(10, tzinfo=UTC), "0000000861c4680000000000"),
        (time(10, tzinfo=INDIA), "0000000861c46800ffffb2a8"),
        (
            time(10, tzinfo=timezone(-timedelta(hours=15, minutes=59, seconds=59))),
            "0000000861c468000000e0ff",
        ),
        (time(10, 0, 0, 500000, KEPT_TO_THE_SECOND), "0000000861cc0920ffffb299"),
    ],
)
def test_timetz(value: time, wire: str) -> None:
    check_both_ways(TIMETZ, wire, value)
    result = decoded(TIMETZ, wire)
    assert isinstance(result, time)
    assert result.utcoffset() == value.utcoffset()


@pytest.mark.parametrize(("oid", "zone"), [(TIME, ""), (TIMETZ, "00000000")])
def test_24_00_is_named(oid: int, zone: str) -> None:
    with pytest.raises(ValueError, match="24:00:00 does not fit"):
        decoded(oid, "000000141dd76000" + zone)


def test_times_with_and_without_a_zone_are_told_apart() -> None:
    check_refused(TIME, time(10, tzinfo=UTC), ValueError, "use timetz, or drop its tzinfo")
    check_refused(TIMETZ, time(10), ValueError, "use time, or give it a tzinfo")


def test_a_zone_needs_an_offset_that_does_not_depend_on_the_date() -> None:
    check_refused(TIMETZ, time(10, tzinfo=ZoneInfo("Europe/Paris")), ValueError, "depends on the date")
    assert encoded(TIMETZ, time(10, tzinfo=ZoneInfo("UTC"))) == "0000000861c4680000000000"


@pytest.mark.parametrize("offset", [timedelta(hours=16), -timedelta(hours=16), timedelta(hours=1, microseconds=1)])
def test_offsets_that_the_server_does_not_take(offset: timedelta) -> None:
    check_refused(TIMETZ, time(10, tzinfo=timezone(offset)), ValueError, "expected an offset")


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        (datetime(2000, 1, 1), "0000000000000000"),
        (datetime(2024, 2, 29, 12, 34, 56, 789012), "0002b58341728614"),
        (datetime(1969, 7, 20, 20, 17, 40), "fffc96188bae6100"),
        (datetime(1, 1, 1, 0, 0, 0, 1), "ff1fe2ffc59c6001"),
        (datetime(9999, 12, 31, 23, 59, 59, 999998), "0380e70b913b7ffe"),
        (datetime.max, "7fffffffffffffff"),
        (datetime.min, "8000000000000000"),
    ],
)
def test_timestamp(value: datetime, wire: str) -> None:
    check_both_ways(TIMESTAMP, wire, value)


def test_timestamptz_is_sent_as_the_moment_and_read_in_utc() -> None:
    value = datetime(2024, 2, 29, 12, 34, 56, 789012, INDIA)
    assert encoded(TIMESTAMPTZ, value) == "0002b57ea5468014"
    result = decoded(TIMESTAMPTZ, "0002b57ea5468014")
    assert isinstance(result, datetime)
    assert result == value
    assert result.tzinfo is UTC


@given(st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=st.timezones()))
def test_every_moment_comes_back(value: datetime) -> None:
    # Across a gap or a fold Python compares in a way of its own; the moment is what counts.
    assert decode(TIMESTAMPTZ, encode(TIMESTAMPTZ, value)[4:]) == value.astimezone(UTC)


def test_infinite_moments_are_the_constants_and_naive() -> None:
    assert decoded(TIMESTAMPTZ, "7fffffffffffffff") == datetime.max
    assert decoded(TIMESTAMPTZ, "8000000000000000") == datetime.min
    for value in (datetime.max, datetime.max.replace(tzinfo=UTC)):
        assert encoded(TIMESTAMPTZ, value) == "7fffffffffffffff"
    for value in (datetime.min, datetime.min.replace(tzinfo=UTC)):
        assert encoded(TIMESTAMPTZ, value) == "8000000000000000"
    # The last moment in India is none in UTC.
    last = datetime(9999, 12, 31, 18, 29, 59, 999999)
    assert encoded(TIMESTAMPTZ, datetime.max.replace(tzinfo=INDIA)) == encoded(TIMESTAMP, last)


def test_a_moment_before_year_1_in_utc_can_be_sent() -> None:
    data = encode(TIMESTAMPTZ, datetime.min.replace(tzinfo=INDIA))[4:]
    with pytest.raises(OverflowError, match=r"0001-12-31 18:30:00\+00 BC"):
        decode(TIMESTAMPTZ, data)


def test_a_naive_datetime_is_in_the_local_zone() -> None:
    local = datetime(2024, 7, 1, 12).astimezone()
    assert encoded(TIMESTAMPTZ, datetime(2024, 7, 1, 12)) == encoded(TIMESTAMPTZ, local)
    midnight = datetime(2024, 7, 1).astimezone()
    assert encoded(TIMESTAMPTZ, date(2024, 7, 1)) == encoded(TIMESTAMPTZ, midnight)


@pytest.mark.parametrize(("zone", "hours"), [("UTC0", 0), ("<+01>-1", 1), ("<-05>5", -5)])
@pytest.mark.parametrize(
    "value", [date.max, date(1, 1, 2), datetime(9999, 12, 31, 23, 30), datetime(1, 1, 1, 0, 30), datetime(1, 1, 1, 23)]
)
def test_local_time_goes_to_the_ends_of_the_calendar(
    monkeypatch: pytest.MonkeyPatch, value: date, zone: str, hours: int
) -> None:
    """astimezone() does not: it looks at the days around, and has none beyond."""
    monkeypatch.setenv("TZ", zone)
    time_module.tzset()
    try:
        data = encode(TIMESTAMPTZ, value)[4:]
    finally:
        monkeypatch.undo()
        time_module.tzset()
    midnight = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    local = (midnight - datetime(2000, 1, 1)) // timedelta(microseconds=1)
    assert int.from_bytes(data, "big", signed=True) == local - hours * 3_600_000_000


def test_an_aware_datetime_is_no_timestamp() -> None:
    check_refused(TIMESTAMP, datetime(2024, 1, 1, tzinfo=UTC), ValueError, "value.replace(tzinfo=None)")


def test_a_date_is_its_midnight() -> None:
    assert encoded(TIMESTAMP, date(2000, 1, 2)) == "000000141dd76000"


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        ("ff1af9e8fb4e7120", "0044-03-15 12:00:00.5 BC"),
        ("7fffff5bb3b29fff", "294276-12-31 23:59:59.999999"),
        ("0380e70b913b8000", "10000-01-01 00:00:00"),
    ],
)
def test_a_moment_that_python_cannot_hold_is_named(wire: str, text: str) -> None:
    with pytest.raises(OverflowError, match=f"the timestamp {text} does not fit"):
        decoded(TIMESTAMP, wire)
    with pytest.raises(OverflowError, match="the timestamptz"):
        decoded(TIMESTAMPTZ, wire)


@pytest.mark.parametrize("oid", [DATE, TIMESTAMP, TIMESTAMPTZ])
def test_subclasses_are_taken_by_their_attributes(oid: int) -> None:
    plain = datetime(2024, 2, 29, 12, 34, 56, 789012)
    assert encoded(oid, Moment(2024, 2, 29, 12, 34, 56, 789012)) == encoded(oid, plain)
    with pytest.raises((ValueError, TypeError)):
        encode(oid, NotATime(2024, 2, 29))


@pytest.mark.parametrize("oid", [DATE, TIME, TIMETZ, TIMESTAMP, TIMESTAMPTZ])
@pytest.mark.parametrize("value", ["2024-02-29", 1709210096, b"", timedelta(1)])
def test_other_types_are_refused(oid: int, value: object) -> None:
    quoted = oid in (TIMESTAMP, TIMESTAMPTZ)
    check_refused(oid, value, TypeError, f"got '{type(value).__name__}'" if quoted else f"got {type(value).__name__}")


def test_hostile() -> None:
    check_hostile(DATE, "", "000000", "0000000000")
    check_hostile(TIME, "", "00", "ffffffffffffffff", "000000141dd76001", "000000000000000000")
    check_hostile(TIMETZ, "", "0000000861c46800", "0000000861c468007fffffff", "0000000861c468000001518000")
    check_hostile(TIMESTAMP, "", "00000000000000", "000000000000000000")
    check_hostile(TIMESTAMPTZ, "", "00000000000000", "000000000000000000")
