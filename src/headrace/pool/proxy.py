"""Leases: what `Pool.acquire()` gives out."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Generator
from types import CodeType
from typing import TYPE_CHECKING, Any

from headrace._client.timeouts import returns_coroutine
from headrace.connection import Connection
from headrace.exceptions import InterfaceError

if TYPE_CHECKING:
    from types import TracebackType

    from headrace.pool.acquire import LeaseMethods
    from headrace.pool.scheduler import PooledConnection


class CallSite:
    """Where in a program a connection is being acquired: file, line and function; with `whole`, all of the stack."""

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


class ReleasedError(InterfaceError, AttributeError):
    """An attribute was asked of a lease that is over; for hasattr() and getattr() with a default it is not there."""


class PoolConnectionProxy:
    """A leased connection: all of `Connection`, until it is given back; InterfaceError after that.

    `isinstance(proxy, Connection)` is true. What it does not define itself it takes from the connection, so methods
    of a `connection_class` work too. Statements, cursors, transactions and listeners made on it keep it alive; a lease
    that nobody refers to any more is reported and ended.
    """

    __slots__ = ("__weakref__", "_connection", "_place", "_pool", "_pooled")

    def __init__(self, pool: LeaseMethods, member: PooledConnection, place: CallSite) -> None:
        self._pool = pool
        self._pooled = member
        self._place = place
        self._connection: Connection | None = member.connection

    def __getattr__(self, name: str) -> Any:
        connection = self._connection
        if connection is None:
            raise ReleasedError(f"cannot access Connection.{name}: connection has been released back to the pool")
        return getattr(connection, name)

    @property
    def _con(self) -> Connection | None:
        """The connection behind it, None once it was given back; by the name that asyncpg's users know."""
        return self._connection

    def __repr__(self) -> str:
        if self._connection is None:
            return f"<{type(self).__name__} [released] {id(self):#x}>"
        return f"<{type(self).__name__} {self._connection!r} {id(self):#x}>"

    def __del__(self) -> None:
        # Attributes are missing where __init__ never ran.
        if getattr(self, "_connection", None) is not None:
            self._pool._leaked(self._pooled, self._place)

    def _detach(self) -> Connection | None:
        """End the lease; returns the connection, None where it had ended before."""
        connection, self._connection = self._connection, None
        return connection


def _forwarding(name: str, method: Any) -> Any:
    @functools.wraps(method)
    def forward(self: PoolConnectionProxy, *args: Any, **kwargs: Any) -> Any:
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

Connection.register_proxy(PoolConnectionProxy)

PoolConnectionProxyMeta = type(PoolConnectionProxy)
"""For annotations that are written for asyncpg."""


class PoolAcquireContext:
    """What `Pool.acquire()` returns: awaitable, and an asynchronous context manager."""

    __slots__ = ("_connection", "_done", "_place", "_pool", "_timeout")

    def __init__(self, pool: LeaseMethods, timeout: float | None, place: CallSite) -> None:
        self._pool = pool
        self._timeout = timeout
        self._place = place
        self._connection: PoolConnectionProxy | None = None
        self._done = False

    # Type checkers see the connection that the proxy stands for.

    async def __aenter__(self) -> Connection:
        if self._connection is not None or self._done:
            raise InterfaceError("a connection is already acquired")
        self._connection = await self._pool._acquire(self._timeout, self._place)
        return self._connection  # type: ignore[return-value]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._done = True
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._pool.release(connection)

    def __await__(self) -> Generator[Any, None, Connection]:
        self._done = True
        return self._pool._acquire(self._timeout, self._place).__await__()  # type: ignore[return-value]
