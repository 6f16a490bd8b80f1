"""The pool: the public class and the function that makes it.

A pool consists of a scheduler, which decides which connection a call is sent on, a dispatcher, which sends it, the
maintenance, which opens and closes connections, and the leases of `acquire()`.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
import weakref
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, TypeVarTuple

from headrace._client.queries import EXECUTE, EachOptions, QueryMethod, ResultIterator, checked_elements
from headrace._client.query_hooks import EVERYWHERE, OPENING, QueryHook
from headrace._client.session_state import SessionState, first_state, session_state
from headrace._client.streamed_batch import is_asynchronous
from headrace._client.timeouts import checked_command_timeout, checked_timeout
from headrace._client.type_codecs import Extension, TypeCodec, checked_codecs
from headrace._connect.params.secret import HiddenArguments
from headrace._core.codecs.catalogues import Catalogues
from headrace._core.rows.record import Record
from headrace._io.each import Each
from headrace._sql.named_parameters import bound, bound_each
from headrace.connection import Connection
from headrace.connection import connect as open_connection
from headrace.exceptions import InterfaceError, PostgresError
from headrace.exceptions._values import shown
from headrace.pool.acquire import Leases, occupation
from headrace.pool.dispatcher import SharedCalls
from headrace.pool.each_sender import PoolSender
from headrace.pool.hooks import PoolHooks
from headrace.pool.lazy import LazyAcquireContext, checked_lazy
from headrace.pool.maintenance import Maintenance
from headrace.pool.notifications import Listening
from headrace.pool.private_names import Free, Holder, free, holders
from headrace.pool.proxy import CallSite, PoolAcquireContext, PoolConnectionProxy
from headrace.pool.queries import OpenStreams, PoolStreamLease, each_on_lease, execute_text, run_on_lease
from headrace.pool.scheduler import BUDGET, Limits, Reason, Scheduler
from headrace.pool.stats import PoolStats
from headrace.pool.transactions import PoolTransaction, checked_attempts, run_in_transaction
from headrace.rows import checked_record_class
from headrace.rows.type_vars import RecordT, RecordT_co
from headrace.transaction import check_isolation

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from types import TracebackType

    from headrace._connect.hosts import HostBook
    from headrace._core.rows.row_plan import RowShape
    from headrace._sql.named_parameters import AnyQuery
    from headrace.pool.scheduler import PooledConnection
    from headrace.transaction import Transaction

log = logging.getLogger("headrace.pool")

MIN_SIZE = 10
"""The connections that a pool keeps by default."""

CLOSE_WARNING = 60.0
"""Seconds after which a `close()` that still waits for leases logs a warning."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Connect = Callable[..., Awaitable[Connection]]
Callback = Callable[[Any], Awaitable[None]]


class Pool(Generic[RecordT_co]):
    """A pool of connections; made by `headrace.create_pool()`, to be awaited or used by `async with`.

    Its query methods run on connections that several callers share, so a statement must not change its session there. A
    statement that does (BEGIN, SET, LISTEN, PREPARE, temporary tables ...) is recognised and gets a lease of its own
    with a reset after it. If a reset does not undo it (SET ROLE, temporary tables, PREPARE), the connection is
    replaced. The text of CALL and DO does not show their effects: the server is asked after the reset, and the
    connection is replaced if its session is not as `init` left it. A function that changes a setting which the server
    reports is noticed as well. Other effects of functions, such as an advisory lock for the session, are not; use
    `acquire()` for these. Each call takes a lease if the pool has a `setup` callback, which then prepares the
    connection, and if the method was replaced in `Connection` by a `connection_class`, a tracing tool or a mock. The
    replacement is called.

    A plain read may be sent behind requests of other callers if these are expected to end within a few milliseconds. It
    is asked again on another connection if it is stuck there. All other calls are sent on a connection with nothing in
    flight. A call whose connection ends before the server has begun with it is sent on another one, at most three
    times.

    A subclass is made by a call with the arguments of `create_pool()`.
    """

    def __init__(
        self,
        *connect_args: Any,
        init_size: int | None = None,
        min_size: int,
        max_size: int,
        max_queries: int,
        max_inactive_connection_lifetime: float,
        max_lifetime: float = 0.0,
        connect: Connect | None = None,
        setup: Callback | None = None,
        init: Callback | None = None,
        reset: Callback | None = None,
        debug: bool = False,
        codecs: Iterable[TypeCodec | Extension] = (),
        pipeline_budget: float = BUDGET,
        repeat_reads: bool = True,
        pipeline_writes: bool = False,
        lazy_acquire: bool = False,
        connection_class: type[Connection],
        record_class: type[RecordT_co],
        loop: asyncio.AbstractEventLoop | None,
        **connect_kwargs: Any,
    ) -> None:
        self._arguments = HiddenArguments(*connect_args, **connect_kwargs)
        command_timeout, max_pipeline, timeout = _limits_of(connect_kwargs)
        # Tools show the local variables of each frame in a traceback, and these may contain a password.
        del connect_args, connect_kwargs
        if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
            raise TypeError(
                f"connection_class is expected to be a subclass of headrace.Connection, got {connection_class!r}"
            )
        self._lazy_acquire = checked_lazy(
            lazy_acquire,
            setup=setup,
            reset=reset,
            connection_class=connection_class,
            arguments=self._arguments,
        )
        self._connect: Connect = connect if connect is not None else open_connection
        # A callback or a subclass that wants to see each use of a connection.
        leases_always = setup is not None or any(
            getattr(type(self), name) is not getattr(Pool, name) for name in ("acquire", "release")
        )
        self._init = init
        self._debug = debug
        self._repeat_reads = repeat_reads
        self._codecs = checked_codecs(codecs)
        self._connection_class = connection_class
        try:
            checked_record_class(record_class)
        except InterfaceError as error:
            raise TypeError(str(error)) from None
        self._record_class = record_class
        command_timeout = checked_command_timeout(command_timeout)
        self._loop = loop
        limits = checked_limits(min_size, max_size, max_queries, max_inactive_connection_lifetime, max_lifetime)
        self._init_size = checked_init_size(init_size, limits)
        self._scheduler = Scheduler(
            limits,
            budget=checked_budget(pipeline_budget),
            max_pipeline=checked_max_pipeline(max_pipeline),
        )
        self._maintenance = Maintenance(
            self._scheduler,
            _connecting(self),
            _weakly(self._check),
            partial(occupation, self._scheduler),
            _weakly(self._forget_types),
            connect_timeout=timeout,
            repeat_reads=repeat_reads,
            pipeline_writes=pipeline_writes,
        )
        self._dispatcher = self._maintenance.dispatcher
        self._shared_calls = SharedCalls(
            self._dispatcher, connection_class, record_class, command_timeout, leases_always
        )
        self._is_plain_read = self._dispatcher.is_plain_read
        self._leases = Leases(self._maintenance, setup=setup, reset=reset)
        self._hooks = PoolHooks(EVERYWHERE, self, self._shared_calls, self._leases)
        self._catalogues = Catalogues()
        self._streams = OpenStreams(limits.max_size)
        self._listenings: set[Listening] = set()
        self._initialized = False
        self._initializing = False
        self._closing = False
        self._closed = False

    # -- opening ---------------------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _open(self) -> Self:
        if self._initialized:
            return self
        if self._initializing:
            raise InterfaceError("pool is being initialized in another task")
        if self._closed:
            raise InterfaceError("pool is closed")
        self._loop = asyncio.get_running_loop()
        self._debug = self._debug or self._loop.get_debug()
        self._initializing = True
        try:
            await self._maintenance.start(self._init_size)
        finally:
            self._initializing = False
        self._initialized = True
        return self

    async def _connect_one(self) -> Connection:
        """Return a new connection with codecs and `init` applied, which the pool does not count yet."""
        catalogues = self._catalogues
        outer = OPENING.set(self._hooks)
        try:
            connection = await self._arguments.call(
                self._connect,
                loop=self._loop,
                connection_class=self._connection_class,
                record_class=self._record_class,
            )
        finally:
            # The coroutine of a closed event loop may be thrown away in another context.
            with suppress(ValueError):
                OPENING.reset(outer)
        if not isinstance(connection, Connection):
            raise InterfaceError(
                "expected pool connect callback to return an instance of 'headrace.connection.Connection', "
                f"got {type(connection).__module__}.{type(connection).__qualname__}"
            )
        connection._hooks.move(self._hooks)  # a `connect` callback may have opened it in another task
        catalogues.for_connection(connection._driver.session.types)
        try:
            for codec in self._codecs:
                await codec.set_on(connection)
            if self._init is not None:
                await self._init(connection)
            connection._initial_state = await self._first_state(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _first_state(self, connection: Connection) -> SessionState | None:
        """Return the state of the session that every caller gets; None if the server does not tell it.

        The server is asked only if a callback may have changed the session.
        """
        driver = connection._driver
        if self._init is None and self._connect is open_connection:
            return first_state(driver)
        try:
            return await session_state(driver)
        except PostgresError as error:
            log.warning("the server does not tell what a callback has changed in the session: %s", error)
            return None

    @property
    def _hosts(self) -> HostBook:
        return self._maintenance.hosts

    @property
    def _has_several_hosts(self) -> bool:
        return self._hosts.has_several

    def _choosing_host(self) -> AbstractContextManager[object]:
        return self._hosts.choosing()

    def _forget_types(self) -> None:
        """Have connections that are opened from now on read types anew, because they may reach another server."""
        self._catalogues = Catalogues()

    # -- queries and COPY: the methods of Connection, on connections that `_request()` and `_for_copy()` choose ------

    execute = Connection.execute
    """Run a query on a shared connection and return its command tag. See `Connection.execute()`."""
    executemany = Connection.executemany
    """Run a command for each element of `args`, or for none. See `Connection.executemany()`."""
    fetch = Connection[RecordT_co].fetch
    """Run a query on a shared connection and return all rows. See `Connection.fetch()`."""
    fetchmany = Connection[RecordT_co].fetchmany
    """Run a query for each element of `args`, or for none, and return all rows. See `Connection.fetchmany()`."""
    fetchrow = Connection[RecordT_co].fetchrow
    """Run a query on a shared connection and return the first row or None. See `Connection.fetchrow()`."""
    fetchval = Connection.fetchval
    """Run a query on a shared connection and return one value. See `Connection.fetchval()`."""

    fetch_each = Connection[RecordT_co].fetch_each
    """Run a query on shared connections for each element of `args`. See `Connection.fetch_each()`."""
    fetchrow_each = Connection[RecordT_co].fetchrow_each
    """Return the first row, or None, for each element of `args`. See `Connection.fetchrow_each()`."""
    fetchval_each = Connection.fetchval_each
    """Return one value for each element of `args`. See `Connection.fetchval_each()`."""

    stream = Connection[RecordT_co].stream
    """Return the rows of a query as an asynchronous iterator, on a lease. See `Connection.stream()`."""

    fetch_arrow = Connection.fetch_arrow
    """Run a query on an idle connection and return columns in Arrow's format. See `Connection.fetch_arrow()`."""
    stream_arrow = Connection.stream_arrow
    """Return the rows of a query as record batches, on a lease. See `Connection.stream_arrow()`."""

    copy_from_table = Connection.copy_from_table
    """Copy a table to a path, a file-like object or a function, on a lease. See `Connection.copy_from_table()`."""
    copy_from_query = Connection.copy_from_query
    """Copy the rows of a query, on a lease. See `Connection.copy_from_query()`."""
    copy_to_table = Connection.copy_to_table
    """Copy data in one of COPY's formats into a table, on a lease. See `Connection.copy_to_table()`."""
    copy_records_to_table = Connection.copy_records_to_table
    """Copy rows of Python values into a table, on a lease. See `Connection.copy_records_to_table()`."""
    copy_arrow_to_table = Connection.copy_arrow_to_table
    """Copy columns in Arrow's layout into a table, on a lease. See `Connection.copy_arrow_to_table()`."""
    copy_in = Connection.copy_in
    """Return a COPY into a table to write to, on a lease. See `Connection.copy_in()`."""
    copy_out = Connection[RecordT_co].copy_out
    """Return the rows of a query by way of COPY, on a lease. See `Connection.copy_out()`."""

    insert_records = Connection.insert_records
    """Insert many records into a table, or none, on a lease. See `Connection.insert_records()`."""

    def _request(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Awaitable[Any]:
        # See Queryable in _client/queries.py. This runs for every call: the request itself is awaited if possible. An
        # attribute of a pool takes long to look up, because of __getattr__().
        if not isinstance(query, str):
            query, args = bound_each(query, args) if method.many else bound(query, args)
        if method.many and (method.begins or is_asynchronous(args)):
            # It has its connection to itself for as long as its transaction or its source takes.
            return run_on_lease(self.acquire, method, query, args, column, rows, timeout)
        request = self._shared_calls.request(method, query, args, column, rows, timeout)
        if request is None:
            return run_on_lease(self._for_call, method, query, args, column, rows, timeout)
        if method is EXECUTE and not args:
            return execute_text(request, self._for_call, query, timeout)
        return request

    def _for_call(self, timeout: float | None = None) -> PoolAcquireContext[RecordT_co]:
        """Return a lease for one call. A subclass may have an acquire() of its own."""
        return self._acquire_at_once(timeout) if self._lazy_acquire else self.acquire(timeout=timeout)

    def _each(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        options: EachOptions,
    ) -> ResultIterator[Any]:
        self._check()
        query, args = bound_each(query, checked_elements(args))
        options = options.checked(self._shared_calls.command_timeout)
        is_shared = self._shared_calls.takes(method) and not options.pipeline_writes
        if not is_shared or self._dispatcher.leases(query):
            return each_on_lease(self._for_call, method, query, args, column, rows, options)
        row_class = self._record_class if rows is None else checked_record_class(rows)
        hooks = self._shared_calls.hooks
        return Each(
            PoolSender(self._dispatcher, query), query, args, method.kind, method.limit, column, row_class,
            return_errors=options.return_errors, timeout=options.timeout, window=options.window,
            watched=None if hooks is None else hooks.watched("each", query, args, options.timeout),
        )  # fmt: skip

    def _for_copy(self, timeout: float | None = None) -> PoolAcquireContext[RecordT_co]:
        return self._for_call(timeout)

    def _for_stream(self, query: str) -> PoolStreamLease:
        return PoolStreamLease(self._for_call, query, self._streams, self._maintenance.spawn)

    # -- leases ----------------------------------------------------------------------------------------------------

    def acquire(self, *, timeout: float | None = None) -> PoolAcquireContext[RecordT_co]:
        """Lease a connection: `connection = await pool.acquire()`, or `async with pool.acquire() as connection`.

        Waits for an idle connection; leases and the pool's own methods are served in the order of the calls. Raises
        TimeoutError after `timeout` seconds, with a note about the call sites that hold the other connections. A wait
        that is cancelled takes no connection.

        With `lazy_acquire` it waits for nothing: the first call that needs a connection takes it, and `timeout` limits
        that wait.
        """
        if self._lazy_acquire:
            return LazyAcquireContext(self, checked_timeout(timeout))
        return self._acquire_at_once(timeout)

    def _acquire_at_once(self, timeout: float | None = None) -> PoolAcquireContext[RecordT_co]:
        call_site = CallSite(self._debug)
        return PoolAcquireContext(
            partial(self._leases.acquire, self, checked_timeout(timeout), call_site), self.release
        )

    def _any_connection(self) -> Connection | None:
        return next((pooled.connection for pooled in self._scheduler.connections.values()), None)

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:
        """Give a leased connection back. Does nothing if it has been given back before.

        The session is reset without waiting: the reset is sent at once, ahead of the requests of the next caller. With
        a `reset` callback, or requests still in flight, this waits for them, `timeout` seconds at most. Raises
        InterfaceError for a connection of another pool.
        """
        await self._leases.release(self, connection, timeout)

    def _leaked(self, pooled: PooledConnection, call_site: CallSite) -> None:
        self._leases.leaked(pooled, call_site)

    # -- transactions ----------------------------------------------------------------------------------------------

    def transaction(
        self,
        *,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        timeout: float | None = None,
    ) -> PoolTransaction[RecordT_co]:
        """Lease a connection for one transaction: `async with pool.transaction() as connection`.

        It commits at the end, or rolls back if the block raises, and then gives the connection back. `timeout` limits
        the wait for the connection. The other arguments, errors and cancellation are those of
        `Connection.transaction()` and `acquire()`.
        """
        begin = beginning(isolation, readonly, deferrable)
        return PoolTransaction(self.acquire(timeout=timeout), begin)

    async def run(
        self,
        function: Callable[[PoolConnectionProxy[RecordT_co], *Ts], Awaitable[T]],
        *args: *Ts,
        isolation: str | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        attempts: int = 5,
        timeout: float | None = None,
    ) -> T:
        """Call `function(connection, *args)` in a transaction, again if the transaction can be repeated.

        Returns the result of `function` when the transaction is committed. Each attempt has a connection and a
        transaction of its own. An attempt that fails is rolled back. Another one follows, `attempts` in all, after a
        serialization failure (40001), a deadlock (40P01), the loss of the connection before COMMIT was sent, and an
        error that `headrace.is_safe_to_retry()` is True for. There is a random pause before it, up to a limit that
        doubles from 10 ms to a second. The function may run several times, so what it does outside of the transaction
        must bear that.

        Every other error is raised at once, in particular the loss of a connection during COMMIT, because the
        transaction may be committed. Raises TypeError if `function` returns no awaitable, and ValueError for
        `attempts` below 1. `timeout` limits each wait for a connection; use `asyncio.timeout()` for the whole.
        Cancellation rolls back, as in `transaction()`. Source: PostgreSQL documentation, "Serialization Failure
        Handling".
        """
        begin = beginning(isolation, readonly, deferrable)
        return await run_in_transaction(
            partial(self.acquire, timeout=timeout),
            begin,
            function,
            args,
            checked_attempts(attempts),
        )

    # -- notifications ---------------------------------------------------------------------------------------------

    def listen(self, *channels: str, max_queue: int = 1000, heartbeat: float | None = 30.0) -> Listening:
        """Return the notifications on some channels: `async with pool.listen("orders") as events: async for ...`.

        They arrive on a connection of their own, which the pool does not count and which is replaced when it is lost.
        Each event is a `Notification`, or a `Gap` if notifications may be missing. If more than `max_queue` events wait
        for a slow consumer, the oldest are dropped. The connection is checked every `heartbeat` seconds.
        """
        return Listening(self, channels, max_queue, heartbeat)

    # -- query hooks -----------------------------------------------------------------------------------------------

    def add_query_hook(self, hook: QueryHook) -> None:
        """Have a hook told of the start and the end of each operation of the pool. See `QueryHook`.

        It is told of the pool's own calls, of the waits for leases and of the leases, of the calls on leased
        connections, and of connections that are opened. `hook.start(operation)` returns a token, which
        `hook.end(token, outcome)` gets. Both run in the caller's context (contextvars). Raises InterfaceError if the
        hook lacks a method.
        """
        self._hooks.add(hook)

    def remove_query_hook(self, hook: QueryHook) -> None:
        """Have a hook no longer told of operations. Those under way still end."""
        self._hooks.remove(hook)

    # -- connections -----------------------------------------------------------------------------------------------

    async def expire_connections(self) -> None:
        """Replace all connections: shared ones after their requests in flight, leased ones after their lease.

        Does nothing on a pool that is not open.
        """
        if self._maintenance.is_running:
            self._check()
            self._maintenance.expire(Reason.EXPIRED)

    def set_connect_args(self, dsn: str | None = None, **connect_kwargs: Any) -> None:
        """Change the arguments for connections opened from now on. See `expire_connections()` for the others."""
        arguments = HiddenArguments(dsn, **connect_kwargs)
        command_timeout, max_pipeline, _ = _limits_of(connect_kwargs)
        del dsn, connect_kwargs
        command_timeout, max_pipeline = checked_command_timeout(command_timeout), checked_max_pipeline(max_pipeline)
        self._arguments = arguments
        self._forget_types()
        self._scheduler.max_pipeline = max_pipeline
        self._shared_calls.command_timeout = command_timeout

    # -- closing ---------------------------------------------------------------------------------------------------

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the pool gracefully: wait until all leases are given back, all queries done and all backends gone.

        Raises TimeoutError if that takes longer than `timeout` seconds, with a note about the call sites that still
        hold connections. All connections are dropped then, and on cancellation. Raises InterfaceError in another event
        loop than the pool's.
        """
        timeout = checked_timeout(timeout)
        if self._closed:
            return
        self._check_initialized()
        self._check_loop("Close a pool in the event loop that opened it; once that is closed, terminate() drops it.")
        self._closing = True
        self._maintenance.stop()
        warning = asyncio.get_running_loop().call_later(CLOSE_WARNING, self._warn_of_slow_close)
        try:
            async with asyncio.timeout(timeout):
                self._maintenance.fail_all(InterfaceError("pool is closing"))
                await asyncio.gather(*(listening.close() for listening in self._listenings))
                await self._maintenance.close()
        except BaseException as error:
            if isinstance(error, TimeoutError):
                if timeout is not None and not error.args:
                    error.args = (f"close() timed out after {max(timeout, 0):g} seconds: all connections were dropped",)
                error.add_note(occupation(self._scheduler))
            self.terminate()
            raise
        finally:
            warning.cancel()
            self._closed = True
            self._closing = False

    def terminate(self) -> None:
        """Drop all connections at once. Leases and queries in flight fail.

        Raises InterfaceError while another event loop runs than the pool's. If the pool's event loop is closed, the
        connections are dropped, and no task is left that could get an error.
        """
        if self._closed:
            return
        self._check_initialized()
        assert self._loop is not None
        if self._loop.is_closed():
            self._closed = True
            self._drop_without_loop()
            return
        if asyncio._get_running_loop() is not None or self._loop.is_running():
            self._check_loop("Call terminate() in the event loop that opened the pool.")
        self._closed = True
        for listening in list(self._listenings):
            listening.terminate()
        self._maintenance.terminate(InterfaceError("pool is closed"))
        self._leases.end_watched()

    def _drop_without_loop(self) -> None:
        scheduler = self._scheduler
        for pooled in [*scheduler.connections.values(), *scheduler.draining.values()]:
            pooled.connection.terminate()
            scheduler.remove(pooled.driver)
        self._leases.end_watched()

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # Attributes are missing if __init__ never ran, or that of a subclass.
        maintenance = getattr(self, "_maintenance", None)
        if maintenance is None or self._closed or not maintenance.is_running:
            return
        warn(f"unclosed pool {self!r}", ResourceWarning, stacklevel=2, source=self)
        if maintenance.loop.is_closed():
            self._drop_without_loop()
        else:
            maintenance.loop.call_soon_threadsafe(maintenance.terminate, InterfaceError("pool is closed"))

    def _warn_of_slow_close(self) -> None:
        log.warning(
            "Pool.close() is taking over %d seconds to complete: check if you have any unreleased connections left. %s",
            CLOSE_WARNING, occupation(self._scheduler),
        )  # fmt: skip

    # -- state ------------------------------------------------------------------------------------------------------

    def get_size(self) -> int:
        """Return how many connections are open."""
        return len(self._scheduler.connections)

    def get_init_size(self) -> int:
        """Return how many connections the pool opens at first."""
        return self._init_size

    def get_min_size(self) -> int:
        """Return how many connections the pool keeps."""
        return self._scheduler.limits.min_size

    def get_max_size(self) -> int:
        """Return how many connections the pool opens at most."""
        return self._scheduler.limits.max_size

    def get_idle_size(self) -> int:
        """Return how many open connections are neither leased nor have requests in flight."""
        return self._scheduler.idle_size()

    def stats(self) -> PoolStats:
        """Return the state and the counters of the pool; `dataclasses.asdict()` makes a dict of them."""
        return self._maintenance.counts.stats(self._scheduler, self._dispatcher)

    def is_closing(self) -> bool:
        """Return whether the pool is closed or being closed."""
        return self._closed or self._closing

    # -- names that tools for asyncpg read: see private_names ---------------------------------------------------------

    @property
    def _minsize(self) -> int:
        return self._scheduler.limits.min_size

    @property
    def _maxsize(self) -> int:
        return self._scheduler.limits.max_size

    @property
    def _generation(self) -> int:
        return self._scheduler.generation

    @property
    def _holders(self) -> list[Holder]:
        return holders(self._scheduler)

    @property
    def _queue(self) -> Free:
        return free(self._scheduler)

    # -- checks ----------------------------------------------------------------------------------------------------

    def _check_initialized(self) -> None:
        if not self._initialized:
            raise InterfaceError(
                "pool is being initialized, but not yet ready: await create_pool() before using the pool"
                if self._initializing
                else "pool is not initialized",
                hint="Write `pool = await create_pool(...)` or `async with create_pool(...) as pool`.",
            )

    def _check(self) -> None:
        self._check_initialized()
        if self._closed:
            raise InterfaceError("pool is closed")
        if self._closing:
            raise InterfaceError("pool is closing")
        self._check_loop("Use a pool only in the event loop that opened it.")

    def _check_loop(self, hint: str) -> None:
        if asyncio._get_running_loop() is not self._loop:
            raise InterfaceError("cannot perform operation: the pool belongs to another event loop", hint=hint)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError, which says what a pool has in place of a method of a connection."""
            raise AttributeError(missing_attribute(self, name), name=name, obj=self)

    def __repr__(self) -> str:
        if not hasattr(self, "_closed"):  # __init__() has raised, and a traceback shows its local variables
            return f"<{type(self).__name__} {id(self):#x}>"
        state = "closed" if self._closed else "closing" if self._closing else "open" if self._initialized else "new"
        return (
            f"<{type(self).__name__} {state} size:{self.get_size()}/{self.get_max_size()} "
            f"idle:{self.get_idle_size()} {id(self):#x}>"
        )


_IN_PLACE = {
    "add_listener": "`async with pool.listen(channel) as events`",
    "set_type_codec": "create_pool(codecs=[headrace.TypeCodec(...)])",
    "set_builtin_type_codec": "create_pool(codecs=[headrace.TypeCodec(...)])",
}
"""Methods of a connection -> the counterpart of a pool."""


def missing_attribute(pool: Pool, name: str) -> str:
    """Return the text of the error for an attribute that a pool does not have."""
    text = f"{type(pool).__name__!r} object has no attribute {name!r}"
    if name in _IN_PLACE:
        return f"{text}: use {_IN_PLACE[name]}"
    if not name.startswith("_") and hasattr(Connection, name):
        return f"{text}, connections have it: `async with pool.acquire() as connection`, then connection.{name}"
    return text


def beginning(
    isolation: str | None, readonly: bool, deferrable: bool
) -> Callable[[PoolConnectionProxy[Any]], Transaction]:
    """Return the function that makes the transaction of a lease; raises ValueError for an unknown isolation level."""
    check_isolation(isolation)
    return lambda connection: connection.transaction(isolation=isolation, readonly=readonly, deferrable=deferrable)


def _connecting(pool: Pool) -> Callable[[], Awaitable[Connection]]:
    """Return the function with which a pool's maintenance opens a connection.

    The event loop refers to the maintenance through timers and connections. The maintenance must not keep the pool
    alive, or a pool that its program has forgotten would not be noticed.
    """
    reference = weakref.ref(pool)

    async def connect() -> Connection:
        pool = reference()
        if pool is None:
            raise InterfaceError("pool is closed")
        return await pool._connect_one()

    return connect


def _weakly(method: Callable[[], T]) -> Callable[[], T]:
    """Return a method of a pool for its maintenance, which does not keep the pool alive."""
    reference = weakref.WeakMethod(method)

    def call() -> T:
        found = reference()
        if found is None:
            raise InterfaceError("pool is closed")
        return found()

    return call


def _limits_of(connect_kwargs: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Return the arguments of `connect()` that hold for the pool too: command_timeout, max_pipeline and timeout."""
    get = connect_kwargs.get
    return get("command_timeout"), get("max_pipeline", 100), get("timeout", 60.0)


def checked_limits(
    min_size: object, max_size: object, max_queries: object, idle_lifetime: object, max_lifetime: object
) -> Limits:
    """Return the limits of a pool; raises ValueError for limits that make no sense."""
    if isinstance(max_size, bool) or not isinstance(max_size, int) or max_size <= 0:
        raise ValueError(f"max_size is expected to be greater than zero, got {shown(max_size)}")
    if isinstance(min_size, bool) or not isinstance(min_size, int) or min_size < 0:
        raise ValueError(f"min_size is expected to be greater or equal to zero, got {shown(min_size)}")
    if min_size > max_size:
        default = f"; min_size is {MIN_SIZE} unless it is given, so pass min_size={max_size} or less too"
        raise ValueError(
            f"min_size is greater than max_size: {min_size} > {max_size}{default if min_size == MIN_SIZE else ''}"
        )
    if isinstance(max_queries, bool) or not isinstance(max_queries, int) or max_queries <= 0:
        raise ValueError(f"max_queries is expected to be greater than zero, got {shown(max_queries)}")
    seconds = []
    for name, value in (("max_inactive_connection_lifetime", idle_lifetime), ("max_lifetime", max_lifetime)):
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise ValueError(f"{name} is expected to be greater or equal to zero, got {shown(value)}")
        seconds.append(value)
    return Limits(min_size, max_size, max_queries, *seconds)


def checked_budget(seconds: object) -> float:
    """Return the budget for pipelining; raises ValueError if it is not a number of seconds."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds >= 0:
        raise ValueError(
            f"pipeline_budget is expected to be a number of seconds, 0 to turn pipelining off, got {shown(seconds)}"
        )
    return float(seconds)


def checked_max_pipeline(count: object) -> int:
    """Return how many requests may be in flight on a connection; raises ValueError if that makes no sense."""
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise ValueError(f"max_pipeline is expected to be greater than zero, got {shown(count)}")
    return count


def checked_init_size(init_size: object, limits: Limits) -> int:
    """Return how many connections to open at first, by default `min_size`; raises ValueError for a bad number."""
    if init_size is None:
        return limits.min_size
    if isinstance(init_size, bool) or not isinstance(init_size, int) or init_size < 0:
        raise ValueError(f"init_size is expected to be greater or equal to zero, got {shown(init_size)}")
    if init_size < limits.min_size:
        raise ValueError(f"init_size is smaller than min_size: {init_size} < {limits.min_size}")
    if init_size > limits.max_size:
        raise ValueError(f"init_size is greater than max_size: {init_size} > {limits.max_size}")
    return init_size


def create_pool(
    dsn: str | None = None,
    *,
    init_size: int | None = None,
    min_size: int = MIN_SIZE,
    max_size: int = 10,
    max_queries: int = 50000,
    max_inactive_connection_lifetime: float = 300.0,
    max_lifetime: float = 0.0,
    connect: Connect | None = None,
    setup: Callback | None = None,
    init: Callback | None = None,
    reset: Callback | None = None,
    debug: bool = False,
    codecs: Iterable[TypeCodec | Extension] = (),
    pipeline_budget: float = BUDGET,
    repeat_reads: bool = True,
    pipeline_writes: bool = False,
    lazy_acquire: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
    connection_class: type[Connection] = Connection,
    record_class: type[RecordT] = Record,  # type: ignore[assignment]
    **connect_kwargs: Any,
) -> Pool[RecordT]:
    """Return a pool, to be awaited or used by `async with`; no connection is opened before that.

    It opens `init_size` connections at first (by default `min_size`), keeps `min_size` and opens up to `max_size`. A
    connection is replaced after `max_queries` requests and after `max_lifetime` seconds (0: never), minus a random part
    of up to a tenth, so that not all are replaced at once. It is closed after `max_inactive_connection_lifetime`
    seconds of idleness (0: never) if there are more than `min_size`. A connection that was idle for half a minute is
    pinged before it is used again.

    After a failure to connect the pool tries again, with growing pauses. Callers wait until their time limit. If they
    have none and the pool has no connection, they wait for `timeout` seconds (60). An error that another attempt does
    not mend, such as a wrong password, is raised at once. When a server shuts down, or turns read-only, all connections
    are replaced.

    The pool's own methods share connections. A plain read is sent behind requests that are expected to take at most
    `pipeline_budget` seconds (0: never), with at most `max_pipeline` requests in flight on a connection. If it gets
    stuck, it is asked once more on another connection, unless `repeat_reads` is off. With `pipeline_writes` single
    writes are sent behind others as well; a deadlock between them and a lease is possible then.

    With `lazy_acquire` a lease takes its connection only when a call needs one. Until then plain reads on it run on
    connections that callers share, as those of the pool's own methods do. It cannot be combined with `setup`, `reset`,
    `connection_class` or hosts of several roles (InterfaceError).

    `init(connection)` is awaited once for each new connection, `setup(connection)` before each lease and
    `reset(connection)` after it. That callback replaces the connection's own reset, except that an open transaction is
    rolled back before it. `codecs` are set on each new connection before `init`: see TypeCodec. `connect` is used in
    place of `headrace.connect` and gets all other arguments. Reports of connections that were not given back name the
    line that acquired them; with `debug`, or a loop in debug mode, they show the whole stack.

    Raises ValueError for sizes that make no sense.
    """
    try:
        return Pool(
            dsn,
            connect=connect,
            init_size=init_size,
            min_size=min_size,
            max_size=max_size,
            max_queries=max_queries,
            max_inactive_connection_lifetime=max_inactive_connection_lifetime,
            max_lifetime=max_lifetime,
            setup=setup,
            init=init,
            reset=reset,
            debug=debug,
            codecs=codecs,
            pipeline_budget=pipeline_budget,
            repeat_reads=repeat_reads,
            pipeline_writes=pipeline_writes,
            lazy_acquire=lazy_acquire,
            loop=loop,
            connection_class=connection_class,
            record_class=record_class,
            **connect_kwargs,
        )
    finally:
        del dsn, connect_kwargs  # see Pool.__init__()
