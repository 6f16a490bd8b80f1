# Composite types: rows within rows.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec


cdef class CompositeCodec(Codec):
    cdef:
        readonly tuple names
        readonly tuple attributes        # the codecs of the attributes' types
        tuple fields                     # the same, in the format the composite travels in
        dict places                      # attribute name -> place
        tuple desc                       # what the Records share

cdef str accepted(Codec codec)
cdef CompositeCodec composite_codec(
    uint32_t oid, str name, str schema, tuple names, tuple attributes, tuple fields, int format)
