# Composite types.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec


cdef class CompositeCodec(Codec):
    cdef:
        readonly tuple names
        readonly tuple attributes        # the codecs of the attributes' types
        tuple fields                     # the same, in the composite's own format
        dict positions                   # attribute name -> index
        tuple desc                       # the description that the Records share

cdef str accepted(Codec codec)
cdef CompositeCodec composite_codec(
    uint32_t oid, str name, str schema, tuple names, tuple attributes, tuple fields, int format)
