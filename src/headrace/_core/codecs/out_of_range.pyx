"""Codecs that read dates and times out of Python's range as the server's text, for out_of_range="text".

Such values are dates before year 1 or after 9999, the time 24:00:00 and infinite intervals. All other values, and all
parameters, are as in datetime.pyx and interval.pyx.
"""

from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int64_t, uint32_t

from headrace._core.wire.buffer cimport load_i32, load_i64
from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.calendar cimport date_text, interval_text, time_text, timestamp_text, zone_text
from headrace._core.codecs.domain cimport AliasCodec, alias_codec

cdef enum:
    DATE = 1082
    TIME = 1083
    TIMESTAMP = 1114
    TIMESTAMPTZ = 1184
    INTERVAL = 1186
    TIMETZ = 1266

LENIENT = frozenset((DATE, TIME, TIMESTAMP, TIMESTAMPTZ, INTERVAL, TIMETZ))


cdef Codec lenient(Codec base):
    """Return the lenient variant of the codec of a date or time; any other codec is returned unchanged."""
    cdef AliasCodec codec
    if base.oid not in LENIENT:
        return base
    codec = alias_codec(base.oid, base.name, base.schema, base.kind, base)
    codec.python = f'{base.python} | str'
    codec.decode = decode_lenient
    return codec


cdef bint is_lenient(Codec codec) noexcept:
    return codec.decode == decode_lenient


cdef object decode_lenient(Codec self, const char *data, Py_ssize_t size):
    cdef Codec base = (<AliasCodec>self).base
    try:
        return base.decode(base, data, size)
    except (ValueError, OverflowError):
        # The size is right: a wrong one would be a ProtocolError.
        return as_text(base.oid, data)


cdef str exact_text(Codec base, const char *data, Py_ssize_t size):
    """Return the server's text for any value of a date or time type, even one that Python can hold."""
    try:
        # This checks the size.
        base.decode(base, data, size)
    except (ValueError, OverflowError):
        pass
    return as_text(base.oid, data)


cdef str as_text(uint32_t oid, const char *data):
    if oid == DATE:
        return date_text(load_i32(data))
    if oid == TIME:
        return time_text(load_i64(data))
    if oid == TIMETZ:
        return time_text(load_i64(data)) + zone_text(-<int64_t>load_i32(data + 8))
    if oid == TIMESTAMP:
        return timestamp_text(load_i64(data), '')
    if oid == TIMESTAMPTZ:
        return timestamp_text(load_i64(data), '+00')
    if load_i32(data + 12) == INT32_MAX and load_i32(data + 8) == INT32_MAX and load_i64(data) == INT64_MAX:
        return 'infinity'
    if load_i32(data + 12) == INT32_MIN and load_i32(data + 8) == INT32_MIN and load_i64(data) == INT64_MIN:
        return '-infinity'
    return interval_text(load_i32(data + 12), load_i32(data + 8), load_i64(data))
