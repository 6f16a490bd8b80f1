# Batches of columns as CopyData messages in COPY's binary format.

from libc.stdint cimport int64_t

from headrace._core.arrow.reader cimport Batch
from headrace._core.wire.buffer cimport WriteBuffer


cdef class BatchEncoder:
    cdef:
        readonly tuple names
        tuple fields
        tuple writers
        tuple positions              # of the columns in the batches
        readonly Py_ssize_t width
        readonly long long rows      # rows encoded
        Batch batch
        int64_t next_row             # of the batch
        WriteBuffer out
        Py_ssize_t mark

    cdef int put_rows(self, Py_ssize_t limit) except -1
