"""The rows of a query, read with COPY and decoded by the codecs of their columns."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Generic, Self

from headrace._client.timeouts import time_limit
from headrace._core.pipeline.copy import text_columns
from headrace._sql.classify import classify
from headrace.copy import command
from headrace.copy.arguments import standard_strings, with_constants
from headrace.copy.columns import BINARY, prepared
from headrace.copy.transfer import Download
from headrace.exceptions import InterfaceError
from headrace.rows.type_vars import RowT_co

if TYPE_CHECKING:
    from types import TracebackType

    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape


class CopyReader(Generic[RowT_co]):
    """The rows of a query: `async for row in connection.copy_out(...)`, by itself or in an `async with` block.

    Until the last row, or the end of the block, the reader owns the connection, and the reading task cannot use it for
    anything else. A slow reader slows down the server: little is buffered in memory. `timeout` limits each wait for the
    server, in seconds.
    """

    def __init__(
        self,
        lease: AbstractAsyncContextManager[Any],
        query: str,
        args: tuple[Any, ...],
        record_class: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> None:
        self._lease = lease
        self._query = query
        self._args = args
        self._record_class = record_class
        self._timeout = timeout
        self._stack = AsyncExitStack()
        self._transfer: Download | None = None
        self._rows = 0
        self._status = ""

    @property
    def rows(self) -> int:
        """Rows read so far."""
        return self._rows

    @property
    def bytes_received(self) -> int:
        """Bytes received so far, in COPY's binary format."""
        return 0 if self._transfer is None else self._transfer.request.received

    @property
    def status(self) -> str:
        """The command tag, such as "COPY 3", once all rows were read; '' before that."""
        return self._status

    async def __aenter__(self) -> Self:
        if self._transfer is not None:
            raise InterfaceError("a COPY cannot be entered twice: call copy_out() again")
        try:
            await self._begin(await self._stack.enter_async_context(self._lease))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _begin(self, connection: ConnectionInterface) -> None:
        driver = connection._driver
        timeout = connection._timeout(self._timeout)
        record_class = connection._rows_as(self._record_class)
        strings = standard_strings(connection)
        query = command.one_statement(self._query, strings)
        statement = await prepared(driver, query, timeout)
        if not statement.returns_rows:
            raise InterfaceError("query is expected to return rows: a SELECT, VALUES or TABLE, or what has RETURNING")
        query = await with_constants(connection, query, statement, self._args, timeout)
        text = command.query_to_stdout(_with_texts(query, statement), BINARY, strings)
        transfer = self._transfer = Download(driver, driver.copy_out(text, statement, record_class), timeout)
        try:
            async with time_limit(timeout, "the COPY"):
                await transfer.begin()
        except BaseException as error:
            transfer.withdraw(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is not None and self._transfer is not None and not self._status:
            self._transfer.withdraw(error)
        self.abandon()
        await self._stack.aclose()

    def __aiter__(self) -> AsyncIterator[RowT_co]:
        return _Rows(self, self._each())

    def abandon(self) -> None:
        """End the COPY if its rows are no longer read and its event loop still runs. Does not wait."""
        if self._transfer is not None and not self._status and self._transfer.in_own_loop():
            self._transfer.withdraw(InterfaceError("the iteration over the rows of the COPY has ended early"))

    async def _each(self) -> AsyncGenerator[RowT_co, None]:
        async with self if self._transfer is None else nullcontext():
            transfer = self._transfer
            assert transfer is not None
            while not self._status:
                rows = await transfer.rows()
                if not rows:
                    self._status = await transfer.done()
                for row in rows:
                    self._rows += 1
                    yield row


class _Rows(AsyncIterator[RowT_co]):
    """Iterates over the rows. If an `async for` ends early, this object is released, which ends the COPY at once.

    The event loop closes the inner generator a little later, which ends the lease.
    """

    __slots__ = ("_next", "_reader")

    def __init__(self, reader: CopyReader[RowT_co], rows: AsyncGenerator[RowT_co, None]) -> None:
        self._reader = reader
        self._next = rows.__anext__

    def __anext__(self) -> Awaitable[RowT_co]:
        return self._next()

    def __del__(self) -> None:
        self._reader.abandon()


def _with_texts(query: str, statement: Statement) -> str:
    """Return the query with the text form of columns whose codecs read text: binary COPY would send their binary form.

    format('%s') returns the result of the type's output function, which a cast to text does not for all types.
    """
    positions = text_columns(statement)
    if not positions:
        return query
    names = [f"c{i}" for i in range(len(statement.columns))]
    columns = ", ".join(
        f"CASE pg_catalog.num_nulls(q.{name}) WHEN 0 THEN pg_catalog.format('%s', q.{name}) END"
        if i in positions
        else f"q.{name}"
        for i, name in enumerate(names)
    )
    as_table = f"q ({', '.join(names)})"
    if classify(query).keywords[:1] in (("INSERT",), ("UPDATE",), ("DELETE",), ("MERGE",)):
        return f"WITH {as_table} AS (\n{query}\n) SELECT {columns} FROM q"
    return f"SELECT {columns} FROM (\n{query}\n) AS {as_table}"
