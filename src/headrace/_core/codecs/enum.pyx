"""Enumerated types as str: the label, as sent by enum_send() in the server's enum.c.

A member of a Python enum is accepted if its value is a str. The server checks whether the label exists, so labels can
be added while the connection is open.
"""

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.text cimport decode_text, encode_text


cdef Codec enum_codec(uint32_t oid, str name, str schema):
    """Make the codec of an enumerated type; it is not registered."""
    cdef Codec codec = Codec.__new__(Codec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = 'enum'
    codec.python = 'str'
    codec.format = 1
    codec.decode = decode_text
    codec.encode = encode_text
    return codec
