"""Which connection of a pool serves whom, and which come and go: every decision, and no I/O.

A member is in one of these places:

    free     may be shared: the pool's own methods send through it, many at once
    dormant  has lain idle so long that it is asked for a sign of life before it is used again
    leased   belongs to one caller, from acquire() to release()
    leaving  takes nothing new; it is closed as soon as what it has in flight is done, and counts until then

Whoever finds no member stands in line, first come, first served: those who want a lease and those who want to share
stand in the same line.

Time is given by the caller, in seconds of any steady clock, and chance by a function, so that a test can decide both.
"""

from __future__ import annotations

import random
from collections import deque
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from headrace.driver import least_loaded

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable, Mapping

    from headrace.connection import Connection
    from headrace.driver import Driver
    from headrace.pool.lease import PoolConnectionProxy

PING_AFTER = 30.0
"""Seconds of idleness after which a connection is asked for a sign of life before its next use."""

JITTER = 0.1
"""By how much of it the lifetime of a connection is shortened at most, so that they do not all end at once."""

FIRST_DELAY = 0.1
LONGEST_DELAY = 5.0
"""Seconds between attempts to connect after a failure: they double from one to the other, less up to half by chance."""

GENERATION_PAUSE = 1.0
"""Seconds in which at most one generation is retired, whatever servers say."""

SHUTDOWN = frozenset({"57P01", "57P02", "57P03"})
"""admin_shutdown, crash_shutdown, cannot_connect_now ("PostgreSQL Error Codes"): the server goes or is not back yet."""

READ_ONLY = "25006"
"""read_only_sql_transaction."""


class Reason(StrEnum):
    """Why a pool has closed a connection."""

    IDLE = "idle"
    """It had not been used for `max_inactive_connection_lifetime` seconds."""
    AGE = "age"
    """It was older than `max_lifetime`."""
    QUERIES = "queries"
    """It had served `max_queries` requests."""
    EXPIRED = "expired"
    """expire_connections() was called."""
    GENERATION = "generation"
    """Its server was shutting down, or had turned read-only."""
    QUARANTINED = "quarantined"
    """It came back from the shared path inside a transaction."""
    LASTING = "lasting"
    """A shared method left behind in its session what a reset does not undo: another role, a temporary table."""
    RESET = "reset"
    """It could not be reset after a lease."""
    SETUP = "setup"
    """The `setup` callback failed."""
    UNANSWERED = "unanswered"
    """It had lain idle, and did not answer a ping."""
    LOST = "lost"
    """The server or the network ended it, or whoever had leased it."""
    CLOSED = "closed"
    """The pool was closed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a pool keeps to: numbers of connections and of queries, and seconds, where 0 means without a limit."""

    min_size: int
    max_size: int
    max_queries: int = 0
    idle_lifetime: float = 0.0
    max_lifetime: float = 0.0

    def sweep_interval(self) -> float:
        """Return how many seconds may pass between two looks at the connections."""
        return min(each for each in (self.idle_lifetime, self.max_lifetime, PING_AFTER) if each > 0) / 4


class Opening:
    """A connection that is being opened."""

    __slots__ = ("generation",)

    def __init__(self, generation: int) -> None:
        self.generation = generation


class Member:
    """One connection of the pool."""

    __slots__ = (
        "asked_at_lease", "asked_when_seen", "connection", "driver", "generation", "idle_since", "lasting", "leased",
        "proxy", "reset_at", "retire_at", "unsure",
    )  # fmt: skip

    def __init__(self, connection: Connection, generation: int, retire_at: float, now: float) -> None:
        self.connection = connection
        self.driver: Driver = connection._driver
        self.generation = generation
        self.retire_at = retire_at
        self.leased = False
        self.proxy: Callable[[], PoolConnectionProxy | None] | None = None
        """Leads to what the caller holds, where he still does."""
        self.unsure = False
        """Whether it must give a sign of life before it is used: it was dormant."""
        self.lasting = False
        """Whether its session holds what a reset does not undo."""
        self.asked_at_lease = 0
        self.reset_at = 0
        """How many requests it had been asked with the reset after its last lease, which may still be under way."""
        self.asked_when_seen = -1
        self.idle_since = now

    @property
    def is_reset(self) -> bool:
        """Whether the reset after its last lease is done: what the server says of its session counts from there on."""
        return self.driver.asked - self.driver.load >= self.reset_at


def reports_read_only(parameters: Mapping[str, str]) -> bool:
    """Return whether a server says of itself that it takes no writes; those before 14 do not say."""
    return "on" in (parameters.get("in_hot_standby"), parameters.get("default_transaction_read_only"))


def twin(error: BaseException) -> BaseException:
    """Return a copy of an error, for one more who is to raise it; the error itself where it cannot be copied."""
    try:
        other = copy(error)
    except Exception:
        return error
    if type(other) is not type(error) or str(other) != str(error):
        return error
    other.__cause__, other.__traceback__ = error.__cause__, error.__traceback__
    if hasattr(error, "__notes__"):
        other.__notes__ = list(error.__notes__)
    return other


class Router:
    """Members, their places, and the line of those who wait."""

    __slots__ = ("born", "dormant", "failures", "free", "generation", "leaving", "limits", "line", "members",
                 "opening", "relief", "resting", "room", "uniform")  # fmt: skip

    def __init__(
        self, limits: Limits, now: float = 0.0, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self.limits = limits
        self.uniform = uniform
        self.members: dict[Driver, Member] = {}
        """All that are free, dormant or leased."""
        self.free: list[Driver] = []
        self.dormant: list[Driver] = []
        self.leaving: dict[Driver, Member] = {}
        self.line: deque[tuple[Future[Driver], bool]] = deque()
        self.opening: set[Opening] = set()
        self.generation = 0
        self.born = now
        """When the generation began."""
        self.failures = 0
        """Attempts to connect that have failed since the last one that did not."""
        self.resting = False
        """Whether no attempt is made just now, because one has failed."""
        self.room = True
        """Whether another connection may be opened just now."""
        self.relief = True
        """Whether there may be more connections for sharing: by opening one, or by waking a dormant one."""

    def _count(self) -> None:
        size = len(self.members) + len(self.leaving) + len(self.opening)
        self.room = size < self.limits.max_size and not self.resting
        self.relief = self.room or bool(self.dormant)

    # -- who is served ---------------------------------------------------------------------------------------------

    def share(self) -> Driver | None:
        """Return the free connection with the fewest requests, None where there is none."""
        return least_loaded(self.free) if self.free else None

    def lease(self) -> Member | None:
        """Take a connection out of the sharing, None where there is none.

        It is the free one with the fewest requests, or rather than one at work a dormant one. What it has in flight for
        others goes on: the lease's own requests come after it.
        """
        driver = least_loaded(self.free) if self.free else None
        unsure = bool(self.dormant) and (driver is None or driver.load > 0)
        if unsure:
            driver = self.dormant[-1]
        if driver is None:
            return None
        self._take(driver)
        member = self.members[driver]
        member.leased = True
        member.unsure = unsure or driver.is_pinged
        return member

    def wake(self) -> Driver | None:
        """Make the dormant connection that was used last a free one; None where there is none."""
        if not self.dormant:
            return None
        driver = self.dormant.pop()
        self.free.append(driver)
        self._count()
        return driver

    def serve_line(self) -> None:
        """Give the free connections to those who wait, in the order in which they came."""
        while self.line and self.free:
            waiter, lease = self.line[0]
            if waiter.done():
                self.line.popleft()
                continue
            if lease:
                member = self.lease()
                if member is None:
                    return
                waiter.set_result(member.driver)
            else:
                waiter.set_result(least_loaded(self.free))
            self.line.popleft()

    def waiting(self) -> int:
        """Return how many stand in line."""
        return sum(not waiter.done() for waiter, _ in self.line)

    def leases(self) -> int:
        """Return how many connections are leased."""
        return sum(member.leased for member in self.members.values())

    def fail_first(self, error: BaseException) -> None:
        """Give the error to the first in line."""
        while self.line:
            waiter, _ = self.line.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return

    def fail_all(self, error: BaseException) -> None:
        """Give the error to everybody in line; each gets one of his own, to add notes to."""
        while self.line:
            self.fail_first(twin(error))

    # -- comings and goings ----------------------------------------------------------------------------------------

    def wanted(self) -> int:
        """Return how many connections should be opened now: to keep `min_size`, and for those in line.

        One is tried at a time after a failure, and where there is no other: if it fails, it fails once.
        """
        if self.resting:
            return 0
        limits = self.limits
        opening = len(self.opening)
        size = len(self.members) + opening
        wanted = max(limits.min_size - size, len(self.line) - opening)
        wanted = min(wanted, limits.max_size - size - len(self.leaving))
        if self.failures or not self.members:
            wanted = min(wanted, 1 - opening)
        return max(wanted, 0)

    def begin_opening(self) -> Opening:
        """Note that a connection is being opened."""
        opening = Opening(self.generation)
        self.opening.add(opening)
        self._count()
        return opening

    def end_opening(self, opening: Opening) -> None:
        """Note that it has been opened, or not; a second time does nothing."""
        self.opening.discard(opening)
        self._count()

    def add(self, connection: Connection, opening: Opening, now: float) -> Member:
        """Take in a connection that has just been opened."""
        self.opening.discard(opening)
        lifetime = self.limits.max_lifetime
        retire_at = now + lifetime * self.uniform(1 - JITTER, 1) if lifetime > 0 else float("inf")
        member = Member(connection, opening.generation, retire_at, now)
        self.members[member.driver] = member
        self.free.append(member.driver)
        self.failures = 0
        self._count()
        return member

    def failed(self, error: BaseException) -> float:
        """Note that no connection could be opened, and tell those in line; returns the seconds until the next attempt.

        Where there are other connections, one of them may come free: then only the first in line gets the error, who
        would otherwise have waited for ever if those were never given back. 0 where the attempts rest already.
        """
        if self.members:
            self.fail_first(error)
        else:
            self.fail_all(error)
        if self.resting:
            return 0.0
        delay: float = min(FIRST_DELAY * 2 ** min(self.failures, 16), LONGEST_DELAY)
        self.failures += 1
        self.resting = True
        self._count()
        return delay * self.uniform(0.5, 1)

    def end_rest(self) -> None:
        """Allow the next attempt."""
        self.resting = False
        self._count()

    def give_back(self, member: Member) -> None:
        """End a lease: the connection is shared again."""
        member.leased = False
        if member.driver in self.members:
            self.free.append(member.driver)

    def leave(self, driver: Driver) -> None:
        """Give no more to a connection: it goes when it is done."""
        member = self.remove(driver)
        if member is not None:
            self.leaving[driver] = member
            self._count()

    def remove(self, driver: Driver) -> Member | None:
        """Forget a connection; returns its member, None where it was forgotten before or is leaving."""
        self.leaving.pop(driver, None)
        member = self.members.pop(driver, None)
        self._take(driver)
        return member

    def _take(self, driver: Driver) -> None:
        for place in (self.free, self.dormant):
            if driver in place:
                place.remove(driver)
        self._count()

    # -- when it is time to go -------------------------------------------------------------------------------------

    def outworn(self, member: Member, now: float) -> Reason | None:
        """Return why a connection that has just been given back, or lies idle, is to be replaced; None to keep it."""
        if member.generation != self.generation:
            return Reason.GENERATION
        if member.lasting:
            return Reason.LASTING
        if 0 < self.limits.max_queries <= member.driver.asked:
            return Reason.QUERIES
        if now >= member.retire_at:
            return Reason.AGE
        return None

    def sweep(self, now: float) -> list[tuple[Member, Reason]]:
        """Look after what is not leased; returns those to be retired, and why.

        What has lain idle for PING_AFTER seconds becomes dormant. Idle connections go down to `min_size`, those first
        that have been idle longest; of the old ones each goes, at work or not: what it has in flight is waited for.
        """
        going: list[tuple[Member, Reason]] = []
        idle: list[Member] = []
        for driver in [*self.free, *self.dormant]:
            member = self.members[driver]
            if driver.asked != member.asked_when_seen:
                # At work, or since the last look: idle from now on, if it is.
                member.asked_when_seen = -1 if driver.load else driver.asked
                member.idle_since = now
            reason = self.outworn(member, now)
            if reason is Reason.AGE or (reason is not None and not driver.load):
                going.append((member, reason))
            elif not driver.load:
                idle.append(member)
        idle.sort(key=lambda member: member.idle_since)
        spare = len(self.members) - len(going) + len(self.opening) - self.limits.min_size
        for member in idle:
            lain = now - member.idle_since
            if spare > 0 and 0 < self.limits.idle_lifetime <= lain:
                going.append((member, Reason.IDLE))
                spare -= 1
            elif lain >= PING_AFTER and member.driver in self.free:
                self.free.remove(member.driver)
                self.dormant.append(member.driver)
        self._count()
        return going

    def next_generation(self, now: float) -> list[Member]:
        """Begin a generation; returns those of the former ones that can be retired at once, not being leased."""
        self.generation += 1
        self.born = now
        return [self.members[driver] for driver in [*self.free, *self.dormant]]

    def condemns(self, member: Member, sqlstate: str | None, now: float) -> bool:
        """Return whether the end of a connection, or an error on it, tells against all of its generation.

        A shutdown does: the others are about to be ended, or are with a server that nobody can connect to any more. So
        does a refusal to write by a server that says that it is read-only, unless it is only the transaction that is.
        `sqlstate` is that of the error, and None where the server said nothing.
        """
        if member.generation != self.generation or now - self.born < GENERATION_PAUSE:
            return False
        if sqlstate == READ_ONLY:
            parameters = member.driver.session.parameters
            return reports_read_only(parameters) or "in_hot_standby" not in parameters
        return sqlstate in SHUTDOWN
