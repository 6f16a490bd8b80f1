# What is asked of a connection, and what becomes of it.

from headrace._core.pipeline.cancel cimport CancelAction
from headrace._core.pipeline.future cimport WakeupBatch
from headrace._core.pipeline.requests cimport Request
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._io.transport cimport Line, Sharing


cdef class DriverCore(Line):
    cdef:
        WakeupBatch wakeup_batch
        readonly object cancel_sender        # async (pid, secret) -> None: delivers a CancelRequest
        public object observer           # watch(request, timeout), refused(query, args, error): sees every request
        readonly object pooled           # the pool's view of the connection; None outside of a pool
        object owner_reference           # to whom is told of notices, notifications and the end
        object watcher                   # told of refusals to write
        Request sign                     # the last ping
        readonly bint unanswered         # was dropped because it did not answer a ping
        bint dropped                     # by terminate()
        bint terminated                  # Terminate has been written
        object cancel_timer
        set tasks

    cdef int _check(self) except -1
    cdef int _check_loop(self, str hint) except -1
    cdef int _undelivered(self, error) except -1
    cdef int _drop_without_loop(self) except -1
    cdef object _waiter(self)
    cdef int accept(self, Request request) except -1
    cdef bint is_head(self, Request request) except -1
    cdef int join(self, Sharing sharing, object pooled, WakeupBatch ticks) except -1
    cdef int _refused(self, str query, args, error) except -1
    cdef int _check_copy(self, Request last) except -1
    cdef int _carry_out(self, CancelAction action) except -1
    cdef int _discard_copy(self) except -1
