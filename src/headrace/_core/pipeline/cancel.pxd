# Cancellation: what may be cancelled, when, and what is known of a CancelRequest that is under way.

from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport Request
from headrace._core.pipeline.send_queue cimport SendQueue
from headrace._core.pipeline.statements cimport Statements

cpdef enum CancelAction:
    DROPPED     # the request had not been sent, and never will be
    DRAINED     # its reply is passed over when it comes
    SIGNAL      # send a CancelRequest, then call delivered(); nothing is written until then
    FAIL        # the connection must be closed; `overdue` says why


cdef class Cancellation:
    cdef:
        SendQueue send_queue
        Queue sent                       # the send queue's
        Statements statements
        object events                    # writable(), set_cancel_timer(seconds)
        readonly object key              # (backend PID, secret); None if the server gave none
        readonly bint is_open            # a CancelRequest is under way
        readonly Request target          # the request that it was aimed at, until its ReadyForQuery
        bint was_delivered
        bint timer_runs
        Request endured                  # the head that time is up for, and that no CancelRequest can end
        readonly object overdue          # the error to close the connection with

    cpdef CancelAction give_up(self, Request request) except *
    cdef bint take_back(self, Request request) except -1
    cdef int drop(self, Request request) except -1
    cdef int head_abandoned(self) except -1
    cdef CancelAction aim(self, Request head) except *
    cdef bint can_signal(self, Request head) except -1
    cdef int open(self, Request head) except -1
    cdef int close(self) except -1
    cdef int head_answered(self, Request head) except -1
    cdef int next_head(self) except -1
    cdef int connection_lost(self) except -1
