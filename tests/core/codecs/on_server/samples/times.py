"""Dates, times and intervals.

The first and the last date, and the first and the last datetime, stand for the infinities.
"""

from __future__ import annotations

import datetime as dt

from hypothesis import strategies as st

from tests.core.codecs.on_server import literals
from tests.core.codecs.on_server.samples.sample import Sample

DAY = dt.timedelta(days=1)
MICROSECOND = dt.timedelta(microseconds=1)

MAX_OFFSET = dt.timedelta(hours=15, minutes=59, seconds=59)
"""The farthest from Greenwich that the server takes a time in text (MAX_TZDISP_HOUR in its timestamp.h)."""

OFFSETS = st.integers(-int(MAX_OFFSET.total_seconds()), int(MAX_OFFSET.total_seconds())) | st.sampled_from(
    [0, 3600, -5 * 3600, 19800, -12600, 1, -1]
)
ZONES = OFFSETS.map(lambda seconds: dt.timezone(dt.timedelta(seconds=seconds)))

EAST = dt.timezone(MAX_OFFSET)
WEST = dt.timezone(-MAX_OFFSET)

DATE_EDGES = (
    *(dt.date.min, dt.date.min + DAY, dt.date.max - DAY, dt.date.max),
    *(dt.date(1999, 12, 31), dt.date(2000, 1, 1), dt.date(2000, 2, 29), dt.date(1900, 3, 1), dt.date(1970, 1, 1)),
)
MOMENT_EDGES = (
    *(dt.datetime.min + MICROSECOND, dt.datetime.max - MICROSECOND),
    *(dt.datetime(1999, 12, 31, 23, 59, 59, 999999), dt.datetime(2000, 1, 1), dt.datetime(2000, 1, 1, 0, 0, 0, 1)),
)
INFINITIES = (dt.datetime.min, dt.datetime.max)

MOMENTS = st.datetimes(dt.datetime(2, 1, 1), dt.datetime(9998, 12, 31), timezones=ZONES)
"""Moments with a time zone whose date is one of Python's in UTC, too."""


def in_utc(value: dt.datetime) -> dt.datetime:
    """Return what timestamptz holds of a value: the moment, in UTC; an infinity has no time zone."""
    if value.replace(tzinfo=None) in INFINITIES and not value.utcoffset():
        return value.replace(tzinfo=None)
    return value.astimezone(dt.UTC)


TIMES = [
    Sample("date", st.dates(), literals.date, edges=DATE_EDGES),
    Sample("time", st.times(), dt.time.isoformat, edges=(dt.time.min, dt.time.max, dt.time(1, 2, 3, 400000))),
    Sample(
        "timetz",
        st.times(timezones=ZONES),
        dt.time.isoformat,
        edges=tuple(time.replace(tzinfo=zone) for time in (dt.time.min, dt.time.max) for zone in (dt.UTC, EAST, WEST)),
    ),
    Sample("timestamp", st.datetimes(), literals.timestamp, edges=(*MOMENT_EDGES, *INFINITIES)),
    Sample(
        "timestamptz",
        MOMENTS,
        literals.timestamp,
        edges=(
            *(moment.replace(tzinfo=dt.UTC) for moment in (*MOMENT_EDGES, *INFINITIES)),
            *INFINITIES,
            dt.datetime(2024, 2, 29, tzinfo=EAST),
            dt.datetime(2024, 2, 29, tzinfo=WEST),
        ),
        returned=in_utc,
    ),
    Sample(
        "interval",
        st.timedeltas(),
        literals.interval,
        edges=(dt.timedelta(), dt.timedelta.min, dt.timedelta.max, MICROSECOND, -MICROSECOND, -DAY),
    ),
]
