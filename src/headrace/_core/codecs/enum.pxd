# Enumerated types.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec

cdef Codec enum_codec(uint32_t oid, str name, str schema)
