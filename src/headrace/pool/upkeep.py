"""The connections of a pool: opened where they are wanted, closed where they are not, and looked after in between.

What is to be done is decided in `routing`; here it is carried out. Everything waits for its turn of the event loop and
for the server, nothing for ever: connecting has its time-out, a ping its deadline, and closing one too.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from headrace.pool.routing import SHUTDOWN, Limits, Member, Opening, Reason, Router
from headrace.pool.stats import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headrace.connection import Connection
    from headrace.driver import Driver

log = logging.getLogger("headrace.pool")

PING_TIMEOUT = 5.0
"""Seconds in which a connection that lay idle must answer a ping."""


class Upkeep:
    """Opens, refills, retires and sweeps; `connect` returns a new connection that is ready for use.

    It begins with `start()` and ends with `close()` or `terminate()`; from then on no connection is put to use.
    """

    def __init__(self, limits: Limits, connect: Callable[[], Awaitable[Connection]]) -> None:
        self.router = Router(limits)
        self.counts = Counts()
        self._connect = connect
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._openers: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._next_attempt: asyncio.TimerHandle | None = None
        self._all_back: asyncio.Future[None] | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the pool was opened on."""
        assert self._loop is not None
        return self._loop

    @property
    def is_running(self) -> bool:
        """Whether connections are opened and given out."""
        return self._running

    def now(self) -> float:
        """Return the time that `routing` goes by."""
        return self.loop.time()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something in the background, for as long as the pool lives."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- opening ---------------------------------------------------------------------------------------------------

    async def start(self, count: int) -> None:
        """Open the first `count` connections; raises what the first of them fails with, and leaves none open then."""
        self._loop = asyncio.get_running_loop()
        self.router.born = self.now()
        self._running = True
        openings = [self.router.begin_opening() for _ in range(count)]
        try:
            # The first alone: where it fails, it fails once.
            for opening in openings[:1]:
                await self._open(opening)
            async with asyncio.TaskGroup() as group:
                for opening in openings[1:]:
                    group.create_task(self._open(opening))
        except BaseException as error:
            self.terminate(error)
            for opening in openings:
                self.router.end_opening(opening)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        self._sweep_later()

    async def _open(self, opening: Opening) -> None:
        """Open one connection and put it to use."""
        router = self.router
        try:
            connection = await self._connect()
        except BaseException:
            router.end_opening(opening)
            raise
        if not self._running or connection.is_closed():
            router.end_opening(opening)
            connection.terminate()
            return
        self.counts.opened += 1
        router.add(connection, opening, self.now())
        connection._when_lost(self._on_lost)
        connection._driver.watch(self._on_refused)
        self.serve()

    def open_one(self) -> None:
        """Open one connection in the background. It counts from now on."""
        opening = self.router.begin_opening()
        task = self.loop.create_task(self._open(opening))
        self._openers.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._openers.discard(task)
            self.router.end_opening(opening)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._on_failure(error)

        task.add_done_callback(done)

    def _on_failure(self, error: BaseException) -> None:
        """Nothing could be opened: tell those who wait, and try again later."""
        self.counts.failed += 1
        if not self._running:
            return
        if getattr(error, "sqlstate", None) in SHUTDOWN and self.router.members:
            self._condemn(next(iter(self.router.members.values())), error)
        delay = self.router.failed(error)
        if delay:
            log.warning("a connection could not be opened, the next attempt is in %.1f seconds: %r", delay, error)
            self._next_attempt = self.loop.call_later(delay, self._try_again)

    def _try_again(self) -> None:
        self._next_attempt = None
        self.router.end_rest()
        self.refill()

    def refill(self) -> None:
        """Open what is missing: to `min_size`, and for those in line."""
        if self.router.room and self._running:
            for _ in range(self.router.wanted()):
                self.open_one()

    def relieve(self) -> None:
        """Have one connection more to share: all that are free are at work."""
        driver = self.router.wake()
        if driver is not None:
            driver.ping(PING_TIMEOUT)
        elif self.router.room and self._running:
            self.open_one()

    def wake(self) -> Driver | None:
        """Return a dormant connection for sharing: a ping is ahead of what it is asked, which waits for the answer."""
        driver = self.router.wake()
        if driver is not None:
            driver.ping(PING_TIMEOUT)
        return driver

    async def answers(self, member: Member) -> bool:
        """Return whether a leased connection that was dormant still answers; it is forgotten where it does not."""
        member.unsure = False
        try:
            await member.driver.reply(member.driver.ping(PING_TIMEOUT, True), None)
        except Exception:
            return False
        return True

    # -- serving ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Give what is free to those in line, and open what is missing."""
        self.router.serve_line()
        self.refill()
        if self._all_back is not None and not self._all_back.done() and not self.router.leases():
            self._all_back.set_result(None)

    def give_back(self, member: Member) -> None:
        """End a lease: the connection, reset, is shared again or replaced."""
        reason = self.router.outworn(member, self.now())
        if reason is None and self._running:
            self.router.give_back(member)
            self.serve()
        else:
            self.retire(member, reason or Reason.CLOSED)

    def retire(self, member: Member, reason: Reason, *, at_once: bool = False) -> None:
        """Take a connection out of the pool: when what it has under way is done, or at once."""
        member.leased = False
        member.connection._when_lost(self._on_left)
        self.counts.closed[reason] += 1
        if at_once or member.connection.is_closed():
            self.router.remove(member.driver)
            member.connection.terminate()
        else:
            self.router.leave(member.driver)
            self.spawn(self._see_off(member))
        self.serve()

    async def _see_off(self, member: Member) -> None:
        await member.driver.drain()
        await member.connection.close()

    def _on_left(self, connection: Connection) -> None:
        """One that was leaving has gone: there is room for another."""
        self.router.remove(connection._driver)
        self.serve()

    def _on_lost(self, connection: Connection) -> None:
        """A connection has come to its end, whoever ended it."""
        member = self.router.remove(connection._driver)
        if member is None:
            return
        self.counts.closed[Reason.UNANSWERED if connection._driver.unanswered else Reason.LOST] += 1
        self._condemn(member, connection._driver.session.fatal)
        self.serve()

    def _on_refused(self, driver: Driver, error: BaseException) -> None:
        # What the server reports of itself may come right behind the error.
        self.loop.call_soon(self._look_at_refusal, weakref.ref(driver), error)

    def _look_at_refusal(self, reference: Callable[[], Driver | None], error: BaseException) -> None:
        driver = reference()
        member = self.router.members.get(driver) if driver is not None else None
        if member is not None:
            self._condemn(member, error)

    def _condemn(self, member: Member, error: BaseException | None) -> None:
        """Retire all of a generation where what has happened to one of it is going to happen to all."""
        if self._running and self.router.condemns(member, getattr(error, "sqlstate", None), self.now()):
            log.warning("all connections are replaced, because of one of them: %s", error)
            self.expire(Reason.GENERATION)

    def expire(self, reason: Reason) -> None:
        """Replace all connections: the free ones when they are done, leased ones when they are given back."""
        for member in self.router.next_generation(self.now()):
            self.retire(member, reason)

    # -- sweeping --------------------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        self._sweeper = self.loop.call_later(self.router.limits.sweep_interval(), self._sweep)

    def _sweep(self) -> None:
        for member, reason in self.router.sweep(self.now()):
            self.retire(member, reason)
        self.refill()
        self._sweep_later()

    # -- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Open no more connections, and give none to anybody: only leases that there are go on."""
        self._running = False
        for timer in (self._sweeper, self._next_attempt):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._next_attempt = None
        for opener in self._openers:
            opener.cancel()

    async def close(self) -> None:
        """Wait for the leases, then for all that is under way, and close all connections. Stop it first."""
        for driver in [*self.router.free, *self.router.dormant]:
            self.retire(self.router.members[driver], Reason.CLOSED)
        while self.router.leases():
            self._all_back = self.loop.create_future()
            await self._all_back
        while self._tasks or self._openers:
            await asyncio.wait([*self._tasks, *self._openers])

    def terminate(self, error: BaseException) -> None:
        """Drop all connections at once, and fail those in line with the error."""
        self.stop()
        self.router.fail_all(error)
        for task in list(self._tasks):
            task.cancel()
        for member in list(self.router.leaving.values()):
            member.connection.terminate()
        for member in list(self.router.members.values()):
            self.retire(member, Reason.CLOSED, at_once=True)
