"""Leases: the wait for a connection, its return with a reset, and leases that are forgotten."""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from headrace._client.timeouts import checked_timeout, time_limit
from headrace.connection import Connection
from headrace.exceptions import InterfaceError, PostgresError
from headrace.pool.proxy import CallSite, LeasingPool, PoolConnectionProxy
from headrace.pool.scheduler import Reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from headrace._client.query_hooks import Watched
    from headrace.pool.hooks import PoolHooks
    from headrace.pool.maintenance import Maintenance
    from headrace.pool.scheduler import PooledConnection, Scheduler

    Callback = Callable[[Any], Awaitable[None]]

log = logging.getLogger("headrace.pool")

SILENCE = 5.0
"""Seconds without any reply after which a connection is not waited for any more, at the end of its lease."""

SHOWN = 10
"""The most leases that an error or a warning names."""


class Leases:
    """The leases of one pool. `setup` and `reset` are the callbacks of `create_pool()`.

    The pool is an argument of the methods that need it: a reference here would be a cycle, and a forgotten pool would
    be noticed only by the garbage collector.
    """

    def __init__(self, maintenance: Maintenance, *, setup: Callback | None, reset: Callback | None) -> None:
        self._maintenance = maintenance
        self._dispatcher = maintenance.dispatcher
        self._setup = setup
        self._reset = reset
        self.hooks: PoolHooks | None = None
        """The query hooks of the pool; None if there are none."""
        self._watched: dict[PooledConnection, Watched] = {}
        """The leases that query hooks were told of."""
        self._awaits_reset = False
        """A reset has failed. From then on each one is awaited before its connection is used again."""

    # -- acquiring -------------------------------------------------------------------------------------------------

    def acquire(
        self,
        pool: LeasingPool,
        timeout: float | None,
        call_site: CallSite,
        proxy: PoolConnectionProxy[Any] | None = None,
    ) -> Coroutine[Any, Any, PoolConnectionProxy[Any]]:
        """Lease a connection, as soon as one is idle: for `proxy`, or a new one. See `Pool.acquire()`."""
        if timeout is None:
            lease = self._lease(pool, call_site, False, proxy)
        else:
            lease = self._lease_within(pool, timeout, call_site, proxy)
        return lease if self.hooks is None else self._watch(self.hooks, timeout, lease)

    async def _watch(
        self, hooks: PoolHooks, timeout: float | None, lease: Coroutine[Any, Any, PoolConnectionProxy[Any]]
    ) -> PoolConnectionProxy[Any]:
        """Lease a connection, and tell query hooks of the wait and of the lease."""
        watched = hooks.start("acquire", "", (), timeout)
        failure: BaseException | None = None
        try:
            proxy = await lease
        except BaseException as error:
            failure = error
            raise
        finally:
            if watched is not None:
                if hooks.server is not None:
                    watched.served_by(hooks.server)
                watched.end(failure)
            del failure
        if (held := hooks.start("lease", "", (), None)) is not None:
            self._watched[proxy._pooled] = held
        return proxy

    def end_watched(self) -> None:
        """Tell query hooks that all leases have ended: their connections are dropped, and need not be given back."""
        while self._watched:
            self._watched.popitem()[1].end(None)

    async def _lease_within(
        self, pool: LeasingPool, timeout: float, call_site: CallSite, proxy: PoolConnectionProxy[Any] | None
    ) -> PoolConnectionProxy[Any]:
        pool._check()
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._lease(pool, call_site, True, proxy)
        except TimeoutError as error:
            if limit.expired():
                phase = " in the wait for a connection or in the setup callback" if self._setup is not None else ""
                error.args = (f"acquire() timed out{phase} after {max(timeout, 0):g} seconds",)
                self._maintenance.explain(error)
                if self._setup is not None:
                    # The callback may have done something.
                    error.safe_to_retry = False  # type: ignore[attr-defined]
            raise

    async def _lease(
        self, pool: LeasingPool, call_site: CallSite, limited: bool, proxy: PoolConnectionProxy[Any] | None
    ) -> PoolConnectionProxy[Any]:
        pool._check()
        maintenance, dispatcher = self._maintenance, self._dispatcher
        while True:
            pooled = dispatcher.lease_now()
            if pooled is None:
                pooled = await self._wait_for_connection(limited)
                if pooled.gone:
                    # If the pool was terminated, another wait would never end.
                    pool._check()
                    continue
            pooled.call_site = call_site
            if not pooled.needs_check or await self._answers(pooled):
                break
            pool._check()
        maintenance.counts.acquire_count += 1
        pooled.requests_at_lease = pooled.driver.request_count
        if proxy is None:
            proxy = PoolConnectionProxy(pool, pooled, call_site)
        else:
            proxy._attach(pooled, call_site)
        pooled.proxy = weakref.ref(proxy)
        pooled.connection._lease_begins(proxy)
        if self._setup is not None:
            try:
                await self._setup(proxy)
            except BaseException:
                # The session may be in any state. The next caller must not get it.
                proxy._detach()
                maintenance.retire(pooled, Reason.SETUP_FAILED, at_once=True)
                raise
        return proxy

    async def _answers(self, pooled: PooledConnection) -> bool:
        """Return whether a connection that was idle still answers. If not, it has left the pool."""
        try:
            return await self._maintenance.answers(pooled)
        except CancelledError:
            self._maintenance.give_back(pooled)
            raise

    async def _wait_for_connection(self, limited: bool) -> PooledConnection:
        """Wait until a connection is leased to this caller. It may be lost again by the time that the caller runs."""
        claim = self._dispatcher.wait_to_lease(limited)
        self._maintenance.refill()
        waiter: asyncio.Future[PooledConnection] = claim.waiter
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Served and cancelled in the same tick: the next waiter gets the connection.
                pooled = waiter.result()
                if not pooled.gone:
                    self._maintenance.give_back(pooled)
            else:
                self._dispatcher.withdraw(claim)
                waiter.cancel()
            raise

    # -- releasing -------------------------------------------------------------------------------------------------

    async def release(self, pool: LeasingPool, connection: Any, timeout: float | None) -> None:
        """Give a leased connection back. See `Pool.release()`."""
        if not isinstance(connection, PoolConnectionProxy) or connection._pool is not pool:
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
                warnings.warn(warning, stacklevel=3)

    async def _take_back(self, pooled: PooledConnection, timeout: float | None, listened: bool) -> None:
        pooled.proxy = pooled.call_site = None
        if self._watched and (watched := self._watched.pop(pooled, None)) is not None:
            watched.end(None)
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
            # The query for the state is sent in one write with the reset. The caller does not wait for the reply.
            self._maintenance.spawn(self._maintenance.compare_session(pooled))
        else:
            self._maintenance.give_back(pooled)
        # The next caller may have been woken by now. If its first query is sent before this, the reset goes with it.
        pooled.driver.flush_next_tick()

    async def _reset_session(self, pooled: PooledConnection, timeout: float | None, listened: bool) -> None:
        """Return the session of a connection that was leased to its first state.

        A `reset` callback replaces the reset query. Transactions and LISTEN are ended before it is called.
        """
        connection, driver = pooled.connection, pooled.driver
        if driver.pending and self._reset is None:
            # Requests of the lease are still in flight. The next caller must not wait behind them. Nothing is sent
            # behind them either, because a CancelRequest for one that was given up might hit the ROLLBACK.
            async with time_limit(timeout, "release(), which waits for the requests of the lease,"):
                await self._drain(pooled)
            if driver.is_closed:
                return
        busy = bool(driver.pending)
        if connection._left_unsent:
            connection._report_open_transaction()
        if self._reset is None and type(connection).reset is not Connection.reset:
            await connection.reset(timeout=timeout)
        elif driver.request_count != pooled.requests_at_lease or not driver.is_idle:
            if not driver.is_idle and not busy:
                connection._report_open_transaction()
            if not driver.is_idle or busy:
                # With requests in flight the transaction status may still change. Outside of a transaction ROLLBACK
                # only makes the server log a warning.
                driver.background("ROLLBACK")
            query = connection.get_reset_query() if self._reset is None else "UNLISTEN *" if listened else ""
            if query and self._awaits_reset:
                await self._reset_first(pooled, query, timeout)
            elif query:
                driver.background(query, vital=True, refused=self._on_reset_refused, flushes=False)
        connection._reset_is_sent()
        if self._reset is not None:
            async with time_limit(timeout, "the reset callback"):
                await self._reset(connection)
        pooled.reset_at = driver.request_count

    async def _drain(self, pooled: PooledConnection) -> None:
        """Wait until nothing is in flight. Drop the connection if the server is silent and nobody waits for it."""
        driver = pooled.driver
        while True:
            limit = asyncio.timeout(SILENCE)
            before = driver.pending
            try:
                async with limit:
                    await driver.drain()
                return
            except TimeoutError:
                if not limit.expired():
                    raise
                if driver.nobody_waits and driver.pending == before:
                    log.warning("a connection is dropped because its server has not answered for %g seconds", SILENCE)
                    self._maintenance.retire(pooled, Reason.RESET_FAILED, at_once=True)
                    return

    def _on_reset_refused(self) -> None:
        """Await each reset from now on: one has failed, and so has the query that was sent behind it."""
        self._awaits_reset = True

    async def _reset_first(self, pooled: PooledConnection, query: str, timeout: float | None) -> None:
        """Reset a connection before another caller gets it; drop it if the server refuses."""
        driver = pooled.driver
        try:
            await driver.reply(driver.simple_query(query, uncancellable=True), pooled.connection._timeout(timeout))
        except PostgresError as error:
            log.warning("a connection is dropped because it could not be reset: %r", error)
            self._maintenance.retire(pooled, Reason.RESET_FAILED, at_once=True)

    # -- leases that are forgotten ---------------------------------------------------------------------------------

    def leaked(self, pooled: PooledConnection, call_site: CallSite) -> None:
        """Take back a leased connection to which nothing refers any more; may be called in any thread."""
        loop = self._maintenance.loop
        if pooled.leased and not loop.is_closed():
            loop.call_soon_threadsafe(self._reclaim, pooled, call_site)

    def _reclaim(self, pooled: PooledConnection, call_site: CallSite) -> None:
        if not pooled.leased or pooled.proxy is None or pooled.proxy() is not None:
            return
        self._maintenance.counts.leaked += 1
        log.warning("%r was never given back to the pool: it is taken back. It was acquired at %s",
                    pooled.connection, call_site)  # fmt: skip
        listened = bool(pooled.connection._lease_over())
        self._maintenance.spawn(self._take_back(pooled, None, listened))


def occupation(scheduler: Scheduler) -> str:
    """Return a description of what the connections of a pool are in use for."""
    summary = (
        f"Of at most {scheduler.limits.max_size} connections {scheduler.leases()} are leased, "
        f"{len(scheduler.available)} shared and {len(scheduler.opening)} being opened; "
        f"{scheduler.waiting} other callers wait."
    )
    held = [pooled for pooled in scheduler.connections.values() if pooled.leased and pooled.call_site]
    leases = [f"{pooled.connection!r} was acquired at {pooled.call_site}" for pooled in held]
    more = [f"... and {len(leases) - SHOWN} more"] if len(leases) > SHOWN else []
    return "\n  ".join([summary, *leases[:SHOWN], *more])
