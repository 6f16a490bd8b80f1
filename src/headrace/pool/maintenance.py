"""Maintenance of a pool: opens, checks, replaces and closes its connections.

The scheduler makes the decisions, and this module carries them out. Connecting, pings and closing have time limits, so
nothing here waits for ever.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from typing import TYPE_CHECKING, Any

from headrace._client.session_state import session_state
from headrace._connect.connector import asked_role
from headrace._connect.hosts import REMEMBERED, HostBook
from headrace._connect.roles import reports_role, role, suits
from headrace.exceptions import is_transient
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
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from headrace._client.session_state import SessionState
    from headrace._connect.hosts import Place
    from headrace._connect.params.resolve import Address
    from headrace._io.driver import Driver
    from headrace.connection import Connection

log = logging.getLogger("headrace.pool")


class Maintenance:
    """Opens, refills, retires and sweeps connections.

    `connect` returns a new connection that is ready for use. `check` raises unless the pool is open. `occupation`
    describes what the connections are used for. `dropped` is called when a generation of connections is retired. It
    begins with `start()` and ends with `close()` or `terminate()`, after which no connection is used. `connect_timeout`
    limits how long a call without a time limit waits while no connection can be opened, in seconds.
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
        self.hosts = HostBook(self._places)
        self._unsure: set[PooledConnection] = set()
        self._look: asyncio.Task[Any] | None = None
        self._looked_at = 0.0
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
        """True if connections are opened and used."""
        return self._running

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in the background, at most until the pool is closed."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # -- opening ---------------------------------------------------------------------------------------------------

    async def start(self, count: int) -> None:
        """Open the first `count` connections. If one fails, raise the first error and leave none open."""
        self._loop = asyncio.get_running_loop()
        self.scheduler.born = boot_time()
        self._running = True
        self.dispatcher.start(self._loop)
        openings = [self.scheduler.begin_opening(boot_time()) for _ in range(count)]
        try:
            # One connection is opened before the others, so that a failure occurs only once.
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
        """Open one connection and add it to the pool."""
        with self.hosts.choosing() as choice:
            try:
                connection = await self._connect()
            except BaseException:
                self.scheduler.end_opening(opening)
                raise
            self._add(connection, opening)
            choice.address = None

    def _add(self, connection: Connection, opening: Opening) -> None:
        """Add a new connection to the pool."""
        scheduler = self.scheduler
        if not self._running or connection.is_closed() or not scheduler.has_capacity():
            # A slow attempt may come too late, because another connection was opened meanwhile.
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
        """Open one connection in the background. It counts towards the size at once."""
        opening = self.scheduler.begin_opening(boot_time())
        task = self.loop.create_task(self._open(opening))
        self._openers[task] = opening
        # A server that accepts and does not answer must not delay callers for the whole time limit of an attempt.
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
        """Allow another attempt beside one that has had no answer for some seconds."""
        self.scheduler.mark_stalled(opening)
        self.refill()

    def _give_up_stalled(self) -> None:
        """Cancel attempts without an answer, because another one has succeeded."""
        for task, opening in list(self._openers.items()):
            if opening.stalled:
                task.cancel()

    def _on_failure(self, error: BaseException) -> None:
        """Handle a failed attempt to connect: fail the claims that cannot wait any longer, and try again later."""
        self.counts.connect_errors += 1
        if not self._running:
            return
        now = boot_time()
        if self.scheduler.refusal_retires(error, now):
            log.warning("all connections are replaced, because no other can be opened: %s", error)
            self.expire(Reason.GENERATION_RETIRED)
        delay = self._back_off(error)
        patience = self.connect_timeout if self.connect_timeout is not None else float("inf")
        for claim in self.scheduler.claims_to_fail(now, patience):
            self.dispatcher.fail(claim, self._refusal(error, patience))
        if delay:
            log.warning("a connection could not be opened, the next attempt is in %.1f seconds: %r", delay, error)

    def _back_off(self, error: BaseException) -> float:
        """Wait before the next attempt to connect; return the seconds, 0 if one is due already."""
        delay = self.scheduler.failed(error, boot_time(), several_hosts=self.hosts.has_several)
        if delay:
            self._next_attempt = self.loop.call_later(delay, self._try_again)
        return delay

    def _refusal(self, error: BaseException, patience: float) -> BaseException:
        """Return the error for a caller that has waited in vain, because no connection can be opened."""
        if not is_transient(error):
            return copy_of(error)
        late = TimeoutError(f"no connection could be opened within {patience:g} seconds: {error}")
        late.__cause__ = error
        late.safe_to_retry = True  # type: ignore[attr-defined]
        return late

    def explain(self, error: BaseException) -> None:
        """Say in the TimeoutError of a waiting caller what it waited for, and in a note who holds the connections.

        If connections cannot be opened, its cause is the last failure to open one.
        """
        error.add_note(self._occupation())
        # The call was not sent to any server.
        error.safe_to_retry = True  # type: ignore[attr-defined]
        cause = self.scheduler.last_error
        reason = "no connection was free"
        if cause is not None:
            # This replaces the cancellation with which asyncio.timeout() ends a wait.
            error.__cause__ = cause
            due = "an attempt is under way"
            if self._next_attempt is not None:
                seconds = max(self._next_attempt.when() - self.loop.time(), 0)
                due = f"the next attempt is due in {seconds:.1f} seconds"
            free = f"{reason}, and " if self.scheduler.connections else ""
            reason = f"{free}no connection could be opened ({str(cause) or type(cause).__name__}); {due}"
        error.args = (f"{error.args[0]}: {reason}",)

    def report_starvation(self) -> None:
        """Log that callers have waited for a second while all connections are leased. A holder may be one of them."""
        log.warning(
            "callers wait while all connections are leased; a lease whose holder waits for the pool waits for ever. %s",
            self._occupation(),
        )

    def _try_again(self) -> None:
        self._next_attempt = None
        self.scheduler.end_back_off()
        self.refill()

    def refill(self) -> None:
        """Open the connections that are missing for `min_size` and for waiting callers."""
        if self.scheduler.can_grow and self._running:
            for _ in range(self.scheduler.wanted()):
                self.open_one()

    async def answers(self, pooled: PooledConnection) -> bool:
        """Return whether a leased connection that was idle still answers. The ping closes it if it does not."""
        pooled.needs_check = False
        driver = pooled.driver
        try:
            await driver.reply(driver.ping(PING_TIMEOUT, True), None)
        except Exception:
            return False
        return True

    # -- serving ---------------------------------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve waiting callers with the free connections, and open missing ones."""
        self.dispatcher.serve()
        self.refill()
        if self._all_back is not None and not self._all_back.done() and not self.scheduler.leases():
            self._all_back.set_result(None)

    def give_back(self, pooled: PooledConnection) -> None:
        """End a lease: the connection, which was reset, is shared again or replaced."""
        reason = self.scheduler.expired(pooled, boot_time())
        if reason is None and self._running:
            self.scheduler.give_back(pooled)
            if pooled in self._unsure:
                self._unsure.discard(pooled)
                self.role_unsure(pooled)
            self.serve()
        else:
            self.retire(pooled, reason or Reason.POOL_CLOSED)

    async def compare_session(self, pooled: PooledConnection) -> None:
        """End a lease that ran code whose text was not seen. Keep the connection if its session is as after `init`.

        The state is queried after the reset, so settings that the reset has undone do not matter.
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
        """Check a setting that the server reported on a shared connection, which is blocked until then."""
        self.spawn(self._compare_settings(pooled))

    async def _compare_settings(self, pooled: PooledConnection) -> None:
        """Use a connection again if the reported settings were not changed in its session; otherwise retire it.

        After a reload of the server's configuration, the source of the settings is not the session.
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
            self.look_at_role(pooled)

    async def _session_state(self, pooled: PooledConnection) -> SessionState | None:
        """Return the state of a session; None if the server does not report it, or not in time."""
        try:
            return await session_state(pooled.driver)
        except Exception as error:
            log.debug("the state of a session could not be queried: %r", error)
            return None

    def retire(self, pooled: PooledConnection, reason: Reason, *, at_once: bool = False) -> None:
        """Remove a connection from the pool and close it: after its requests in flight, or at once."""
        if pooled.gone:
            return
        pooled.leased = False
        self._unsure.discard(pooled)
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
        """Retire a shared connection that is inside a transaction."""
        log.warning("a shared connection was left inside a transaction: it is closed, not reused")
        self.retire(pooled, Reason.QUARANTINED)

    def _on_left(self, connection: Connection) -> None:
        """Handle the end of a draining connection, which leaves capacity for another."""
        driver = connection._driver
        pooled = self.scheduler.draining.get(driver)
        self.scheduler.remove(driver)
        if pooled is not None:
            self._look_at(pooled, driver.session.fatal)
        self.serve()

    def _on_lost(self, connection: Connection) -> None:
        """Handle the loss of a connection."""
        driver = connection._driver
        pooled = self.scheduler.remove(driver)
        if pooled is None:
            return
        self._unsure.discard(pooled)
        self.counts.closed[Reason.PING_FAILED if driver.unanswered else Reason.CONNECTION_LOST] += 1
        if driver.unanswered and connection._place is not None:
            self.hosts.failed(connection._place, self.loop.time())
        self._look_at(pooled, driver.session.fatal)
        self.serve()

    def _on_refused(self, driver: Driver, error: BaseException) -> None:
        # The server's report of its state may follow right after the error.
        self.loop.call_soon(self._look_at_refusal, weakref.ref(driver), error)

    def _look_at_refusal(self, reference: Callable[[], Driver | None], error: BaseException) -> None:
        driver = reference()
        pooled = self.scheduler.connections.get(driver) if driver is not None else None
        if pooled is not None:
            self._look_at(pooled, error)

    def _look_at(self, pooled: PooledConnection, error: BaseException | None) -> None:
        """Replace every connection of a generation after an error that will affect all of them."""
        if self._running and self.scheduler.retires_generation(pooled, getattr(error, "sqlstate", None), boot_time()):
            reason = error or "the server closed it without saying why, like another one before"
            log.warning("all connections are replaced, because of one of them: %s", reason)
            self.expire(Reason.GENERATION_RETIRED)

    def expire(self, reason: Reason) -> None:
        """Replace all connections: shared ones when they are done, leased ones when they are released."""
        self._dropped()
        for pooled in self.scheduler.next_generation(boot_time()):
            self.retire(pooled, reason)

    # -- roles and hosts -------------------------------------------------------------------------------------------

    def role_reported(self, pooled: PooledConnection) -> None:
        """Look at the role of a server that has reported it, after the reply that the report may be a part of."""
        self.loop.call_soon(self.look_at_role, pooled)

    def look_at_role(self, pooled: PooledConnection) -> None:
        """Retire the connections to a server that no longer suits `target_session_attrs`."""
        if reports_role(parameters := pooled.driver.session.parameters):
            self._compare_role(pooled, parameters)

    def role_unsure(self, pooled: PooledConnection) -> None:
        """Ask whether the server is read-only now, after the reset of a lease: the lease itself may have set it."""
        if pooled.gone or pooled.connection._params.target_session_attrs not in ("read-write", "read-only"):
            return
        if pooled.leased:
            self._unsure.add(pooled)
        else:
            self.spawn(self._ask_role(pooled))

    def _compare_role(self, pooled: PooledConnection, parameters: Mapping[str, str]) -> None:
        wanted = pooled.connection._params.target_session_attrs
        if pooled.gone or not self._running or suits(wanted, parameters):
            return
        place = pooled.connection._place
        log.warning(
            "the connections to %s are replaced: it is %s, and target_session_attrs is %s",
            pooled.connection._address, role(parameters), wanted,
        )  # fmt: skip
        self.hosts.mismatched(place, self.loop.time())
        self._dropped()
        for each in list(self.scheduler.connections.values()):
            if each.connection._place == place:
                # A lease keeps its connection until its end.
                each.misfit = True
                if not each.leased:
                    self.retire(each, Reason.ROLE_CHANGED)

    def _places(self) -> list[Place]:
        """Return the socket address of each connection."""
        return [
            pooled.connection._place
            for pooled in self.scheduler.connections.values()
            if pooled.connection._place is not None
        ]

    def _look_at_hosts(self) -> None:
        """Look, at times, whether a host has come back that should have connections, and what servers do not report."""
        now = self.loop.time()
        if not self.hosts.has_several or self.scheduler.backing_off or now - self._looked_at < REMEMBERED:
            return
        self._looked_at = now
        members = list(self.scheduler.connections.values())
        silent = {
            pooled.connection._place: pooled
            for pooled in members
            if not pooled.leased and not reports_role(pooled.driver.session.parameters)
        }
        for pooled in silent.values():
            self.spawn(self._ask_role(pooled))
        if self._look is not None and not self._look.done():
            return
        if any(self._is_second_choice(pooled) for pooled in members):
            self._look = self.spawn(self._look_for_standby())
        elif members and members[0].connection._params.load_balance_hosts and (missing := self.hosts.missing()):
            self._look = self.spawn(self._look_for(missing[0]))

    async def _ask_role(self, pooled: PooledConnection) -> None:
        try:
            async with asyncio.timeout(PING_TIMEOUT):
                parameters = await asked_role(pooled.driver)
        except Exception as error:
            log.debug("the role of a server could not be queried: %r", error)
        else:
            self._compare_role(pooled, parameters)

    @staticmethod
    def _is_second_choice(pooled: PooledConnection) -> bool:
        """Return whether a standby would be preferred to the server of a connection."""
        if pooled.connection._params.target_session_attrs != "prefer-standby":
            return False
        parameters = pooled.driver.session.parameters
        return reports_role(parameters) and role(parameters) != "standby"

    async def _look_for_standby(self) -> None:
        """Replace the connections to a primary if a standby answers that is preferred."""
        if await self._answers_at(wanted="standby"):
            for pooled in list(self.scheduler.connections.values()):
                if self._is_second_choice(pooled):
                    self._replace(pooled)

    async def _look_for(self, address: Address) -> None:
        """Replace as many connections as a host lacks for its share, if it answers."""
        if not await self._answers_at(only=address):
            return
        places = {each: each.connection._place for each in self.scheduler.connections.values() if not each.leased}
        members = {each: place[0] for each, place in places.items() if place is not None}
        for pooled in self.hosts.surplus(address, members):
            self._replace(pooled)

    async def _answers_at(self, *, only: Address | None = None, wanted: str | None = None) -> bool:
        """Return whether a server that suits can be connected to."""
        try:
            with self.hosts.choosing(only=only, wanted=wanted):
                connection = await self._connect()
        except Exception as error:
            log.debug("no other host to connect to yet: %s", error)
            return False
        await connection.close()
        return True

    def _replace(self, pooled: PooledConnection) -> None:
        """Have a connection closed in favour of one to another host, after its lease if it has one."""
        if pooled.leased:
            pooled.retire_at = 0.0
        else:
            self.retire(pooled, Reason.REBALANCED)

    # -- sweeping --------------------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        self._sweeper = self.loop.call_later(self.scheduler.limits.sweep_interval(), self._sweep)

    def _sweep(self) -> None:
        for pooled, reason in self.scheduler.sweep(boot_time()):
            self.retire(pooled, reason)
        self.refill()
        self._look_at_hosts()
        self._sweep_later()

    # -- closing ---------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop opening and assigning connections. Present leases go on."""
        self._running = False
        self.dispatcher.stop()
        for timer in (self._sweeper, self._next_attempt):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._next_attempt = None
        for opener in list(self._openers):
            opener.cancel()
        if self._look is not None:
            self._look.cancel()

    def fail_all(self, error: BaseException) -> None:
        """Fail all waiting claims. Each gets a copy of the error, to add notes to."""
        for claim in self.scheduler.claims():
            self.scheduler.give_up(claim)
            self.dispatcher.fail(claim, copy_of(error))

    async def close(self) -> None:
        """Wait for the leases, then for all work in progress, and close all connections. Call stop() first."""
        for pooled in list(self.scheduler.available):
            self.retire(pooled, Reason.POOL_CLOSED)
        while self.scheduler.leases():
            self._all_back = self.loop.create_future()
            await self._all_back
        while self._tasks or self._openers:
            await asyncio.wait([*self._tasks, *self._openers])

    def terminate(self, error: BaseException) -> None:
        """Drop all connections at once, and fail all waiting claims with the error."""
        self.stop()
        self.fail_all(error)
        for task in list(self._tasks):
            task.cancel()
        for pooled in list(self.scheduler.draining.values()):
            pooled.connection.terminate()
        for pooled in list(self.scheduler.connections.values()):
            self.retire(pooled, Reason.POOL_CLOSED, at_once=True)
