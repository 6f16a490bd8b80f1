"""A pool in memory that runs random programs: PostgreSQL's locks, two policies, and a clock that only the test moves.

`Shared` is the pool as it is: the real scheduler, driven as the dispatcher does. `OneAtATime` is the reference: one
request at a time on a connection, first come, first served. Both run the same programs on the same model of a server.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace._core.pipeline.workload import Claim, Cost, Workload
from headrace.pool.scheduler import Limits, PooledConnection, Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

DEADLOCK_TIMEOUT = 1.0
CANCEL_DELAY = 0.002
GRACE = 0.25
OPENING = 0.01
CLOSING = 0.0005
END = 1000.0


class World:
    """The clock, and what is going to happen."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.after_each: Callable[[], None] = lambda: None

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._order), action))

    def run(self) -> None:
        """Let everything happen until nothing does any more."""
        while self._events and self._events[0][0] <= END:
            self.now, _, action = heapq.heappop(self._events)
            action()
            self.after_each()


@dataclass(frozen=True)
class Lock:
    """A lock on a row or a table that a statement takes: shared as a plain read's, or exclusive."""

    name: str
    exclusive: bool = True


@dataclass(eq=False)
class Statement:
    """One execution of a text: how long the server works on it, and the locks that it takes first."""

    text: str
    seconds: float
    read: bool = False
    locks: tuple[Lock, ...] = ()
    timeout: float | None = None


# -- the server --------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class LockRequest:
    owner: Session
    exclusive: bool
    granted: Callable[[], None]


class Locks:
    """The lock table: first come, first served for each lock, as in ProcSleep() of PostgreSQL's proc.c."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.holders: dict[str, list[LockRequest]] = {}
        self.queues: dict[str, list[LockRequest]] = {}

    def take(self, request: LockRequest, name: str) -> None:
        """Have a session take a lock; `granted` is called once it has it."""
        holders, queue = self.holders.setdefault(name, []), self.queues.setdefault(name, [])
        if any(held.owner is request.owner and held.exclusive >= request.exclusive for held in holders):
            holders.append(request)
            request.granted()
            return
        queue.append(request)
        self._grant(name)
        if request in queue:
            self.world.later(DEADLOCK_TIMEOUT, lambda: self._look_for_deadlock(request))

    def _grant(self, name: str) -> None:
        holders, queue = self.holders[name], self.queues[name]
        while queue and all(
            held.owner is queue[0].owner or not (held.exclusive or queue[0].exclusive) for held in holders
        ):
            holders.append(queue.pop(0))
            holders[-1].granted()

    def release(self, owner: Session) -> None:
        """Take all locks and lock requests from a session."""
        for name, holders in self.holders.items():
            self.holders[name] = [held for held in holders if held.owner is not owner]
            self.queues[name] = [each for each in self.queues[name] if each.owner is not owner]
        for name in self.holders:
            self._grant(name)

    def _look_for_deadlock(self, request: LockRequest) -> None:
        if not any(request in queue for queue in self.queues.values()):
            return
        seen: set[Session] = set()
        found = [request.owner]
        while found:
            session = found.pop()
            for name, queue in self.queues.items():
                for at, each in enumerate(queue):
                    if each.owner is session:
                        ahead = [*self.holders[name], *queue[:at]]
                        found.extend(other.owner for other in ahead if other.owner not in seen)
                        seen.update(other.owner for other in ahead if other.owner is not session)
        if request.owner in seen:
            request.owner.interrupt("deadlock")


@dataclass(eq=False)
class Execution:
    """A statement on a session; `done` gets the outcome, and the seconds that the server has worked on it."""

    statement: Statement
    done: Callable[[str, float], None]


class Session:
    """A backend: it works on what it has been sent, in order."""

    def __init__(self, world: World, locks: Locks) -> None:
        self.world = world
        self.locks = locks
        self.queue: deque[Execution] = deque()
        self.in_transaction = False
        self.began = 0.0

    def send(self, execution: Execution) -> None:
        self.queue.append(execution)
        if len(self.queue) == 1:
            self._begin()

    def _begin(self) -> None:
        execution = self.queue[0]
        self.began = self.world.now
        wanted = list(execution.statement.locks)

        def go_on() -> None:
            if not self.queue or self.queue[0] is not execution:
                return
            if wanted:
                lock = wanted.pop(0)
                self.locks.take(LockRequest(self, lock.exclusive, go_on), lock.name)
            else:
                self.world.later(execution.statement.seconds, lambda: self._end(execution, "done"))

        go_on()

    def interrupt(self, outcome: str) -> None:
        """What the session works on fails."""
        if self.queue:
            self._end(self.queue[0], outcome)

    def _end(self, execution: Execution, outcome: str) -> None:
        if not self.queue or self.queue[0] is not execution:
            return
        self.queue.popleft()
        if not self.in_transaction or outcome != "done":
            self.locks.release(self)
        seconds = self.world.now - self.began
        if self.queue:
            self._begin()
        execution.done(outcome, seconds)

    def end_transaction(self) -> None:
        self.in_transaction = False
        self.locks.release(self)

    def die(self) -> list[Execution]:
        """End; returns what was in flight."""
        lost, self.queue = list(self.queue), deque()
        self.locks.release(self)
        return lost


# -- programs ----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Call:
    """A shared call; `outcome` and `settled` are filled in as it ends."""

    statement: Statement
    name: str = ""
    asked: float = -1.0
    settled: float = -1.0
    outcome: str = ""
    lost: int = 0
    """How many connections have ended that may have begun with it."""
    repetitions: int = 0
    """How often it was repeated because it was stuck, or had given way."""
    on_settled: Callable[[], None] = lambda: None

    def settle(self, outcome: str, now: float) -> None:
        assert not self.outcome, f"{self.name} is served twice"
        self.outcome, self.settled = outcome, now
        self.on_settled()


@dataclass(eq=False)
class Lease:
    """A lease, from the call of acquire() on."""

    name: str = ""
    asked: float = -1.0
    settled: float = -1.0
    session: Session | None = None
    handle: Any = None
    ticket: int = 0
    on_settled: Callable[[], None] = lambda: None


class Pool:
    """What both policies have in common: tasks that make shared calls and take leases."""

    def __init__(self, world: World, size: int) -> None:
        self.world = world
        self.size = size
        self.locks = Locks(world)
        self.asked: list[Call | Lease] = []
        self.unfinished = 0

    def task(self, steps: Generator[Any, None, None]) -> None:
        """Run a task: a generator of the Call, the Lease, the seconds or the own statement that it waits for next."""
        self.unfinished += 1

        def go_on() -> None:
            try:
                step = next(steps)
            except StopIteration:
                self.unfinished -= 1
                return
            if isinstance(step, float):
                self.world.later(step, go_on)
            elif isinstance(step, tuple):
                lease, statement = step
                if not self.is_alive(lease):
                    self.world.later(0, go_on)
                else:
                    lease.session.send(Execution(statement, lambda outcome, seconds: go_on()))
            else:
                step.on_settled = lambda: self.world.later(0, go_on)
                self.ask(step)

        go_on()

    def ask(self, each: Call | Lease) -> None:
        each.asked = self.world.now
        self.asked.append(each)
        if isinstance(each, Lease):
            self.acquire(each)
            return
        self.call(each)
        timeout = each.statement.timeout
        if timeout is not None:

            def time_out() -> None:
                if not each.outcome:
                    each.settle("timeout", self.world.now)
                    self.give_up(each)

            self.world.later(timeout, time_out)

    def is_alive(self, lease: Lease) -> bool:
        raise NotImplementedError

    def call(self, call: Call) -> None:
        raise NotImplementedError

    def give_up(self, call: Call) -> None:
        raise NotImplementedError

    def acquire(self, lease: Lease) -> None:
        raise NotImplementedError

    def release(self, lease: Lease) -> None:
        raise NotImplementedError

    def kill(self, at: int, sqlstate: str | None) -> None:
        """End the connection with this number, counted from the oldest on, with an error or without a word (None)."""
        connections = self.connections()
        if connections:
            self.lose(connections[at % len(connections)], sqlstate)

    def crash(self, sqlstate: str | None, pause: float) -> None:
        """End all connections, one after the other, as a host does that goes down."""
        for number, connection in enumerate(self.connections()):
            self.world.later(number * pause, partial(self.lose, connection, sqlstate))

    def connections(self) -> list[Any]:
        """Return the connections, the oldest first."""
        raise NotImplementedError

    def lose(self, connection: Any, sqlstate: str | None) -> None:
        """A connection ends, unless it has."""
        raise NotImplementedError


# -- the reference -----------------------------------------------------------------------------------------------------


class OneAtATime(Pool):
    """One request at a time on a connection, first come, first served."""

    def __init__(self, world: World, size: int) -> None:
        super().__init__(world, size)
        self.sessions = [Session(world, self.locks) for _ in range(size)]
        self.free = list(self.sessions)
        self.waiting: list[Call | Lease] = []
        self.busy: dict[Session, Call | Lease] = {}

    def call(self, call: Call) -> None:
        self.waiting.append(call)
        self._serve()

    acquire = call  # type: ignore[assignment]

    def _serve(self) -> None:
        while self.free and self.waiting:
            self._give(self.free.pop(0), self.waiting.pop(0))

    def _give(self, session: Session, each: Call | Lease) -> None:
        self.busy[session] = each
        if isinstance(each, Lease):
            each.session = session
            each.settled = self.world.now
            each.on_settled()
            return

        def done(outcome: str, seconds: float) -> None:
            if not each.outcome:
                each.settle(outcome, self.world.now)
            self._free(session)

        session.send(Execution(each.statement, done))

    def _free(self, session: Session) -> None:
        self.busy.pop(session, None)
        if session in self.sessions:
            self.free.append(session)
        self._serve()

    def give_up(self, call: Call) -> None:
        if call in self.waiting:
            self.waiting.remove(call)
            return
        for session, each in self.busy.items():
            if each is call:
                self._cancel(session, call)

    def _cancel(self, session: Session, call: Call) -> None:
        def deliver() -> None:
            if self.busy.get(session) is call:
                session.interrupt("canceled")

        self.world.later(CANCEL_DELAY, deliver)

    def is_alive(self, lease: Lease) -> bool:
        return lease.session in self.sessions

    def release(self, lease: Lease) -> None:
        assert lease.session is not None
        lease.session.end_transaction()
        if self.busy.get(lease.session) is lease:
            self._free(lease.session)

    def connections(self) -> list[Session]:
        return list(self.sessions)

    def lose(self, session: Session, sqlstate: str | None) -> None:
        if session not in self.sessions:
            return
        self.sessions.remove(session)
        if session in self.free:
            self.free.remove(session)
        lost = session.die()

        def replace() -> None:
            self.sessions.append(Session(self.world, self.locks))
            self.free.append(self.sessions[-1])
            self._serve()

        self.world.later(OPENING, replace)
        for execution in lost:
            execution.done("lost", 0.0)
        self.busy.pop(session, None)


# -- the pool as it is -------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Connection:
    """A connection of the pool: what a driver knows of it."""

    session: Session
    work: Workload = field(default_factory=Workload)
    asked: int = 0
    in_flight: list[CallClaim] = field(default_factory=list)
    pooled: Any = None
    lease: Lease | None = None


class CallClaim(Claim):
    """A claim of a call, or of the repetition of one."""

    def __init__(self, call: Call, original: CallClaim | None = None) -> None:
        self.call = call
        self.original = original
        self.is_repetition = original is not None
        self.repetition: CallClaim | None = None
        self.abandoned = False
        self.canceling = False

    @property
    def is_wanted(self) -> bool:
        return not self.call.outcome and (self.original is not None or not self.is_repetition)


class LeaseClaim(Claim):
    def __init__(self, lease: Lease) -> None:
        self.lease = lease


class Shared(Pool):
    """The real scheduler, driven as the dispatcher drives it."""

    def __init__(self, world: World, size: int, **options: Any) -> None:
        super().__init__(world, size)
        self.scheduler = Scheduler(Limits(size, size), 0.0, **options)
        self.costs: dict[str, Cost] = {}
        self.check_is_due = False
        self.sent_behind = 0
        self.generations = 0
        self.repeated = 0.0
        """Seconds of server time that repetitions may have taken."""
        self.patience = self.scheduler.budget
        """The longest that a head has been let go on before what stood behind it was asked again."""
        for _ in range(size):
            self._open()

    def learn(self, text: str, seconds: float) -> None:
        self.costs.setdefault(text, Cost()).note(seconds)

    # Connections.

    def _open(self, opening: Any = None) -> None:
        session = Session(self.world, self.locks)
        connection = Connection(session)
        scheduler = self.scheduler
        pooled = scheduler.add(
            connection, connection, connection.work, opening or scheduler.begin_opening(), self.world.now
        )
        connection.pooled = pooled

    def _refill(self) -> None:
        for _ in range(self.scheduler.wanted()):
            opening = self.scheduler.begin_opening(self.world.now)

            def opened(opening: Any = opening) -> None:
                self._open(opening)
                self._serve_all()
                self._refill()

            self.world.later(OPENING, opened)

    def connections(self) -> list[Connection]:
        scheduler = self.scheduler
        return [pooled.driver for pooled in (*scheduler.draining.values(), *scheduler.connections.values())]

    def lose(self, connection: Connection, sqlstate: str | None) -> None:
        pooled: PooledConnection = connection.pooled
        if connection not in self.connections():
            return
        self.scheduler.remove(connection)
        executions = connection.session.die()
        if pooled.leased:
            for execution in executions:
                execution.done("lost", 0.0)
        lost, connection.in_flight = connection.in_flight, []
        for position, claim in enumerate(lost):
            claim.finish()
            # If the server has said why, it has not begun with those behind the head.
            started = position == 0 or sqlstate is None
            claim.call.lost += started
            assert claim.call.lost <= 3 + claim.call.repetitions, f"{claim.call.name} is started once more"
            if not self._take_back(claim, pooled, sqlstate, started=started):
                self._outcome(claim, "lost")
        if self.scheduler.retires_generation(pooled, sqlstate, self.world.now):
            self._expire()
        self._serve_all()
        self._refill()

    def _take_back(self, claim: CallClaim, pooled: PooledConnection, sqlstate: str | None, *, started: bool) -> bool:
        if claim.original is not None and claim.original.repetition is not claim:
            return False
        if not claim.is_wanted or claim.abandoned:
            return False
        call = claim.original if claim.original is not None else claim
        again = self.scheduler.may_be_sent_again(call, pooled, sqlstate, started, self.world.now)
        assert call.movable or not (started and again), f"{claim.call.name}, which writes, is run twice"
        if claim.repetition is not None and (again or not claim.repetition.waits):
            return True
        if not again:
            return False
        claim.canceling = False
        self.scheduler.repeat(claim, self.world.now)
        return True

    def _expire(self) -> None:
        self.generations += 1
        for pooled in self.scheduler.next_generation(self.world.now):
            self._retire(pooled)

    def _retire(self, pooled: PooledConnection) -> None:
        pooled.leased = False
        self.scheduler.drain(pooled.driver)
        self._close_if_done(pooled.driver)
        self._serve_all()
        self._refill()

    def _close_if_done(self, connection: Connection) -> None:
        if connection in self.scheduler.draining and not connection.in_flight:

            def close() -> None:
                self.scheduler.remove(connection)
                self._serve_all()
                self._refill()

            self.world.later(CLOSING, close)

    # Calls.

    def call(self, call: Call) -> None:
        claim = CallClaim(call)
        claim.cost = self.costs.setdefault(call.statement.text, Cost())
        claim.pipelined = claim.movable = call.statement.read
        call.claim = claim  # type: ignore[attr-defined]
        pooled = self.scheduler.claim(claim, self.world.now)
        if pooled is not None:
            self._send(pooled, claim)
        if pooled is None or pooled.work.count > 1:
            self._refill()
            self._watch()

    def acquire(self, lease: Lease) -> None:
        claim = LeaseClaim(lease)
        pooled = self.scheduler.claim(claim, self.world.now)
        if pooled is not None:
            self._lease(pooled, claim)
        else:
            self._watch()

    def is_alive(self, lease: Lease) -> bool:
        return not lease.handle.gone

    def release(self, lease: Lease) -> None:
        assert lease.session is not None
        lease.session.end_transaction()
        if not lease.handle.gone:
            if self.scheduler.expired(lease.handle, self.world.now):
                self._retire(lease.handle)
            else:
                self.scheduler.give_back(lease.handle)
        self._serve_all()

    def _lease(self, pooled: PooledConnection, claim: LeaseClaim) -> None:
        assert not pooled.gone
        assert not pooled.blocked
        assert not pooled.leased
        assert not pooled.driver.in_flight
        claim.finish()
        self.scheduler.lease(pooled)
        claim.lease.handle = pooled
        claim.lease.ticket = claim.ticket
        pooled.driver.lease = claim.lease
        claim.lease.session = pooled.driver.session
        claim.lease.settled = self.world.now
        claim.lease.on_settled()

    def _send(self, pooled: PooledConnection, claim: CallClaim) -> None:
        assert not pooled.gone
        assert not pooled.blocked
        assert not pooled.leased
        connection: Connection = pooled.driver
        assert claim.pipelined or not connection.in_flight, f"{claim.call.name} is sent behind another claim"
        self.sent_behind += bool(connection.in_flight)
        connection.in_flight.append(claim)
        if len(connection.in_flight) == 1:
            self._has_head(connection)
        if claim.original is not None:
            self.repeated += claim.call.statement.seconds
        connection.session.send(
            Execution(claim.call.statement, lambda outcome, seconds: self._reply(connection, claim, outcome, seconds))
        )

    def _has_head(self, connection: Connection) -> None:
        head = connection.in_flight[0]
        connection.work.head_since = self.world.now
        connection.work.head_cost = max(head.expected, 0)
        if head.abandoned:
            self.world.later(GRACE, lambda: self._cancel(connection, head))

    def _reply(self, connection: Connection, claim: CallClaim, outcome: str, seconds: float) -> None:
        assert connection.in_flight.pop(0) is claim
        overran, connection.work.overrun = connection.work.overrun, False
        claim.finish()
        connection.work.replied_at = self.world.now
        if (outcome == "done" or overran) and claim.cost is not None:
            claim.cost.note(seconds)
        if connection.in_flight:
            self._has_head(connection)
        self._outcome(claim, outcome)
        pooled = connection.pooled
        if not pooled.leased and not pooled.gone:
            self._serve(pooled)
        self._close_if_done(connection)
        if self.scheduler.holds_back:
            self._serve_all()
        if connection.in_flight and connection.in_flight[0].asked_twice:
            self._watch()

    def _outcome(self, claim: CallClaim, outcome: str) -> None:
        if claim.is_repetition:
            original, claim.original = claim.original, None
            if original is None or original.repetition is not claim:
                return
            original.repetition = None
            if not original.is_wanted or (outcome == "lost" and original.work is not None and not original.abandoned):
                return
            original.call.settle(outcome, self.world.now)
            self._give_up(original)
            return
        if claim.abandoned and claim.repetition is not None:
            # It has given way.
            return
        repetition, claim.repetition = claim.repetition, None
        if claim.is_wanted:
            claim.call.settle(outcome, self.world.now)
        if repetition is not None:
            self._give_up(repetition)

    # Who is served.

    def _serve(self, pooled: PooledConnection) -> None:
        while True:
            queued = self.scheduler.claims()
            served = self.scheduler.serve(pooled, self.world.now)
            if not served:
                break
            left = self.scheduler.claims()
            for claim in served:
                # First come, first served among claims of one kind.
                assert all(claim.ticket <= each.ticket for each in left if each.pipelined == claim.pipelined), queued
                if isinstance(claim, LeaseClaim):
                    assert claim is served[-1]
                    self._lease(pooled, claim)
                    return
                assert isinstance(claim, CallClaim)
                self._send(pooled, claim)
        self._watch()

    def _serve_all(self) -> None:
        for pooled in list(self.scheduler.available):
            if pooled in self.scheduler.available:
                self._serve(pooled)

    # Heads that overrun.

    def _watch(self) -> None:
        if self.check_is_due:
            return
        seconds = self.scheduler.next_check(self.world.now)
        if seconds >= 0:
            self.check_is_due = True
            self.world.later(seconds, self._check)

    def _check(self) -> None:
        self.check_is_due = False
        found = self.scheduler.overrunning(self.world.now)
        for pooled in found:
            if pooled.work.count > 1:
                self.patience = max(self.patience, self.world.now - pooled.work.head_since)
            self.scheduler.mark_overrun(pooled)
            self._move(pooled)
        self._make_way()
        for pooled in found:
            head = next(iter(pooled.driver.in_flight), None)
            if head is not None and head.repetition is not None and not head.abandoned:
                # It is no longer stuck, and must not keep two connections.
                repetition, head.repetition = head.repetition, None
                repetition.original = None
                self._give_up(repetition)
        self._serve_all()
        self._refill()
        self._watch()

    def _make_way(self) -> None:
        for head in self.scheduler.to_preempt():
            assert isinstance(head, CallClaim)
            if not head.abandoned and head.is_wanted:
                original = head
                if head.original is not None:
                    original, head.original = head.original, None
                    original.repetition = None
                if original.repetition is None:
                    self._repeat(original)
                assert head.work is not None
                head.abandoned = True
                self._cancel(head.work.pooled.driver, head)

    def _move(self, pooled: PooledConnection) -> None:
        for claim in pooled.driver.in_flight[1:]:
            if claim.movable and not claim.asked_twice and not claim.abandoned and claim.is_wanted:
                self._repeat(claim)

    def _repeat(self, claim: CallClaim) -> None:
        claim.call.repetitions += 1
        repetition = CallClaim(claim.call, claim)
        repetition.cost, repetition.ticket = claim.cost, claim.ticket
        repetition.movable = True
        repetition.asked_twice = claim.asked_twice = True
        claim.repetition = repetition
        self.scheduler.repeat(repetition, self.world.now)

    # Calls that are given up.

    def give_up(self, call: Call) -> None:
        self._give_up(call.claim)  # type: ignore[attr-defined]

    def _give_up(self, claim: CallClaim) -> None:
        repetition, claim.repetition = claim.repetition, None
        if repetition is not None:
            self._give_up(repetition)
        if claim.waits:
            self.scheduler.give_up(claim)
        elif claim.work is not None:
            claim.abandoned = True
            connection = claim.work.pooled.driver
            if connection.in_flight[0] is claim:
                self._cancel(connection, claim)

    def _cancel(self, connection: Connection, head: CallClaim) -> None:
        pooled = connection.pooled
        if head.canceling or not connection.in_flight or connection.in_flight[0] is not head or pooled.blocked:
            return
        assert all(each.movable for each in connection.in_flight[1:])
        head.canceling = True
        pooled.blocked = True
        self._move(pooled)

        def deliver() -> None:
            if pooled.gone and connection not in self.scheduler.draining:
                return
            if connection.in_flight and connection.in_flight[0] is head:
                connection.session.interrupt("canceled")
            pooled.blocked = False
            self._serve(pooled)

        self.world.later(CANCEL_DELAY, deliver)
        self._serve_all()

    def could_be_the_reference(self) -> bool:
        """True if the reference can get to where this pool is: each connection belongs to one of the oldest claims."""
        waiting = [claim.ticket for claim in self.scheduler.claims()]
        for pooled in self.scheduler.connections.values():
            in_flight: list[CallClaim] = pooled.driver.in_flight
            if any(claim.is_wanted and claim.repetition is None for claim in in_flight[1:]):
                return False
            if pooled.leased or in_flight:
                ticket = pooled.driver.lease.ticket if pooled.leased else in_flight[0].ticket
                if waiting and ticket >= min(waiting):
                    return False
            elif waiting:
                return False
        return True

    # What holds at every moment.

    def check(self) -> None:
        """Assert what holds between any two events."""
        scheduler = self.scheduler
        reserved = [pooled for pooled in scheduler.available if pooled.reserved]
        assert scheduler.reserved == len(reserved) == min(scheduler.alone.count, len(scheduler.available))
        assert not any(pooled.reserved for pooled in scheduler.connections.values() if pooled not in reserved)
        claims = scheduler.claims()
        assert [each.ticket for each in scheduler.alone] == sorted(each.ticket for each in scheduler.alone)
        for pooled in scheduler.connections.values():
            in_flight = pooled.driver.in_flight
            assert list(pooled.work) == in_flight
            assert pooled.work.count == len(in_flight) <= scheduler.max_pipeline
            assert all(each.pipelined for each in in_flight[1:])
            assert not (pooled.leased and in_flight)
            if claims and pooled in scheduler.available and not in_flight and not pooled.blocked:
                # No claim waits while a connection is idle, unless a read that came before it may need that.
                assert any(
                    not each.asked_twice and each.movable and each.ticket < claims[0].ticket
                    for other in scheduler.watched_connections()
                    for each in other.driver.in_flight[1:]
                ), "a claim waits beside an idle connection"
