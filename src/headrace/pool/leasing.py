"""Acquiring connections and giving them back: the line of those who wait, the reset in between, and what got lost."""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any

from headrace.connection import Connection
from headrace.errors import InterfaceError
from headrace.pool.lease import Place, PoolAcquireContext, PoolConnectionProxy
from headrace.pool.routing import Reason
from headrace.waiting import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from headrace.driver import Driver
    from headrace.pool.routing import Member, Router
    from headrace.pool.upkeep import Upkeep

    Callback = Callable[[Any], Awaitable[None]]

log = logging.getLogger("headrace.pool")

SHOWN = 10
"""The most leases that an error or a warning names."""


class LeaseMethods:
    """`acquire()` and `release()`, and all there is behind them."""

    _router: Router
    _upkeep: Upkeep
    _setup: Callback | None
    _reset: Callback | None
    _debug: bool

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        """Lease a connection: `connection = await pool.acquire()`, or `async with pool.acquire() as connection`.

        Waits for one where all are leased, first come, first served; raises TimeoutError after `timeout` seconds, with
        a note that says where the others were acquired. A cancelled wait leaves the line and takes nothing.
        """
        return PoolAcquireContext(self, checked_timeout(timeout), Place(self._debug))

    def _check(self) -> None:
        """Raise InterfaceError unless the pool is open, on this event loop."""
        raise NotImplementedError

    async def _acquire(self, timeout: float | None, place: Place) -> PoolConnectionProxy:
        self._check()
        if timeout is None:
            return await self._lease(place)
        limit = asyncio.timeout(timeout)
        try:
            async with limit:
                return await self._lease(place)
        except TimeoutError as error:
            if limit.expired():
                error.add_note(self._occupation())
            raise

    async def _lease(self, place: Place) -> PoolConnectionProxy:
        upkeep, router = self._upkeep, self._router
        while True:
            member = router.lease()
            if member is None:
                member = router.members.get(await self._stand_in_line(True))
                if member is None:
                    continue
            elif member.driver.load and router.room:
                upkeep.open_one()
            if not member.unsure or await self._answers(member):
                break
        upkeep.counts.leases += 1
        member.asked_at_lease = member.driver.asked
        proxy = PoolConnectionProxy(self, member, place)
        member.proxy = weakref.ref(proxy)
        member.connection._lease_begins(proxy)
        if self._setup is not None:
            try:
                await self._setup(proxy)
            except BaseException:
                # What the callback has done so far is unknown: the next user must not find it.
                proxy._detach()
                upkeep.retire(member, Reason.SETUP, at_once=True)
                raise
        return proxy

    async def _answers(self, member: Member) -> bool:
        """Return whether a connection that was dormant is there; where it is not it has left the pool."""
        try:
            return await self._upkeep.answers(member)
        except CancelledError:
            self._upkeep.give_back(member)
            raise

    async def _stand_in_line(self, lease: bool) -> Driver:
        """Wait until there is a connection, which may be lost again by the time that this is noticed."""
        upkeep, router = self._upkeep, self._router
        waiter: asyncio.Future[Driver] = upkeep.loop.create_future()
        router.line.append((waiter, lease))
        upkeep.refill()
        began = upkeep.now()
        try:
            return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None and lease:
                # Served and cancelled in the same turn: the lease goes to the next in line.
                member = router.members.get(waiter.result())
                if member is not None:
                    upkeep.give_back(member)
            else:
                waiter.cancel()
            raise
        finally:
            upkeep.counts.waited(upkeep.now() - began)

    def _occupation(self) -> str:
        """Return what the connections are busy with."""
        router = self._router
        summary = (
            f"Of at most {router.limits.max_size} connections {router.leases()} are leased, {len(router.free)} shared"
            f" and {len(router.opening)} being opened; {router.waiting()} other callers wait."
        )
        return "\n  ".join([summary, *self._occupants()])

    def _occupants(self) -> list[str]:
        """Return where the connections that are leased now were acquired."""
        held = [member.proxy() for member in self._router.members.values() if member.leased and member.proxy]
        places = [f"{proxy._connection!r} was acquired at {proxy._place}" for proxy in held if proxy is not None]
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
            await self._take_back(connection._member, timeout, bool(left))
        finally:
            for warning in left:
                warnings.warn(warning, stacklevel=2)

    async def _take_back(self, member: Member, timeout: float | None, listened: bool) -> None:
        member.proxy = None
        if member.connection.is_closed():
            self._upkeep.serve()
            return
        try:
            await self._cleanse(member, checked_timeout(timeout), listened)
        except CancelledError:
            self._upkeep.retire(member, Reason.RESET, at_once=True)
            raise
        except Exception as error:
            log.warning("a connection is dropped because it could not be reset: %r", error)
            self._upkeep.retire(member, Reason.RESET, at_once=True)
            raise
        self._upkeep.give_back(member)

    async def _cleanse(self, member: Member, timeout: float | None, listened: bool) -> None:
        """Bring the session of a connection that was leased back to its first state.

        A `reset` callback does so in the place of the reset query; no transaction and no LISTEN is left to it.
        """
        connection, driver = member.connection, member.driver
        if self._reset is None and type(connection).reset is not Connection.reset:
            await connection.reset(timeout=timeout)
        elif driver.asked != member.asked_at_lease or not driver.pristine:
            if not driver.pristine and not driver.load:
                connection._report_open_transaction()
            if not driver.pristine or driver.load:
                # With requests under way the status byte is not the last word: ROLLBACK outside a transaction is a
                # warning that nobody sees.
                driver.background("ROLLBACK")
            query = connection.get_reset_query() if self._reset is None else "UNLISTEN *" if listened else ""
            if query:
                driver.background(query, vital=True)
        connection._reset_is_sent()
        if self._reset is not None:
            async with asyncio.timeout(timeout):
                await self._reset(connection)
        member.reset_at = driver.asked

    def _leaked(self, member: Member, place: Place) -> None:
        """Nobody refers to a leased connection any more, in whichever thread that comes to light."""
        loop = self._upkeep.loop
        if member.leased and not loop.is_closed():
            loop.call_soon_threadsafe(self._reclaim, member, place)

    def _reclaim(self, member: Member, place: Place) -> None:
        if not member.leased or member.proxy is None or member.proxy() is not None:
            return
        self._upkeep.counts.leaked += 1
        log.warning("%r was never given back to the pool: it is taken back. It was acquired at %s",
                    member.connection, place)  # fmt: skip
        listened = bool(member.connection._lease_over())
        self._upkeep.spawn(self._take_back(member, None, listened))
