# Anonymous rows; the types of their columns are part of each value.

from libc.stdint cimport uint32_t

from headrace._core.codecs.base cimport Codec


cdef class CodecSource:
    # The interface of a TypeMap by which a record finds the codecs of its columns.
    cdef Codec find(self, uint32_t oid)
    cdef int unknown(self, uint32_t oid) except -1


cdef class RecordCodec(Codec):
    cdef:
        CodecSource source
        dict columns               # OID -> codec in binary

cdef RecordCodec record_codec(CodecSource source)
