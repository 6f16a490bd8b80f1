"""The integer types: int2, int4 and int8, and the unsigned types of the system catalogues.

The formats are those of int2send(), int4send(), int8send(), oidsend(), xidsend(), cidsend(), xid8send(), oid8send()
and pg_lsn_send(): big-endian two's complement, or big-endian unsigned, of the type's own width.
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_CheckExact
from cpython.long cimport PyLong_FromLong, PyLong_FromLongLong
from cpython.long cimport PyLong_FromUnsignedLong, PyLong_FromUnsignedLongLong
from libc.stdint cimport INT64_MAX, INT64_MIN, int16_t, int32_t, int64_t, uint16_t, uint32_t, uint64_t

from headrace._core.wire.buffer cimport WriteBuffer, reserve
from headrace._core.wire.buffer cimport load_i16, load_i32, load_i64, load_u32, load_u64
from headrace._core.wire.buffer cimport store_u16, store_u32, store_u64
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport whole_number


cdef int out_of_range(str kind, object low, object high, object value) except -1:
    raise OverflowError(f'value out of {kind} range: expected {low} to {high}, got {brief(value)}')


cdef str brief(object value):
    """Return the number as text, or its size if it might exceed the interpreter's limit for such conversions."""
    cdef object bits = value.bit_length()
    return str(int(value)) if bits <= 128 else f'an integer of {bits} bits'


cdef inline int64_t within(object value, int64_t low, int64_t high, str kind) except? -1:
    """Return `value` as a C integer; raises OverflowError if it is out of bounds."""
    cdef:
        int overflow = 0
        long long number
    if not PyLong_CheckExact(value):
        value = whole_number(value)
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow != 0 or number < low or number > high:
        out_of_range(kind, low, high, value)
    return number


cdef inline uint64_t unsigned_within(object value, uint64_t high, str kind) except? 0xdead:
    """Return `value` as an unsigned C integer of at most `high`; raises OverflowError if it is out of bounds."""
    cdef:
        int overflow = 0
        long long number
    if not PyLong_CheckExact(value):
        value = whole_number(value)
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow > 0 and value.bit_length() <= 64:
        return PyLong_AsUnsignedLongLong(value) if high > 0xffffffff else out_of_range(kind, 0, high, value)
    if overflow != 0 or number < 0 or <uint64_t>number > high:
        out_of_range(kind, 0, high, value)
    return <uint64_t>number


cdef object decode_int2(Codec codec, const char *data, Py_ssize_t size):
    if size != 2:
        bad_length(codec, size, '2 bytes')
    return PyLong_FromLong(load_i16(data))


cdef int encode_int2(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        int64_t number = within(value, -0x8000, 0x7fff, 'int16')
        char *at = reserve(out, 6)
    store_u32(at, 2)
    store_u16(at + 4, <uint16_t>number)
    return 0


cdef object decode_int4(Codec codec, const char *data, Py_ssize_t size):
    if size != 4:
        bad_length(codec, size, '4 bytes')
    return PyLong_FromLong(load_i32(data))


cdef int encode_int4(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        int64_t number = within(value, -0x80000000LL, 0x7fffffffLL, 'int32')
        char *at = reserve(out, 8)
    store_u32(at, 4)
    store_u32(at + 4, <uint32_t>number)
    return 0


cdef object decode_int8(Codec codec, const char *data, Py_ssize_t size):
    if size != 8:
        bad_length(codec, size, '8 bytes')
    return PyLong_FromLongLong(load_i64(data))


cdef int encode_int8(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        int64_t number = within(value, INT64_MIN, INT64_MAX, 'int64')
        char *at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, <uint64_t>number)
    return 0


cdef object decode_uint4(Codec codec, const char *data, Py_ssize_t size):
    if size != 4:
        bad_length(codec, size, '4 bytes')
    return PyLong_FromUnsignedLong(load_u32(data))


cdef int encode_uint4(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        uint64_t number = unsigned_within(value, 0xffffffff, 'uint32')
        char *at = reserve(out, 8)
    store_u32(at, 4)
    store_u32(at + 4, <uint32_t>number)
    return 0


cdef object decode_uint8(Codec codec, const char *data, Py_ssize_t size):
    if size != 8:
        bad_length(codec, size, '8 bytes')
    return PyLong_FromUnsignedLongLong(load_u64(data))


cdef int encode_uint8(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        uint64_t number = unsigned_within(value, 0xffffffffffffffffULL, 'uint64')
        char *at = reserve(out, 12)
    store_u32(at, 8)
    store_u64(at + 4, number)
    return 0


scalar(21, 'int2', 'int', encode_int2, decode_int2)
scalar(23, 'int4', 'int', encode_int4, decode_int4)
scalar(20, 'int8', 'int', encode_int8, decode_int8)
scalar(26, 'oid', 'int', encode_uint4, decode_uint4)
scalar(28, 'xid', 'int', encode_uint4, decode_uint4)
scalar(29, 'cid', 'int', encode_uint4, decode_uint4)
scalar(5069, 'xid8', 'int', encode_uint8, decode_uint8)
scalar(6437, 'oid8', 'int', encode_uint8, decode_uint8)
scalar(3220, 'pg_lsn', 'int', encode_uint8, decode_uint8)
