# Every decision of a pool: which connection serves which claim, and when connections open and close.

from headrace._core.pipeline.workload cimport Claim, Workload


cdef class PooledConnection:
    cdef:
        readonly object connection
        readonly object driver
        readonly Workload work
        readonly long generation
        readonly double opened_at
        public double retire_at
        public bint leased               # acquired by a caller, or being reset after a lease
        public bint blocked              # accepts nothing: a CancelRequest or a query of its state is under way
        readonly bint reserved           # for the next claim that needs a connection to itself
        public bint misfit               # its server no longer suits target_session_attrs
        public bint not_resettable       # its session has state that a reset does not undo
        public bint ran_code             # its lease ran code whose text was not seen: compare its session's state
        public set reported              # settings that the server has reported and that are being queried, or None
        public bint ends_generation      # a read was lost with it for the second time, without a word of the server
        readonly bint gone               # it was removed from the pool, or is draining
        public bint needs_check          # a lease must ping it before its use
        public object proxy              # a weak reference to the caller's proxy, or None
        public object call_site          # of the acquire()
        public long long requests_at_lease
        public long long reset_at        # its request count including the reset after its last lease

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
        public double budget             # expected seconds of work that a plain read may be sent behind
        public double ping_after         # seconds of idleness after which a connection is pinged before its next use
        public Py_ssize_t max_pipeline   # claims in flight on one connection
        readonly dict connections        # shared and leased ones, by driver
        readonly list available          # those that claims may be assigned to
        readonly dict draining
        readonly set opening
        readonly WaitQueue pipelined     # waiting claims that may be sent behind others
        readonly WaitQueue alone         # waiting claims that need a connection with nothing in flight
        readonly Py_ssize_t reserved
        readonly long generation
        public double born               # when the generation began
        public int failures              # failed attempts to connect since the last success
        readonly bint backing_off
        readonly bint can_grow           # whether another connection may be opened now
        public object last_error         # the error of the last attempt, while there is no connection
        readonly double outage_since
        public double last_shutdown      # when a shutdown last ended a connection
        readonly bint holds_back         # a claim waits beside an idle connection: check again at the next reply
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
    cpdef Py_ssize_t load(self) except -1
    cpdef bint may_be_sent_again(self, Claim call, PooledConnection pooled, object sqlstate, bint started, double now) except -1
    cdef int forget_losses(self, Claim call) except -1


cdef class Balancer:
    cdef:
        list schedulers
        list values
        Py_ssize_t turn
