# The FIFO that matches replies to requests.

from headrace._core.buffer cimport WriteBuffer
from headrace._core.cancellation cimport CancelWindow
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.incoming cimport ReadBuffer
from headrace._core.queue cimport Queue
from headrace._core.request cimport Bound, Request
from headrace._core.statement cimport Statement, StatementCache

cpdef enum Cancellation:
    DROPPED     # it had not been sent: it never will be
    DRAINED     # its reply is passed over when it comes
    SIGNAL      # writes are held: send a CancelRequest, then call cancel_delivered()


cdef class Session:
    cdef:
        public object events              # what is told of everything that belongs to no request
        readonly TypeMap types
        StatementCache cache
        WriteBuffer out                   # scratch space; None while a request is being encoded
        ReadBuffer incoming
        readonly Queue sent
        readonly Queue unsent
        readonly Py_ssize_t parked        # shared requests that wait for their statements, outside the queues
        Request streaming
        list urgent
        CancelWindow window
        readonly Py_ssize_t max_pipeline
        readonly Py_ssize_t bytes_in_flight
        int status_byte
        readonly dict parameters
        readonly int backend_pid
        readonly bytes backend_secret
        readonly object failure           # why nothing can be submitted any more, or None
        readonly bint ended               # everything has been settled: lost() was called
        readonly object fatal             # the server's last words
        object root_cause                 # the error that failed the open transaction
        bint feeding
        bint taking
        readonly long long prepared       # how many statements were prepared, for statistics

    cdef int check_open(self) except -1
    cpdef object submit(self, Request request)
    cdef Statement statement_for(self, str query)
    cdef int encode(self, Request request) except -1
    cdef bytes next_chunk(self, Request request)
    cdef int bind(self, Bound request) except -1
    cdef Py_ssize_t under_way(self) noexcept
    cdef int begin_prepare(self, Statement statement, Request before) except -1
    cdef int prepared_with(self, Request request) except -1
    cdef int statement_ready(self, Statement statement) except -1
    cdef int statement_failed(self, Statement statement, object error, bint unseen) except -1
    cdef int park(self, Bound request) except -1
    cdef list no_longer_waiting(self, Statement statement)
    cdef Request first_waiting(self, Statement statement)
    cdef int let_go(self, Statement statement) except -1
    cdef int close_name(self, Statement statement) except -1
    cpdef Cancellation cancel(self, Request request) except *
    cdef int drop(self, Request request) except -1
    cdef int end_stream(self, object error) except -1
    cdef bint withdraw(self, Request request) except -1
    cpdef bytes take_output(self)
    cdef bytes collect(self)
    cdef bint has_room(self) except -1
    cpdef bint wants_output(self) except -1
    cdef int received(self, Py_ssize_t size) except -1
    cdef int check_not_feeding(self) except -1
    cdef int parse(self) except -1
    cdef int dispatch(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef int on_error(self, const char *data, Py_ssize_t size) except -1
    cdef int on_ready(self, const char *data, Py_ssize_t size) except -1
    cdef bint revive(self, Request request) except -1
    cdef bint innocent(self, Request request) except -1
    cdef bint run_again(self, Request request) except -1
    cdef int end_cancel_window(self) except -1
    cdef int fail_unsent(self, object reason) except -1
    cdef int fail_waiting(self, Statement statement, object reason) except -1
