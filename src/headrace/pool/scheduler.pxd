# Every decision of a pool: which connection serves whom, and which come and go.

from headrace._core.pipeline.workload cimport Claim, Workload


cdef class PooledConnection:
    cdef:
        readonly object connection
        readonly object driver
        readonly Workload work
        readonly long generation
        public double retire_at
        public bint leased               # belongs to one caller, or is being reset after one
        public bint blocked              # takes nothing now: a CancelRequest or a question about its session is under way
        readonly bint reserved           # the next caller that needs a connection to itself gets it
        public bint not_resettable       # its session holds what a reset does not undo
        public bint ran_code             # its lease ran code whose text was not seen: its session is to be compared
        public set reported              # settings that the server has reported and that are being asked about, or None
        readonly bint gone               # it has left the pool, or is draining
        public bint needs_check          # a lease must ping it before use
        public object proxy              # a weak reference to what the caller holds, or None
        public object call_site          # where it was acquired
        public long long requests_at_lease
        public long long reset_at        # requests it had been asked with the reset after its last lease

    cdef bint is_idle(self) noexcept


cdef class WaitQueue:
    cdef:
        Claim first
        Claim last
        readonly Py_ssize_t count

    cdef int append(self, Claim claim) except -1
    cdef int put_back(self, Claim claim) except -1
    cdef int remove(self, Claim claim) except -1


cdef class Scheduler:
    cdef:
        readonly object limits
        public object uniform
        public double budget             # seconds of work that a plain read may be sent behind
        public double ping_after         # seconds of idleness after which a connection is pinged before its next use
        public Py_ssize_t max_pipeline   # claims in flight on one connection
        readonly dict connections        # all that are shared or leased, by driver
        readonly list available          # those that may be given claims
        readonly dict draining
        readonly set opening
        readonly WaitQueue pipelined     # those that wait and may be sent behind others
        readonly WaitQueue alone         # those that wait for a connection with nothing in flight
        readonly Py_ssize_t reserved
        readonly long generation
        public double born               # when the generation began
        public int failures              # attempts to connect that have failed since the last one that did not
        readonly bint backing_off
        readonly bint can_grow           # whether another connection may be opened now
        public object last_error         # what the last attempt failed with, while there is no connection
        readonly double outage_since
        public double last_shutdown      # when a connection was last ended by a shutdown
        readonly bint holds_back         # a claim waits although a connection may be idle: look again at the next reply
        long long tickets

    cdef PooledConnection submit(self, Claim claim, double now)
    cdef bint is_quick(self, Claim claim) noexcept
    cdef bint is_watched(self, PooledConnection pooled) noexcept
    cdef PooledConnection find_idle(self, double now)
    cdef bint takes_more(self, PooledConnection pooled, double now) noexcept
    cdef bint has_overrun(self, PooledConnection pooled, double now) noexcept
    cdef bint is_held_back(self, long long ticket) except -1
    cdef Claim next_claim(self, PooledConnection pooled, double now)
    cdef int enqueue(self, Claim claim, double now) except -1
    cdef int put_back(self, Claim claim, double now) except -1
    cdef int withdraw(self, Claim claim) except -1
    cdef int begin_lease(self, PooledConnection pooled) except -1
    cdef int rebalance(self) except -1
