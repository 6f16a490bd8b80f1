# Which codec a connection uses for an OID.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec


cdef class TypeMap:
    cdef:
        readonly int version       # changes whenever a codec may have changed: plans made earlier are made again
        dict _codecs               # OID -> Codec

    cdef Codec find(self, uint32_t oid)
