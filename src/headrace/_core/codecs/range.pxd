# Ranges and multiranges over any subtype that has a codec.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec


cdef class RangeCodec(Codec):
    cdef readonly Codec subtype


cdef class MultirangeCodec(Codec):
    cdef readonly RangeCodec range

cdef RangeCodec range_codec(uint32_t oid, str name, str schema, Codec subtype)
cdef MultirangeCodec multirange_codec(uint32_t oid, str name, str schema, RangeCodec range)
