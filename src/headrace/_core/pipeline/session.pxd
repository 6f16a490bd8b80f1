# The FIFO that matches replies to requests.

from headrace._core.codecs.typemap cimport TypeMap
from headrace._core.pipeline.cancel cimport Cancellation
from headrace._core.pipeline.commands cimport Commands
from headrace._core.wire.read_buffer cimport ReadBuffer
from headrace._core.pipeline.connection_lost cimport Ending
from headrace._core.pipeline.send_queue cimport SendQueue
from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport ExtendedQuery, Query, Request
from headrace._core.pipeline.retry cimport Retry
from headrace._core.pipeline.search_path cimport SearchPath
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._core.pipeline.statements cimport Statements
from headrace._core.pipeline.workload cimport Workload


cdef class Session:
    cdef:
        readonly Cancellation cancellation
        readonly Commands commands
        object told                       # events that belong to no request (Events)
        SendQueue send_queue
        readonly Queue sent               # the send_queue's
        Queue unsent
        readonly Statements statements
        Retry retry
        SearchPath search_path
        readonly Workload work            # of its pool's callers; the transport tells it the time
        double round_trip                 # the shortest seen, in seconds
        int replies                       # in what is being read
        double measured_since             # when the server began with the first of them
        bint overran                      # it had been found to take far longer than expected
        list costs                        # of their texts
        object root_cause                 # the error that failed the open transaction
        readonly dict parameters
        readonly object fatal             # the server's last words
        dict parting                      # the fields of a notice that a backend gives when it ends; None
        bint closing                      # its owner takes no more requests
        str undone                        # the connection ended with a transaction block: what has become of that
        readonly object failure           # why nothing can be submitted any more, or None
        bint ended                        # everything has been settled: connection_lost() was called

    cdef int check_open(self) except -1
    cpdef object submit(self, Request request)
    cpdef bint wants_output(self) except -1
    cpdef bytes take_output(self, bint urgent_only=*)
    cpdef bint receive(self, ReadBuffer buffer, Py_ssize_t size) except -1
    cdef int dispatch(self, char kind, const char *data, Py_ssize_t size) except -1
    cdef int on_notice(self, dict fields) except -1
    cdef int on_error(self, const char *data, Py_ssize_t size) except -1
    cdef int ran_first(self, Query request) except -1
    cdef bint hand_over(self, Request request) except -1
    cdef int measure(self, Request head) except -1
    cdef int learn(self) except -1
    cdef int on_ready(self, const char *data, Py_ssize_t size) except -1
    cdef int learn_of(self, ExtendedQuery request) except -1
    cdef int take_no_more(self, object reason) except -1
    cdef int fail_unsent(self, Ending ending) except -1
    cpdef Py_ssize_t count_pending(self) noexcept
