"""date, time, timetz, timestamp and timestamptz.

The formats are those of date_send(), time_send(), timetz_send(), timestamp_send() and timestamptz_send() in the
server's date.c and timestamp.c: days or microseconds from 2000-01-01, and for time zones the seconds *west* of
Greenwich.

Infinity is date.max or datetime.max, and minus infinity date.min or datetime.min: naive for timestamptz too, so that
they equal the constants. Values that Python cannot hold (a year before 1 or after 9999, the time 24:00:00) raise
ValueError or OverflowError; the codecs in out_of_range.pyx return such values as text.
"""

import datetime
from datetime import timedelta

from cpython.datetime cimport (
    PyDate_Check, PyDate_CheckExact, PyDateTime_Check, PyDateTime_CheckExact, PyTime_Check, PyTime_CheckExact,
    date_day, date_month, date_new, date_year, datetime_day, datetime_hour, datetime_microsecond, datetime_minute,
    datetime_month, datetime_new, datetime_second, datetime_tzinfo, datetime_year, import_datetime, time_hour,
    time_microsecond, time_minute, time_new, time_second, time_tzinfo, timedelta_days, timedelta_microseconds,
    timedelta_seconds,
)
from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int32_t, int64_t, uint32_t, uint64_t

from headrace._core.wire.buffer cimport WriteBuffer, load_i32, load_i64, reserve, store_u32, store_u64
from headrace._core.codecs.base cimport Codec, bad_length, missing_attribute, scalar
from headrace._core.codecs.calendar cimport (
    DAY, FIRST_DAY, LAST_DAY, civil, civil_from_days, date_text, days_from_civil, time_text, timestamp_text,
)
from headrace._core.codecs.coercion cimport enum_value

from headrace.exceptions import ProtocolError
from headrace.exceptions._values import shown

import_datetime()

cdef:
    object UTC = datetime.timezone.utc
    object DATE_MAX = datetime.date.max
    object DATE_MIN = datetime.date.min
    object DATETIME_MAX = datetime.datetime.max
    object DATETIME_MIN = datetime.datetime.min
    # Offset in seconds -> timezone. Few are in use at once, and making one takes longer than decoding the rest.
    dict ZONES = {}


# --- date

cdef int put_date(WriteBuffer out, int64_t days) except -1:
    cdef char *at = reserve(out, 8)
    store_u32(at, 4)
    store_u32(at + 4, <uint32_t><int32_t>days)
    return 0


cdef int date_encode(Codec codec, WriteBuffer out, object value) except -1:
    cdef int64_t days
    if not PyDate_Check(value):
        value = enum_value(value)
        if not PyDate_Check(value):
            missing_attribute('datetime.date', value, 'toordinal')
    if PyDate_CheckExact(value) or PyDateTime_CheckExact(value):
        days = days_from_civil(date_year(value), <uint32_t>date_month(value), <uint32_t>date_day(value))
    else:
        days = days_of_subclass(value)
    if days == LAST_DAY:
        days = INT32_MAX
    elif days == FIRST_DAY:
        days = INT32_MIN
    return put_date(out, days)


cdef object date_decode(Codec codec, const char *data, Py_ssize_t size):
    cdef:
        int32_t days
        civil date
    if size != 4:
        bad_length(codec, size, '4 bytes')
    days = load_i32(data)
    if days < FIRST_DAY or days > LAST_DAY:
        if days == INT32_MAX:
            return DATE_MAX
        if days == INT32_MIN:
            return DATE_MIN
        raise ValueError(f'the date {date_text(days)} does not fit datetime.date, which holds the years 1 to 9999')
    date = civil_from_days(days)
    return date_new(date.year, date.month, date.day)


cdef int64_t days_of_subclass(object value) except? -1:
    """Return the days of a subclass of date by its attributes. The year of pandas' NaT, a datetime, is not a number."""
    cdef:
        int64_t year = value.year
        int64_t month = value.month
        int64_t day = value.day
    if not (1 <= year <= 9999 and 1 <= month <= 12 and 1 <= day <= 31):
        raise ValueError(f'{shown(value)} is not a date')
    return days_from_civil(year, <uint32_t>month, <uint32_t>day)


# --- time and timetz

cdef int64_t microseconds_of(object value) except -1:
    """Return the microseconds since midnight of a time."""
    cdef int64_t hour, minute, second, microsecond
    if PyTime_CheckExact(value):
        hour = time_hour(value)
        minute = time_minute(value)
        second = time_second(value)
        microsecond = time_microsecond(value)
    else:
        hour = value.hour
        minute = value.minute
        second = value.second
        microsecond = value.microsecond
        if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59 and 0 <= microsecond <= 999_999):
            raise ValueError(f'{shown(value)} is not a time')
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + microsecond


cdef object time_of(Codec codec, int64_t value, object zone):
    cdef:
        int seconds
    if value < 0 or value >= DAY:
        if value == DAY:
            raise ValueError('the time 24:00:00 does not fit datetime.time, which ends at 23:59:59.999999')
        raise ProtocolError(f'a {codec.name} value from the server of {value} microseconds: a day has {DAY}')
    seconds = <int>(<uint64_t>value // 1_000_000)
    return time_new(seconds // 3600, seconds // 60 % 60, seconds % 60, <int>(<uint64_t>value % 1_000_000), zone)


cdef int time_encode(Codec codec, WriteBuffer out, object value) except -1:
    cdef char *at
    if not PyTime_Check(value):
        value = enum_value(value)
        if not PyTime_Check(value):
            missing_attribute('datetime.time', value, 'hour')
    if time_tzinfo(value) is not None:
        raise ValueError('expected a naive datetime.time, got one with a time zone: use timetz, or drop its tzinfo')
    cdef int64_t microseconds = microseconds_of(value)
    at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, <uint64_t>microseconds)
    return 0


cdef object time_decode(Codec codec, const char *data, Py_ssize_t size):
    if size != 8:
        bad_length(codec, size, '8 bytes')
    return time_of(codec, load_i64(data), None)


cdef int timetz_encode(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        char *at
        int64_t offset, microseconds
        object delta
    if not PyTime_Check(value):
        value = enum_value(value)
        if not PyTime_Check(value):
            missing_attribute('datetime.time with a tzinfo', value, 'tzinfo')
    if time_tzinfo(value) is None:
        raise ValueError('expected a datetime.time with a tzinfo, got a naive one: use time, or give it a tzinfo')
    delta = value.utcoffset()
    if delta is None:
        raise ValueError(
            f'the offset of {shown(value.tzinfo)} depends on the date: give the time a fixed one, such as datetime.timezone'
        )
    offset = <int64_t>timedelta_days(delta) * 86400 + timedelta_seconds(delta)
    if timedelta_microseconds(delta):
        raise ValueError(f'expected an offset in whole seconds, got {delta}')
    if not -57600 < offset < 57600:          # MAX_TZDISP_HOUR in the server's timestamp.h
        raise ValueError(f'expected an offset of less than 16 hours, got {delta}')
    microseconds = microseconds_of(value)
    at = reserve(out, 16)
    store_u32(at, 12)
    store_u64(at + 4, <uint64_t>microseconds)
    store_u32(at + 12, <uint32_t><int32_t>-offset)
    return 0


cdef object timetz_decode(Codec codec, const char *data, Py_ssize_t size):
    if size != 12:
        bad_length(codec, size, '12 bytes')
    return time_of(codec, load_i64(data), zone_of(-<int64_t>load_i32(data + 8)))


cdef object zone_of(int64_t offset):
    """Return the time zone `offset` seconds east of Greenwich."""
    zone = UTC if offset == 0 else ZONES.get(offset)
    if zone is None:
        if not -86400 < offset < 86400:
            raise ProtocolError(f'a time zone from the server that is {offset} seconds off')
        zone = datetime.timezone(datetime.timedelta(seconds=offset))
        if len(ZONES) >= 1024:
            ZONES.clear()
        ZONES[offset] = zone
    return zone


# --- timestamp and timestamptz

cdef int put_timestamp(WriteBuffer out, int64_t value) except -1:
    cdef char *at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, <uint64_t>value)
    return 0


cdef int64_t timestamp_of(object value) except? -1:
    """Return the microseconds from 2000-01-01 of a datetime, ignoring its time zone."""
    cdef int64_t hour, minute, second, microsecond
    if PyDateTime_CheckExact(value):
        return days_from_civil(
            datetime_year(value), <uint32_t>datetime_month(value), <uint32_t>datetime_day(value)
        ) * DAY + (
            (<int64_t>datetime_hour(value) * 60 + datetime_minute(value)) * 60 + datetime_second(value)
        ) * 1_000_000 + datetime_microsecond(value)
    hour = value.hour
    minute = value.minute
    second = value.second
    microsecond = value.microsecond
    if not (0 <= hour <= 23 and 0 <= minute <= 59 and 0 <= second <= 59 and 0 <= microsecond <= 999_999):
        raise ValueError(f'{shown(value)} is not a time')
    return days_of_subclass(value) * DAY + ((hour * 60 + minute) * 60 + second) * 1_000_000 + microsecond


cdef inline int64_t or_infinity(int64_t timestamp) noexcept:
    """Return infinity for datetime.max and minus infinity for datetime.min; any other time unchanged."""
    if timestamp == (LAST_DAY + 1) * DAY - 1:
        return INT64_MAX
    if timestamp == FIRST_DAY * DAY:
        return INT64_MIN
    return timestamp


cdef int not_a_date(object value) except -1:
    raise TypeError(f"expected a datetime.date or datetime.datetime instance, got '{type(value).__name__}'")


cdef object decode_timestamp(Codec codec, const char *data, Py_ssize_t size, object zone):
    cdef:
        int64_t value
        uint64_t elapsed, of_day
        civil date
        int seconds
    if size != 8:
        bad_length(codec, size, '8 bytes')
    value = load_i64(data)
    if value < FIRST_DAY * DAY or value >= (LAST_DAY + 1) * DAY:
        if value == INT64_MAX:
            return DATETIME_MAX
        if value == INT64_MIN:
            return DATETIME_MIN
        text = timestamp_text(value, '' if zone is None else '+00')
        raise OverflowError(
            f'the {codec.name} {text} does not fit datetime.datetime, which holds the years 1 to 9999'
        )
    elapsed = <uint64_t>(value - FIRST_DAY * DAY)
    of_day = elapsed % <uint64_t>DAY
    date = civil_from_days(<int64_t>(elapsed // <uint64_t>DAY) + FIRST_DAY)
    seconds = <int>(of_day // 1_000_000)
    return datetime_new(
        date.year, date.month, date.day, seconds // 3600, seconds // 60 % 60, seconds % 60,
        <int>(of_day % 1_000_000), zone,
    )


cdef int timestamp_encode(Codec codec, WriteBuffer out, object value) except -1:
    if not PyDate_Check(value):
        value = enum_value(value)
    if PyDateTime_Check(value):
        if datetime_tzinfo(value) is not None:
            raise ValueError(
                "can't subtract offset-naive and offset-aware datetimes: expected a naive one, got one with a time zone: "
                'use timestamptz, or value.replace(tzinfo=None)'
            )
        return put_timestamp(out, or_infinity(timestamp_of(value)))
    if PyDate_Check(value):
        return put_timestamp(out, or_infinity(days_of_subclass(value) * DAY))
    not_a_date(value)


cdef object timestamp_decode(Codec codec, const char *data, Py_ssize_t size):
    return decode_timestamp(codec, data, size, None)


cdef int64_t microseconds(object delta) except? -1:
    return (
        (<int64_t>timedelta_days(delta) * 86400 + timedelta_seconds(delta)) * 1_000_000 + timedelta_microseconds(delta)
    )


cdef int64_t local_offset(object value) except? -1:
    """Return the microseconds that the local time zone of this process is ahead of UTC at a naive datetime.

    astimezone() needs the day before and after. At the ends of the calendar the offset two days further inside is used.
    """
    try:
        return microseconds(value.astimezone().utcoffset())
    except (ValueError, OverflowError):
        return microseconds((value + timedelta(days=2 if value.year == 1 else -2)).astimezone().utcoffset())


cdef int timestamptz_encode(Codec codec, WriteBuffer out, object value) except -1:
    """Write an aware datetime; a naive one is in the local time zone of this process, as for astimezone()."""
    cdef:
        int64_t timestamp, offset
        object delta
    if not PyDate_Check(value):
        value = enum_value(value)
    if not PyDateTime_Check(value):
        if not PyDate_Check(value):
            not_a_date(value)
        if days_of_subclass(value) == FIRST_DAY:
            return put_timestamp(out, INT64_MIN)  # its midnight is datetime.min, which means -infinity
        value = datetime_new(value.year, value.month, value.day, 0, 0, 0, 0, None)
        return put_timestamp(out, timestamp_of(value) - local_offset(value))
    timestamp = timestamp_of(value)
    if datetime_tzinfo(value) is UTC:
        return put_timestamp(out, or_infinity(timestamp))
    delta = value.utcoffset()
    if delta is None:
        if or_infinity(timestamp) == timestamp:
            timestamp -= local_offset(value)
        return put_timestamp(out, or_infinity(timestamp))
    offset = microseconds(delta)
    return put_timestamp(out, or_infinity(timestamp) if offset == 0 else timestamp - offset)


cdef object timestamptz_decode(Codec codec, const char *data, Py_ssize_t size):
    return decode_timestamp(codec, data, size, UTC)


scalar(1082, 'date', 'datetime.date', date_encode, date_decode)
scalar(1083, 'time', 'datetime.time', time_encode, time_decode)
scalar(1266, 'timetz', 'datetime.time', timetz_encode, timetz_decode)
scalar(1114, 'timestamp', 'datetime.datetime', timestamp_encode, timestamp_decode)
scalar(1184, 'timestamptz', 'datetime.datetime', timestamptz_encode, timestamptz_decode)
