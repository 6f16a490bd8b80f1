"""Cursors: the rows of a large result, a portion at a time.

A cursor is a portal of the extended query protocol; it lives inside a transaction. Rows are fetched portal by portal,
one request for each portion, so other queries on the same connection run in between.

Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator
from itertools import count
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headrace.driver import KIND_ROWS
from headrace.errors import InterfaceError, NoActiveSQLTransactionError

if TYPE_CHECKING:
    from headrace._core.record import Record
    from headrace._core.request import Query
    from headrace._core.rowplan import RowShape
    from headrace._core.statement import Statement
    from headrace.connection import Connection

PREFETCH = 50

T = TypeVar("T")

_numbers = count(1)


class CursorFactory(Generic[T]):
    """What `Connection.cursor()` returns: iterate over it with `async for`, or await it for a `Cursor`."""

    __slots__ = ("_args", "_connection", "_prefetch", "_query", "_record_class", "_statement", "_timeout")

    def __init__(
        self,
        connection: Connection,
        query: str,
        statement: Statement | None,
        args: tuple[object, ...],
        *,
        prefetch: int | None,
        timeout: float | None,
        record_class: type[Record] | RowShape,
    ) -> None:
        if prefetch is not None and (isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch <= 0):
            raise InterfaceError(f"prefetch argument must be greater than zero, got {prefetch!r}")
        self._connection = connection
        self._query = query
        self._statement = statement
        self._args = args
        self._prefetch = prefetch
        self._timeout = timeout
        self._record_class = record_class

    def __aiter__(self) -> CursorIterator[T]:
        return CursorIterator(self._portal(), self._prefetch or PREFETCH)

    def __await__(self) -> Generator[Any, None, Cursor[T]]:
        if self._prefetch is not None:
            raise InterfaceError("prefetch argument can only be specified for iterable cursor")
        return self._open().__await__()

    async def _open(self) -> Cursor[T]:
        portal = self._portal()
        await portal.open()
        return Cursor(portal)

    def _portal(self) -> _Portal:
        return _Portal(self._connection, self._query, self._statement, self._args, self._timeout, self._record_class)


class _Portal:
    """One portal on the server, opened by the first request that needs it."""

    __slots__ = ("_args", "_connection", "_held", "_lease", "_opener", "_query", "_record_class", "_statement",
                 "_timeout", "exhausted", "name", "opened")  # fmt: skip

    def __init__(
        self,
        connection: Connection,
        query: str,
        statement: Statement | None,
        args: tuple[object, ...],
        timeout: float | None,
        record_class: type[Record] | RowShape,
    ) -> None:
        self._connection = connection
        self._lease = connection._lease
        self._query = query
        self._statement = statement
        self._opener: Query | None = None
        self._held = False
        self._args = args
        self._timeout = timeout
        self._record_class = record_class
        self.name = f"headrace_portal_{next(_numbers):x}"
        self.opened = False
        self.exhausted = False

    @property
    def shown(self) -> str:
        """The start of its query, for a repr."""
        return f'"{self._query if len(self._query) <= 30 else self._query[:27] + "..."}"'

    def check(self) -> None:
        """Raise unless the portal can live: an open connection, not given back, inside a transaction."""
        connection = self._connection
        if self._lease != connection._lease:
            raise InterfaceError("cannot use the cursor: its connection has been released back to the pool")
        if connection.is_closed():
            raise InterfaceError("cannot use the cursor: its connection is closed")
        if not connection.is_in_transaction():
            raise NoActiveSQLTransactionError(
                "cursor cannot be iterated outside of a transaction"
                if self.opened
                else "cursor cannot be created outside of a transaction"
            )

    async def open(self) -> None:
        """Bind the portal without fetching anything."""
        self.check()
        await self._request(-1)

    async def fetch(self, limit: int, timeout: float | None = None) -> list[Any]:
        """Fetch the next rows, at most `limit` of them; 0 for all."""
        self.check()
        return [] if self.exhausted else await self._request(limit, timeout)

    async def _request(self, limit: int, timeout: float | None = None) -> list[Any]:
        connection = self._connection
        driver = connection._driver
        timeout = connection._timeout(self._timeout if timeout is None else timeout)
        if self._statement is None:
            self._statement = driver.session.statement(self._query)
            self._held = True
        if not self.opened:
            await driver.reply(driver.prepare(self._statement), timeout)
        request = driver.execute_statement(
            self._statement, self._args, KIND_ROWS, limit, 0, self._record_class, self.name.encode(), self._opener
        )
        if not self.opened:
            self.opened = True
            self._opener = request
        rows: list[Any] = await driver.reply(request, timeout)
        self.exhausted = limit >= 0 and not request.suspended
        if self.exhausted:
            self.close()
        return rows

    async def move(self, count: int, timeout: float | None) -> int:
        """Skip rows; returns how many were skipped."""
        tag = await self._connection.execute(f"MOVE FORWARD {count:d} {self.name}", timeout=timeout)
        skipped = int(tag.rpartition(" ")[2])
        if skipped < count:
            self.exhausted = True
        return skipped

    def close(self) -> None:
        """Give back what the portal holds on the server."""
        connection = self._connection
        if self.opened and self._lease == connection._lease and connection.is_in_transaction():
            connection._driver.close_portal(self.name.encode())
        self.opened = False
        if self._held and self._statement is not None:
            self._held = False
            connection._driver.release(self._statement)


class CursorIterator(AsyncIterator[T]):
    """Iterates over the rows of a query, fetching `prefetch` of them at a time."""

    __slots__ = ("_portal", "_prefetch", "_rows")

    def __init__(self, portal: _Portal, prefetch: int) -> None:
        self._portal = portal
        self._prefetch = prefetch
        self._rows: deque[T] = deque()

    def __aiter__(self) -> CursorIterator[T]:
        return self

    async def __anext__(self) -> T:
        if not self._rows:
            if not self._portal.exhausted:
                self._rows.extend(await self._portal.fetch(self._prefetch))
            if not self._rows:
                raise StopAsyncIteration
        return self._rows.popleft()

    def __del__(self) -> None:
        _dispose(self)


class Cursor(Generic[T]):
    """An open cursor: fetch rows, or skip them, as many at a time as wanted."""

    __slots__ = ("_portal",)

    def __init__(self, portal: _Portal) -> None:
        self._portal = portal

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} {self._portal.shown} {id(self):#x}>"

    async def fetch(self, n: int, *, timeout: float | None = None) -> list[T]:
        """Return the next `n` rows, fewer at the end."""
        _check_count(n)
        return await self._portal.fetch(n, timeout)

    async def fetchrow(self, *, timeout: float | None = None) -> T | None:
        """Return the next row, None at the end."""
        rows = await self._portal.fetch(1, timeout)
        return rows[0] if rows else None

    async def forward(self, n: int, *, timeout: float | None = None) -> int:
        """Skip `n` rows and return how many there were to skip."""
        _check_count(n)
        self._portal.check()
        return 0 if self._portal.exhausted else await self._portal.move(n, timeout)

    def __del__(self) -> None:
        _dispose(self)


def _check_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n <= 0:
        raise InterfaceError(f"n must be greater than zero, got {n!r}")


def _dispose(cursor: Cursor[Any] | CursorIterator[Any]) -> None:
    """Close the portal of a cursor that nobody refers to any more, where its event loop still runs."""
    portal = getattr(cursor, "_portal", None)
    if portal is not None and portal.opened and portal._connection._in_own_loop():
        portal.close()


__all__ = ["PREFETCH", "Cursor", "CursorFactory", "CursorIterator"]
