"""The string types, and the text form of values of unknown types.

Connections speak UTF-8 (client_encoding). The format of text, varchar, bpchar, name, refcursor, unknown and
cstring is the same in both format codes: only the characters (textsend(), varcharsend(),
bpcharsend(), namesend(), unknownsend(), cstring_send()).
"""

from cpython.unicode cimport PyUnicode_Check, PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t
from libc.string cimport memchr

from headrace._core.wire.buffer cimport WriteBuffer, put_value
from headrace._core.codecs.base cimport Codec, scalar, wrong_type
from headrace._core.codecs.coercion cimport enum_value

from headrace.exceptions import ArgumentError, NulCharacterError

cdef extern from 'Python.h':
    const char *PyUnicode_AsUTF8AndSize(object value, Py_ssize_t *size) except NULL


cdef const char *utf8_of(object value, Py_ssize_t *size) except NULL:
    """Return the UTF-8 of a str; the str owns the memory.

    Raises ValueError for a NUL and UnicodeEncodeError for a lone surrogate: PostgreSQL text can hold neither.
    """
    cdef:
        const char *data = PyUnicode_AsUTF8AndSize(value, size)
        const char *nul = <const char *>memchr(data, 0, <size_t>size[0])
    if nul != NULL:
        raise NulError(
            f'PostgreSQL text cannot hold the NUL character (found at position {value.index(chr(0))}): '
            'use bytea, or take it out')
    return data


class NulError(ValueError):
    """A text contains a NUL character."""


cdef object argument_error(object error):
    """Return the class of the error for a value whose encoding, or that of a value inside it, raised `error`."""
    while error is not None and not isinstance(error, NulError):
        error = error.__context__
    return ArgumentError if error is None else NulCharacterError


cdef int not_utf8(Codec codec, object error) except -1:
    raise UnicodeDecodeError(
        error.encoding, error.object, error.start, error.end,
        f'{error.reason}; the {codec.name} value is not UTF-8, as happens in a SQL_ASCII database: '
        "cast it to bytea, or convert it with convert_from(value::bytea, 'LATIN1')") from None


cdef object decode_text(Codec codec, const char *data, Py_ssize_t size):
    try:
        return PyUnicode_DecodeUTF8(data, size, NULL)
    except UnicodeDecodeError as error:
        not_utf8(codec, error)


cdef int encode_text(Codec codec, WriteBuffer out, object value) except -1:
    cdef:
        Py_ssize_t size = 0
        const char *data
    if not PyUnicode_Check(value):
        value = enum_value(value)
        if not PyUnicode_Check(value):
            wrong_type('str', value)
    data = utf8_of(value, &size)
    return put_value(out, data, size)


cdef int encode_unknown_type(Codec codec, WriteBuffer out, object value) except -1:
    value = enum_value(value)
    if not PyUnicode_Check(value):
        raise TypeError(
            f'expected str, got {type(value).__name__}: the type '
            f'{codec.schema}.{codec.name} is unknown, so its values are sent as text; pass its text form, '
            'or register a codec with set_type_codec()')
    return encode_text(codec, out, value)


cdef Codec text_fallback(uint32_t oid, str name, str schema):
    """Make a codec that reads and sends values of an unknown type as text.

    It is not registered: another codec replaces it once the type is looked up or the user sets a codec.
    """
    cdef Codec codec = Codec.__new__(Codec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'scalar'
    codec.python = 'str'
    codec.format = 0
    codec.encode = encode_unknown_type
    codec.decode = decode_text
    return codec


cdef int _register() except -1:
    cdef uint32_t oid
    cdef str name
    for oid, name in (
        (25, 'text'),
        (1043, 'varchar'),
        (1042, 'bpchar'),
        (19, 'name'),
        (1790, 'refcursor'),
        (705, 'unknown'),
        (2275, 'cstring'),
    ):
        scalar(oid, name, 'str', encode_text, decode_text)
    return 0


_register()
