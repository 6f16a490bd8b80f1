"""A COPY into a table that a block of code writes to, in rows or in bytes."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any, Self

from headrace._client.timeouts import time_limit
from headrace._core.pipeline.copy import RowEncoder
from headrace.copy import command
from headrace.copy.arguments import standard_strings
from headrace.copy.columns import begin_at_once, encoded_as, listed
from headrace.copy.columns import encoder as encoder_for
from headrace.copy.records import CHUNK, check_width
from headrace.copy.transfer import Upload
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from types import TracebackType

    from headrace._client.interface import ConnectionInterface


class CopyWriter:
    """A COPY into a table in progress: `async with connection.copy_in(...) as copy`, then `write_row()` or `write()`.

    Everything is copied at the end of the block. If the block raises, or the server refuses any of it, nothing is
    copied. `timeout` limits each wait for the server, in seconds. The task inside the block cannot use the connection
    for anything else.
    """

    def __init__(
        self,
        lease: AbstractAsyncContextManager[Any],
        table: str,
        columns: command.Names,
        where: str | None,
        options: Mapping[str, object],
        timeout: float | None,
    ) -> None:
        self._lease = lease
        self._table = table
        self._columns = columns
        self._where = where
        self._options = options
        self._timeout = timeout
        self._stack = AsyncExitStack()
        self._transfer: Upload | None = None
        self._encoder: RowEncoder | None = None
        self._ended = False
        self._status = ""
        self._bytes = 0

    @property
    def rows(self) -> int:
        """Rows written so far; 0 if bytes are written."""
        return 0 if self._encoder is None else self._encoder.rows

    @property
    def bytes_sent(self) -> int:
        """Bytes sent so far; rows are sent some 64 kB at a time."""
        return self._bytes

    @property
    def status(self) -> str:
        """The command tag, such as "COPY 3", once everything is copied; '' before that."""
        return self._status

    async def __aenter__(self) -> Self:
        if self._transfer is not None:
            raise InterfaceError("a COPY cannot be entered twice: call copy_in() again")
        try:
            await self._begin(await self._stack.enter_async_context(self._lease))
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def _begin(self, connection: ConnectionInterface) -> None:
        driver = connection._driver
        timeout = self._timeout = connection._timeout(self._timeout)
        columns, options = self._columns, self._options
        transfer: Upload | None = None
        if options.get("format") is None:
            given = [name for name, value in options.items() if value is not None]
            if given:
                raise InterfaceError(
                    f"{given[0]} needs a format, 'text' or 'csv': rows are copied in PostgreSQL's binary format"
                )
            columns = listed(columns)
            async with time_limit(timeout, "the COPY"):
                begun = await begin_at_once(connection, self._table, columns, self._where, RowEncoder)
            if begun is not None:
                transfer, self._encoder = begun
                transfer.timeout = timeout
            else:
                self._encoder, columns = await encoder_for(driver, self._table, columns, timeout, RowEncoder)
                options = encoded_as(self._encoder)
        if transfer is None:
            text = command.from_stdin(self._table, columns, options, self._where, standard_strings(connection))
            transfer = Upload(driver, driver.copy_in(text), timeout)
        self._transfer = transfer
        try:
            async with time_limit(timeout, "the COPY"):
                await transfer.begin()
            if self._encoder is not None:
                check_width(transfer, self._encoder)
        except BaseException as error:
            transfer.withdraw(error)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            transfer = self._running("__aexit__")
            self._ended = True
            if error is None:
                await self._finish(transfer)
            else:
                transfer.withdraw(error)
        finally:
            await self._stack.aclose()

    async def _finish(self, transfer: Upload) -> None:
        last = b"" if self._encoder is None else self._encoder.end()
        self._bytes += len(last)
        try:
            async with time_limit(self._timeout, "the COPY"):
                self._status = await transfer.end(last)
        except BaseException as error:
            transfer.withdraw(error)
            raise

    async def write_row(self, row: Any) -> None:
        """Write one row: a tuple or list with a value for each column.

        Raises ArgumentError for a row that does not fit, naming row, column and type. That row is left out, and another
        one may be written. Raises the server's error if it has refused something written before. Waits if the server is
        slower.
        """
        encoder = self._row_encoder("write_row")
        encoder.add(row)
        if encoder.size >= CHUNK:
            await self._send(encoder.take())

    async def write_rows(self, rows: Iterable[Any] | AsyncIterable[Any]) -> None:
        """Write all rows of an iterable or asynchronous iterable. See `write_row()`."""
        encoder = self._row_encoder("write_rows")
        if isinstance(rows, AsyncIterable):
            async for row in rows:
                await self.write_row(row)
            return
        iterator = iter(rows)
        while encoder.fill(iterator, CHUNK):
            await self._send(encoder.take())

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write bytes in the format given to `copy_in()`, split at any position."""
        transfer = self._running("write")
        if self._encoder is not None:
            raise InterfaceError(
                "cannot call CopyWriter.write(): this COPY takes rows",
                hint="Use write_row(), or name the format of the bytes: copy_in(..., format='csv').",
            )
        if not isinstance(data, (bytes, bytearray, memoryview)):
            hint = "Encode the text." if isinstance(data, str) else None
            raise InterfaceError(f"data is expected to be bytes, got {type(data).__name__} {shown(data)}", hint=hint)
        await self._send(transfer.request.data_message(bytes(data)))

    async def flush(self) -> None:
        """Send everything written so far. It takes effect at the end with the rest."""
        self._running("flush")
        if self._encoder is not None:
            await self._send(self._encoder.take())

    def _row_encoder(self, method: str) -> RowEncoder:
        self._running(method)
        if self._encoder is None:
            raise InterfaceError(
                f"cannot call CopyWriter.{method}(): this COPY takes bytes",
                hint="Use write(), or call copy_in() without format=.",
            )
        return self._encoder

    def _running(self, method: str) -> Upload:
        if self._transfer is None or self._ended:
            raise InterfaceError(
                f"cannot call CopyWriter.{method}(): the COPY has {'ended' if self._ended else 'not begun'}",
                hint="Use it inside `async with connection.copy_in(...) as copy`.",
            )
        return self._transfer

    async def _send(self, messages: bytes) -> None:
        transfer = self._running("write")
        self._bytes += len(messages)
        async with time_limit(self._timeout, "the COPY"):
            await transfer.send(messages)
