# The text and binary variants of codecs.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec

cdef enum:
    NONE = 0
    DIGITS = 1
    BYTES = 2

cdef Codec text_variant(Codec codec)
cdef Codec binary_variant(Codec codec, int fallback=*)
cdef Codec composite(uint32_t oid, str name, str schema, tuple names, tuple attributes)
