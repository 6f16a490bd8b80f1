"""Which connection of a pool serves whom: every decision, and no I/O.

A member is in one of these places:

    free     may be shared: the pool's own methods send through it, many at once
    leased   belongs to one caller, from acquire() to release()
    retired  takes nothing new; it is closed as soon as what it has in flight is done

Whoever finds no free member waits in line, first come, first served: those who want a lease and those who want to
share stand in the same line.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from headrace.driver import least_loaded

if TYPE_CHECKING:
    from asyncio import Future

    from headrace.connection import Connection
    from headrace.driver import Driver


class Member:
    """One connection of the pool."""

    __slots__ = ("asked_at_lease", "asked_when_swept", "connection", "driver", "generation", "leased")

    def __init__(self, connection: Connection, generation: int) -> None:
        self.connection = connection
        self.driver: Driver = connection._driver
        self.generation = generation
        self.leased = False
        self.asked_at_lease = 0
        self.asked_when_swept = -1


class Router:
    """Members, places and the line of those who wait."""

    __slots__ = ("free", "generation", "line", "max_size", "members", "opening")

    def __init__(self, max_size: int) -> None:
        self.max_size = max_size
        self.members: dict[Driver, Member] = {}
        self.free: list[Driver] = []
        self.line: deque[tuple[Future[Driver], bool]] = deque()
        self.opening = 0
        self.generation = 0

    # -- who is served ---------------------------------------------------------------------------------------------

    def share(self) -> Driver | None:
        """Return the free connection with the fewest requests, None where there is none."""
        return least_loaded(self.free) if self.free else None

    def lease(self) -> Member | None:
        """Take the free connection with the fewest requests out of the sharing, None where there is none.

        What it has in flight for others goes on: the lease's own requests come after it.
        """
        if not self.free:
            return None
        driver = least_loaded(self.free)
        self.free.remove(driver)
        member = self.members[driver]
        member.leased = True
        return member

    def wants_more(self, load: int) -> bool:
        """Return whether another connection should be opened, `load` requests being ahead on the best there is."""
        return load > 0 and self.may_open()

    def may_open(self) -> bool:
        """Return whether there is room for one more."""
        return len(self.members) + self.opening < self.max_size

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

    def fail_first(self, error: BaseException) -> None:
        """Give the error to the first in line."""
        while self.line:
            waiter, _ = self.line.popleft()
            if not waiter.done():
                waiter.set_exception(error)
                return

    def fail_all(self, error: BaseException) -> None:
        """Give the error to everybody in line."""
        while self.line:
            self.fail_first(error)

    # -- comings and goings ----------------------------------------------------------------------------------------

    def add(self, member: Member) -> None:
        """Take in a connection that has just been opened."""
        self.members[member.driver] = member
        self.free.append(member.driver)

    def give_back(self, member: Member) -> None:
        """End a lease: the connection is shared again."""
        member.leased = False
        if member.driver in self.members:
            self.free.append(member.driver)

    def remove(self, driver: Driver) -> Member | None:
        """Forget a connection; returns its member, None where it was forgotten before."""
        if driver in self.free:
            self.free.remove(driver)
        return self.members.pop(driver, None)

    def outworn(self, member: Member, max_queries: int) -> bool:
        """Return whether a connection is to be replaced: too many queries, or older than expire_connections()."""
        return member.generation != self.generation or 0 < max_queries <= member.driver.asked
