# The time during which a CancelRequest is under way.

from headrace._core.pipeline.requests cimport Request


cdef class CancelWindow:
    cdef:
        readonly bint is_open
        Request target                   # its ReadyForQuery is due
        bint delivered
        Request last_may_be_cancelled             # in flight: the last that the signal may hit beside its target

    cdef bint aim(self, Request head, bint idle) except -1
    cdef int open(self, Request head) except -1
    cdef bint answered(self, Request head) except -1
    cdef bint was_delivered(self) except -1
    cdef bint reopen(self, Request target) except -1
    cdef int close(self) except -1
