"""Acquiring connections and giving them back: the wait, the reset in between, and leases that are forgotten."""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from headrace._client.timeouts import checked_timeout
from headrace.connection import Connection
from headrace.exceptions import InterfaceError, PostgresError
from headrace.pool.proxy import CallSite, PoolAcquireContext, PoolConnectionProxy
from headrace.pool.scheduler import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.pool.dispatcher import Dispatcher
    from headrace.pool.maintenance import Maintenance
    from headrace.pool.scheduler import PooledConnection, Scheduler

    Callback = Callable[[Any], Awaitable[None]]

log = logging.getLogger("headrace.pool")

SHOWN = 10
"""The most leases that an error or a warning names."""


class LeaseMethods:
    """`acquire()` and `release()`, and all that is behind them."""

    _scheduler: Scheduler
    _dispatcher: Dispatcher
    _maintenance: Maintenance
    _setup: Callback | None
    _reset: Callback | None
    _debug: bool
    _awaits_reset = False
    """Whether a reset has failed, so that each is awaited before the connection is used again."""

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        """Lease a connection: `connection = await pool.acquire()`, or `async with pool.acquire() as connection`.

        Waits for an idle one, first come, first served, together with the pool's own methods; raises TimeoutError after
        `timeout` seconds, with a note that says where the others were acquired. A cancelled wait takes nothing.
        """
        return PoolAcquireContext(self, checked_timeout(timeout), CallSite(self._debug))

    def _check(self) -> None:
        """Raise InterfaceError unless the pool is open, on this event loop."""
        raise NotImplementedError

    async def _acquire(self, timeout: float | None, place: CallSite) -> PoolConnectionProxy:
        self._check()
        if timeout is None:
            return await self._lease(place, False)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._lease(place, True)
        except TimeoutError as error:
            if limit.expired():
                self._maintenance.explain(error)
            raise

    async def _lease(self, place: CallSite, limited: bool) -> PoolConnectionProxy:
        maintenance, dispatcher = self._maintenance, self._dispatcher
        while True:
            pooled = dispatcher.lease_now()
            if pooled is None:
                pooled = await self._wait_for_connection(limited)
                if pooled.gone:
                    # Perhaps because the pool was terminated: then nobody would serve another wait.
                    self._check()
                    continue
            pooled.call_site = place
            if not pooled.needs_check or await self._answers(pooled):
                break
            self._check()
        maintenance.counts.acquire_count += 1
        pooled.requests_at_lease = pooled.driver.request_count
        proxy = PoolConnectionProxy(self, pooled, place)
        pooled.proxy = weakref.ref(proxy)
        pooled.connection._lease_begins(proxy)
        if self._setup is not None:
            try:
                await self._setup(proxy)
            except BaseException:
                # It is not known what the callback has done so far: the next user must not find it.
                proxy._detach()
                maintenance.retire(pooled, Reason.SETUP_FAILED, at_once=True)
                raise
        return proxy

    async def _answers(self, pooled: PooledConnection) -> bool:
        """Return whether a connection that lay idle is there; if it is not, it has left the pool."""
        try:
            return await self._maintenance.answers(pooled)
        except CancelledError:
            self._maintenance.give_back(pooled)
            raise

    async def _wait_for_connection(self, limited: bool) -> PooledConnection:
        """Wait until a connection is leased to this caller; it may be lost again by the time that this is noticed."""
        claim = self._dispatcher.wait_to_lease(limited)
        self._maintenance.refill()
        waiter: asyncio.Future[PooledConnection] = claim.waiter
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Served and cancelled in the same turn: the next waiter gets the connection.
                pooled = waiter.result()
                if not pooled.gone:
                    self._maintenance.give_back(pooled)
            else:
                self._dispatcher.withdraw(claim)
                waiter.cancel()
            raise

    def _occupation(self) -> str:
        """Return what the connections are busy with."""
        scheduler = self._scheduler
        summary = (
            f"Of at most {scheduler.limits.max_size} connections {scheduler.leases()} are leased, "
            f"{len(scheduler.available)} shared and {len(scheduler.opening)} being opened; "
            f"{scheduler.waiting} other callers wait."
        )
        return "\n  ".join([summary, *self._occupants()])

    def _occupants(self) -> list[str]:
        """Return where the connections that are leased now were acquired."""
        held = [pooled for pooled in self._scheduler.connections.values() if pooled.leased and pooled.call_site]
        places = [f"{pooled.connection!r} was acquired at {pooled.call_site}" for pooled in held]
        more = [f"... and {len(places) - SHOWN} more"] if len(places) > SHOWN else []
        return places[:SHOWN] + more

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give a leased connection back; a second time does nothing.

        Its session is reset without waiting: the reset is sent at once and is ahead of whatever comes next.
        """
        if not isinstance(connection, PoolConnectionProxy) or connection._pool is not self:
            raise InterfaceError(
                f"Pool.release() received invalid connection: {connection!r} is not a member of this pool"
            )
        leased = connection._detach()
        if leased is None:
            return
        left = leased._lease_over()
        try:
            await self._take_back(connection._pooled, timeout, bool(left))
        finally:
            for warning in left:
                warnings.warn(warning, stacklevel=2)

    async def _take_back(self, pooled: PooledConnection, timeout: float | None, listened: bool) -> None:
        pooled.proxy = pooled.call_site = None
        if pooled.connection.is_closed():
            self._maintenance.serve()
            return
        try:
            await self._reset_session(pooled, checked_timeout(timeout), listened)
        except CancelledError:
            self._maintenance.retire(pooled, Reason.RESET_FAILED, at_once=True)
            raise
        except Exception as error:
            log.warning("a connection is dropped because it could not be reset: %r", error)
            self._maintenance.retire(pooled, Reason.RESET_FAILED, at_once=True)
            raise
        if pooled.connection.is_closed():
            self._maintenance.serve()
        elif pooled.ran_code and not pooled.not_resettable:
            # The question is sent in one write with the reset. The caller does not wait for the answer.
            self._maintenance.spawn(self._maintenance.compare_session(pooled))
        else:
            self._maintenance.give_back(pooled)

    async def _reset_session(self, pooled: PooledConnection, timeout: float | None, listened: bool) -> None:
        """Bring the session of a connection that was leased back to its first state.

        A `reset` callback does so in place of the reset query; no transaction and no LISTEN is left to it.
        """
        connection, driver = pooled.connection, pooled.driver
        busy = bool(driver.pending)
        if self._reset is None and type(connection).reset is not Connection.reset:
            await connection.reset(timeout=timeout)
        elif driver.request_count != pooled.requests_at_lease or not driver.is_idle:
            if not driver.is_idle and not busy:
                connection._report_open_transaction()
            if not driver.is_idle or busy:
                # With requests in flight the status byte is not the last word: ROLLBACK outside a transaction is a
                # warning that nobody sees.
                driver.background("ROLLBACK")
            query = connection.get_reset_query() if self._reset is None else "UNLISTEN *" if listened else ""
            if query and self._awaits_reset:
                await self._reset_first(pooled, query, timeout)
            elif query:
                driver.background(query, vital=True, refused=self._on_reset_refused)
        connection._reset_is_sent()
        if self._reset is not None:
            async with asyncio.timeout(timeout):
                await self._reset(connection)
        pooled.reset_at = driver.request_count
        if busy and self._reset is None:
            # Something of the lease is still under way: nobody is to stand behind it.
            async with asyncio.timeout(timeout):
                await driver.drain()

    def _on_reset_refused(self) -> None:
        """A reset has failed, and the query behind it with it: from now on nothing is sent before a reset is done."""
        self._awaits_reset = True

    async def _reset_first(self, pooled: PooledConnection, query: str, timeout: float | None) -> None:
        """Reset a connection before anybody else gets it; if the server refuses, it is dropped."""
        driver = pooled.driver
        try:
            await driver.reply(driver.simple_query(query, uncancellable=True), pooled.connection._timeout(timeout))
        except PostgresError as error:
            log.warning("a connection is dropped because it could not be reset: %r", error)
            self._maintenance.retire(pooled, Reason.RESET_FAILED, at_once=True)

    def _leaked(self, pooled: PooledConnection, place: CallSite) -> None:
        """Nobody refers to a leased connection any more, in whichever thread that comes to light."""
        loop = self._maintenance.loop
        if pooled.leased and not loop.is_closed():
            loop.call_soon_threadsafe(self._reclaim, pooled, place)

    def _reclaim(self, pooled: PooledConnection, place: CallSite) -> None:
        if not pooled.leased or pooled.proxy is None or pooled.proxy() is not None:
            return
        self._maintenance.counts.leaked += 1
        log.warning("%r was never given back to the pool: it is taken back. It was acquired at %s",
                    pooled.connection, place)  # fmt: skip
        listened = bool(pooled.connection._lease_over())
        self._maintenance.spawn(self._take_back(pooled, None, listened))
