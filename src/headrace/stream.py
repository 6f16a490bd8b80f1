"""Streams: the rows of a query as they come, in memory that does not grow with their number.

The rows may come as record batches in Arrow's format. Then the row plan of the request makes batches of them, and all
else is the same.
Outside of a transaction a stream is one execution that owns its connection to the end. A slow reader slows the server
down. Inside a transaction it is a cursor, and other queries run between its batches. On a pool it takes a lease.
Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from headrace._client.timeouts import time_limit
from headrace._core.arrow.result import ArrowShape
from headrace._io.holder import Mark
from headrace._io.stream import Stream
from headrace.cursor import Portal, Prefetch, checked_prefetch
from headrace.exceptions import InterfaceError, NoActiveSQLTransactionError

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.arrow.result import Schema
    from headrace._core.pipeline.row_stream import RowStream
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape


class StreamLease(Protocol):
    """Provides the connection of one stream.

    `origin` marks the context in which the stream was made, if that context has the connection too.
    """

    @property
    def origin(self) -> Mark | None:
        """See above."""

    async def take(self, timeout: float | None) -> ConnectionInterface:
        """Return the connection; waits `timeout` seconds at most."""

    async def give_back(self) -> None:
        """End the lease, if there is one."""

    def abandon(self) -> None:
        """End the lease without waiting."""


class Unleased:
    """A connection that the caller of stream() has, and keeps."""

    __slots__ = ("_connection", "_lease", "origin")

    def __init__(self, connection: ConnectionInterface) -> None:
        self.origin = Mark()
        self._connection = connection
        self._lease = connection._lease

    async def take(self, timeout: float | None) -> ConnectionInterface:
        """Return the connection; raises InterfaceError if it was released to its pool since, or is closed."""
        self._connection._check_lease(self._lease, "stream()")
        return self._connection

    async def give_back(self) -> None:
        """Do nothing."""

    def abandon(self) -> None:
        """Do nothing."""


class Rows:
    """The source of a `Stream`: opens it with the first batch, and ends it with the last.

    `rows` is the class of the rows, or an ArrowShape for record batches. `prefetch` is the number of rows to read
    ahead, None for as many as fit into the usual number of bytes.
    """

    __slots__ = ("_args", "_lease", "_prefetch", "_query", "_reader", "_rows", "_schema", "_statement", "_timeout")

    def __init__(
        self,
        lease: StreamLease,
        query: str,
        args: tuple[Any, ...],
        rows: type[Record] | RowShape | None,
        prefetch: int | None,
        timeout: float | None,
        statement: Statement | None = None,
    ) -> None:
        self._lease = lease
        self._query = query
        self._statement = statement
        self._args = args
        self._rows = rows
        self._prefetch = checked_prefetch(prefetch)
        self._timeout = timeout
        self._reader: _Owning | _Sharing | None = None
        self._schema: Schema | None = None

    @property
    def schema(self) -> Schema | None:
        """The columns in Arrow's format, also after the end; None before it is open."""
        if self._reader is not None:
            self._schema = self._reader.schema
        return self._schema

    async def open(self) -> None:
        """Get the connection and send the query, unless that was done before. If this fails, everything is closed.

        For record batches it also waits until the columns are known.
        """
        if self._reader is None:
            try:
                connection = await self._lease.take(self._timeout)
                reader = _Sharing if connection.is_in_transaction() else _Owning
                self._reader = reader(self, connection)
                if isinstance(self._rows, ArrowShape):
                    await self._reader.describe()
            except BaseException as error:
                await self._fail(error)
                raise

    async def more(self) -> list[Any]:
        """Return the next rows; none at the end. Closes everything at the end and if it raises."""
        await self.open()
        assert self._reader is not None
        try:
            rows = await self._reader.more()
        except BaseException as error:
            await self._fail(error)
            raise
        if not rows:
            self._end(None)
            await self._lease.give_back()
        return rows

    async def close(self) -> None:
        """End the query before its end, and give the connection back."""
        self._end(GeneratorExit())
        await self._lease.give_back()

    def abandon(self) -> None:
        """End the query, and give the connection back, without waiting. May be called in any thread."""
        reader = self._reader
        if reader is None:
            return
        loop = reader.connection._driver.loop
        if reader.connection._in_own_loop():
            self._end(GeneratorExit())
            self._lease.abandon()
        elif not loop.is_closed():
            loop.call_soon_threadsafe(self.abandon)

    async def _fail(self, error: BaseException) -> None:
        if isinstance(error, GeneratorExit):
            # A coroutine that is being closed must not wait.
            self.abandon()
            return
        self._end(error)
        await self._lease.give_back()

    def _end(self, error: BaseException | None) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._schema = reader.schema
            reader.end(error)


class _Owning:
    """Reads a stream that has the connection to itself."""

    __slots__ = ("_request", "_started", "_timeout", "connection")

    def __init__(self, rows: Rows, connection: ConnectionInterface) -> None:
        self.connection = connection
        self._timeout = connection._timeout(rows._timeout)
        self._started = monotonic()
        self._request: RowStream = connection._driver.row_stream(
            rows._statement if rows._statement is not None else rows._query,
            rows._args,
            connection._rows_as(rows._rows),
            rows._prefetch or 0,
            rows._lease.origin,
        )

    @property
    def schema(self) -> Schema | None:
        """The columns in Arrow's format."""
        return self._request.schema

    async def describe(self) -> None:
        """Wait until the columns are known."""
        request = self._request
        while request.schema is None and not request.is_over():
            await self._arrival("the wait for the columns of the stream")

    async def more(self) -> list[Any]:
        """Return the rows that have come, or wait for some. Raises the error of the server or of a row."""
        request = self._request
        driver = self.connection._driver
        driver.reads_row_stream(request)
        while True:
            rows = request.take_rows()
            driver.transport.read_on()
            if rows or request.is_over():
                return rows
            await self._arrival("the wait for the next rows of the stream")

    async def _arrival(self, what: str) -> None:
        """Wait until something has come of the request."""
        arrival = self._request.arrival = self.connection._driver.loop.create_future()
        if self._timeout is None:
            await arrival
        else:
            async with time_limit(self._timeout, what):
                await arrival

    def end(self, error: BaseException | None) -> None:
        """Cancel the query if it has not come to its end."""
        driver = self.connection._driver
        driver.end_row_stream(self._request)
        if driver.observer is not None:
            elapsed = monotonic() - self._started
            driver.observer.finished(self._request.query, self._request.arguments, self._timeout, elapsed, error)


class _Sharing:
    """Reads a stream inside a transaction: a portal, batch by batch."""

    __slots__ = ("_lease", "_portal", "_prefetch", "connection")

    def __init__(self, rows: Rows, connection: ConnectionInterface) -> None:
        self.connection = connection
        self._lease = connection._lease
        # Of record batches one at a time is fetched.
        self._prefetch = Prefetch(1 if isinstance(rows._rows, ArrowShape) else rows._prefetch)
        self._portal = Portal(
            connection, rows._query, rows._statement, rows._args, rows._timeout, connection._rows_as(rows._rows)
        )

    @property
    def schema(self) -> Schema | None:
        """The columns in Arrow's format."""
        return self._portal.schema

    async def describe(self) -> None:
        """Open the portal, which tells the columns."""
        await self._portal.open("Stream.__aenter__()")

    async def more(self) -> list[Any]:
        """Fetch the next batch."""
        self.connection._check_lease(self._lease, "Stream.__anext__()")
        if not self.connection.is_in_transaction():
            raise NoActiveSQLTransactionError(
                "the stream cannot go on: the transaction in which it was opened has ended",
                hint="Read it to its end inside of `async with connection.transaction():`.",
            )
        return await self._prefetch.fetch(self._portal, "Stream.__anext__()")

    def end(self, error: BaseException | None) -> None:
        """Close the portal."""
        self._portal.close()


def released(connection: object) -> InterfaceError:
    """Return the error of a stream whose connection was released to its pool."""
    return InterfaceError(
        f"the stream cannot go on: {connection!r} has been released back to the pool",
        hint="Read it inside the `async with pool.acquire()` block, or use pool.stream().",
    )


__all__ = ["Stream"]
