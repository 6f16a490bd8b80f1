"""interval, as datetime.timedelta.

The format is that of interval_send() in the server's timestamp.c: microseconds, days and months, each with a sign of
its own. A timedelta has neither months nor years, so 12 months count as 365 days and each remaining month as 30.
Infinity (PostgreSQL 17 and newer) and more than 999,999,999 days raise OverflowError, because no timedelta can hold
them. To keep months, use set_type_codec('interval', schema='pg_catalog', format='tuple', ...).
"""

import datetime

from cpython.datetime cimport (
    PyDelta_Check, PyDelta_CheckExact, import_datetime, timedelta_days, timedelta_microseconds, timedelta_new,
    timedelta_seconds,
)
from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int32_t, int64_t, uint32_t, uint64_t

from headrace._core.wire.buffer cimport WriteBuffer, load_i32, load_i64, reserve, store_u32, store_u64
from headrace._core.codecs.base cimport Codec, bad_length, missing_attribute, scalar
from headrace._core.codecs.calendar cimport DAY, interval_text
from headrace._core.codecs.coercion cimport enum_value
from headrace.exceptions._values import shown

import_datetime()

# A timedelta holds from -MOST_DAYS to MOST_DAYS days.
cdef int64_t MOST_DAYS = 999_999_999


cdef int interval_encode(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        int64_t days, seconds, microseconds
        char *at
    if not PyDelta_Check(value):
        value = enum_value(value)
        if not PyDelta_Check(value):
            missing_attribute('datetime.timedelta', value, 'days')
    if PyDelta_CheckExact(value):
        days = timedelta_days(value)
        seconds = timedelta_seconds(value)
        microseconds = timedelta_microseconds(value)
    else:
        # Subclasses may keep years, months or nanoseconds in fields of their own.
        days = value.days
        seconds = value.seconds
        microseconds = value.microseconds
        if not (-MOST_DAYS <= days <= MOST_DAYS and 0 <= seconds < 86400 and 0 <= microseconds < 1_000_000):
            raise ValueError(f'{shown(value)} is not an interval')
    at = reserve(out, 20)
    store_u32(at, 16)
    store_u64(at + 4, <uint64_t>(seconds * 1_000_000 + microseconds))
    store_u32(at + 12, <uint32_t><int32_t>days)
    store_u32(at + 16, 0)
    return 0


cdef object interval_decode(Codec codec, const char *data, Py_ssize_t size):
    cdef:
        int64_t microseconds, days, whole
        int32_t months
    if size != 16:
        bad_length(codec, size, '16 bytes')
    microseconds = load_i64(data)
    days = load_i32(data + 8)
    months = load_i32(data + 12)
    if months == INT32_MAX and days == INT32_MAX and microseconds == INT64_MAX:
        raise OverflowError('the interval infinity does not fit datetime.timedelta')
    if months == INT32_MIN and days == INT32_MIN and microseconds == INT64_MIN:
        raise OverflowError('the interval -infinity does not fit datetime.timedelta')
    # C's division truncates: -13 months are -395 days, as 13 months are 395 days.
    whole = microseconds // DAY
    microseconds -= whole * DAY
    if microseconds < 0:
        microseconds += DAY
        whole -= 1
    whole += days + <int64_t>(months // 12) * 365 + <int64_t>(months % 12) * 30
    if not -MOST_DAYS <= whole <= MOST_DAYS:
        text = interval_text(load_i32(data + 12), load_i32(data + 8), load_i64(data))
        raise OverflowError(f'the interval {text} does not fit datetime.timedelta, which holds {MOST_DAYS} days')
    return timedelta_new(
        <int>whole, <int>(<uint64_t>microseconds // 1_000_000), <int>(<uint64_t>microseconds % 1_000_000)
    )


scalar(1186, 'interval', 'datetime.timedelta', interval_encode, interval_decode)
