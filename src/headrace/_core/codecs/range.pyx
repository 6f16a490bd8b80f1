"""Ranges as headrace.Range, and multiranges as lists of them.

The formats are those of range_send() in the server's rangetypes.c, a byte of flags and the bounds there are, each with
its length, and of multirange_send() in multirangetypes.c: a count, and the ranges, each with its length. If the
subtype's codec works in text, so do these: see container_text.pyx.

Python values: a Range, or a list or tuple as asyncpg takes it: () is empty, (lower,) is [lower, infinity) and
(lower, upper) *includes* its upper bound. None means no bound. A multirange is any sequence of these.
"""

from collections.abc import Sequence

from cpython.list cimport PyList_New
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int32_t, uint32_t

from headrace._core.wire.buffer cimport (
    WriteBuffer, begin_length, end_length, load_i32, put_byte, put_bytes, put_i32,
)
from headrace._core.codecs.base cimport Codec, bad_length
from headrace._core.codecs.container_text cimport Scanner, put_quoted, scan
from headrace._core.codecs.slots cimport slot_fill, slot_offset, slot_value, slotted_new

from headrace.exceptions import ProtocolError
from headrace.types import Range

cdef extern from "platform.h":
    int strncasecmp(const char *left, const char *right, size_t size)

cdef extern from "Python.h":
    void PyList_SET_RAW "PyList_SET_ITEM" (object target, Py_ssize_t i, PyObject *value) noexcept    # steals `value`

cdef enum:
    # rangetypes.h
    EMPTY = 0x01
    LOWER_INCLUSIVE = 0x02
    UPPER_INCLUSIVE = 0x04
    LOWER_INFINITE = 0x08
    UPPER_INFINITE = 0x10

cdef object RANGE = Range
cdef Py_ssize_t LOWER_AT = slot_offset(Range, '_lower')
cdef Py_ssize_t UPPER_AT = slot_offset(Range, '_upper')
cdef Py_ssize_t LOWER_INC_AT = slot_offset(Range, '_lower_inc')
cdef Py_ssize_t UPPER_INC_AT = slot_offset(Range, '_upper_inc')
cdef Py_ssize_t EMPTY_AT = slot_offset(Range, '_empty')
cdef bint SLOTTED = LOWER_AT and UPPER_AT and LOWER_INC_AT and UPPER_INC_AT and EMPTY_AT


cdef struct bounds:
    bint lower_inc
    bint upper_inc
    bint empty


cdef RangeCodec range_codec(uint32_t oid, str name, str schema, Codec subtype):
    """Make the codec of a range type; it is not registered."""
    cdef RangeCodec codec = RangeCodec.__new__(RangeCodec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'range'
    codec.python = f'headrace.Range[{subtype.python}]'
    codec.subtype = subtype
    codec.format = subtype.format
    codec.decode = decode_range if codec.format == 1 else decode_range_text
    codec.encode = encode_range
    return codec


cdef MultirangeCodec multirange_codec(uint32_t oid, str name, str schema, RangeCodec range):
    """Make the codec of a multirange type; it is not registered."""
    cdef MultirangeCodec codec = MultirangeCodec.__new__(MultirangeCodec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'multirange'
    codec.python = f'list[{range.python}]'
    codec.range = range
    codec.format = range.format
    codec.decode = decode_multirange if codec.format == 1 else decode_multirange_text
    codec.encode = encode_multirange
    return codec


# --- reading

cdef object make_range(object lower, object upper, bint lower_inc, bint upper_inc, bint empty):
    """Make a Range by its slots: its constructor would take longer than the rest of decoding."""
    cdef object made
    if not SLOTTED:
        return RANGE(lower, upper, lower_inc=lower_inc, upper_inc=upper_inc, empty=empty)
    made = slotted_new(RANGE)
    slot_fill(made, LOWER_AT, lower)
    slot_fill(made, UPPER_AT, upper)
    # If a custom decoder returns None for a bound, there is no bound.
    slot_fill(made, LOWER_INC_AT, lower_inc and lower is not None)
    slot_fill(made, UPPER_INC_AT, upper_inc and upper is not None)
    slot_fill(made, EMPTY_AT, empty)
    return made


cdef object decode_range(Codec self, const char *data, Py_ssize_t size):
    cdef:
        RangeCodec codec = <RangeCodec>self
        const char *end = data + size
        int flags
        object lower = None
        object upper = None
    if size < 1:
        bad_length(codec, size, 'at least 1 byte')
    flags = <unsigned char>data[0]
    data += 1
    if not flags & EMPTY:
        if not flags & LOWER_INFINITE:
            lower = decode_bound(codec, &data, end)
        if not flags & UPPER_INFINITE:
            upper = decode_bound(codec, &data, end)
    if data != end:
        raise ProtocolError(f'a {codec.name} value from the server has {end - data} bytes too many')
    return make_range(lower, upper, flags & LOWER_INCLUSIVE != 0, flags & UPPER_INCLUSIVE != 0, flags & EMPTY != 0)


cdef object decode_bound(RangeCodec codec, const char **cursor, const char *end):
    cdef:
        const char *data = cursor[0]
        int32_t length
    if end - data < 4:
        raise ProtocolError(f'a {codec.name} value from the server is cut short')
    length = load_i32(data)
    data += 4
    if length < 0 or end - data < length:
        raise ProtocolError(
            f'a {codec.name} value from the server with a bound of {length} bytes, but only {end - data} are left'
        )
    cursor[0] = data + length
    return codec.subtype.decode(codec.subtype, data, length)


cdef object decode_multirange(Codec self, const char *data, Py_ssize_t size):
    cdef:
        MultirangeCodec codec = <MultirangeCodec>self
        const char *end = data + size
        int32_t count, length
        Py_ssize_t i
        list result
        object member
    if size < 4:
        bad_length(codec, size, 'at least 4 bytes')
    count = load_i32(data)
    data += 4
    # Each range takes at least 5 bytes, for its length and its flags.
    if count < 0 or count > (end - data) // 5:
        raise ProtocolError(f'a {codec.name} value of {size} bytes from the server cannot hold {count} ranges')
    result = PyList_New(count)
    for i in range(count):
        if end - data < 4:
            raise ProtocolError(f'a {codec.name} value from the server is cut short')
        length = load_i32(data)
        data += 4
        if length < 0 or end - data < length:
            raise ProtocolError(
                f'a {codec.name} value from the server with a range of {length} bytes, but only {end - data} are left'
            )
        member = decode_range(codec.range, data, length)
        Py_INCREF(member)
        PyList_SET_RAW(result, i, <PyObject *>member)
        data += length
    if data != end:
        raise ProtocolError(f'a {codec.name} value from the server has {end - data} bytes too many')
    return result


cdef object decode_range_text(Codec self, const char *data, Py_ssize_t size):
    cdef:
        Scanner scanner = scan(self, data, size)
        object value = scan_range(<RangeCodec>self, scanner)
    if scanner.cursor != scanner.end:
        scanner.bad()
    return value


cdef object scan_range(RangeCodec codec, Scanner scanner):
    """Read "empty", or "[lower,upper)"."""
    cdef:
        object lower = None
        object upper = None
        char opening = scanner.peek()
        char closing
    if opening != b'[' and opening != b'(':
        if scanner.end - scanner.cursor < 5 or strncasecmp(scanner.cursor, b'empty', 5) != 0:
            scanner.bad()
        scanner.cursor += 5
        return make_range(None, None, False, False, True)
    scanner.cursor += 1
    scanner.read_word(b',', True)
    if scanner.size or scanner.quoted:
        lower = scanner.decode_word(codec.subtype)
    scanner.expect(b',')
    scanner.read_word(b')]', True)
    if scanner.size or scanner.quoted:
        upper = scanner.decode_word(codec.subtype)
    closing = scanner.peek()
    scanner.cursor += 1
    return make_range(lower, upper, opening == b'[', closing == b']', False)


cdef object decode_multirange_text(Codec self, const char *data, Py_ssize_t size):
    """Read "{[1,2),[5,7)}"."""
    cdef:
        MultirangeCodec codec = <MultirangeCodec>self
        Scanner scanner = scan(codec, data, size)
        list result = []
    scanner.expect(b'{')
    if scanner.peek() != b'}':
        result.append(scan_range(codec.range, scanner))
        while scanner.peek() == b',':
            scanner.cursor += 1
            result.append(scan_range(codec.range, scanner))
    scanner.expect(b'}')
    if scanner.cursor != scanner.end:
        scanner.bad()
    return result


# --- writing

cdef tuple bounds_of(object value, bounds *kind):
    """Return the bounds of a Range, a list or a tuple."""
    cdef Py_ssize_t count
    if type(value) is RANGE and SLOTTED:
        kind.empty = slot_value(value, EMPTY_AT)
        kind.lower_inc = slot_value(value, LOWER_INC_AT)
        kind.upper_inc = slot_value(value, UPPER_INC_AT)
        return slot_value(value, LOWER_AT), slot_value(value, UPPER_AT)
    if isinstance(value, RANGE):
        kind.empty = value.isempty
        kind.lower_inc = value.lower_inc
        kind.upper_inc = value.upper_inc
        return value.lower, value.upper
    if not isinstance(value, (list, tuple)):
        raise TypeError(f'list, tuple or Range object expected (got type {type(value)})')
    count = len(value)
    if count > 2:
        raise ValueError(f'expected 0, 1 or 2 elements in range (got {count})')
    kind.empty = count == 0
    kind.lower_inc = count > 0 and value[0] is not None
    kind.upper_inc = count > 1 and value[1] is not None
    return value[0] if count > 0 else None, value[1] if count > 1 else None


cdef int encode_range(Codec self, WriteBuffer out, object value) except -1:
    cdef Py_ssize_t mark = begin_length(out)
    put_range(<RangeCodec>self, out, value)
    return end_length(out, mark)


cdef int put_range(RangeCodec codec, WriteBuffer out, object value) except -1:
    """Write a range without its length word."""
    cdef:
        bounds kind
        int flags
        Codec subtype = codec.subtype
        object lower, upper
    lower, upper = bounds_of(value, &kind)
    if codec.format == 0:
        if kind.empty:
            return put_bytes(out, b'empty', 5)
        put_byte(out, b'[' if kind.lower_inc else b'(')
        if lower is not None:
            put_quoted(out, subtype, lower, True)
        put_byte(out, b',')
        if upper is not None:
            put_quoted(out, subtype, upper, True)
        return put_byte(out, b']' if kind.upper_inc else b')')
    if kind.empty:
        return put_byte(out, EMPTY)
    flags = LOWER_INFINITE if lower is None else LOWER_INCLUSIVE if kind.lower_inc else 0
    flags |= UPPER_INFINITE if upper is None else UPPER_INCLUSIVE if kind.upper_inc else 0
    put_byte(out, <char>flags)
    if lower is not None:
        subtype.encode(subtype, out, lower)
    if upper is not None:
        subtype.encode(subtype, out, upper)
    return 0


cdef int encode_multirange(Codec self, WriteBuffer out, object value) except -1:
    cdef:
        MultirangeCodec codec = <MultirangeCodec>self
        Py_ssize_t mark, count
        Py_ssize_t i = 0
        object member
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes, bytearray, memoryview)):
        raise TypeError(f'expected a sequence (got type {type(value).__name__!r}): a list of headrace.Range')
    count = len(value)
    if count > 0x7fffffff:
        raise ValueError(f'too many ranges: {count}')
    mark = begin_length(out)
    if codec.format == 1:
        put_i32(out, <int32_t>count)
    else:
        put_byte(out, b'{')
    for member in value:
        if codec.format == 0 and i > 0:
            put_byte(out, b',')
        i += 1
        if codec.format == 1:
            encode_range(codec.range, out, member)
        else:
            put_range(codec.range, out, member)
    if i != count:
        raise ValueError('the sequence changed its size while it was encoded')
    if codec.format == 0:
        put_byte(out, b'}')
    return end_length(out, mark)
