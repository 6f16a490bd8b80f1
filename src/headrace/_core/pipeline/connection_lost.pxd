# The end of a connection: the outcome of each request, and what its caller is told.

from headrace._core.pipeline.queue cimport Queue
from headrace._core.pipeline.requests cimport Request

cdef enum Proof:
    NO_PROOF
    BEHIND           # nothing behind the head was started
    IDLE             # neither was the head
    COMMITTED        # nothing behind the head was started; the head has committed on this server

cdef enum Start:
    NOT_SENT
    NOT_STARTED      # it was sent, and the server provably never started it
    UNKNOWN


cdef class Ending:
    cdef:
        object reason                # an exception or a text
        Proof proof
        Request head                 # of those in flight when the connection ended
        bint at_head                 # what is settled now is the head, or waits for it
        object last_words            # the error for the head; None once it is told
        object events                # may run again what provably never started; None if nothing is to be run again
        list unknown                 # for each transaction block: whether it may have been committed
        bint in_block                # a transaction block is open behind all that was marked so far

    cdef int mark(self, Queue queue) except -1
    cdef int mark_text(self, Request request) except -1
    cdef Start start_of(self, Request request) except *
    cdef int settle(self, Request request) except -1
    cdef bint hand_back(self, Request request, Start start) except -1
    cdef object error_for(self, Request request, Start start)
    cdef tuple verdict(self, Request request, Start start)
    cdef str of_blocks(self)
    cdef str verdict_in_block(self, Request request, Start start)


cdef Proof proof_of(object fatal, dict notice) except *
cdef bint is_parting(dict fields) except -1
cdef str text_of(object reason)
cdef int fail_lost(Request request, object reason) except -1
cdef int tell(Request request, object error) except -1
