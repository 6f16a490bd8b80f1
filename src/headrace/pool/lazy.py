"""Leases on demand: `create_pool(lazy_acquire=True)`.

`acquire()` gives a proxy at once. Plain reads on it go the way of the pool's own methods, on connections that callers
share. The first call that is anything else leases a connection, which the proxy keeps until it is given back. From then
on it is a proxy like any other.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from headrace._client.queries import EACH_METHODS, QUERY_METHODS, QueryMethod
from headrace._client.timeouts import checked_timeout, returns_coroutine
from headrace._connect.params.arguments import ConnectArguments
from headrace._connect.params.resolve import ConnectParams, resolve
from headrace._connect.params.secret import HiddenArguments, hides_locals
from headrace._io.driver import KIND_ARROW
from headrace._sql.named_parameters import Query
from headrace.connection import Connection, ConnectOptions
from headrace.exceptions import InterfaceError
from headrace.pool.proxy import CallSite, LeasingPool, PoolAcquireContext, PoolConnectionProxy
from headrace.rows.type_vars import RecordT_co
from headrace.stream import Unleased
from headrace.transaction import Transaction

if TYPE_CHECKING:
    from types import TracebackType

    from headrace._client.interface import ConnectionInterface
    from headrace.pool.acquire import Leases
    from headrace.pool.scheduler import PooledConnection

NOT_TAKEN_HINT = (
    "The pool has lazy_acquire=True: a connection is taken by the first call that is no plain read, such as "
    "`await connection.fetchval('SELECT pg_backend_pid()')`."
)


class LazyPool(LeasingPool, Protocol):
    """The pool, as its leases on demand use it."""

    _leases: Leases
    _debug: bool

    @property
    def _is_plain_read(self) -> Callable[[str], bool]:
        """A function that returns whether a text is a plain read that does not read its session."""

    def _request(
        self,
        method: QueryMethod,
        query: Any,
        args: Any,
        column: int | str,
        rows: Any,
        timeout: float | None,
    ) -> Awaitable[Any]:
        """Send the request of a query method; returns the awaitable of its result."""

    def _any_connection(self) -> Connection | None:
        """Return an open connection of the pool, if it has one."""

    async def release(self, connection: Any) -> None:
        """Give a lease back."""

    def is_closing(self) -> bool:
        """Return whether the pool is closed or being closed."""


class NotTakenError(InterfaceError, AttributeError):
    """An attribute that only a connection has was read from a proxy that has taken none. hasattr() returns False."""


class _Taking:
    """The state of a proxy that takes its connection, or is about to."""

    __slots__ = ("closed", "later", "lock", "read_ended", "released")

    def __init__(self) -> None:
        self.closed = False
        """The program has closed it before it took a connection."""
        self.released = False
        """It was given back, perhaps while a call waited for the connection."""
        self.lock = asyncio.Lock()
        self.read_ended: asyncio.Future[None] | None = None
        """Done when the shared call of the proxy has ended."""
        self.later: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
        """Calls of members that register something, for the connection once it is taken."""

    def end_read(self) -> None:
        if self.read_ended is not None and not self.read_ended.done():
            self.read_ended.set_result(None)


class LazyConnectionProxy(PoolConnectionProxy[RecordT_co]):
    """A lease on demand. It takes a connection when a call needs one; see the module's description."""

    __slots__ = ("_acquire_timeout", "_is_reading", "_is_untaken", "_taking")

    _pool: LazyPool

    def __init__(self, pool: LazyPool, timeout: float | None) -> None:
        self._pool = pool
        self._pooled: PooledConnection | None = None  # type: ignore[assignment]
        self._connection = None
        self._acquire_timeout = timeout
        self._is_untaken = True
        """It has neither taken a connection nor been given back."""
        self._is_reading = False
        """A shared call of this proxy is under way."""
        self._taking: _Taking | None = None

    @property  # type: ignore[misc]
    def __class__(self) -> type[Connection]:  # type: ignore[override]
        """The class of the connection, for isinstance()."""
        return Connection if self._pooled is None else type(self._pooled.connection)

    @property
    def _lease(self) -> object:
        # A connection names its proxy as the lease that it is in, and this is going to be the proxy.
        return self

    if not TYPE_CHECKING:  # as in PoolConnectionProxy

        @property
        def _record_class(self) -> Any:
            return self._pool._record_class

        def __getattr__(self, name: str) -> Any:
            if self._is_untaken:
                raise NotTakenError(
                    f"cannot access Connection.{name}: no connection has been taken", hint=NOT_TAKEN_HINT
                )
            return super().__getattr__(name)

    def __repr__(self) -> str:
        if self._is_untaken:
            return f"<{type(self).__name__} [no connection taken] {id(self):#x}>"
        return super().__repr__()

    def _attach(self, pooled: PooledConnection, call_site: CallSite) -> None:
        super()._attach(pooled, call_site)
        self._is_untaken = False

    def _detach(self) -> Connection | None:
        self._is_untaken = False
        if self._taking is not None:
            self._taking.released = True
        return super()._detach()

    def _reads_only(self, query: object) -> bool:
        """Return whether a query is a plain read that may run on a connection that callers share."""
        text = query.text if isinstance(query, Query) else query
        return isinstance(text, str) and self._pool._is_plain_read(text)

    def _prepare_taking(self) -> _Taking:
        if self._taking is None:
            self._taking = _Taking()
        return self._taking

    async def _take(self, timeout: float | None = None) -> Connection:
        """Take a connection, once; returns it when the shared call of this proxy that came before has ended."""
        taking = self._prepare_taking()
        async with taking.lock:
            if self._is_untaken:
                if taking.closed:
                    raise InterfaceError("connection is closed")
                seconds = self._acquire_timeout if self._acquire_timeout is not None else checked_timeout(timeout)
                await self._lease_now(taking, seconds)
            if self._is_reading:
                taking.read_ended = asyncio.get_running_loop().create_future()
                await taking.read_ended
            if self._connection is None:
                raise InterfaceError("cannot use the connection: it has been released back to the pool")
            return self._connection

    async def _lease_now(self, taking: _Taking, timeout: float | None) -> None:
        pool = self._pool
        await pool._leases.acquire(pool, timeout, CallSite(pool._debug), self)
        if taking.released:
            await pool.release(self)
            return
        for name, args, kwargs in taking.later:
            getattr(self._connection, name)(*args, **kwargs)
        taking.later.clear()

    @asynccontextmanager
    async def _for_copy(self, timeout: float | None = None) -> AsyncGenerator[Connection, None]:
        yield await self._take(timeout)

    def _for_stream(self, query: str) -> LazyStreamLease:
        return LazyStreamLease(self)


class LazyTransaction(Transaction):
    """A transaction of a proxy that takes its connection at the start."""

    __slots__ = ()

    async def start(self) -> None:
        proxy: Any = self._connection
        if isinstance(proxy, LazyConnectionProxy):
            self._connection = await proxy._take()
        await super().start()


class LazyCursor:
    """The result of `cursor()` before a connection is taken."""

    __slots__ = ("_args", "_kwargs", "_proxy")

    def __init__(self, proxy: LazyConnectionProxy[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._proxy = proxy
        self._args = args
        self._kwargs = kwargs

    async def __aiter__(self) -> AsyncIterator[Any]:
        connection = await self._proxy._take()
        async for row in connection.cursor(*self._args, **self._kwargs):
            yield row

    def __await__(self) -> Generator[Any, None, Any]:
        return self._open().__await__()

    async def _open(self) -> Any:
        connection = await self._proxy._take()
        return await connection.cursor(*self._args, **self._kwargs)


class LazyStreamLease(Unleased):
    """Has the proxy take a connection for a stream. The proxy keeps it."""

    __slots__ = ()

    async def take(self, timeout: float | None) -> ConnectionInterface:
        """Return the connection; raises InterfaceError if the proxy was given back."""
        proxy: Any = self._connection
        self._connection = await proxy._take(timeout)
        return await super().take(timeout)


class LazyAcquireContext(PoolAcquireContext[RecordT_co]):
    """The result of `Pool.acquire()` with lazy_acquire: nothing is waited for."""

    __slots__ = ("_pool", "_timeout")

    def __init__(self, pool: LazyPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: PoolConnectionProxy[RecordT_co] | None = None
        self._done = False

    async def __aenter__(self) -> PoolConnectionProxy[RecordT_co]:
        if self._connection is not None or self._done:
            raise InterfaceError("a connection is already acquired")
        self._pool._check()
        self._connection = LazyConnectionProxy(self._pool, self._timeout)
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done = True
        connection, self._connection = self._connection, None
        if connection is not None:
            if connection._connection is None:
                connection._detach()
            else:
                await self._pool.release(connection)

    def __await__(self) -> Generator[Any, None, PoolConnectionProxy[RecordT_co]]:
        self._done = True
        self._pool._check()
        return LazyConnectionProxy(self._pool, self._timeout)
        yield


# The arguments of connect() that are not parameters of the connection.
_OPTIONS = frozenset(ConnectOptions.__annotations__) - frozenset(ConnectArguments.__annotations__)


@hides_locals
def _resolved(dsn: str | None = None, **arguments: Any) -> ConnectParams:
    return resolve(dsn, **{name: value for name, value in arguments.items() if name not in _OPTIONS})


def checked_lazy(
    lazy: object, *, setup: object, reset: object, connection_class: type, arguments: HiddenArguments
) -> bool:
    """Return `lazy_acquire`; raises InterfaceError if the pool could not keep its promises with it."""
    if not isinstance(lazy, bool):
        raise ValueError(f"lazy_acquire is expected to be True or False, got {lazy!r}")
    if not lazy:
        return False
    for name, given in (("setup", setup), ("reset", reset)):
        if given is not None:
            raise InterfaceError(
                f"lazy_acquire cannot be combined with a {name} callback: plain reads run on connections that callers "
                "share, before any lease",
                hint="Use `init`, which prepares each connection once, or leave lazy_acquire off.",
            )
    if connection_class is not Connection:
        raise InterfaceError(
            "lazy_acquire cannot be combined with a connection_class: its methods need a connection",
            hint="Leave lazy_acquire off.",
        )
    params = arguments.call(_resolved)
    if len(params.addresses) > 1 and params.target_session_attrs not in ("primary", "read-write"):
        raise InterfaceError(
            "lazy_acquire cannot be combined with several hosts of different roles: a read might be answered by "
            "another server than the write before it",
            hint='Pass target_session_attrs="primary".',
        )
    return True


# -- the members of Connection -----------------------------------------------------------------------------------------


async def _on_connection(
    self: LazyConnectionProxy[Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    connection = await self._take(kwargs.get("timeout"))
    return await getattr(connection, name)(*args, **kwargs)


async def _each_on_connection(
    self: LazyConnectionProxy[Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> AsyncGenerator[Any, None]:
    connection = await self._take(kwargs.get("timeout"))
    async with aclosing(getattr(connection, name)(*args, **kwargs)) as results:
        async for result in results:
            yield result


def _taking_each(name: str) -> Any:
    # Even plain reads are not shared: the loop's body may take the connection, and the elements behind that have to see
    # its transaction and settings. If they waited for the pool, a lease could wait for itself.
    return _otherwise(name, lambda self, *args, **kwargs: _each_on_connection(self, name, args, kwargs))


def _querying(method: QueryMethod) -> Any:
    name = method.name
    leased = getattr(PoolConnectionProxy, name)

    async def run(self: LazyConnectionProxy[Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # This runs for every look-up, so it is one coroutine, and the pool is asked without another.
        if self._is_untaken and self._taking is None and not self._is_reading:
            query = args[0] if args else kwargs.get("query")
            pool = self._pool
            if self._reads_only(query) and getattr(Connection, name) is method.original:
                self._is_reading = True
                try:
                    if kwargs or method.many or method.kind == KIND_ARROW:
                        return await getattr(pool, name)(*args, **kwargs)
                    return await pool._request(method, query, args[1:], 0, None, None)
                finally:
                    self._is_reading = False
                    if self._taking is not None:
                        self._taking.end_read()
        return await _on_connection(self, name, args, kwargs)

    @functools.wraps(getattr(Connection, name))
    def call(self: LazyConnectionProxy[Any], *args: Any, **kwargs: Any) -> Any:
        return run(self, args, kwargs) if self._is_untaken else leased(self, *args, **kwargs)

    return returns_coroutine(call)


def _otherwise(name: str, untaken: Callable[..., Any]) -> Any:
    """Return a member that calls `untaken` as long as the proxy has taken no connection."""
    leased = getattr(PoolConnectionProxy, name)

    @functools.wraps(getattr(Connection, name))
    def call(self: LazyConnectionProxy[Any], *args: Any, **kwargs: Any) -> Any:
        return leased(self, *args, **kwargs) if not self._is_untaken else untaken(self, *args, **kwargs)

    return returns_coroutine(call) if inspect.iscoroutinefunction(getattr(Connection, name)) else call


def _taking(name: str) -> Any:
    assert inspect.iscoroutinefunction(getattr(Connection, name)), f"no answer of {name}() without a connection"
    return _otherwise(name, lambda self, *args, **kwargs: _on_connection(self, name, args, kwargs))


def _of_any(name: str) -> Any:
    def untaken(self: LazyConnectionProxy[Any]) -> Any:
        connection = self._pool._any_connection()
        if connection is None:
            raise InterfaceError(f"cannot call Connection.{name}(): no connection has been taken", hint=NOT_TAKEN_HINT)
        return getattr(connection, name)()

    return _otherwise(name, untaken)


def _registering(name: str) -> Any:
    """Return a member that registers something: the next call takes the connection, and has it registered there."""

    def untaken(self: LazyConnectionProxy[Any], *args: Any, **kwargs: Any) -> None:
        self._prepare_taking().later.append((name, args, kwargs))

    return _otherwise(name, untaken)


def _no_pid(self: LazyConnectionProxy[Any]) -> int:
    raise InterfaceError("cannot call Connection.get_server_pid(): no connection has been taken", hint=NOT_TAKEN_HINT)


def _end(self: LazyConnectionProxy[Any]) -> None:
    self._prepare_taking().closed = True


def _is_closed(self: LazyConnectionProxy[Any]) -> bool:
    return (self._taking is not None and self._taking.closed) or self._pool.is_closing()


async def _close(self: LazyConnectionProxy[Any], *, timeout: float | None = None) -> None:
    checked_timeout(timeout)
    self._prepare_taking().closed = True


async def _nothing(self: LazyConnectionProxy[Any], *args: Any, **kwargs: Any) -> None:
    pass


@contextmanager
def _query_logger(self: LazyConnectionProxy[Any], callback: Any, *, slower_than: float = 0) -> Iterator[None]:
    self.add_query_logger(callback, slower_than=slower_than)
    try:
        yield
    finally:
        self.remove_query_logger(callback)


MEMBERS: dict[str, Any] = {
    "close": _otherwise("close", _close),
    "copy_in": _otherwise("copy_in", Connection.copy_in),
    "copy_out": _otherwise("copy_out", Connection.copy_out),
    "stream": _otherwise("stream", Connection.stream),
    "stream_arrow": _otherwise("stream_arrow", Connection.stream_arrow),
    "cursor": _otherwise("cursor", lambda self, *args, **kwargs: LazyCursor(self, args, kwargs)),
    "get_reset_query": _of_any("get_reset_query"),
    "get_server_pid": _otherwise("get_server_pid", _no_pid),
    "get_server_version": _of_any("get_server_version"),
    "get_settings": _of_any("get_settings"),
    "is_closed": _otherwise("is_closed", _is_closed),
    "is_in_transaction": _otherwise("is_in_transaction", lambda self: False),
    "query_logger": _otherwise("query_logger", _query_logger),
    "remove_listener": _otherwise("remove_listener", _nothing),
    "reset": _otherwise("reset", _nothing),
    "terminate": _otherwise("terminate", _end),
    "transaction": _otherwise("transaction", lambda self, **options: LazyTransaction(self, **options)),
    **{
        name: _registering(name)
        for name in (
            "add_log_listener",
            "add_query_hook",
            "add_query_logger",
            "add_termination_listener",
            "remove_log_listener",
            "remove_query_hook",
            "remove_query_logger",
            "remove_termination_listener",
        )
    },
    **{method.name: _taking_each(method.name) for method in EACH_METHODS},
    **{method.name: _querying(method) for method in QUERY_METHODS if method not in EACH_METHODS},
}
"""The members of Connection that are not simply called on a connection that is taken for them."""

for _name in dir(Connection):
    if not _name.startswith("_") and callable(getattr(Connection, _name)):
        setattr(LazyConnectionProxy, _name, MEMBERS[_name] if _name in MEMBERS else _taking(_name))
