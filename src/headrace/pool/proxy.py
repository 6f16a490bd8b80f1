"""A leased connection: the proxy that `Pool.acquire()` provides, and the object that it returns."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable, Generator
from types import CodeType
from typing import TYPE_CHECKING, Any, Generic, Protocol

from headrace._client.timeouts import returns_coroutine
from headrace.connection import Connection
from headrace.exceptions import InterfaceError
from headrace.rows.type_vars import RecordT_co

if TYPE_CHECKING:
    from types import TracebackType

    from headrace.pool.scheduler import PooledConnection

    # Type checkers take a proxy for the connection that it stands for, as isinstance() does.
    Base = Connection
else:
    Base = Generic


class CallSite:
    """The place in a program that acquires a connection: file, line and function; with `whole`, the whole stack."""

    __slots__ = ("_code", "_line", "_stack")

    def __init__(self, whole: bool) -> None:
        frame = sys._getframe(2)
        while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("headrace."):
            frame = frame.f_back
        self._code: CodeType = frame.f_code
        self._line = frame.f_lineno
        self._stack = traceback.format_stack(frame) if whole else None

    def __str__(self) -> str:
        if self._stack is not None:
            return "\n" + "".join(self._stack).rstrip()
        return f"{self._code.co_filename}:{self._line}, in {self._code.co_qualname}"


class LeasingPool(Protocol):
    """The pool, as its leases use it. A proxy keeps the pool alive."""

    def _check(self) -> None:
        """Raise InterfaceError unless the pool is open, on this event loop."""

    def _leaked(self, pooled: PooledConnection, call_site: CallSite) -> None:
        """Take back a connection to which nothing refers any more."""


class ReleasedError(InterfaceError, AttributeError):
    """An attribute of a proxy was read after its lease. hasattr() returns False, and getattr() its default."""


class PoolConnectionProxy(Base[RecordT_co]):
    """A leased connection: all of `Connection` until it is given back. After that it raises InterfaceError.

    `isinstance(proxy, Connection)` is true. Attributes that the proxy does not define are those of the connection, so
    the methods of a `connection_class` work too. Statements, cursors, transactions and listeners that are made on it
    keep it alive. A lease to which nothing refers any more is reported and ended.
    """

    __slots__ = ("__weakref__", "_call_site", "_connection", "_pool", "_pooled")

    def __init__(self, pool: LeasingPool, pooled: PooledConnection, call_site: CallSite) -> None:
        self._pool = pool
        self._attach(pooled, call_site)

    def _attach(self, pooled: PooledConnection, call_site: CallSite) -> None:
        """Stand for a connection that has been leased."""
        self._pooled = pooled
        self._call_site = call_site
        self._connection: Connection | None = pooled.connection

    @property  # type: ignore[misc]
    def __class__(self) -> type[Connection]:  # type: ignore[override]
        """The class of the connection, for isinstance(). It stays the same after the lease."""
        return type(self._pooled.connection)

    if not TYPE_CHECKING:  # type checkers know the attributes of a Connection, and report any other name

        def __getattr__(self, name: str) -> Any:
            connection = self._connection
            if connection is None:
                raise ReleasedError(f"cannot access Connection.{name}: connection has been released back to the pool")
            return getattr(connection, name)

    @property
    def _con(self) -> Connection | None:
        """The connection, None after the lease. Programs written for asyncpg know it by this name."""
        return self._connection

    def __repr__(self) -> str:
        if self._connection is None:
            return f"<{type(self).__name__} [released] {id(self):#x}>"
        return f"<{type(self).__name__} {self._connection!r} {id(self):#x}>"

    def __del__(self) -> None:  # type: ignore[override]
        # Attributes are missing if __init__ never ran.
        if getattr(self, "_connection", None) is not None:
            self._pool._leaked(self._pooled, self._call_site)

    def _detach(self) -> Connection | None:
        """End the lease; returns the connection, or None if the lease has ended before."""
        connection, self._connection = self._connection, None
        return connection


def _forwarding(name: str, method: Any) -> Any:
    @functools.wraps(method)
    def forward(self: PoolConnectionProxy[Any], *args: Any, **kwargs: Any) -> Any:
        connection = self._connection
        if connection is None:
            raise InterfaceError(
                f"cannot call Connection.{name}(): connection has been released back to the pool",
                hint="Use it inside the `async with pool.acquire()` block, or acquire another one.",
            )
        return getattr(connection, name)(*args, **kwargs)

    return returns_coroutine(forward) if inspect.iscoroutinefunction(method) else forward


for _name in dir(Connection):
    _method = getattr(Connection, _name)
    if not _name.startswith("_") and callable(_method):
        setattr(PoolConnectionProxy, _name, _forwarding(_name, _method))

PoolConnectionProxyMeta = type(PoolConnectionProxy)
"""For annotations that are written for asyncpg."""


class PoolAcquireContext(Generic[RecordT_co]):
    """The result of `Pool.acquire()`: awaitable, and an asynchronous context manager.

    `acquire` leases a connection and `release` gives it back.
    """

    __slots__ = ("_acquire", "_connection", "_done", "_release")

    def __init__(
        self,
        acquire: Callable[[], Awaitable[PoolConnectionProxy[RecordT_co]]],
        release: Callable[[PoolConnectionProxy[Any]], Awaitable[None]],
    ) -> None:
        self._acquire = acquire
        self._release = release
        self._connection: PoolConnectionProxy[RecordT_co] | None = None
        self._done = False

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise AttributeError; for a method of connections it says that `await` is missing."""
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if not name.startswith("_") and hasattr(Connection, name):
                text += ": write `connection = await pool.acquire()` or `async with pool.acquire() as connection`"
            raise AttributeError(text, name=name, obj=self)

    async def __aenter__(self) -> PoolConnectionProxy[RecordT_co]:
        if self._connection is not None or self._done:
            raise InterfaceError("a connection is already acquired")
        self._connection = await self._acquire()
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._release(connection)

    def __await__(self) -> Generator[Any, None, PoolConnectionProxy[RecordT_co]]:
        self._done = True
        return self._acquire().__await__()
