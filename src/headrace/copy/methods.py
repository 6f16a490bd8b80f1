"""The COPY methods that connections and pools have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from headrace._sql.named_parameters import bound
from headrace.copy import command
from headrace.copy.arguments import standard_strings, with_constants
from headrace.copy.columns import prepared
from headrace.copy.reader import CopyReader
from headrace.copy.records import copy_records
from headrace.copy.sink import Sink, writer
from headrace.copy.source import Source, chunks
from headrace.copy.transfer import Upload, download, upload
from headrace.copy.writer import CopyWriter
from headrace.rows import rows_as

if TYPE_CHECKING:
    from headrace._core.rows.record import Record
    from headrace._sql.named_parameters import AnyQuery

    R = TypeVar("R", bound=Record)

T = TypeVar("T")

Columns = Iterable[str] | None
Force = Iterable[str] | bool | None


class CopyMethods:
    """COPY between a table or query and files, functions, iterables or rows.

    The options are those of COPY (sql-copy), by the same names. A COPY is alone on its connection: it waits for what
    was asked before, and what is asked after waits for it. On a pool it takes a lease.

    A source or sink that raises, a time-out and a cancellation end the COPY; nothing of it is kept in the table, and
    the connection stays usable.
    """

    def _copying(self) -> AbstractAsyncContextManager[Any]:
        """Return a context manager that gives the connection to copy on."""
        raise NotImplementedError

    async def copy_from_table(
        self,
        table_name: str,
        *,
        output: Sink,
        columns: Columns = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        format: str | None = None,
        oids: bool | None = None,
        delimiter: str | None = None,
        null: str | None = None,
        header: bool | str | None = None,
        quote: str | None = None,
        escape: str | None = None,
        force_quote: Force = None,
        encoding: str | None = None,
    ) -> str:
        """Copy a table to a path, a file-like object or a function; returns the command tag, such as "COPY 3".

        What the output raises is raised here, and ends the COPY, as cancellation does; the connection goes on.

        `output` is a path, an object with write(), or a function that takes bytes; write() and the function may be
        coroutine functions. A path is opened once the server has begun to send. A slow output slows the server down.
        """
        options = {
            "format": format,
            "oids": oids,
            "delimiter": delimiter,
            "null": null,
            "header": header,
            "quote": quote,
            "escape": escape,
            "force_quote": force_quote,
            "encoding": encoding,
        }
        sink = writer(output)
        text = command.to_stdout(command.table(table_name, schema_name), columns, options)
        async with self._copying() as connection:
            return await download(connection._driver, text, sink, connection._timeout(timeout))

    async def copy_from_query(
        self,
        query: AnyQuery,
        *args: Any,
        output: Sink,
        timeout: float | None = None,
        format: str | None = None,
        oids: bool | None = None,
        delimiter: str | None = None,
        null: str | None = None,
        header: bool | str | None = None,
        quote: str | None = None,
        escape: str | None = None,
        force_quote: Force = None,
        encoding: str | None = None,
    ) -> str:
        """Copy the rows of a query to a path, a file-like object or a function; returns the command tag.

        `args` are the query's arguments; the server turns them into constants of its own. See `copy_from_table()`.
        """
        options = {
            "format": format,
            "oids": oids,
            "delimiter": delimiter,
            "null": null,
            "header": header,
            "quote": quote,
            "escape": escape,
            "force_quote": force_quote,
            "encoding": encoding,
        }
        query, args = bound(query, args)
        sink = writer(output)
        async with self._copying() as connection:
            driver = connection._driver
            timeout = connection._timeout(timeout)
            strings = standard_strings(connection)
            query = command.one_statement(query, strings)
            if args:
                statement = await prepared(driver, query, timeout)
                query = await with_constants(connection, query, statement, args, timeout)
            text = command.query_to_stdout(query, options, strings)
            return await download(driver, text, sink, timeout)

    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: Source,
        columns: Columns = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        format: str | None = None,
        oids: bool | None = None,
        freeze: bool | None = None,
        delimiter: str | None = None,
        null: str | None = None,
        header: bool | str | None = None,
        quote: str | None = None,
        escape: str | None = None,
        force_quote: Force = None,
        force_not_null: Force = None,
        force_null: Force = None,
        encoding: str | None = None,
        where: str | None = None,
        default: str | None = None,
        on_error: str | None = None,
        reject_limit: int | None = None,
        log_verbosity: str | None = None,
    ) -> str:
        """Copy data in one of COPY's formats into a table; returns the command tag, such as "COPY 3".

        `source` is a path, an object with read(), bytes, an iterable or asynchronous iterable of bytes, or a function
        that returns bytes, none at the end; read() and the function may be coroutine functions. `where` is an SQL
        condition that rows must meet. `default` needs PostgreSQL 16, `on_error` and `log_verbosity` 17, `reject_limit`
        18.
        """
        options = {
            "format": format,
            "oids": oids,
            "freeze": freeze,
            "delimiter": delimiter,
            "null": null,
            "header": header,
            "quote": quote,
            "escape": escape,
            "force_quote": force_quote,
            "force_not_null": force_not_null,
            "force_null": force_null,
            "encoding": encoding,
            "default": default,
            "on_error": on_error,
            "reject_limit": reject_limit,
            "log_verbosity": log_verbosity,
        }
        pieces = chunks(source)
        table = command.table(table_name, schema_name)

        try:
            async with self._copying() as connection:
                text = command.from_stdin(table, columns, options, where, standard_strings(connection))
                async with asyncio.timeout(connection._timeout(timeout)):
                    # The first piece before the command: a source that fails at once costs an open transaction nothing.
                    first = await anext(pieces, b"")

                    async def pump(transfer: Upload) -> bytes:
                        await transfer.send_bytes(first)
                        async for data in pieces:
                            await transfer.send_bytes(data)
                        return b""

                    return await upload(connection._driver, text, pump, None)
        finally:
            await pieces.aclose()

    async def copy_records_to_table(
        self,
        table_name: str,
        *,
        records: Iterable[Any] | AsyncIterable[Any],
        columns: Columns = None,
        schema_name: str | None = None,
        timeout: float | None = None,
        where: str | None = None,
    ) -> str:
        """Copy rows of Python values into a table; returns the command tag, such as "COPY 3".

        `records` is an iterable or asynchronous iterable of tuples, lists or Records with a value for each of `columns`
        (by default all that the server does not compute). They are encoded as arguments of a query are, custom codecs
        included, and sent a chunk at a time. Raises ArgumentError for a row that does not fit, naming its number from
        1, the column and its type.
        """
        table = command.table(table_name, schema_name)
        async with self._copying() as connection:
            return await copy_records(connection, table, records, columns, where, connection._timeout(timeout))

    def copy_in(
        self,
        table_name: str,
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        where: str | None = None,
        timeout: float | None = None,
        format: str | None = None,
        **options: Any,
    ) -> CopyWriter:
        """Return a COPY into a table to write to: `async with connection.copy_in(...) as copy`.

        Inside the block `await copy.write_row((1, "two"))` writes rows of Python values; with a `format`, and the other
        options of `copy_to_table()`, `await copy.write(data)` writes bytes. `copy.rows` and `copy.bytes_sent` tell how
        far it has come.
        """
        given: Mapping[str, object] = {"format": format, **options}
        return CopyWriter(self._copying(), command.table(table_name, schema_name), columns, where, given, timeout)

    @overload
    def copy_out(
        self, query: AnyQuery, *args: Any, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> CopyReader[Record]: ...

    @overload
    def copy_out(
        self, query: AnyQuery, *args: Any, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> CopyReader[R]: ...

    @overload
    def copy_out(
        self, query: AnyQuery, *args: Any, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> CopyReader[T]: ...

    def copy_out(
        self,
        query: AnyQuery,
        *args: Any,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> CopyReader[Any]:
        """Return the rows of a query by way of COPY: `async for row in connection.copy_out(...)`.

        Faster than a cursor and as sparing of memory; needs no transaction, and takes the connection for itself. See
        `Connection.fetch()` for what a row can be.
        """
        rows = record_class if row is None else rows_as(row, record_class)
        query, args = bound(query, args)
        return CopyReader(self._copying(), query, args, rows, timeout)
