# The FIFO that matches replies to requests.

from headrace._core.buffer cimport WriteBuffer
from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.request cimport Bound, Prepare, Request
from headrace._core.statement cimport Statement, StatementCache

cpdef enum Cancellation:
    DROPPED     # it had not been sent: it never will be
    DRAINED     # its reply is passed over when it comes
    SIGNAL      # writes are held: send a CancelRequest, then call cancel_delivered()


cdef class Queue:
    cdef:
        Request first
        Request last
        readonly Py_ssize_t count
        readonly Py_ssize_t total            # ever entered

    cdef int append(self, Request request) except -1
    cdef int push_front(self, Request request) except -1
    cdef int insert_before(self, Request request, Request place) except -1
    cdef Request pop(self)


cdef class ReadBuffer:
    cdef:
        object chunk           # bytearray: the memory
        object view            # memoryview of all of it
        char *data
        Py_ssize_t start
        Py_ssize_t end
        Py_ssize_t capacity

    cdef int allocate(self, Py_ssize_t capacity) except -1
    cdef int make_room(self, Py_ssize_t wanted) except -1
    cdef object writable(self)


cdef class Session:
    cdef:
        public object events              # what is told of everything that belongs to no request
        readonly TypeMap types
        StatementCache cache
        WriteBuffer out
        ReadBuffer incoming
        readonly Queue sent
        readonly Queue unsent
        Request streaming
        list urgent
        readonly Py_ssize_t max_pipeline
        readonly Py_ssize_t bytes_in_flight
        int status_byte
        readonly dict parameters
        readonly int backend_pid
        readonly bytes backend_secret
        readonly object failure           # why nothing can be submitted any more, or None
        object fatal                      # the server's last words
        object root_cause                 # the error that failed the open transaction
        readonly bint holding             # a CancelRequest is under way
        Request cancelling
        bint delivered
        bint feeding
        readonly long long prepared       # how many statements were prepared, for statistics

    cdef int check_open(self) except -1
    cpdef object submit(self, Request request)
    cdef Statement statement_for(self, str query)
    cdef object bind(self, Bound request)
    cdef int begin_prepare(self, Statement statement, Request before) except -1
    cdef int prepared_with(self, Prepare request) except -1
    cdef int learn_types(self, Statement statement, list missing) except -1
    cdef int statement_ready(self, Statement statement) except -1
    cdef int statement_failed(self, Statement statement, object error, bint unseen=*) except -1
    cpdef Cancellation cancel(self, Request request) except *
    cdef int drop(self, Request request) except -1
    cdef int let_go(self, Statement statement) except -1
    cdef int close_names(self, str what, bytes name) except -1
    cpdef bytes take_output(self)
    cpdef bint wants_output(self) except -1
    cdef int received(self, Py_ssize_t size) except -1
    cdef int parse(self) except -1
    cdef int dispatch(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef int on_error(self, const char *data, Py_ssize_t size) except -1
    cdef int on_ready(self, const char *data, Py_ssize_t size) except -1
    cdef bint revive(self, Request request) except -1
    cdef int bind_again(self, Bound bound) except -1
    cdef Request behind_revived(self)
    cdef int end_cancel_window(self) except -1


cdef class Preparation(Bound):
    pass
