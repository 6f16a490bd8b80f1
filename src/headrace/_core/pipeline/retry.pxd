# Requests that have failed for no fault of their own, and are run again.

from headrace._core.pipeline.send_queue cimport SendQueue
from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport ExtendedQuery, Request
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._core.pipeline.statements cimport Statements


cdef class Retry:
    cdef:
        Statements statements
        SendQueue send_queue
        Queue sent                        # the send_queue's
        Queue unsent

    cdef bint queue_again(self, Request request, bint idle, object events) except -1
    cdef bint can_retry(self, Request request, bint idle) except -1
    cdef int note_refusal(self, ExtendedQuery request, Statement statement, bint idle, object events) except -1
    cdef bint may_go_behind(self) except -1
    cdef bint run_again(self, Request request) except -1
