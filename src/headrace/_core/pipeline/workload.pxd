# Learnt costs of query texts, and the work that one connection has in flight for a pool's callers.

cdef extern from "platform.h":
    double boot_seconds() noexcept

cdef enum:
    RECENT = 16                      # executions whose slowest counts

cdef class Cost:
    cdef:
        readonly double mean             # moving mean, in seconds
        readonly double slowest          # the slowest of the last RECENT
        readonly int measured            # how many executions were measured
        double[16] _recent
        int _next

    cdef int learn(self, double seconds) except -1
    cdef double expected(self) noexcept


cdef class Claim:
    cdef:
        void *before                     # borrowed: its neighbours in the wait queue, or among those in flight
        Claim behind
        readonly Workload work           # of the connection that it was given, while it is in flight
        public Cost cost                 # of its text; None if nothing is known of such a thing
        public bint pipelined            # may be sent behind the work of others
        public bint movable              # may be asked a second time on another connection
        public bint asked_twice           # has been asked a second time, or is the second time
        public bint limited              # its caller has set a time limit
        public bint unprepared           # waits for its statement on its connection: what comes now would overtake it
        public bint waits                # stands in the wait queue
        readonly double expected         # seconds, as learnt when it was sent; below 0 if unknown
        public double since              # when it came to the wait queue
        public long long ticket          # its place in the order of arrival
        readonly int moves               # how often its connection has ended before the server began with it
        readonly int starts              # how often its connection has ended when the server may have begun with it
        readonly int suspected           # how often it may itself have ended its connection
        double suspected_at              # when it was last, on a connection of its pool; 0: not there

    cdef int release(self) except -1


cdef class Workload:
    cdef:
        public double now                # the present, in seconds, as told by the transport at each read and write
        public double arrived            # when what is being read has arrived, as far as that is known
        readonly int count               # claims in flight
        readonly int unmeasured          # those of them whose cost is unknown
        public int preparing             # statements that the server is parsing or looking types up for, for any caller
        readonly double expected         # seconds that the others are expected to take
        public double replied_at         # when the last reply came
        public double head_since         # when the server began with the head, if anything is in flight
        public double head_cost          # learnt cost of the head; 0 if unknown
        public bint overrun              # the head has taken far longer than expected
        public object pooled             # the pool's view of the connection; None outside of a pool
        Claim first
        Claim last
        Claim begun                      # what the server has begun with last, as long as it is in flight

    cdef Claim head(self)
    cdef int add(self, Claim claim) except -1
    cdef int remove(self, Claim claim) except -1


cdef int link(Claim claim, Claim last) except -1
cdef int unlink(Claim claim) except -1
cdef Claim claim_before(Claim claim)
