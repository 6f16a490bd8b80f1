"""Domains, and other types that are read and written as another one.

A domain's values travel as those of the type it is based on (domain_recv() in the server's domains.c); the server
checks the constraints. In results it names the base type, a domain's own OID stands for parameters, array elements
and the columns of composites.
"""

from libc.stdint cimport uint32_t

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec


cdef AliasCodec alias_codec(uint32_t oid, str name, str schema, str kind, Codec base):
    """Make the codec of a type that travels as `base` does; in no table yet."""
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
