# A statement whose rows are taken while they come.

from headrace._core.pipeline.requests cimport ExtendedQuery


cdef class RowStream(ExtendedQuery):
    cdef:
        object args
        Py_ssize_t least                 # rows or record batches held before the socket may be left unread
        Py_ssize_t most_rows             # rows held beyond which the socket is left unread; 0: bytes alone decide
        public object holder             # who reads: what it asks meanwhile could never be answered
        public object arrival            # a future: its result is set when there is something to take, or the end
        readonly long long received      # bytes of rows that have come
        readonly Py_ssize_t backlog      # bytes of the rows held
        readonly bint handed_out         # rows were taken
        object unreadable                # the error of a row that could not be read
        bint unwanted                    # what still comes is passed over

    cdef int fails(self, object error) except -1
    cdef int wake(self) except -1
