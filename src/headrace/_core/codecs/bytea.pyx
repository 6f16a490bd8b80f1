"""bytea and "char" as bytes: byteasend() and charsend() send them unchanged."""

from cpython.buffer cimport PyBUF_FULL_RO, PyBuffer_IsContiguous, PyBuffer_Release, PyBuffer_ToContiguous
from cpython.buffer cimport PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer, put_value, reserve, store_u32, value_too_long
from headrace._core.codecs.base cimport Codec, bad_length, scalar
from headrace._core.codecs.coercion cimport enum_value
from headrace.exceptions._values import shown


cdef object decode_bytea(Codec codec, const char *data, Py_ssize_t size):
    return PyBytes_FromStringAndSize(data, size)


cdef int encode_bytea(Codec codec, WriteBuffer out, object value) except -1:
    if PyBytes_CheckExact(value):
        return put_value(out, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value))
    return put_buffer(out, value)


cdef int put_buffer(WriteBuffer out, object value) except -1:
    """Write the contents of any buffer; one that is not contiguous is copied in C order."""
    cdef:
        Py_buffer view
        char *at
    value = enum_value(value)
    if not PyObject_CheckBuffer(value):
        no_buffer(value)
    PyObject_GetBuffer(value, &view, PyBUF_FULL_RO)
    try:
        if PyBuffer_IsContiguous(&view, c'C'):
            return put_value(out, <const char *>view.buf, view.len)
        if view.len > 0x7fffffff:
            value_too_long(view.len)
        at = reserve(out, view.len + 4)
        store_u32(at, <uint32_t>view.len)
        PyBuffer_ToContiguous(at + 4, &view, view.len, c'C')
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int no_buffer(object value) except -1:
    raise TypeError(f"a bytes-like object is required, not '{type(value).__name__}'")


cdef object decode_char(Codec codec, const char *data, Py_ssize_t size):
    """Return one byte, which is not necessarily a character."""
    if size != 1:
        bad_length(codec, size, '1 byte')
    return PyBytes_FromStringAndSize(data, 1)


cdef int encode_char(Codec codec, WriteBuffer out, object value) except -1:
    """Write one byte, or a str of one ASCII character. An empty value means the zero byte, as in the server."""
    cdef:
        bytes byte
        char *at
    value = enum_value(value)
    if PyUnicode_Check(value):
        if len(value) > 1 or not value.isascii():
            raise ValueError(f'expected one byte or one ASCII character, got {shown(value)}')
        byte = value.encode('ascii')
    elif PyObject_CheckBuffer(value):
        byte = bytes(value)
        if len(byte) > 1:
            raise ValueError(f'expected one byte or one ASCII character, got {len(byte)} bytes')
    else:
        no_buffer(value)
    at = reserve(out, 5)
    store_u32(at, 1)
    at[4] = byte[0] if byte else 0
    return 0


scalar(17, 'bytea', 'bytes', encode_bytea, decode_bytea)
scalar(18, 'char', 'bytes', encode_char, decode_char)
