"""The connections of a pool: opened when they are wanted, closed when they are not, and looked after in between.

The scheduler decides what is to be done; it is carried out here. Connecting has a time limit, a ping and closing have
one too, so nothing here waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from headrace._client.session_state import session_state
from headrace.exceptions import time_may_mend
from headrace.pool.dispatcher import PING_TIMEOUT, Dispatcher
from headrace.pool.scheduler import (
    STALLED,
    Opening,
    PooledConnection,
    Reason,
    Scheduler,
    boot_time,
    copy_of,
)
from headrace.pool.stats import Counts

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headrace._client.session_state import SessionState
    from headrace._io.driver import Driver
    from headrace.connection import Connection

log = logging.getLogger("headrace.pool")


class Maintenance:
    """Opens, refills, retires and sweeps; `connect` returns a new connection that is ready for use.

    `check` raises unless the pool is open; `occupation` says what its connections are busy with; `dropped` is called
    when a generation of connections is given up. It begins with `start()` and ends with `close()` or `terminate()`;
    from then on no connection is put to use. `connect_timeout` (seconds) bounds how long a call without a time limit
    waits while no connection can be opened.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        connect: Callable[[], Awaitable[Connection]],
        check: Callable[[], None],
        occupation: Callable[[], str],
        dropped: Callable[[], None],
        *,
        connect_timeout: float | None,
        repeat_reads: bool = True,
        pipeline_writes: bool = False,
    ) -> None:
        self.scheduler = scheduler
        self.counts = Counts()
        self.dispatcher = Dispatcher(scheduler, self, repeat_reads=repeat_reads, pipeline_writes=pipeline_writes)
        self.check = check
        self.connect_timeout = connect_timeout
        self._connect = connect
        self._occupation = occupation
        self._dropped = dropped
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running = False
        self._openers: dict[asyncio.Task[None], Opening] = {}
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

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run something in the background, for as long as the pool lives."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- opening ---------------------------------------------------------------------------------------------------

    async def start(self, count: int) -> None:
        """Open the first `count` connections; raises what the first of them fails with, and leaves none open then."""
        self._loop = asyncio.get_running_loop()
        self.scheduler.born = boot_time()
        self._running = True
        self.dispatcher.start(self._loop)
        openings = [self.scheduler.begin_opening(boot_time()) for _ in range(count)]
        try:
            # The first alone: if it fails, it fails once.
            for opening in openings[:1]:
                await self._open(opening)
            async with asyncio.TaskGroup() as group:
                for opening in openings[1:]:
                    group.create_task(self._open(opening))
        except BaseException as error:
            self.terminate(error)
            for opening in openings:
                self.scheduler.end_opening(opening)
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        self.dispatcher.open()
        self._sweep_later()

    async def _open(self, opening: Opening) -> None:
        """Open one connection and put it to use."""
        scheduler = self.scheduler
        try:
            connection = await self._connect()
        except BaseException:
            scheduler.end_opening(opening)
            raise
        if not self._running or connection.is_closed() or not scheduler.has_capacity():
            # There may be no place for one that was slow: another was opened beside it.
            scheduler.end_opening(opening)
            connection.terminate()
            return
        self.counts.opened += 1
        driver = connection._driver
        pooled = scheduler.add(connection, driver, driver.session.work, opening, boot_time())
        connection._when_lost(self._on_lost)
        driver.watch(self._on_refused)
        self.dispatcher.join(pooled)
        if pooled.generation != scheduler.generation:
            # The generation was retired while it was being opened.
            self.retire(pooled, Reason.GENERATION_RETIRED)
        else:
            self.serve()

    def open_one(self) -> None:
        """Open one connection in the background. It counts from now on."""
        opening = self.scheduler.begin_opening(boot_time())
        task = self.loop.create_task(self._open(opening))
        self._openers[task] = opening
        # A server that accepts and says nothing must not keep callers waiting for as long as an attempt may take.
        stalled = self.loop.call_later(STALLED, self._stalled, opening)

        def done(task: asyncio.Task[None]) -> None:
            stalled.cancel()
            self._openers.pop(task, None)
            self.scheduler.end_opening(opening)
            if not task.cancelled() and (error := task.exception()) is not None:
                self._on_failure(error)
            elif not task.cancelled():
                self._give_up_stalled()

        task.add_done_callback(done)

    def _stalled(self, opening: Opening) -> None:
        """An attempt has got no answer for some seconds: another one may be made beside it."""
        self.scheduler.note_stalled(opening)
        self.refill()

    def _give_up_stalled(self) -> None:
        """Another attempt has succeeded: do not wait any longer for those that get no answer."""
        for task, opening in list(self._openers.items()):
            if opening.stalled:
                task.cancel()

    def _on_failure(self, error: BaseException) -> None:
        """Nothing could be opened: tell those who are to know, and try again later."""
        self.counts.connect_errors += 1
        if not self._running:
            return
        now = boot_time()
        if self.scheduler.refusal_retires(error, now):
            log.warning("all connections are replaced, because no other can be opened: %s", error)
            self.expire(Reason.GENERATION_RETIRED)
        delay = self.scheduler.failed(error, now)
        patience = self.connect_timeout if self.connect_timeout is not None else float("inf")
        for claim in self.scheduler.hopeless(now, patience):
            self.dispatcher.fail(claim, self._refusal(error, patience))
        if delay:
            log.warning("a connection could not be opened, the next attempt is in %.1f seconds: %r", delay, error)
            self._next_attempt = self.loop.call_later(delay, self._try_again)

    def _refusal(self, error: BaseException, patience: float) -> BaseException:
        """Return the error for a caller that has waited in vain because no connection can be opened."""
        if not time_may_mend(error):
            return copy_of(error)
        late = TimeoutError(f"no connection could be opened within {patience:g} seconds: {error}")
        late.__cause__ = error
        return late

    def explain(self, error: BaseException) -> None:
        """Add to a TimeoutError of a caller that waited what it waited for."""
        error.add_note(self._occupation())
        cause = self.scheduler.last_error
        if cause is not None:
            # In place of the cancellation by which asyncio.timeout() ends a wait.
            error.__cause__ = cause
            if self._next_attempt is not None:
                due = max(self._next_attempt.when() - self.loop.time(), 0)
                error.add_note(f"No connection could be opened; the next attempt is due in {due:.1f} seconds.")

    def report_starvation(self) -> None:
        """Callers have waited for a second while all connections are leased: a holder may wait for one of them."""
        log.warning(
            "callers wait while all connections are leased; a lease whose holder waits for the pool waits for ever. %s",
            self._occupation(),
        )

    def _try_again(self) -> None:
        self._next_attempt = None
        self.scheduler.end_back_off()
        self.refill()

    def refill(self) -> None:
        """Open what is missing: to `min_size`, and for those who wait."""
        if self.scheduler.can_grow and self._running:
            for _ in range(self.scheduler.wanted()):
                self.open_one()

    async def answers(self, pooled: PooledConnection) -> bool:
        """Return whether a leased connection that lay idle still answers; it is forgotten if it does not."""
        pooled.needs_check = False
        driver = pooled.driver
        try:
            await driver.reply(driver.ping(PING_TIMEOUT, True), None)
        except Exception:
            return False
        return True

    # -- serving ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Give what is free to those who wait, and open what is missing."""
        self.dispatcher.serve()
        self.refill()
        if self._all_back is not None and not self._all_back.done() and not self.scheduler.leases():
            self._all_back.set_result(None)

    def give_back(self, pooled: PooledConnection) -> None:
        """End a lease: the connection, reset, is shared again or replaced."""
        reason = self.scheduler.expired(pooled, boot_time())
        if reason is None and self._running:
            self.scheduler.give_back(pooled)
            self.serve()
        else:
            self.retire(pooled, reason or Reason.POOL_CLOSED)

    async def compare_session(self, pooled: PooledConnection) -> None:
        """End a lease that ran code whose text was not seen: keep the connection if its session is as after `init`.

        The question goes behind the reset, so settings that the reset has undone do not cost the connection.
        """
        pooled.ran_code = False
        state = await self._session_state(pooled)
        if pooled.gone:
            return
        if state is None or state != pooled.connection._initial_state:
            self.retire(pooled, Reason.NOT_RESETTABLE)
        else:
            self.give_back(pooled)

    def settings_reported(self, pooled: PooledConnection) -> None:
        """The server has reported a setting while a connection was shared; the connection is blocked from now on."""
        self.spawn(self._compare_settings(pooled))

    async def _compare_settings(self, pooled: PooledConnection) -> None:
        """Use a connection again if the reported settings were not changed in its session; retire it otherwise.

        If the server's configuration was reloaded, their source is not the session.
        """
        self.dispatcher.take_unsent(pooled)
        await pooled.driver.drain()
        state = await self._session_state(pooled)
        initial = pooled.connection._initial_state
        if pooled.gone:
            return
        if state is None or initial is None or not state.has_same_settings(initial, pooled.reported or ()):
            names = ", ".join(sorted(pooled.reported or ()))
            log.warning("a connection is replaced because a shared call has changed settings of its session: %s", names)
            self.retire(pooled, Reason.SETTINGS_CHANGED)
        else:
            self.dispatcher.unblock(pooled)

    async def _session_state(self, pooled: PooledConnection) -> SessionState | None:
        """Ask for the state of a session; None if the server does not tell it, or not in time."""
        try:
            return await session_state(pooled.driver)
        except Exception as error:
            log.debug("the state of a session is not known: %r", error)
            return None

    def retire(self, pooled: PooledConnection, reason: Reason, *, at_once: bool = False) -> None:
        """Take a connection out of the pool: when it is done with what is in flight, or at once."""
        if pooled.gone:
            return
        pooled.leased = False
        pooled.connection._when_lost(self._on_left)
        self.counts.closed[reason] += 1
        if at_once or pooled.connection.is_closed():
            self.scheduler.remove(pooled.driver)
            pooled.connection.terminate()
        else:
            self.scheduler.drain(pooled.driver)
            self.spawn(self._drain_and_close(pooled))
        self.serve()

    async def _drain_and_close(self, pooled: PooledConnection) -> None:
        await pooled.driver.drain()
        await pooled.connection.close()

    def quarantine(self, pooled: PooledConnection) -> None:
        """A shared connection is inside a transaction: nobody else gets it."""
        log.warning("a shared connection was left inside a transaction: it is closed, not reused")
        self.retire(pooled, Reason.QUARANTINED)

    def _on_left(self, connection: Connection) -> None:
        """A connection that was draining has gone: there is room for another."""
        self.scheduler.remove(connection._driver)
        self.serve()

    def _on_lost(self, connection: Connection) -> None:
        """A connection has come to its end."""
        driver = connection._driver
        pooled = self.scheduler.remove(driver)
        if pooled is None:
            return
        self.counts.closed[Reason.PING_FAILED if driver.unanswered else Reason.CONNECTION_LOST] += 1
        self._look_at(pooled, driver.session.fatal)
        self.serve()

    def _on_refused(self, driver: Driver, error: BaseException) -> None:
        # What the server reports of itself may come right behind the error.
        self.loop.call_soon(self._look_at_refusal, weakref.ref(driver), error)

    def _look_at_refusal(self, reference: Callable[[], Driver | None], error: BaseException) -> None:
        driver = reference()
        pooled = self.scheduler.connections.get(driver) if driver is not None else None
        if pooled is not None:
            self._look_at(pooled, error)

    def _look_at(self, pooled: PooledConnection, error: BaseException | None) -> None:
        """Replace every connection of a generation after an error that will affect all of them."""
        if self._running and self.scheduler.retires_generation(pooled, getattr(error, "sqlstate", None), boot_time()):
            log.warning("all connections are replaced, because of one of them: %s", error)
            self.expire(Reason.GENERATION_RETIRED)

    def expire(self, reason: Reason) -> None:
        """Replace all connections: the shared ones when they are done, leased ones when they are given back."""
        self._dropped()
        for pooled in self.scheduler.next_generation(boot_time()):
            self.retire(pooled, reason)

    # -- sweeping --------------------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        self._sweeper = self.loop.call_later(self.scheduler.limits.sweep_interval(), self._sweep)

    def _sweep(self) -> None:
        for pooled, reason in self.scheduler.sweep(boot_time()):
            self.retire(pooled, reason)
        self.refill()
        self._sweep_later()

    # -- the end ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Open no more connections, and give none to anybody: only leases that there are go on."""
        self._running = False
        self.dispatcher.stop()
        for timer in (self._sweeper, self._next_attempt):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._next_attempt = None
        for opener in list(self._openers):
            opener.cancel()

    def fail_all(self, error: BaseException) -> None:
        """Give the error to everybody who waits; each gets one of its own, to add notes to."""
        for claim in self.scheduler.claims():
            self.scheduler.give_up(claim)
            self.dispatcher.fail(claim, copy_of(error))

    async def close(self) -> None:
        """Wait for the leases, then for all that is under way, and close all connections. Stop it first."""
        for pooled in list(self.scheduler.available):
            self.retire(pooled, Reason.POOL_CLOSED)
        while self.scheduler.leases():
            self._all_back = self.loop.create_future()
            await self._all_back
        while self._tasks or self._openers:
            await asyncio.wait([*self._tasks, *self._openers])

    def terminate(self, error: BaseException) -> None:
        """Drop all connections at once, and fail those who wait with the error."""
        self.stop()
        self.fail_all(error)
        for task in list(self._tasks):
            task.cancel()
        for pooled in list(self.scheduler.draining.values()):
            pooled.connection.terminate()
        for pooled in list(self.scheduler.connections.values()):
            self.retire(pooled, Reason.POOL_CLOSED, at_once=True)
