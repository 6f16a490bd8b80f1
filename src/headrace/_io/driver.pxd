# The requests on a connection, its timers and its end.

from headrace._core.pipeline.cancel cimport CancelAction
from headrace._core.pipeline.future cimport WakeupBatch
from headrace._core.pipeline.requests cimport Query, Request
from headrace._core.pipeline.statement_cache cimport Statement
from headrace._core.pipeline.session cimport Session
from headrace._io.transport cimport Transport, TransportCallbacks


cdef class Driver


cdef class PoolCallbacks:
    # Called by the connections that the callers of a pool share: its dispatcher.
    cdef int replied(self, Driver driver) except -1
    cdef int held(self, Driver driver) except -1
    cdef int resumed(self, Driver driver) except -1
    cdef bint take_back(self, Driver driver, Request request, bint started) except -1
    cdef int reported(self, Driver driver, str name) except -1


cdef class Driver(TransportCallbacks):
    cdef:
        readonly object loop
        readonly Session session
        readonly Transport transport
        WakeupBatch wakeup_batch
        PoolCallbacks pool               # None outside of a pool
        readonly object cancel_sender    # async (pid, secret) -> None: delivers a CancelRequest
        public object observer           # a QueryLog, which sees every request; None without query loggers and hooks
        readonly object pooled           # the pool's view of the connection; None outside of a pool
        object owner_reference           # to whom is told of notices, notifications and the end
        object watcher                   # told of refusals to write
        readonly bint unanswered         # was dropped because it did not answer a ping
        bint dropped                     # by terminate()
        bint terminated                  # Terminate has been written
        object cancel_timer
        list idle_waiters                # futures of those who wait until nothing is in flight
        set tasks
        set streams                      # marks of the asynchronous sources of batches that are being read
        set row_streams                  # RowStreams whose readers have not come to an end
        object __weakref__

    cdef int _check(self) except -1
    cdef int _check_loop(self, str hint) except -1
    cdef int _undelivered(self, error) except -1
    cdef int _drop_without_loop(self) except -1
    cdef bint closed(self) except -1
    cdef object _waiter(self)
    cdef int accept(self, Request request) except -1
    cdef bint is_head(self, Request request) except -1
    cdef int join(self, PoolCallbacks pool, object pooled, WakeupBatch ticks) except -1
    cdef object _queue(self, Query request)
    cdef object _script(self, object waiter, str query, bint uncancellable)
    cdef int _refused(self, str query, args, error) except -1
    cdef int _check_streams(self) except -1
    cdef int _check_copy(self, Request last) except -1
    cdef int _check_row_streams(self) except -1
    cdef int _carry_out(self, CancelAction action) except -1
    cdef int _discard_copy(self) except -1
    cdef object _change(self)
    cdef int _wake_idle_waiters(self) except -1
