# Reading what other libraries export through Arrow's C interfaces.

from headrace._core.arrow.abi cimport ArrowArray, ArrowArrayStream


cdef class Batch:
    cdef:
        ArrowArray array


cdef class BatchReader:
    cdef:
        ArrowArrayStream stream
        Batch single                 # the only batch, of an object without a stream
        readonly object field        # the fields of the columns, as the children of a struct
        readonly bint closed
        bint busy                    # a thread is inside the stream
        readonly bint ended          # there are no more batches

    cdef int read_schema(self) except -1
    cdef int check(self, int status, str doing) except -1
