"""bit and varbit as BitString: the number of bits, then the bits, eight in a byte.

The format is that of bit_send() and varbit_send() in utils/adt/varbit.c. A BitString is made by setting its slots: its
constructors would repeat the checks.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int64_t, uint32_t
from libc.string cimport memcpy

from headrace.exceptions import ProtocolError
from headrace.exceptions._values import shown
from headrace.types import BitString

from headrace._core.wire.buffer cimport WriteBuffer, load_i32, reserve, store_u32, value_too_long
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport enum_value
from headrace._core.codecs.slots cimport slot_fill, slot_offset, slotted_new

cdef enum:
    HEAD = 4

cdef:
    Py_ssize_t BYTES = slot_offset(BitString, '_bytes')
    Py_ssize_t LENGTH = slot_offset(BitString, '_length')

if BYTES == 0 or LENGTH == 0:
    raise ImportError('headrace.types.BitString must have the slots _bytes and _length')


cdef object decode_bits(Codec codec, const char *data, Py_ssize_t size):
    cdef:
        int64_t count
        int unused
        bytes packed
        object value
    if size < HEAD:
        bad_length(codec, size, 'at least 4 bytes')
    count = load_i32(data)
    if count < 0 or size - HEAD != (count + 7) // 8:
        raise ProtocolError(f'a {codec.name} value of {count} bits in {size - HEAD} bytes from the server')
    # The bytes are made empty and filled in, because CPython shares bytes objects of length one that have contents.
    packed = PyBytes_FromStringAndSize(NULL, size - HEAD)
    memcpy(PyBytes_AS_STRING(packed), data + HEAD, <size_t>(size - HEAD))
    unused = 8 * len(packed) - count
    if unused > 0:
        PyBytes_AS_STRING(packed)[size - HEAD - 1] &= <char>(0xff << unused)
    value = slotted_new(BitString)
    slot_fill(value, BYTES, packed)
    slot_fill(value, LENGTH, count)
    return value


cdef int encode_bits(Codec codec, WriteBuffer out, object value) except -1:
    """Write a BitString, or all bits of a bytes-like object. A str raises TypeError: '101' could mean either."""
    cdef:
        bytes data
        Py_ssize_t count, size
        char *at
    if not isinstance(value, BitString):
        value = enum_value(value)
    if isinstance(value, BitString):
        data = value.bytes
        count = len(value)
    else:
        data = whole_bytes(value)
        count = 8 * len(data)
    size = len(data)
    if count > 0x7fffffff:
        value_too_long(size)
    at = reserve(out, size + 8)
    store_u32(at, <uint32_t>size + HEAD)
    store_u32(at + 4, <uint32_t>count)
    memcpy(at + 8, <const char *>data, <size_t>size)
    return 0


cdef bytes whole_bytes(object value):
    if PyUnicode_Check(value):
        raise TypeError(f"a bytes-like object is required, not 'str': write BitString({shown(value)})")
    try:
        return memoryview(value).tobytes()
    except TypeError:
        raise TypeError(
            f"a BitString or a bytes-like object is required, not '{type(value).__name__}'") from None


scalar(1560, 'bit', 'headrace.BitString', encode_bits, decode_bits)
scalar(1562, 'varbit', 'headrace.BitString', encode_bits, decode_bits)
