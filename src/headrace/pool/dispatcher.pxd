# The calls that share the connections of a pool.

from headrace._core.pipeline.batch cimport Batch
from headrace._core.pipeline.future cimport WakeupBatch
from headrace._core.pipeline.requests cimport Query, Request, UnpreparedQuery
from headrace._core.pipeline.workload cimport Claim, Cost
from headrace._io.driver cimport Driver, PoolCallbacks
from headrace.pool.scheduler cimport PooledConnection, Scheduler


cdef class QueryProfile:
    cdef:
        readonly object traits
        readonly Cost cost
        readonly bint leases             # needs a lease, with a reset after it
        bint pipelined                   # may be sent behind others
        bint movable                     # may be repeated on another connection


cdef class LeaseClaim(Claim):
    cdef readonly object waiter          # a future of the PooledConnection


cdef class Dispatcher(PoolCallbacks):
    cdef:
        readonly object loop
        readonly Scheduler scheduler
        readonly bint running
        bint repeat_reads
        bint pipeline_writes
        object maintenance               # the pool's Maintenance
        WakeupBatch wakeup_batch
        dict profiles
        object overrun_check             # the timer; None while no request is behind another
        object starvation_check          # the timer, also after it has reported; None if not all are leased
        long long[14] waits              # number of callers per bucket of the wait time
        double waited                    # total seconds

    cdef QueryProfile profile(self, str query)
    cpdef Query query(self, str query, tuple args, int kind, int limit, object column, object record_class, object timeout,
                      object watched=*)
    cpdef UnpreparedQuery direct(self, str query, object timeout, object watched=*)
    cpdef Batch batch(self, str query, object elements, object record_class, bint collects, object timeout, object watched=*)
    cdef int submit(self, Request request, object timeout) except -1
    cdef int submit_watched(self, Request request, object timeout, object watched) except -1
    cdef int prepare(self, Request request, object timeout, double now) except -1
    cdef int move_deadline(self, Request request) except -1
    cdef int send(self, PooledConnection pooled, Request request, bint flush) except -1
    cdef int fill(self, PooledConnection pooled, bint flush) except -1
    cdef int count_wait(self, double seconds) except -1
    cdef int watch(self, double now) except -1
    cdef bint looks_alive(self, PooledConnection pooled, double now) except -1
    cdef int watch_starvation(self) except -1
    cdef int look_at_overrun_head(self, PooledConnection pooled) except -1
    cpdef int preempt(self) except -1
    cdef int move(self, PooledConnection pooled, bint repeats=*) except -1


cdef class SharedCalls:
    cdef:
        Dispatcher dispatcher
        object connection_class
        object record_class              # that rows become by default
        public object command_timeout    # the default time limit in seconds; None for none
        public object hooks              # the query hooks of the pool (a Hooks); None if there are none
        bint off

    cpdef bint takes(self, object method) except -1
