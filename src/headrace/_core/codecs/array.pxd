# Arrays of any element type that has a codec.

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, uint32_t

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec

cdef enum:
    MAX_DIMENSIONS = 6          # MAXDIM in the server's array.h

# Decoders return a new reference, which a list or row steals: this avoids counting it twice.
ctypedef PyObject *(*raw_decode_t)(PyObject *codec, const char *data, Py_ssize_t size) except NULL


cdef class ArrayCodec(Codec):
    cdef:
        readonly Codec element
        int32_t lower           # the lower bound that is sent: 1, but 0 for int2vector and oidvector
        char delimiter          # between elements of the text form: a comma for all types but box
        bint nests              # whether a list inside a list is a dimension: not if elements are arrays
        bint nests_tuples       # whether a tuple is one too: not if a tuple may be a value of the element type
        bint nests_others       # whether other iterables are: not if the elements have a codec that was set

cdef class ArrayWriter(list):
    # An argument that writes itself as an array. The connection that it is sent on provides the codec.
    cdef int write(self, ArrayCodec codec, WriteBuffer out) except -1


cdef ArrayCodec array_codec(uint32_t oid, str name, str schema, Codec element, char delimiter=*)
cdef list as_list(object value)
