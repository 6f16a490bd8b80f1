"""A pool of connections: opening and closing them, leasing them, and sharing them among concurrent queries.

`acquire()` leases one connection exclusively. The pool's own query methods share: each goes to the connection with the
fewest requests under way and joins its pipeline, so a pool of six serves thousands of queries at once.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar, overload

from headrace._core.codecs.typemap import TypeCatalogue
from headrace._core.record import Record
from headrace.connection import Connection
from headrace.connection import connect as open_connection
from headrace.copy import CopyMethods
from headrace.driver import KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace.errors import ConnectionDoesNotExistError, InterfaceError
from headrace.lexer import classify
from headrace.pool.lease import PoolAcquireContext, PoolConnectionProxy
from headrace.pool.listening import Listening
from headrace.pool.routing import Member, Router
from headrace.query import bound, bound_each
from headrace.rows import checked_record_class, rows_as
from headrace.waiting import checked_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType

    from headrace._core.request import Request
    from headrace._core.rowplan import RowShape
    from headrace.driver import Driver
    from headrace.query import AnyQuery

T = TypeVar("T")
R = TypeVar("R", bound=Record)

log = logging.getLogger("headrace.pool")

CLOSE_WARNING = 60.0
"""Seconds after which a `close()` that still waits for leases says so."""

Connect = Callable[..., Awaitable[Connection]]
Callback = Callable[[Any], Awaitable[None]]


class Pool(CopyMethods):
    """A pool of connections; made by `headrace.create_pool()`, to be awaited or used by `async with`.

    Sharing and what it asks for: a statement sent by the pool's own methods runs beside others on the same session, so
    it must not change the session. What does (BEGIN, SET, LISTEN, PREPARE, temporary tables ...) is recognised and
    given a lease of its own with a reset after it. What cannot be seen in the text, a function that calls set_config()
    or takes a session-level advisory lock, needs `acquire()`. Where the pool has a `setup` callback each of its own
    methods takes a lease, for the callback to prepare the connection.
    """

    def __init__(
        self,
        connect: Connect,
        connect_args: tuple[tuple[Any, ...], dict[str, Any]],
        *,
        init_size: int | None,
        min_size: int,
        max_size: int,
        max_queries: int,
        max_inactive_connection_lifetime: float,
        setup: Callback | None,
        init: Callback | None,
        reset: Callback | None,
        connection_class: type[Connection],
        record_class: type[Record],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size <= 0:
            raise ValueError(f"max_size is expected to be greater than zero, got {max_size!r}")
        if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 0:
            raise ValueError(f"min_size is expected to be greater or equal to zero, got {min_size!r}")
        if min_size > max_size:
            raise ValueError(f"min_size is greater than max_size: {min_size} > {max_size}")
        if init_size is None:
            init_size = min_size
        elif isinstance(init_size, bool) or not isinstance(init_size, int) or init_size < 0:
            raise ValueError(f"init_size is expected to be greater or equal to zero, got {init_size!r}")
        if init_size < min_size:
            raise ValueError(f"init_size is smaller than min_size: {init_size} < {min_size}")
        if init_size > max_size:
            raise ValueError(f"init_size is greater than max_size: {init_size} > {max_size}")
        if max_queries <= 0:
            raise ValueError(f"max_queries is expected to be greater than zero, got {max_queries!r}")
        if max_inactive_connection_lifetime < 0:
            raise ValueError(
                "max_inactive_connection_lifetime is expected to be greater or equal to zero, "
                f"got {max_inactive_connection_lifetime!r}"
            )
        if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
            raise TypeError(
                f"connection_class is expected to be a subclass of headrace.Connection, got {connection_class!r}"
            )
        self._connect = connect
        self._connect_args = connect_args
        self._init_size = init_size
        self._min_size = min_size
        self._max_size = max_size
        self._max_queries = max_queries
        self._idle_lifetime = max_inactive_connection_lifetime
        self._setup = setup
        self._init = init
        self._reset = reset
        self._connection_class = connection_class
        self._record_class = checked_record_class(record_class)
        self._command_timeout: float | None = connect_args[1].get("command_timeout")
        self._loop = loop
        self._router = Router(max_size)
        self._catalogue = TypeCatalogue()
        self._proxies: dict[Driver, PoolConnectionProxy] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._listenings: set[Listening] = set()
        self._initialized = False
        self._initializing = False
        self._closing = False
        self._closed = False
        self._all_back: asyncio.Future[None] | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    # -- opening ---------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Pool]:
        return self._open().__await__()

    async def __aenter__(self) -> Pool:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> Pool:
        if self._initialized:
            return self
        if self._initializing:
            raise InterfaceError("pool is being initialized in another task")
        if self._closed:
            raise InterfaceError("pool is closed")
        self._loop = asyncio.get_running_loop()
        self._initializing = True
        try:
            if self._init_size:
                # The first alone: where it fails, it fails once.
                await self._open_one()
                async with asyncio.TaskGroup() as group:
                    for _ in range(self._init_size - 1):
                        group.create_task(self._open_one())
        except BaseException as error:
            self._drop_all()
            if isinstance(error, BaseExceptionGroup):
                raise error.exceptions[0] from None
            raise
        finally:
            self._initializing = False
        self._initialized = True
        self._sweep_later()
        return self

    async def _open_one(self) -> None:
        """Open one connection and put it to use."""
        router = self._router
        generation = router.generation
        router.opening += 1
        try:
            connection = await self._connect_one()
            member = Member(connection, generation)
        finally:
            router.opening -= 1
        if self._closed or self._closing or connection.is_closed():
            connection.terminate()
            return
        connection.when_lost(self._on_lost)
        router.add(member)
        router.serve_line()

    async def _connect_one(self) -> Connection:
        """Return a new connection, initialised, that belongs to nobody yet."""
        args, kwargs = self._connect_args
        connection = await self._connect(
            *args, connection_class=self._connection_class, record_class=self._record_class, **kwargs
        )
        if not isinstance(connection, Connection):
            raise InterfaceError(
                "expected pool connect callback to return an instance of 'headrace.connection.Connection', "
                f"got {type(connection).__module__}.{type(connection).__qualname__}"
            )
        connection._driver.session.types.share(self._catalogue)
        if self._init is not None:
            try:
                await self._init(connection)
            except BaseException:
                connection.terminate()
                raise
        return connection

    def _grow(self) -> None:
        """Open another connection in the background; where that fails, the first in line learns why."""
        self._spawn(self._open_for_line())

    async def _open_for_line(self) -> None:
        try:
            await self._open_one()
        except Exception as error:
            log.debug("a connection could not be opened: %s", error)
            self._router.fail_first(error)
            if self._router.line and not self._router.members and not self._router.opening:
                self._grow()

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- leases ----------------------------------------------------------------------------------------------------

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext:
        """Lease a connection: `connection = await pool.acquire()`, or `async with pool.acquire() as connection`.

        Waits for one where all are leased, first come, first served; raises TimeoutError after `timeout` seconds. A
        cancelled wait leaves the line and takes nothing.
        """
        return PoolAcquireContext(self, checked_timeout(timeout, None))

    async def _acquire(self, timeout: float | None) -> PoolConnectionProxy:
        self._check()
        router = self._router
        member = router.lease()
        if member is None:
            member = router.members[await self._stand_in_line(True, timeout)]
        elif member.driver.load and router.may_open():
            self._grow()
        member.asked_at_lease = member.driver.asked
        proxy = PoolConnectionProxy(self, member)
        member.connection.lease_begins(proxy)
        self._proxies[member.driver] = proxy
        if self._setup is not None:
            try:
                async with asyncio.timeout(timeout):
                    await self._setup(proxy)
            except BaseException:
                # What the callback has done so far is unknown: the next user must not find it.
                self._retire(member)
                raise
        return proxy

    async def _stand_in_line(self, lease: bool, timeout: float | None) -> Driver:
        router = self._router
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Driver] = loop.create_future()
        router.line.append((waiter, lease))
        if router.may_open():
            self._grow()
        try:
            if timeout is None:
                return await waiter
            async with asyncio.timeout(timeout):
                return await waiter
        except BaseException:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None and lease:
                # Served and cancelled in the same turn: the lease goes to the next in line.
                self._give_back(router.members.get(waiter.result()))
            else:
                waiter.cancel()
            raise

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
        member = connection._member
        self._proxies.pop(member.driver, None)
        left = leased.lease_over()
        try:
            await self._take_back(leased, member, timeout)
        finally:
            for warning in left:
                warnings.warn(warning, stacklevel=2)

    async def _take_back(self, leased: Connection, member: Member, timeout: float | None) -> None:
        if leased.is_closed() or self._closed:
            self._give_back(None)
            return
        try:
            await self._cleanse(member, checked_timeout(timeout, None))
        except CancelledError:
            self._retire(member)
            raise
        except Exception as error:
            log.warning("a connection is dropped because it could not be reset: %r", error)
            self._retire(member)
            raise
        if self._router.outworn(member, self._max_queries):
            self._retire(member, gently=True)
        else:
            self._give_back(member)

    async def _cleanse(self, member: Member, timeout: float | None) -> None:
        """Bring the session of a connection that was leased back to its first state."""
        connection, driver = member.connection, member.driver
        if driver.asked == member.asked_at_lease and driver.pristine:
            return
        if type(connection).reset is not Connection.reset:
            await connection.reset(timeout=timeout)
        else:
            if not driver.pristine or driver.load:
                # With requests under way the status byte is not the last word: ROLLBACK outside a transaction is a
                # warning that nobody sees.
                driver.background("ROLLBACK")
            query = connection.get_reset_query()
            if query:
                driver.background(query, vital=True)
        if self._reset is not None:
            async with asyncio.timeout(timeout):
                await self._reset(connection)

    def _give_back(self, member: Member | None) -> None:
        if member is not None:
            self._router.give_back(member)
        self._router.serve_line()
        if self._router.line and self._router.may_open():
            self._grow()
        self._note_all_back()

    def _retire(self, member: Member, *, gently: bool = False) -> None:
        """Take a connection out of the pool: at once, or when what it has under way is done."""
        self._router.remove(member.driver)
        self._proxies.pop(member.driver, None)
        if gently:
            self._spawn(self._close_drained(member))
        else:
            member.connection.terminate()
        self._give_back(None)

    async def _close_drained(self, member: Member) -> None:
        await member.driver.drain()
        await member.connection.close()

    def _on_lost(self, connection: Connection) -> None:
        """A connection has come to its end, whoever ended it."""
        self._router.remove(connection._driver)
        if not self._closed and self._initialized and self._router.line and self._router.may_open():
            self._grow()
        self._note_all_back()

    # -- the shared query methods ----------------------------------------------------------------------------------
    # Some return the coroutine of _shared() instead of being coroutine functions around it: one frame less a query.

    async def execute(self, query: AnyQuery, *args: object, timeout: float | None = None) -> str:
        """Run a query on a shared connection and return its command tag. See `Connection.execute()`."""
        if not isinstance(query, str):
            query, args = bound(query, args)
        if not args and classify(query).statements != 1:
            # Several statements are one implicit transaction; they get a connection of their own.
            return await self._leased("execute", (query,), {"timeout": timeout})  # type: ignore[no-any-return]
        return await self._shared(query, args, KIND_STATUS, 0, 0, None, timeout, "execute")  # type: ignore[no-any-return]

    async def executemany(
        self,
        command: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
    ) -> None:
        """Run a command for each element of `args`, all or nothing. See `Connection.executemany()`."""
        await self._shared_batch("executemany", command, args, False, None, timeout)

    @overload
    def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> Coroutine[Any, Any, list[Record]]: ...

    @overload
    def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def fetch(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> Coroutine[Any, Any, list[T]]: ...

    def fetch(
        self,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Coroutine[Any, Any, list[Any]]:
        """Run a query on a shared connection and return all rows. See `Connection.fetch()`."""
        rows = record_class if row is None else rows_as(row, record_class)
        return self._shared(query, args, KIND_ROWS, 0, 0, rows, timeout, "fetch")

    @overload
    def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> Coroutine[Any, Any, Record | None]: ...

    @overload
    def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> Coroutine[Any, Any, R | None]: ...

    @overload
    def fetchrow(
        self, query: AnyQuery, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> Coroutine[Any, Any, T | None]: ...

    def fetchrow(
        self,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Coroutine[Any, Any, Any]:
        """Run a query on a shared connection and return the first row or None. See `Connection.fetchrow()`."""
        rows = record_class if row is None else rows_as(row, record_class)
        return self._shared(query, args, KIND_FIRST_ROW, 1, 0, rows, timeout, "fetchrow")

    def fetchval(
        self, query: AnyQuery, *args: object, column: int | str = 0, timeout: float | None = None
    ) -> Coroutine[Any, Any, Any]:
        """Run a query on a shared connection and return one value. See `Connection.fetchval()`."""
        return self._shared(query, args, KIND_VALUE, 1, column, None, timeout, "fetchval")

    @overload
    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> list[Record]: ...

    @overload
    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> list[T]: ...

    async def fetchmany(
        self,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        *,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run a query for each element of `args`, all or nothing, and return all rows. See `Connection.fetchmany()`."""
        rows = record_class if row is None else rows_as(row, record_class)
        return await self._shared_batch("fetchmany", query, args, True, rows, timeout)  # type: ignore[no-any-return]

    async def _shared(
        self,
        query: AnyQuery,
        args: tuple[object, ...],
        kind: int,
        limit: int,
        column: int | str,
        record_class: type[Record] | RowShape | None,
        timeout: float | None,
        method: str,
    ) -> Any:
        if not isinstance(query, str):
            query, args = bound(query, args)
        if self._setup is not None or classify(query).session_state:
            kwargs: dict[str, Any] = {"timeout": timeout}
            if kind == KIND_VALUE:
                kwargs["column"] = column
            elif kind != KIND_STATUS:
                kwargs["record_class"] = record_class
            return await self._leased(method, (query, *args), kwargs)
        rows = self._record_class if record_class is None else checked_record_class(record_class)
        timeout = checked_timeout(timeout, self._command_timeout)
        while True:
            driver = self._router.share()
            if driver is None or not self._initialized or self._closing:
                driver = await self._wait_to_share(timeout)
            elif driver.load and self._router.may_open():
                self._grow()
            request: Request
            if kind == KIND_STATUS and not args:
                request = driver.script(query)
            else:
                request = driver.query(query, args, kind, limit, column, rows, True)
            try:
                return await driver.reply(request, timeout)
            except ConnectionDoesNotExistError as error:
                if not error.safe_to_retry or self._closed:
                    raise
            finally:
                if not driver.pristine:
                    self._quarantine(driver)

    async def _shared_batch(
        self,
        method: str,
        query: AnyQuery,
        args: Iterable[Sequence[object] | Mapping[str, object]],
        collects: bool,
        record_class: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Any:
        if not isinstance(query, str):
            query, args = bound_each(query, args)
        if self._setup is not None or classify(query).session_state:
            kwargs: dict[str, Any] = {"timeout": timeout}
            if collects:
                kwargs["record_class"] = record_class
            return await self._leased(method, (query, args), kwargs)
        rows = self._record_class if record_class is None else checked_record_class(record_class)
        timeout = checked_timeout(timeout, self._command_timeout)
        driver = self._router.share() if self._initialized and not self._closing else None
        if driver is None:
            driver = await self._wait_to_share(timeout)
        elif driver.load and self._router.may_open():
            self._grow()
        request: Request = driver.batch(query, args, rows, collects, shared=True)
        try:
            return await driver.reply(request, timeout)
        finally:
            if not driver.pristine:
                self._quarantine(driver)

    async def _wait_to_share(self, timeout: float | None) -> Driver:
        self._check()
        return await self._stand_in_line(False, timeout)

    async def _leased(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        async with self.acquire(timeout=kwargs.get("timeout")) as connection:
            return await getattr(connection, method)(*args, **kwargs)

    def _copying(self) -> PoolAcquireContext:
        return self.acquire()

    def listen(self, *channels: str, max_queue: int = 1000, heartbeat: float | None = 30.0) -> Listening:
        """Return the notifications on some channels: `async with pool.listen("orders") as events: async for ...`.

        They come on a connection of their own, none of those that the pool counts, which is opened again when it is
        lost. Each event is a `Notification`, or a `Gap` where some may be missing. Beyond `max_queue` events that wait
        for a slow consumer the oldest are dropped. `heartbeat` seconds bound how long a dead connection goes unnoticed.
        """
        return Listening(self, channels, max_queue, heartbeat)

    def _quarantine(self, driver: Driver) -> None:
        """A shared connection came back inside a transaction: nobody else gets it."""
        member = self._router.members.get(driver)
        if member is not None and not member.leased and driver in self._router.free:
            log.warning("a shared connection was left inside a transaction: it is closed, not reused")
            self._retire(member, gently=True)

    # -- closing ---------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the pool gracefully: waits until all leases are given back and all queries done."""
        if self._closed:
            return
        self._check_initialized()
        self._closing = True
        self._stop_sweeping()
        warning = asyncio.get_running_loop().call_later(CLOSE_WARNING, self._warn_of_slow_close)
        try:
            await asyncio.gather(*(listening.close() for listening in self._listenings))
            self._router.fail_all(InterfaceError("pool is closing"))
            while any(member.leased for member in self._router.members.values()):
                self._all_back = asyncio.get_running_loop().create_future()
                await self._all_back
            members = list(self._router.members.values())
            await asyncio.gather(*(self._close_drained(member) for member in members))
            if self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
        except BaseException:
            self.terminate()
            raise
        finally:
            warning.cancel()
            self._closed = True
            self._closing = False

    def terminate(self) -> None:
        """Drop all connections at once; leases and queries under way fail."""
        if self._closed:
            return
        self._check_initialized()
        self._closed = True
        self._stop_sweeping()
        self._drop_all()

    def _drop_all(self) -> None:
        self._router.fail_all(InterfaceError("pool is closed"))
        for listening in list(self._listenings):
            listening.terminate()
        for task in list(self._tasks):
            task.cancel()
        for member in list(self._router.members.values()):
            member.connection.terminate()

    async def expire_connections(self) -> None:
        """Replace all connections: those that are free when they are done, leased ones when they are given back."""
        self._check()
        self._router.generation += 1
        for driver in list(self._router.free):
            self._retire(self._router.members[driver], gently=True)

    def set_connect_args(self, dsn: str | None = None, **connect_kwargs: Any) -> None:
        """Change how connections opened from now on are opened. See `expire_connections()` for the others."""
        self._connect_args = ((dsn,), connect_kwargs)
        self._catalogue = TypeCatalogue()  # it may be another database
        self._command_timeout = connect_kwargs.get("command_timeout")

    def _note_all_back(self) -> None:
        waiter = self._all_back
        if waiter is not None and not waiter.done() and not any(m.leased for m in self._router.members.values()):
            waiter.set_result(None)

    def _warn_of_slow_close(self) -> None:
        held = [repr(proxy) for proxy in self._proxies.values()]
        log.warning(
            "Pool.close() is taking over %d seconds to complete: check if you have any unreleased connections left. "
            "Still leased: %s", CLOSE_WARNING, ", ".join(held)
        )  # fmt: skip

    # -- idle connections ------------------------------------------------------------------------------------------

    def _sweep_later(self) -> None:
        if self._idle_lifetime > 0:
            self._sweeper = asyncio.get_running_loop().call_later(self._idle_lifetime, self._sweep)

    def _stop_sweeping(self) -> None:
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None

    def _sweep(self) -> None:
        """Close connections that nobody has used since the last sweep, down to min_size."""
        router = self._router
        for driver in list(router.free):
            member = router.members[driver]
            unused = driver.asked == member.asked_when_swept and len(router.members) > self._min_size
            if driver.load == 0 and (unused or router.outworn(member, self._max_queries)):
                self._retire(member, gently=True)
            member.asked_when_swept = driver.asked
        self._sweep_later()

    # -- what can be asked -----------------------------------------------------------------------------------------

    def get_size(self) -> int:
        """Return how many connections are open."""
        return len(self._router.members)

    def get_init_size(self) -> int:
        """Return how many connections the pool began with."""
        return self._init_size

    def get_min_size(self) -> int:
        """Return how many connections the pool keeps."""
        return self._min_size

    def get_max_size(self) -> int:
        """Return how many connections the pool opens at most."""
        return self._max_size

    def get_idle_size(self) -> int:
        """Return how many open connections are neither leased nor at work."""
        return sum(driver.load == 0 for driver in self._router.free)

    def is_closing(self) -> bool:
        """Return whether the pool is closed or being closed."""
        return self._closed or self._closing

    def _check_initialized(self) -> None:
        if not self._initialized:
            raise InterfaceError(
                "pool is being initialized, but not yet ready: await create_pool() before using the pool"
                if self._initializing
                else "pool is not initialized"
            )

    def _check(self) -> None:
        self._check_initialized()
        if self._closed:
            raise InterfaceError("pool is closed")
        if self._closing:
            raise InterfaceError("pool is closing")
        if asyncio.get_running_loop() is not self._loop:
            raise InterfaceError(
                "cannot perform operation: the pool belongs to another event loop",
                hint="Use a pool only in the event loop that opened it.",
            )

    def __repr__(self) -> str:
        state = "closed" if self._closed else "closing" if self._closing else "open" if self._initialized else "new"
        return (
            f"<{type(self).__name__} {state} size:{self.get_size()}/{self._max_size} idle:{self.get_idle_size()} "
            f"{id(self):#x}>"
        )


def create_pool(
    dsn: str | None = None,
    *,
    init_size: int | None = None,
    min_size: int = 10,
    max_size: int = 10,
    max_queries: int = 50000,
    max_inactive_connection_lifetime: float = 300.0,
    connect: Connect | None = None,
    setup: Callback | None = None,
    init: Callback | None = None,
    reset: Callback | None = None,
    loop: asyncio.AbstractEventLoop | None = None,
    connection_class: type[Connection] = Connection,
    record_class: type[Record] = Record,
    **connect_kwargs: Any,
) -> Pool:
    """Return a pool, to be awaited or used by `async with`; nothing is opened before that.

    It begins with `init_size` connections (by default `min_size`), keeps `min_size` and opens up to `max_size`. A
    connection is replaced after `max_queries` requests, and closed after `max_inactive_connection_lifetime` seconds of
    idleness (0: never) where there are more than `min_size`. `init(connection)` is awaited once for each new
    connection, `setup(connection)` before each lease, `reset(connection)` after it. `connect` stands in for
    `headrace.connect`; all other arguments are handed to it.

    Raises ValueError for sizes that make no sense.
    """
    return Pool(
        connect if connect is not None else open_connection,
        ((dsn,), connect_kwargs),
        init_size=init_size,
        min_size=min_size,
        max_size=max_size,
        max_queries=max_queries,
        max_inactive_connection_lifetime=max_inactive_connection_lifetime,
        setup=setup,
        init=init,
        reset=reset,
        loop=loop,
        connection_class=connection_class,
        record_class=record_class,
    )
