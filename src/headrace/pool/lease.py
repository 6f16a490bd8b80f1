"""Leases: what `Pool.acquire()` gives out."""

from __future__ import annotations

import functools
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from headrace.connection import Connection
from headrace.errors import InterfaceError

if TYPE_CHECKING:
    from types import TracebackType

    from headrace.pool.pool import Pool
    from headrace.pool.routing import Member


class PoolConnectionProxy:
    """A leased connection: all of `Connection`, until it is given back; InterfaceError after that.

    `isinstance(proxy, Connection)` is true. What it does not define itself it takes from the connection, so methods
    of a `connection_class` work too.
    """

    __slots__ = ("__weakref__", "_connection", "_member", "_pool")

    def __init__(self, pool: Pool, member: Member) -> None:
        self._pool = pool
        self._member = member
        self._connection: Connection | None = member.connection

    def __getattr__(self, name: str) -> Any:
        connection = self._connection
        if connection is None:
            raise InterfaceError(f"cannot access Connection.{name}: connection has been released back to the pool")
        return getattr(connection, name)

    def __repr__(self) -> str:
        if self._connection is None:
            return f"<{type(self).__name__} [released] {id(self):#x}>"
        return f"<{type(self).__name__} {self._connection!r} {id(self):#x}>"

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

    return forward


for _name in dir(Connection):
    _method = getattr(Connection, _name)
    if not _name.startswith("_") and callable(_method):
        setattr(PoolConnectionProxy, _name, _forwarding(_name, _method))

Connection.register_proxy(PoolConnectionProxy)


class PoolAcquireContext:
    """What `Pool.acquire()` returns: awaitable, and an asynchronous context manager."""

    __slots__ = ("_connection", "_done", "_pool", "_timeout")

    def __init__(self, pool: Pool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._connection: PoolConnectionProxy | None = None
        self._done = False

    # Type checkers see the connection that the proxy stands for.

    async def __aenter__(self) -> Connection:
        if self._connection is not None or self._done:
            raise InterfaceError("a connection is already acquired")
        self._connection = await self._pool._acquire(self._timeout)
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
        return self._pool._acquire(self._timeout).__await__()  # type: ignore[return-value]
