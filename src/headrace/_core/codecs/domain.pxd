# Codecs of types that are read and written as another type.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec


cdef class AliasCodec(Codec):
    cdef readonly Codec base

cdef AliasCodec alias_codec(uint32_t oid, str name, str schema, str kind, Codec base)
