"""Results in Arrow's format: the `ArrowTable` of `fetch_arrow()`, the `ArrowStream` of `stream_arrow()`.

Libraries for data frames take them by the Arrow PyCapsule interface, without a copy. headrace needs none of them.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

from headrace._client.timeouts import time_limit
from headrace._core.arrow.result import ArrowShape, ArrowTable, RecordBatch, Schema
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from types import TracebackType

    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.arrow import ArrowQuery
    from headrace._core.pipeline.statement_cache import Statement

__all__ = ["ArrowStream", "ArrowTable", "OutOfRange", "RecordBatch"]

BATCH_ROWS = 65536
"""The rows of a record batch of stream_arrow(), if the caller does not say."""

MOST_BATCH_ROWS = 0x7FFFFFFF
"""Execute counts rows in 32 bits."""

OutOfRange = Literal["error", "null", "saturate"]
"""The treatment of values that the Arrow type of their column cannot hold."""

_numbers = count(1)


def checked_batch_rows(rows: object) -> int:
    """Return the rows of a batch; raises ValueError if that is no number of rows."""
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 < rows <= MOST_BATCH_ROWS:
        raise ValueError(
            f"batch_rows is expected to be a number of rows from 1 to {MOST_BATCH_ROWS}, got {shown(rows)}"
        )
    return rows


class ArrowStream:
    """The rows of a query as record batches: `async for batch in connection.stream_arrow(...)`.

    In an `async with` block it is open from the start of the block, so that its schema is known before the first batch,
    and it ends with the block at the latest. Without a block it is opened by the first batch; call `aclose()` if you do
    not take all batches.

    Inside a transaction each batch is a request of its own, and other queries run in between. Outside of one the stream
    owns its connection to the end: other tasks' calls wait, and a call of the reading task raises InterfaceError. A
    slow reader slows down the server: no more than three batches are in memory. `timeout` limits each wait for the
    server, in seconds.
    """

    def __init__(
        self,
        lease: AbstractAsyncContextManager[Any],
        query: str,
        args: tuple[Any, ...],
        shape: ArrowShape,
        batch_rows: int,
        timeout: float | None,
    ) -> None:
        self._lease = lease
        self._query = query
        self._args = args
        self._shape = shape
        self._batch_rows = batch_rows
        self._timeout = timeout
        self._stack = AsyncExitStack()
        self._source: _Source | None = None
        self._begun = False
        self._ended = False
        self._waiting = False

    # -- the block -------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._begun or self._ended:
            raise InterfaceError("a stream cannot be entered twice: call stream_arrow() again")
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream. A query that still runs is cancelled on the server, and the connection is free again."""
        if not self._ended:
            self._abandon(None)
            await self._stack.aclose()

    def __del__(self) -> None:
        # The event loop must still run. Attributes are missing if __init__ never ran.
        source = getattr(self, "_source", None)
        if source is not None and not self._ended and source.connection._in_own_loop():
            self._abandon(None)

    # -- the schema and the batches --------------------------------------------------------------------------------

    @property
    def column_names(self) -> list[str]:
        """The names of the columns. InterfaceError is raised before the stream is open."""
        return list(self._schema.names)

    def __arrow_c_schema__(self) -> object:
        """Return the schema as a capsule of an ArrowSchema. InterfaceError is raised before the stream is open."""
        return self._schema.__arrow_c_schema__()

    @property
    def _schema(self) -> Schema:
        if self._source is None:
            raise InterfaceError(
                "the schema of a stream is known once it is open",
                hint="Use `async with connection.stream_arrow(...) as stream`.",
            )
        return self._source.schema

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> RecordBatch:
        if self._waiting:
            raise InterfaceError("cannot take the next batch: another task is waiting for it")
        if self._ended:
            raise StopAsyncIteration
        self._waiting = True
        try:
            if self._source is None:
                await self._open()
                assert self._source is not None
            batch = await self._source.next()
        except BaseException as error:
            self._abandon(error)
            await self._stack.aclose()
            raise
        finally:
            self._waiting = False
        if batch is None:
            await self.aclose()
            raise StopAsyncIteration
        return batch

    async def _open(self) -> None:
        self._begun = True
        try:
            connection: ConnectionInterface = await self._stack.enter_async_context(self._lease)
            timeout = connection._timeout(self._timeout)
            driver = connection._driver
            statement = driver.session.statement(self._query)
            self._stack.callback(driver.release, statement)
            await driver.reply(driver.prepare(statement), timeout)
            if not statement.returns_rows:
                raise InterfaceError(
                    "query is expected to return rows: a SELECT, VALUES or TABLE, or what has RETURNING"
                )
            kind = _PortalSource if connection.is_in_transaction() else _OwnedSource
            self._source = kind(connection, statement, self._args, self._shape, self._batch_rows, timeout)
            await self._source.open()
        except BaseException as error:
            self._abandon(error)
            await self._stack.aclose()
            raise

    def _abandon(self, error: BaseException | None) -> None:
        """Ask for no more. Does not wait."""
        if not self._ended:
            self._ended = True
            if self._source is not None:
                self._source.close(error)


class _Source(Protocol):
    """A source of record batches."""

    connection: ConnectionInterface

    @property
    def schema(self) -> Schema: ...

    async def open(self) -> None:
        """Send the query, or open a portal for it."""

    async def next(self) -> RecordBatch | None:
        """Return the next batch; None at the end."""

    def close(self, error: BaseException | None) -> None:
        """Ask for no more; `error` is why. Does not wait."""


class _PortalSource(_Source):
    """A portal inside a transaction: each batch is a request."""

    def __init__(
        self,
        connection: ConnectionInterface,
        statement: Statement,
        args: tuple[Any, ...],
        shape: ArrowShape,
        batch_rows: int,
        timeout: float | None,
    ) -> None:
        self.connection = connection
        self._lease = connection._lease
        self._statement = statement
        self._args = args
        self._shape = shape
        self._batch_rows = batch_rows
        self._timeout = timeout
        self._name = f"headrace_arrow_{next(_numbers):x}".encode()
        self._opener: ArrowQuery | None = None
        self._batches: list[RecordBatch] = []
        self._exhausted = False

    @property
    def schema(self) -> Schema:
        assert self._opener is not None
        return self._opener.schema

    async def open(self) -> None:
        await self._run(-1)

    async def next(self) -> RecordBatch | None:
        if not self._batches and not self._exhausted:
            self.connection._check_lease(self._lease, "ArrowStream.__anext__()")
            if not self.connection.is_in_transaction():
                raise InterfaceError(
                    "cannot take the next batch: the transaction that the stream was opened in has ended",
                    hint="Take all batches inside the transaction, or open the stream outside of one.",
                )
            self._batches = await self._run(self._batch_rows)
        return self._batches.pop(0) if self._batches else None

    async def _run(self, limit: int) -> list[RecordBatch]:
        driver = self.connection._driver
        request: Any = driver.execute_arrow_portal(
            self._statement, self._args, limit, self._shape, self._name, self._opener
        )
        if self._opener is None:
            self._opener = request
        table: ArrowTable = await driver.reply(request, self._timeout)
        self._exhausted = limit >= 0 and not request.suspended
        return table.batches()

    def close(self, error: BaseException | None) -> None:
        connection = self.connection
        if self._opener is not None and self._lease == connection._lease and connection.is_in_transaction():
            connection._driver.close_portal(self._name)


class _OwnedSource(_Source):
    """A query that has the connection to itself, and whose rows are read as fast as its batches are taken."""

    def __init__(
        self,
        connection: ConnectionInterface,
        statement: Statement,
        args: tuple[Any, ...],
        shape: ArrowShape,
        batch_rows: int,
        timeout: float | None,
    ) -> None:
        self.connection = connection
        self._lease = connection._lease
        self._args = args
        self._timeout = timeout
        self._started = monotonic()
        self._observed = False
        self._request = connection._driver.arrow_stream(statement, args, shape, batch_rows)
        self._ready: list[RecordBatch] = []

    @property
    def schema(self) -> Schema:
        return self._request.schema

    async def open(self) -> None:
        pass

    async def next(self) -> RecordBatch | None:
        request = self._request
        driver = self.connection._driver
        self.connection._check_lease(self._lease, "ArrowStream.__anext__()")
        request.task = asyncio.current_task()
        while True:
            batch = request.next_batch()
            driver.transport.read_on()
            if batch is not None:
                return batch
            if request.unreadable is not None:
                raise request.unreadable
            if request.waiter.done():
                await request.waiter
                return None
            request.arrival = driver.loop.create_future()
            async with time_limit(self._timeout, "the stream"):
                await request.arrival

    def close(self, error: BaseException | None) -> None:
        request = self._request
        self.connection._driver.give_up(request)
        if not request.waiter.done():
            request.waiter.cancel()
        elif not request.waiter.cancelled():
            request.waiter.exception()  # mark it as retrieved
        observer = self.connection._driver.observer
        if observer is not None and not self._observed:
            self._observed = True
            observer.finished(request.query, self._args, self._timeout, monotonic() - self._started, error)
