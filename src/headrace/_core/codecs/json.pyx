"""json, jsonb and jsonpath as str. The caller, or a codec set by the user, parses the text.

json is sent as its text (json_send()). jsonb and jsonpath have one byte before the text, the version of the format,
which is 1 (jsonb_send(), jsonpath_send()).
"""

from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint32_t
from libc.string cimport memcpy

from headrace.exceptions import ProtocolError

from headrace._core.wire.buffer cimport WriteBuffer, put_value, reserve, store_u32, value_too_long
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport enum_value
from headrace._core.codecs.text cimport decode_text, utf8_of

cdef enum:
    VERSION = 1


cdef object decode_versioned(Codec codec, const char *data, Py_ssize_t size):
    if size < 1:
        bad_length(codec, size, 'at least 1 byte')
    if data[0] != VERSION:
        raise ProtocolError(
            f'a {codec.name} value of version {<unsigned char>data[0]} from the server: expected version 1')
    return decode_text(codec, data + 1, size - 1)


cdef int encode_versioned(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        Py_ssize_t size = 0
        const char *data
        char *at
    if not PyUnicode_Check(value):
        value = as_str(codec, value)
    data = utf8_of(value, &size)
    if size > 0x7fffffff - 1:
        value_too_long(size)
    at = reserve(out, size + 5)
    store_u32(at, <uint32_t>size + 1)
    at[4] = VERSION
    memcpy(at + 5, data, <size_t>size)
    return 0


cdef int encode_json(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        Py_ssize_t size = 0
        const char *data
        char *at
    if not PyUnicode_Check(value):
        value = as_str(codec, value)
    data = utf8_of(value, &size)
    return put_value(out, data, size)


cdef str as_str(Codec codec, object value):
    """Return the str in an enum member; for other values raise a TypeError that says how to serialise a document."""
    value = enum_value(value)
    if PyUnicode_Check(value):
        return str(value)
    raise TypeError(
        f'expected str, got {type(value).__name__}: pass json.dumps(value), or register a codec with '
        f"set_type_codec('{codec.name}', schema='pg_catalog', encoder=json.dumps, decoder=json.loads)")


scalar(114, 'json', 'str', encode_json, decode_text)
scalar(3802, 'jsonb', 'str', encode_versioned, decode_versioned)
scalar(4072, 'jsonpath', 'str', encode_versioned, decode_versioned)
