# Requests that have failed for no fault of their own, and are run again.

from headrace._core.pipeline.send_queue cimport Outbox
from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport Bound, Request
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._core.pipeline.statements cimport Statements


cdef class Revival:
    cdef:
        Statements statements
        Outbox outbox
        Queue sent                        # the outbox's
        Queue unsent

    cdef bint revive(self, Request request, bint idle, object events) except -1
    cdef bint innocent(self, Request request, bint idle) except -1
    cdef int note_refusal(self, Bound request, Statement statement, bint idle, object events) except -1
    cdef bint may_go_behind(self) except -1
    cdef bint run_again(self, Request request) except -1
