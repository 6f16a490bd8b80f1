# COPY FROM STDIN and COPY TO STDOUT as requests, and rows in COPY's binary format.

from headrace._core.wire.buffer cimport WriteBuffer
from headrace._core.codecs.base cimport Codec
from headrace._core.rows.row_plan cimport RowPlan
from headrace._core.pipeline.requests cimport Request
from headrace._core.pipeline.statement_cache cimport Statement


cdef class Copy(Request):
    cdef:
        readonly object began            # its result is set when data may flow, or when it is certain that none will
        readonly object holder           # who asked: what it asks of the connection meanwhile could never be answered
        readonly bint binary
        readonly int columns
        readonly bint flowing            # data may flow

    cdef int begin(self, const char *data, Py_ssize_t size) except -1


cdef class CopyIn(Copy):
    pass


cdef class CopyOut(Copy):
    cdef:
        WriteBuffer held
        list rows
        readonly long long received      # bytes of data that have come
        readonly Py_ssize_t backlog      # bytes held for the reader
        public object arrival            # a future: its result is set when there is something to take, or the end
        Statement statement              # decodes rows; None if the bytes are wanted
        RowPlan row_plan
        bint unwanted                    # what still comes is passed over
        bint headed
        bint trailed

    cdef int row(self, const char *data, Py_ssize_t size) except -1


cdef class RowEncoder:
    cdef:
        readonly tuple names
        tuple codecs
        readonly bint binary              # in COPY's binary format; otherwise in its text format
        WriteBuffer scratch               # where a value is written before it is escaped
        readonly Py_ssize_t width
        WriteBuffer out
        Py_ssize_t mark
        public long long rows             # rows encoded; errors count on from it
        readonly long long encoded        # bytes taken

    cdef int begin_message(self) except -1
    cdef int put_row(self, object row) except -1
    cdef int put_field(self, Codec codec, object value) except -1
