"""bool, in the format of boolsend() and boolrecv() in utils/adt/bool.c: one byte, 0 or 1."""

from headrace._core.wire.buffer cimport WriteBuffer, reserve, store_u32
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport enum_value


cdef object decode_bool(Codec codec, const char *data, Py_ssize_t size):
    if size != 1:
        bad_length(codec, size, '1 byte')
    return data[0] != 0


cdef int encode_bool(Codec codec, WriteBuffer out, object value) except -1:
    cdef char *at
    if value is not True and value is not False:
        value = plain_bool(value)
    at = reserve(out, 5)
    store_u32(at, 1)
    at[4] = value is True
    return 0


cdef object plain_bool(object value):
    """Return True or False for an enum member with such a value or numpy's bool; raises TypeError for others."""
    value = enum_value(value)
    if type(value).__module__ == 'numpy' and type(value).__name__ in ('bool', 'bool_'):
        value = bool(value)
    if value is not True and value is not False:
        raise TypeError(f'a boolean is required (got type {type(value).__name__})')
    return value


scalar(16, 'bool', 'bool', encode_bool, decode_bool)
