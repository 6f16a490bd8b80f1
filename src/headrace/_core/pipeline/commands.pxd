# The commands of transactions that are put off, the note of the open block, and the transaction status.

from headrace._core.pipeline.requests cimport Command, Request
from headrace._core.pipeline.send_queue cimport SendQueue
from headrace._core.pipeline.statements cimport Statements


cdef class Block:
    cdef:
        long number               # of those of the session, from 1 on
        Command command           # its BEGIN, if that was put off
        readonly bint is_begun    # the server has begun it
        object failure            # the server has no such block (any more): why; None
        bint is_refused           # because it has refused BEGIN
        bint is_known             # and a caller has got that error
        Request end               # the COMMIT that ends it

    cdef object error(self, bint is_told=*)


cdef class Commands:
    cdef:
        SendQueue send_queue
        Statements statements
        readonly Block block      # the open one; None if there is none
        long blocks               # how many there were
        int status_byte           # the transaction status of the last ReadyForQuery: I, T or E; 0 before

    cdef bint on_server(self) noexcept
    cdef bint in_block(self) noexcept
    cdef Block begin_block(self)
    cdef int check(self) except -1
    cdef bint is_last(self, Command command) except -1
    cdef Command queue(self, str query, Block begins, object observer)
    cdef bint takes_along(self, str query) except -1
    cdef Block answered(self, Request head, bint idle)
    cdef int fail_block(self, Block block) except -1
    cdef int fail(self, Request request, object error) except -1
    cdef int connection_lost(self) except -1
