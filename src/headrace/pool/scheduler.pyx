"""The scheduler: which connection of a pool serves which caller, and when connections open and close. It does no I/O.

A caller's request for a connection is a claim. There are three kinds:

- A pipelined claim is a plain read. It may be sent behind the work of others if its own expected cost is within the
  budget; otherwise it needs a connection with nothing in flight.
- A claim that is not pipelined needs a connection with nothing in flight. Plain reads may be sent behind it.
- A lease needs such a connection too, and keeps it until it is released.

The rules:

1. No claim waits while a connection is idle, except by rule 5.
2. If all connections are busy, a pipelined claim is sent behind work that is expected to end within the budget. It is
   never sent behind a head that has overrun: one that has taken longer than the budget and longer than four times its
   learnt cost. Nothing is sent behind a text whose cost is not known yet.
3. A claim that cannot be sent waits in a queue and gets the connection that is ready first. The order is first come,
   first served: each claim has a ticket. A claim that waits for an idle connection reserves the one that is expected to
   be idle first. Nothing more is sent on that one, and pipelined claims go on using the others. Reservations move if a
   head overruns, or if a CancelRequest is under way.
4. A pipelined claim that is stuck behind an overrun head is repeated once, on an idle connection.
5. A later claim must not take that connection away for ever. So a claim that needs a connection to itself is held back
   while an earlier plain read waits behind a head. This ends when the head is done or has overrun. A plain read that
   overruns at the head is preempted by an earlier claim that has no connection: it is cancelled, which is safe, and
   repeated when its ticket comes up.

So a caller never waits for another caller's lock, and every program that terminates with one request at a time on a
connection also terminates here: only pipelined claims ever wait behind others on a connection, and they do not stay
there.

The caller passes the time, in seconds of one clock, and a function for random numbers, so that a test controls both.
"""

cimport cython

from headrace._core.pipeline.workload cimport boot_seconds, claim_before, link, unlink

import random
from copy import copy
from dataclasses import dataclass
from enum import StrEnum

from headrace.exceptions import is_transient

# Expected seconds of work that a plain read may be sent behind.
BUDGET = 0.005

# A head has overrun if it has taken this many times its learnt cost, and more than the budget.
cdef double OVERRUN = 4

# A connection that was idle for so many seconds is pinged before its next use.
PING_AFTER = 30.0

# The lifetime of a connection is shortened by a random part of up to this, so that they do not all end at once.
JITTER = 0.1

# Seconds between attempts to connect after a failure. The delay doubles each time, less a random part of up to half.
FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0

# The longest delay if there are several hosts: another one may take over at any moment.
LONGEST_DELAY_OF_SEVERAL = 1.0

# At most one generation is retired in so many seconds.
GENERATION_PAUSE = 1.0

# Two sessions that are shut down within so many seconds mean that the server is shutting down.
SHUTDOWN_PAUSE = 1.0

# An attempt to connect that has no answer after so many seconds no longer delays other attempts.
STALLED = 5.0

# The most times that a call is moved because its connection ended before the server began with it.
cdef int MOST_MOVES = 3

# The most times that a plain read is started, on connections that end.
cdef int MOST_STARTS = 3

# The most times that a plain read is started again after it may itself have ended its connection.
cdef int MOST_SUSPICIONS = 1

# admin_shutdown, crash_shutdown, cannot_connect_now ("PostgreSQL Error Codes").
ADMIN_SHUTDOWN = '57P01'
SHUTDOWN = frozenset({'57P01', '57P02', '57P03'})

# read_only_sql_transaction.
READ_ONLY = '25006'


class Reason(StrEnum):
    """Why a pool has closed a connection."""

    IDLE = 'idle'
    """It was idle for `max_inactive_connection_lifetime` seconds."""
    MAX_LIFETIME = 'max_lifetime'
    """It was older than `max_lifetime`."""
    MAX_QUERIES = 'max_queries'
    """It had served `max_queries` requests."""
    EXPIRED = 'expired'
    """`expire_connections()` was called."""
    GENERATION_RETIRED = 'generation_retired'
    """Its server shut down, crashed or became read-only, so that every connection of its generation was replaced."""
    ROLE_CHANGED = 'role_changed'
    """Its server was promoted or turned read-only, and no longer suits `target_session_attrs`."""
    REBALANCED = 'rebalanced'
    """Another host, which has come back, is to have it."""
    HOST_DOWN = 'host_down'
    """Its host is known to be down."""
    QUARANTINED = 'quarantined'
    """A shared call left it inside a transaction."""
    NOT_RESETTABLE = 'not_resettable'
    """A shared call left session state that a reset does not undo, such as another role or a temporary table."""
    SETTINGS_CHANGED = 'settings_changed'
    """The server reported that a shared call had changed a setting of the session."""
    RESET_FAILED = 'reset_failed'
    """The reset after a lease failed."""
    SETUP_FAILED = 'setup_failed'
    """The `setup` callback failed."""
    PING_FAILED = 'ping_failed'
    """It did not answer a ping after it had been idle."""
    CONNECTION_LOST = 'connection_lost'
    """The server, the network or the holder of the lease closed it."""
    POOL_CLOSED = 'pool_closed'
    """The pool was closed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a pool: numbers of connections and queries, and seconds; 0 means no limit."""

    min_size: int
    max_size: int
    max_queries: int = 0
    idle_lifetime: float = 0.0
    max_lifetime: float = 0.0

    def sweep_interval(self) -> float:
        """Return the seconds between two checks of the connections."""
        return min(each for each in (self.idle_lifetime, self.max_lifetime, PING_AFTER) if each > 0) / 4


class Opening:
    """A connection that is being opened."""

    __slots__ = ('generation', 'since', 'stalled')

    def __init__(self, generation: int, since: float = 0.0) -> None:
        self.generation = generation
        self.since = since
        self.stalled = False


cdef class PooledConnection:
    """A connection of the pool."""

    def __init__(self, connection, driver, Workload work not None, long generation, double opened_at, double retire_at):
        self.connection = connection
        self.driver = driver
        self.work = work
        self.generation = generation
        self.opened_at = opened_at
        self.retire_at = retire_at

    cdef bint is_idle(self) noexcept:
        """Return whether it may be given a claim that needs a connection to itself."""
        return self.work.count == 0 and self.work.preparing == 0 and not self.blocked and not self.leased

    @property
    def idle(self) -> bool:
        """True if no caller's request is in flight and it is not leased."""
        return self.work.count == 0 and not self.leased

    @property
    def is_reset(self) -> bool:
        """True if the reset after its last lease is done, so that the server's status is not that of the lease."""
        return self.driver.request_count - self.driver.pending >= self.reset_at

    def __repr__(self) -> str:
        state = 'leased' if self.leased else f'{self.work.count} in flight'
        return f'<PooledConnection {self.connection!r} {state}>'


# Only the queue breaks the chain. Otherwise each claim would free the next one inside its own deallocation.
@cython.final
@cython.no_gc_clear
cdef class WaitQueue:
    """Claims in the order of their tickets."""

    def __dealloc__(self):
        while self.first is not None:
            self.remove(self.first)

    def __iter__(self):
        cdef Claim claim = self.first
        while claim is not None:
            yield claim
            claim = claim.behind

    def __len__(self) -> int:
        return self.count

    cdef int append(self, Claim claim) except -1:
        link(claim, self.last)
        if self.last is None:
            self.first = claim
        else:
            self.last.behind = claim
        self.last = claim
        self.count += 1
        claim.waits = True
        return 0

    cdef int put_back(self, Claim claim) except -1:
        """Insert a claim by its ticket, which is older than those of nearly all others."""
        cdef Claim before = None, behind = self.first
        while behind is not None and behind.ticket <= claim.ticket:
            before, behind = behind, behind.behind
        if behind is None:
            return self.append(claim)
        claim.before = <void *>before if before is not None else NULL
        claim.behind = behind
        behind.before = <void *>claim
        if before is None:
            self.first = claim
        else:
            before.behind = claim
        self.count += 1
        claim.waits = True
        return 0

    cdef int remove(self, Claim claim) except -1:
        if self.first is claim:
            self.first = claim.behind
        if self.last is claim:
            self.last = claim_before(claim)
        unlink(claim)
        claim.waits = False
        self.count -= 1
        return 0


def reports_read_only(parameters) -> bool:
    """Return whether the server reports that it is read-only. Servers before 14 do not report it."""
    return 'on' in (parameters.get('in_hot_standby'), parameters.get('default_transaction_read_only'))


def copy_of(error: BaseException) -> BaseException:
    """Return a copy of an error for another caller, or the error itself if it cannot be copied."""
    try:
        other = copy(error)
    except Exception:
        return error
    if type(other) is not type(error) or str(other) != str(error):
        return error
    other.__cause__, other.__traceback__ = error.__cause__, error.__traceback__
    if hasattr(error, '__notes__'):
        other.__notes__ = list(error.__notes__)
    return other


cdef class Scheduler:
    """The connections of a pool, and the claims that wait for one.

    `limits` apply to the connections, `budget` (seconds) and `max_pipeline` (claims) to the requests in flight on each.
    A budget of 0, or a `max_pipeline` of 1, turns pipelining off.
    """

    def __init__(self, limits, double now=0.0, uniform=random.uniform, *, double budget=BUDGET,
                 Py_ssize_t max_pipeline=100):
        self.limits = limits
        self.uniform = uniform
        self.budget = budget
        self.max_pipeline = max_pipeline
        self.ping_after = PING_AFTER
        self.connections = {}
        self.available = []
        self.draining = {}
        self.opening = set()
        self.pipelined = WaitQueue()
        self.alone = WaitQueue()
        self.born = now
        self.can_grow = True
        self.last_shutdown = float('-inf')

    # -- claims ----------------------------------------------------------------------------------------------------

    cdef PooledConnection submit(self, Claim claim, double now):
        """Assign a new claim to the connection to send it on now; return None if it has to wait."""
        cdef:
            PooledConnection pooled, best = None
            bint quick
        self.tickets += 1
        claim.ticket = self.tickets
        if claim.pipelined:
            if self.pipelined.count == 0:
                quick = self.is_quick(claim)
                if self.alone.count:
                    # An idle connection is for the waiting claims.
                    self.rebalance()
                elif quick or not self.is_held_back(claim.ticket):
                    best = self.find_idle(now)
                if best is None and quick:
                    for pooled in self.available:
                        if (best is None or pooled.work.expected < best.work.expected) and self.takes_more(pooled, now):
                            best = pooled
        elif self.alone.count == 0 and self.pipelined.count == 0 and not self.is_held_back(claim.ticket):
            best = self.find_idle(now)
        if best is None:
            self.enqueue(claim, now)
        else:
            give(best, claim, now)
        return best

    cdef bint is_quick(self, Claim claim) noexcept:
        """Return whether a claim is expected to take no longer than the budget."""
        return claim.cost is not None and 0 <= claim.cost.expected() <= self.budget

    cdef PooledConnection find_idle(self, double now):
        """Return a connection with nothing in flight, preferably one that needs no ping; None if there is none."""
        cdef PooledConnection pooled, stale = None
        for pooled in self.available:
            if pooled.is_idle():
                if now - pooled.work.replied_at < self.ping_after:
                    return pooled
                if stale is None:
                    stale = pooled
        return stale

    cdef bint takes_more(self, PooledConnection pooled, double now) noexcept:
        """Return whether a pipelined claim may be sent behind what is in flight on a connection."""
        cdef Workload work = pooled.work
        return not pooled.reserved and not pooled.blocked and not pooled.leased and not work.overrun \
            and work.unmeasured == 0 and work.preparing == 0 and work.count < self.max_pipeline and 0 < self.budget >= work.expected \
            and not (work.last is not None and work.last.unprepared) and not self.has_overrun(pooled, now)

    cdef bint has_overrun(self, PooledConnection pooled, double now) noexcept:
        """Return whether the head of a connection has taken far longer than expected."""
        cdef double limit = OVERRUN * pooled.work.head_cost
        return pooled.work.count > 0 and now - pooled.work.head_since > (limit if limit > self.budget else self.budget)

    cdef Claim next_claim(self, PooledConnection pooled, double now):
        """Assign the next waiting claim that a connection can serve, and return it; None if there is none."""
        cdef Claim claim = self.pipelined.first, other = self.alone.first
        if claim is None and other is None or pooled.leased or pooled.blocked or pooled.gone:
            return None
        if pooled.work.count == 0 and pooled.work.preparing == 0:
            if claim is None or other is not None and other.ticket < claim.ticket:
                if self.is_held_back(other.ticket):
                    self.rebalance()
                    if claim is None or pooled.reserved:
                        return None
                else:
                    claim = other
            if claim.pipelined and not self.is_quick(claim) and self.is_held_back(claim.ticket):
                return None
        else:
            if claim is None or not self.is_quick(claim):
                return None
            if self.alone.count and not pooled.reserved:
                # This one may now be the first to be idle: its head is done, or another head has overrun.
                self.rebalance()
            if not self.takes_more(pooled, now):
                return None
        if claim.pipelined:
            self.pipelined.remove(claim)
        else:
            self.alone.remove(claim)
            if pooled.reserved:
                pooled.reserved = False
                self.reserved -= 1
            self.rebalance()
        give(pooled, claim, now)
        return claim

    cdef bint is_held_back(self, long long ticket) except -1:
        """Return whether a claim that needs a connection to itself must not be given one yet.

        An earlier read waits behind the head of a connection. If that head overruns, the read needs an idle connection,
        and this claim might keep the last one for ever, because it waits for the caller of the read.
        """
        cdef PooledConnection pooled
        self.holds_back = True
        for pooled in self.available:
            if has_read_behind(pooled, ticket):
                return True
        for pooled in self.draining.values():
            if has_read_behind(pooled, ticket):
                return True
        self.holds_back = False
        return False

    cdef int enqueue(self, Claim claim, double now) except -1:
        """Put a claim into the wait queue."""
        claim.since = now
        if claim.pipelined:
            self.pipelined.append(claim)
        else:
            self.alone.append(claim)
            self.rebalance()
        return 0

    cdef int put_back(self, Claim claim, double now) except -1:
        """Put a claim that was in flight back into the wait queue, ahead of all later ones."""
        claim.release()
        claim.since = now
        if claim.suspected:
            claim.pipelined = False
        if claim.pipelined:
            self.pipelined.put_back(claim)
        else:
            self.alone.put_back(claim)
            self.rebalance()
        return 0

    cdef int withdraw(self, Claim claim) except -1:
        """Remove a claim from the wait queue because its caller has given up."""
        if not claim.waits:
            return 0
        if claim.pipelined:
            self.pipelined.remove(claim)
        else:
            self.alone.remove(claim)
            self.rebalance()
        return 0

    cdef int begin_lease(self, PooledConnection pooled) except -1:
        """Stop sharing a connection, for a lease."""
        pooled.leased = True
        self._withhold(pooled)
        return 0

    cdef int rebalance(self) except -1:
        """Reserve a connection for each claim that waits for one to itself: those expected to be idle first."""
        cdef:
            PooledConnection pooled, first, last
            Py_ssize_t wanted = min(self.alone.count, <Py_ssize_t>len(self.available))
        while True:
            first = last = None
            for pooled in self.available:
                if pooled.reserved:
                    if last is None or remaining(pooled) > remaining(last):
                        last = pooled
                elif first is None or remaining(pooled) < remaining(first):
                    first = pooled
            if self.reserved < wanted:
                first.reserved = True
                self.reserved += 1
            elif self.reserved > wanted:
                last.reserved = False
                self.reserved -= 1
            elif first is not None and last is not None and remaining(first) < remaining(last):
                first.reserved, last.reserved = True, False
            else:
                return 0

    # -- overrun heads ---------------------------------------------------------------------------------------------

    def watched_connections(self) -> list:
        """Return the connections whose heads are watched: the available and the draining ones."""
        return [*self.available, *self.draining.values()]

    def overrunning(self, double now) -> list:
        """Return the connections whose head has newly taken far longer than expected."""
        cdef PooledConnection pooled
        return [pooled for pooled in self.watched_connections()
                if not pooled.work.overrun and self.has_overrun(pooled, now)]

    def mark_overrun(self, PooledConnection pooled not None) -> None:
        """Send nothing more on a connection until its head is done. A reservation moves to another connection."""
        pooled.work.overrun = pooled.work.count > 0
        self.rebalance()

    def next_check(self, double now) -> float:
        """Return the seconds until the next check for overrun heads; -1 if there are none to check.

        The interval is always short, so requests that are sent meanwhile need no earlier check.
        """
        cdef:
            PooledConnection pooled
            double soonest = -1, left
        for pooled in self.watched_connections():
            if self.is_watched(pooled):
                left = max(self.budget, OVERRUN * pooled.work.head_cost) - (now - pooled.work.head_since)
                if soonest < 0 or left < soonest:
                    soonest = max(left, 0.001)
        return min(soonest, OVERRUN * self.budget) if soonest > 0 and self.budget > 0 else soonest

    cdef bint is_watched(self, PooledConnection pooled) noexcept:
        """Return whether it matters if a head overruns.

        It does if other claims wait behind it, or if it was repeated. If it was expected to be quick, it also does
        while claims wait for a connection to themselves, because this one may be reserved for them.
        """
        cdef Workload work = pooled.work
        if work.overrun or work.count == 0:
            return False
        return work.count > 1 or work.head().asked_twice or self.alone.count > 0 and work.head_cost <= self.budget

    def to_preempt(self) -> list:
        """Return the claims at the head of their connections that must be cancelled and wait again.

        They are plain reads that have overrun while an earlier claim waits without a connection to expect: it was
        behind another head, or its reserved connection has overrun. The latest claims come first.
        """
        cdef:
            PooledConnection pooled
            Claim head, first = self.alone.first
            Py_ssize_t missing = 0
        if first is None:
            return []
        found = []
        for pooled in self.available:
            head = pooled.work.head()
            if head is None or not pooled.work.overrun or pooled.blocked:
                continue
            if pooled.reserved:
                missing += 1
            if head.movable and head.ticket > first.ticket:
                found.append(head)
        found.sort(key=ticket_of, reverse=True)
        return found[:missing]

    # -- connections that end --------------------------------------------------------------------------------------

    cpdef bint may_be_sent_again(self, Claim call, PooledConnection pooled, object sqlstate, bint started, double now) except -1:
        """Return whether a call may be sent on another connection, because its own has ended.

        `started`: the server may have begun with it. `sqlstate`: that of the error that the server has ended the
        connection with, None if it has not said a word.

        Only plain reads may be started again, and not for ever. If the server did not say why it ended the connection, the
        read itself may have been the reason, and is suspected. It is sent behind no other from then on, because these
        might be suspected with it. Connections that were open at that time may all end with their host, without a word,
        so a second of them is no new suspicion. But then the generation is retired, and the read waits for a new
        connection or for another host.
        """
        if not started:
            call.moves += 1
            return call.moves <= MOST_MOVES
        if not call.movable:
            return False
        call.starts += 1
        if call.starts >= MOST_STARTS:
            return False
        if sqlstate in SHUTDOWN:
            if call.starts == MOST_STARTS - 1:
                # The others may end for the same reason, and it is started only once more.
                pooled.ends_generation = True
            return True
        if sqlstate is None and 0 < call.suspected_at >= pooled.opened_at:
            pooled.ends_generation = True
            return True
        call.suspected_at = now
        call.suspected += 1
        return call.suspected <= MOST_SUSPICIONS

    cdef int forget_losses(self, Claim call) except -1:
        """A call comes from another pool: it has not ended that one's host, as far as this one is concerned."""
        call.moves = call.starts = 0
        call.suspected_at = 0
        return 0

    # -- queries ---------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Number of claims in the wait queue."""
        return self.pipelined.count + self.alone.count

    def claims(self) -> list:
        """Return the waiting claims, in order."""
        return sorted([*self.pipelined, *self.alone], key=lambda claim: claim.ticket)

    def leases(self) -> int:
        """Return the number of leased connections."""
        return sum(pooled.leased for pooled in self.connections.values())

    def idle_size(self) -> int:
        """Return the number of connections that have nothing to do."""
        return sum(pooled.idle for pooled in self.connections.values())

    cpdef Py_ssize_t load(self) except -1:
        """Return the number of claims that wait or are in flight, leases included."""
        cdef:
            PooledConnection pooled
            Py_ssize_t found = self.pipelined.count + self.alone.count + len(self.connections) - len(self.available)
        for pooled in self.available:
            found += pooled.work.count
        return found

    # For tests and other Python code.

    def claim(self, Claim claim not None, double now):
        """Assign a new claim to the connection to send it on now; return None if it has to wait."""
        return self.submit(claim, now)

    def serve(self, PooledConnection pooled not None, double now) -> list:
        """Assign waiting claims to a connection, up to one that needs it to itself; return them."""
        cdef Claim claim
        served = []
        while True:
            claim = self.next_claim(pooled, now)
            if claim is None:
                return served
            served.append(claim)
            if not claim.pipelined:
                return served

    def give_up(self, Claim claim not None) -> None:
        """Remove a claim from the wait queue because its caller has given up."""
        self.withdraw(claim)

    def repeat(self, Claim claim not None, double now) -> None:
        """Put a claim, or its repetition, back into the wait queue at the position of its ticket."""
        self.put_back(claim, now)

    def lease(self, PooledConnection pooled not None) -> None:
        """Stop sharing a connection, for a lease."""
        self.begin_lease(pooled)

    # -- opening and closing ---------------------------------------------------------------------------------------

    def _attempts(self):
        """Return the number of connections being opened, except those whose server does not answer."""
        return sum(not opening.stalled for opening in self.opening)

    def _count(self):
        size = len(self.connections) + len(self.draining) + self._attempts()
        self.can_grow = size < self.limits.max_size and not self.backing_off

    def wanted(self) -> int:
        """Return how many connections should be opened now, to keep `min_size` and for waiting callers.

        After a failure, and while there is no connection, only one is opened at a time, so that it fails only once.
        """
        if self.backing_off:
            return 0
        limits = self.limits
        opening = self._attempts()
        size = len(self.connections) + opening
        wanted = max(limits.min_size - size, self.waiting - opening)
        wanted = min(wanted, limits.max_size - size - len(self.draining))
        if self.failures or not self.connections:
            wanted = min(wanted, 1 - opening)
        return max(wanted, 0)

    def begin_opening(self, double now=0.0):
        """Record that a connection is being opened."""
        opening = Opening(self.generation, now)
        self.opening.add(opening)
        self._count()
        return opening

    def end_opening(self, opening) -> None:
        """Record that opening a connection has ended, with or without success. A second call does nothing."""
        self.opening.discard(opening)
        self._count()

    def mark_stalled(self, opening) -> None:
        """Record that an attempt to connect has had no answer for some seconds. It is no longer counted.

        This applies to one attempt at a time, so there is at most one connection too many.
        """
        opening.stalled = not any(other.stalled for other in self.opening)
        self._count()

    def has_capacity(self) -> bool:
        """Return whether another connection may be added."""
        return len(self.connections) + len(self.draining) < self.limits.max_size

    def add(self, connection, driver, Workload work not None, opening, double now):
        """Add a connection that has just been opened."""
        self.opening.discard(opening)
        lifetime = self.limits.max_lifetime
        retire_at = now + lifetime * self.uniform(1 - JITTER, 1) if lifetime > 0 else float('inf')
        pooled = PooledConnection(connection, driver, work, opening.generation, now, retire_at)
        work.pooled = pooled
        work.replied_at = now
        self.connections[driver] = pooled
        self.available.append(pooled)
        self.failures = 0
        self.last_error = None
        self.rebalance()
        self._count()
        return pooled

    def failed(self, error: BaseException, double now, *, several_hosts: bool = False) -> float:
        """Record that a connection could not be opened; return the seconds until the next attempt, 0 if one is due."""
        if self.failures == 0 or self.last_error is None:
            self.outage_since = now
        self.last_error = error
        if self.backing_off:
            return 0.0
        longest = LONGEST_DELAY_OF_SEVERAL if several_hosts else LONGEST_DELAY
        delay = min(FIRST_DELAY * 2 ** min(self.failures, 16), longest)
        self.failures += 1
        self.backing_off = True
        self._count()
        return delay * self.uniform(0.5, 1)

    def claims_to_fail(self, double now, double patience) -> list:
        """Remove from the wait queue the claims that fail with the last error of connecting, and return them.

        While there are connections, one may become free, so no claim fails. Otherwise all fail if the error is
        permanent. If it is transient, those fail that have waited for `patience` seconds of the outage.
        """
        cdef Claim claim
        if self.connections or self.last_error is None:
            return []
        if is_transient(self.last_error):
            found = [claim for claim in self.claims()
                     if not claim.limited and now - max(claim.since, self.outage_since) >= patience]
        else:
            found = self.claims()
        for claim in found:
            self.withdraw(claim)
        return found

    def end_back_off(self) -> None:
        """Allow the next attempt to connect."""
        self.backing_off = False
        self._count()

    def give_back(self, PooledConnection pooled not None) -> None:
        """End a lease: the connection is shared again."""
        pooled.leased = False
        pooled.needs_check = False
        if pooled.driver in self.connections and pooled not in self.available:
            self.available.append(pooled)
            self.rebalance()

    def drain(self, driver) -> None:
        """Assign nothing more to a connection. It is closed when its requests are done."""
        pooled = self.remove(driver)
        if pooled is not None:
            self.draining[driver] = pooled
            self._count()

    def remove(self, driver):
        """Remove a connection from the pool and return it; None if it was removed before or is draining."""
        self.draining.pop(driver, None)
        pooled = self.connections.pop(driver, None)
        if pooled is not None:
            (<PooledConnection>pooled).gone = True
            self._withhold(pooled)
        self._count()
        return pooled

    def _withhold(self, PooledConnection pooled):
        if pooled in self.available:
            self.available.remove(pooled)
            if pooled.reserved:
                pooled.reserved = False
                self.reserved -= 1
            self.rebalance()

    # -- replacement -----------------------------------------------------------------------------------------------

    def expired(self, PooledConnection pooled not None, double now):
        """Return why an idle or just released connection must be replaced; None to keep it."""
        if pooled.misfit:
            return Reason.ROLE_CHANGED
        if pooled.generation != self.generation:
            return Reason.GENERATION_RETIRED
        if pooled.not_resettable:
            return Reason.NOT_RESETTABLE
        if 0 < self.limits.max_queries <= pooled.driver.request_count:
            return Reason.MAX_QUERIES
        if now >= pooled.retire_at:
            return Reason.MAX_LIFETIME
        return None

    def sweep(self, double now) -> list:
        """Return the connections that are not leased and must be retired, as pairs of a connection and a reason.

        Idle connections are reduced to `min_size`, the longest idle first. Old ones are retired even with requests in
        flight, which are waited for.
        """
        going = []
        idle = []
        for pooled in self.available:
            reason = self.expired(pooled, now)
            if reason is Reason.MAX_LIFETIME or (reason is not None and pooled.idle):
                going.append((pooled, reason))
            elif pooled.idle:
                idle.append(pooled)
        idle.sort(key=lambda pooled: pooled.work.replied_at)
        spare = len(self.connections) - len(going) + len(self.opening) - self.limits.min_size
        for pooled in idle:
            if spare > 0 and 0 < self.limits.idle_lifetime <= now - pooled.work.replied_at:
                going.append((pooled, Reason.IDLE))
                spare -= 1
        return going

    def next_generation(self, double now) -> list:
        """Begin a generation; return the connections of earlier ones that are not leased, to be retired at once."""
        self.generation += 1
        self.born = now
        going = list(self.available)
        for pooled in going:
            # Or the claims of one would be assigned to the next.
            self._withhold(pooled)
        return going

    def retires_generation(self, PooledConnection pooled not None, sqlstate, double now) -> bool:
        """Return whether the loss of a connection, or an error on it, will affect its whole generation.

        A crash will (57P02), and so will a second session that is shut down within a second: a single one may have been
        terminated by an administrator. A refused write will if the server reports that it is read-only; otherwise only
        the transaction may be. `sqlstate` is None if the server sent no error. If one read is then lost for the second
        time, the host itself may be gone.
        """
        if pooled.generation != self.generation:
            return False
        if pooled.ends_generation:
            return True
        if now - self.born < GENERATION_PAUSE:
            return False
        if sqlstate == READ_ONLY:
            parameters = pooled.driver.session.parameters
            return reports_read_only(parameters) or 'in_hot_standby' not in parameters
        if sqlstate == ADMIN_SHUTDOWN:
            again = now - self.last_shutdown <= SHUTDOWN_PAUSE
            self.last_shutdown = now
            return again
        return sqlstate in SHUTDOWN

    def refusal_retires(self, error, double now) -> bool:
        """Return whether a refused attempt to connect means that all connections have ended or are about to end.

        The server is shutting down or starting up, or nothing listens shortly after one of its sessions was shut down.
        """
        if not self.connections or now - self.born < GENERATION_PAUSE:
            return False
        return getattr(error, 'sqlstate', None) in SHUTDOWN \
            or isinstance(error, ConnectionRefusedError) and now - self.last_shutdown <= LONGEST_DELAY


@cython.final
cdef class Balancer:
    """Chooses among several pools: the one with the lowest load, and by turns among equals.

    `schedulers` are those of the pools, and `values` the objects that stand for them.
    """

    def __init__(self, list schedulers not None, list values not None):
        self.schedulers = [<Scheduler?>scheduler for scheduler in schedulers]
        self.values = values

    @cython.cdivision(True)
    def choose(self):
        """Return the object of the pool that is chosen; None if there is none."""
        cdef Py_ssize_t count = len(self.schedulers), at, load, least = 0, step, best = 0
        if count == 0:
            return None
        self.turn = (self.turn + 1) % count
        for step in range(count):
            at = (self.turn + step) % count
            load = (<Scheduler>self.schedulers[at]).load()
            if step == 0 or load < least:
                best, least = at, load
        return self.values[best]


def boot_time() -> float:
    """Return the scheduler's time, in seconds that include the time that the machine sleeps."""
    return boot_seconds()


cdef int give(PooledConnection pooled, Claim claim, double now) except -1:
    """Count a claim as in flight on a connection."""
    if pooled.work.count == 0:
        # This holds until the claim is written, because the server cannot begin before that.
        pooled.work.head_since = now
        pooled.work.head_cost = 0
    return pooled.work.add(claim)


cdef bint has_read_behind(PooledConnection pooled, long long ticket) noexcept:
    """Return whether an earlier read waits behind the head of a connection and may have to be repeated."""
    cdef Claim head = pooled.work.head(), claim = pooled.work.first
    if claim is None or pooled.work.overrun or pooled.blocked:
        return False
    while claim is not None:
        if claim is not head and claim.ticket < ticket and claim.movable and not claim.asked_twice:
            return True
        claim = claim.behind
    return False


def ticket_of(Claim claim):
    return claim.ticket


cdef double remaining(PooledConnection pooled) noexcept:
    """Return the seconds until a connection is expected to be idle, for comparison with others."""
    if pooled.work.overrun or pooled.blocked:
        return 2e9
    if pooled.work.unmeasured:
        return 1e9 + pooled.work.unmeasured
    return pooled.work.expected
