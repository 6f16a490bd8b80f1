# Tables and record batches, which users hold, and the builder that makes them of DataRow messages.

from libc.stdint cimport int64_t

from headrace._core.arrow.columns cimport Chunk, Column
from headrace._core.arrow.export cimport Result, Tree
from headrace._core.rows.row_plan cimport RowPlan, RowShape


cdef class ArrowShape(RowShape):
    cdef:
        readonly object decimal
        readonly str out_of_range
        readonly int64_t batch_rows  # of a record batch; 0: as many as a chunk can have
        readonly tuple key


cdef class Schema:
    cdef:
        readonly tuple fields
        readonly tuple names
        Tree *tree
        Column template              # a struct whose children have the shapes of the columns
        dict labels                  # OID of an enumerated type -> its Labels
        bint expands                 # a text can be far longer than what the server sends for it


cdef class RecordBatch


cdef class RowBuilder(RowPlan):
    cdef:
        readonly Schema schema
        Chunk *chunk                 # to which rows are added; NULL for none
        readonly int64_t rows        # in all
        int64_t in_chunk             # rows in the open chunk
        int64_t wire                 # bytes of their DataRows
        int64_t most_rows            # of a chunk
        int64_t most_bytes

    cdef int append(self, const char *data, Py_ssize_t size) except -1
    cdef RecordBatch end_chunk(self)
    cdef bint is_long(self) noexcept


cdef class RecordBatch:
    cdef:
        readonly Schema schema
        Chunk *chunk


cdef class ArrowTable:
    cdef:
        readonly Schema schema
        readonly int64_t num_rows
        Result *result
        list _batches
