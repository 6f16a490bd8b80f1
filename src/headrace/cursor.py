"""Cursors: the rows of a large result, fetched in batches.

A cursor is a portal of the extended query protocol and exists inside a transaction. Each batch is a request of its own,
so other queries on the same connection run in between.
Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Generator
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Any, Generic

from headrace._client.timeouts import time_limit
from headrace._core.arrow.result import ArrowShape
from headrace.exceptions import InterfaceError, NoActiveSQLTransactionError
from headrace.exceptions._values import shown
from headrace.rows.type_vars import RowT_co

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.arrow.result import Schema
    from headrace._core.pipeline.requests import Query
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape

PREFETCH = 50
"""Rows in the first batch of an iteration that names no number."""
MOST_PREFETCHED = 1_000
"""The most rows in a batch of such an iteration: rows may be far larger than those before them."""
BATCH_BYTES = 1 << 17
"""The bytes that its batches are to have."""
GROWTH = 4
"""How many times as many rows as its last batch the next one may have."""

_numbers = count(1)


def checked_prefetch(prefetch: int | None) -> int | None:
    """Return the number of rows to fetch at a time, None for the default; raises InterfaceError for a bad one."""
    if prefetch is not None and (isinstance(prefetch, bool) or not isinstance(prefetch, int) or prefetch <= 0):
        raise InterfaceError(f"prefetch argument must be greater than zero, got {shown(prefetch)}")
    return prefetch


class CursorFactory(Generic[RowT_co]):
    """The result of `Connection.cursor()`: iterate over it with `async for`, or await it for a `Cursor`."""

    __slots__ = ("_args", "_connection", "_lease", "_prefetch", "_query", "_record_class", "_statement", "_timeout")

    def __init__(
        self,
        connection: ConnectionInterface,
        query: str,
        statement: Statement | None,
        args: tuple[object, ...],
        *,
        prefetch: int | None,
        timeout: float | None,
        record_class: type[Record] | RowShape,
    ) -> None:
        self._connection = connection
        self._lease = connection._lease
        self._query = query
        self._statement = statement
        self._args = args
        self._prefetch = checked_prefetch(prefetch)
        self._timeout = timeout
        self._record_class = record_class

    def __aiter__(self) -> CursorIterator[RowT_co]:
        return CursorIterator(self._portal("__aiter__"), self._prefetch)

    def __await__(self) -> Generator[Any, None, Cursor[RowT_co]]:
        if self._prefetch is not None:
            raise InterfaceError("prefetch argument can only be specified for iterable cursor")
        return self._open().__await__()

    async def _open(self) -> Cursor[RowT_co]:
        portal = self._portal("__await__")
        await portal.open("CursorFactory.__await__()")
        return Cursor(portal)

    def _portal(self, method: str) -> Portal:
        connection = self._connection
        connection._check_lease(self._lease, f"CursorFactory.{method}()")
        return Portal(connection, self._query, self._statement, self._args, self._timeout, self._record_class)


class Portal:
    """A portal on the server, opened by the first request that needs it."""

    __slots__ = ("_batch_rows", "_held", "_lease", "_lost", "_objects", "_opener", "_record_class", "_statement",
                 "args", "connection", "exhausted", "grouped", "name", "opened", "query", "received",
                 "timeout")  # fmt: skip

    def __init__(
        self,
        connection: ConnectionInterface,
        query: str,
        statement: Statement | None,
        args: tuple[object, ...],
        timeout: float | None,
        record_class: type[Record] | RowShape,
    ) -> None:
        self.connection = connection
        self._lease = connection._lease
        self.query = query
        self._statement = statement
        self._opener: Query | None = None
        self._held = False
        self.args = args
        self.timeout = timeout
        """Seconds for opening it, and for each batch of an iteration."""
        self._record_class = record_class
        self._batch_rows = record_class.batch_rows if isinstance(record_class, ArrowShape) else 0
        """The rows of a record batch in Arrow's format; 0 if rows become something else."""
        self.name = f"headrace_portal_{next(_numbers):x}"
        self.opened = False
        self.exhausted = False
        self.received = 0
        """Bytes of all rows so far."""
        self.grouped = False
        """True if several rows may become one object."""
        self._objects: deque[Any] = deque()
        """Objects with lists, or record batches, that were read and not yet asked for."""
        self._lost = False

    @property
    def shown(self) -> str:
        """The start of its query, for a repr."""
        return f'"{self.query if len(self.query) <= 30 else self.query[:27] + "..."}"'

    def check(self, method: str) -> None:
        """Raise unless the portal can exist: the connection is open, not released, and inside a transaction."""
        self.connection._check_lease(self._lease, method)
        if not self.connection.is_in_transaction():
            raise NoActiveSQLTransactionError(
                "cursor cannot be iterated outside of a transaction"
                if self.opened
                else "cursor cannot be created outside of a transaction",
                hint="Use it inside of `async with connection.transaction():`, or iterate over "
                "`connection.stream(...)`.",
            )

    @property
    def schema(self) -> Schema | None:
        """The columns in Arrow's format, if they are asked for so and it is open."""
        return self._opener.schema if self._opener is not None else None

    async def open(self, method: str) -> None:
        """Bind the portal without fetching anything."""
        self.check(method)
        await self._request(-1, self.timeout)

    async def fetch(self, method: str, limit: int, timeout: float | None) -> list[Any]:
        """Fetch the next rows, at most `limit`; 0 for all."""
        self.check(method)
        if self.grouped:
            return await self._fetch_objects(limit, timeout)
        if self.exhausted:
            return []
        self._lost = True
        rows = await self._request(limit, timeout)
        self._lost = False
        if not self.grouped:
            return rows
        self._objects.extend(rows)
        return await self._fetch_objects(limit, timeout)

    async def _fetch_objects(self, limit: int, timeout: float | None) -> list[Any]:
        """Fetch the next objects with lists, or record batches, at most `limit`.

        Nobody knows how many rows an object with a list has. Asked for row by row, an object of many would cost a round
        trip for each. A record batch has a known number, but for those before a column of 2 GB.
        """
        objects = self._objects
        if len(objects) < limit and not self.exhausted:
            if self._lost:
                raise InterfaceError(
                    "an earlier fetch of this cursor has failed, and rows are lost: the next object may be incomplete",
                    hint="Open another cursor.",
                )
            async with time_limit(self.connection._timeout(timeout), "the fetch"):
                rows = self._batch_rows or max(PREFETCH, limit - len(objects))
                while len(objects) < limit and not self.exhausted:
                    self._lost = True
                    objects.extend(await self._request(rows, inf))
                    self._lost = False
                    rows = self._batch_rows or 2 * rows
        return [objects.popleft() for _ in range(min(limit, len(objects)))]

    async def _request(self, limit: int, timeout: float | None) -> list[Any]:
        connection = self.connection
        driver = connection._driver
        timeout = connection._timeout(timeout)
        if self._statement is None:
            self._statement = driver.hold(self.query)
            self._held = True
        if not self.opened:
            await driver.reply(driver.prepare(self._statement), timeout)
        request = driver.execute_portal(
            self._statement, self.args, limit, self._record_class, self.name.encode(), self._opener
        )
        if not self.opened:
            self.opened = True
            self._opener = request
            self.grouped = request.grouped
        rows: list[Any] = await driver.reply(request, timeout)
        self.received += request.received
        self.exhausted = limit >= 0 and not request.suspended
        if self.exhausted:
            self.close()
        return rows

    async def move(self, method: str, count: int, timeout: float | None) -> int:
        """Skip rows, or objects with lists; return how many were skipped."""
        if self.grouped:
            return len(await self.fetch(method, count, timeout))
        if self.exhausted:
            return 0
        driver = self.connection._driver
        request = driver.simple_query(f"MOVE FORWARD {count:d} {self.name}")
        tag = await driver.reply(request, self.connection._timeout(timeout))
        skipped = int(tag.rpartition(" ")[2])
        if skipped < count:
            self.exhausted = True
        return skipped

    def close(self) -> None:
        """Release the portal and the statement on the server."""
        connection = self.connection
        if self.opened and self._lease == connection._lease and connection.is_in_transaction():
            connection._driver.close_portal(self.name.encode())
        self.opened = False
        if self._held and self._statement is not None:
            self._held = False
            connection._driver.release(self._statement)


class Prefetch:
    """How many rows an iteration asks for at a time: `given`, or as many as take BATCH_BYTES by the last ones.

    The latter is between PREFETCH and MOST_PREFETCHED. A batch of few small rows costs little more than its round trip.
    """

    __slots__ = ("_given", "_rows")

    def __init__(self, given: int | None) -> None:
        self._given = given
        self._rows = PREFETCH

    async def fetch(self, portal: Portal, method: str) -> list[Any]:
        """Fetch the next batch of a portal; nothing at its end."""
        if portal.exhausted and not portal.grouped:
            return []
        if self._given is not None:
            return await portal.fetch(method, self._given, portal.timeout)
        before = portal.received
        rows = await portal.fetch(method, self._rows, portal.timeout)
        if rows:
            wanted = BATCH_BYTES * len(rows) // max(portal.received - before, 1)
            self._rows = max(PREFETCH, min(wanted, GROWTH * self._rows, MOST_PREFETCHED))
        return rows


class _HasPortal:
    """An object with a portal of its own, which is closed with the object."""

    __slots__ = ("_portal",)

    _portal: Portal

    # Instrumentation such as OpenTelemetry's wraps the methods and reads the query from these attributes.

    @property
    def _connection(self) -> ConnectionInterface:
        return self._portal.connection

    @property
    def _query(self) -> str:
        return self._portal.query

    @property
    def _args(self) -> tuple[object, ...]:
        return self._portal.args

    def __del__(self) -> None:
        # Nothing refers to it any more. The event loop must still run. Attributes are missing if __init__ never ran.
        portal = getattr(self, "_portal", None)
        if portal is not None and portal.opened and portal.connection._in_own_loop():
            portal.close()


class CursorIterator(_HasPortal, AsyncIterator[RowT_co]):
    """Iterates over the rows of a query, fetching `prefetch` of them at a time."""

    __slots__ = ("_prefetch", "_rows")

    def __init__(self, portal: Portal, prefetch: int | None) -> None:
        self._portal = portal
        self._prefetch = Prefetch(prefetch)
        self._rows: deque[RowT_co] = deque()

    def __aiter__(self) -> CursorIterator[RowT_co]:
        return self

    async def __anext__(self) -> RowT_co:
        if not self._rows:
            self._rows.extend(await self._prefetch.fetch(self._portal, "CursorIterator.__anext__()"))
            if not self._rows:
                raise StopAsyncIteration
        return self._rows.popleft()


class Cursor(_HasPortal, Generic[RowT_co]):
    """An open cursor: it fetches or skips any number of rows at a time.

    The time limit of its methods is their `timeout`, by default the connection's `command_timeout`.
    """

    __slots__ = ()

    def __init__(self, portal: Portal) -> None:
        self._portal = portal

    def __repr__(self) -> str:
        return f"<headrace.{type(self).__qualname__} {self._portal.shown} {id(self):#x}>"

    async def fetch(self, n: int, *, timeout: float | None = None) -> list[RowT_co]:
        """Return the next `n` rows, or objects with lists; fewer at the end."""
        _check_count(n)
        return await self._portal.fetch("Cursor.fetch()", n, timeout)

    async def fetchrow(self, *, timeout: float | None = None) -> RowT_co | None:
        """Return the next row; None at the end."""
        rows = await self._portal.fetch("Cursor.fetchrow()", 1, timeout)
        return rows[0] if rows else None

    async def forward(self, n: int, *, timeout: float | None = None) -> int:
        """Skip `n` rows, or objects with lists; return how many were skipped."""
        _check_count(n)
        self._portal.check("Cursor.forward()")
        return await self._portal.move("Cursor.forward()", n, timeout)


def _check_count(n: int) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n <= 0:
        raise InterfaceError(f"n must be greater than zero, got {shown(n)}")


__all__ = ["PREFETCH", "Cursor", "CursorFactory", "CursorIterator"]
