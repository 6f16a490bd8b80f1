"""Enumerated types as str: the label, which is what enum_send() in the server's enum.c sends.

A member of a Python enum is taken where its value is a str. Whether there is such a label is checked by the server, so
that one added while the connection is open is no surprise.
"""

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec
from headrace._core.codecs.text cimport decode_text, encode_text


cdef Codec enum_codec(uint32_t oid, str name, str schema):
    """Make the codec of an enumerated type; in no table yet."""
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
