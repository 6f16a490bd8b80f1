"""Domains, and other types that are read and written as another type.

The values of a domain have the format of its base type (domain_recv() in the server's domains.c); the server checks the
constraints. RowDescription has the OID of the base type; the OID of the domain appears in parameters, array elements
and columns of composites.
"""

from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec


cdef AliasCodec alias_codec(uint32_t oid, str name, str schema, str kind, Codec base):
    """Make the codec of a type with the format of `base`; it is not registered."""
    cdef AliasCodec codec = AliasCodec.__new__(AliasCodec)
    codec.oid = oid
    codec.name = name
    codec.schema = schema
    codec.kind = kind
    codec.python = base.python
    codec.format = base.format
    codec.base = base
    codec.decode = decode_alias
    codec.encode = encode_alias
    return codec


cdef object decode_alias(Codec self, const char *data, Py_ssize_t size):
    cdef Codec base = (<AliasCodec>self).base
    return base.decode(base, data, size)


cdef int encode_alias(Codec self, WriteBuffer out, object value) except -1:
    cdef Codec base = (<AliasCodec>self).base
    return base.encode(base, out, value)
