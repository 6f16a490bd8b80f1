"""tid, pg_snapshot and txid_snapshot as tuples of numbers.

A tid is a block number and an offset (tidsend()). A snapshot is xmin, xmax and the transactions in progress
between them (pg_snapshot_send(); functions-info, "Snapshot Components").
"""

from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int64_t, uint16_t, uint32_t, uint64_t

from headrace.exceptions import ProtocolError

from headrace._core.wire.buffer cimport WriteBuffer, load_i32, load_i64, load_u16, load_u32, reserve
from headrace._core.wire.buffer cimport begin_length, end_length, put_i32, put_i64, store_u16, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport whole_number

cdef enum:
    HEAD = 20       # of a snapshot: the number of transactions, xmin and xmax

cdef uint64_t MAX_XID = 0x7fffffffffffffff


cdef uint64_t number_within(object value, uint64_t high, str meaning) except? 0xdead:
    """Return a whole number from 0 to `high`; `meaning` describes the number in errors."""
    cdef:
        object number = whole_number(value)
        int overflow = 0
        long long plain = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow != 0 or plain < 0 or <uint64_t>plain > high:
        raise OverflowError(f'{meaning} range: expected 0 to {high}, got {number}')
    return <uint64_t>plain


cdef object decode_tid(Codec codec, const char *data, Py_ssize_t size):
    if size != 6:
        bad_length(codec, size, '6 bytes')
    return (load_u32(data), load_u16(data + 4))


cdef int encode_tid(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        uint64_t block, offset
        char *at
    if not isinstance(value, (tuple, list)):
        raise TypeError(f'list or tuple expected (got type {type(value)}): (block, offset)')
    if len(value) != 2:
        raise ValueError(f'invalid number of elements in tid tuple, expecting 2, got {len(value)}: (block, offset)')
    block = number_within(value[0], 0xffffffff, 'tuple id block value out of uint32')
    offset = number_within(value[1], 0xffff, 'tuple id offset value out of uint16')
    at = reserve(out, 10)
    store_u32(at, 6)
    store_u32(at + 4, <uint32_t>block)
    store_u16(at + 8, <uint16_t>offset)
    return 0


cdef object decode_snapshot(Codec codec, const char *data, Py_ssize_t size):
    cdef:
        int64_t count
        Py_ssize_t index
        tuple running
        object number
    if size < HEAD:
        bad_length(codec, size, 'at least 20 bytes')
    count = load_i32(data)
    if count < 0 or size != HEAD + 8 * count:
        raise ProtocolError(f'a {codec.name} value of {count} transactions in {size} bytes from the server')
    running = PyTuple_New(count)
    for index in range(count):
        number = load_i64(data + HEAD + 8 * index)
        Py_INCREF(number)
        PyTuple_SET_ITEM(running, index, number)
    return (load_i64(data + 4), load_i64(data + 12), running)


cdef int encode_snapshot(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        Py_ssize_t start
        tuple running
        object number
    if not isinstance(value, (tuple, list)):
        raise TypeError(f'list or tuple expected (got type {type(value)}): (xmin, xmax, (xid, ...))')
    if len(value) != 3 or not isinstance(value[2], (tuple, list)):
        raise ValueError('expected a tuple (xmin, xmax, (xid, ...))')
    running = tuple(value[2])
    start = begin_length(out)
    put_i32(out, <int>len(running))
    put_i64(out, number_within(value[0], MAX_XID, 'xmin value out of int64'))
    put_i64(out, number_within(value[1], MAX_XID, 'xmax value out of int64'))
    for number in running:
        put_i64(out, number_within(number, MAX_XID, 'transaction id value out of int64'))
    return end_length(out, start)


scalar(27, 'tid', 'tuple[int, int]', encode_tid, decode_tid)
scalar(5038, 'pg_snapshot', 'tuple[int, int, tuple[int, ...]]', encode_snapshot, decode_snapshot)
scalar(2970, 'txid_snapshot', 'tuple[int, int, tuple[int, ...]]', encode_snapshot, decode_snapshot)
