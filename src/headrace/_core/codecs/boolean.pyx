"""bool, as boolsend() and boolrecv() in utils/adt/bool.c have it: one byte, 0 or 1."""

from headrace._core.wire.buffer cimport WriteBuffer, reserve, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport enum_value


cdef object decode_bool(Codec codec, const char *data, Py_ssize_t size):
    if size != 1:
        bad_length(codec, size, '1 byte')
    return data[0] != 0


cdef int encode_bool(Codec codec, WriteBuffer out, object value) except -1:
    cdef char *place
    if value is not True and value is not False:
        value = plain_bool(value)
    place = reserve(out, 5)
    store_u32(place, 1)
    place[4] = value is True
    return 0


cdef object plain_bool(object value):
    """True or False for an enum member that has one as its value, or for numpy's bool; else an error."""
    value = enum_value(value)
    if type(value).__module__ == 'numpy' and type(value).__name__ in ('bool', 'bool_'):
        value = bool(value)
    if value is not True and value is not False:
        raise TypeError(f'a boolean is required (got type {type(value).__name__})')
    return value


scalar(16, 'bool', 'bool', encode_bool, decode_bool)
