"""The COPYs behind the methods of connections and pools: from a table or query to a sink, from a source to a table.

`lease` is the context manager that provides the connection. Arguments are checked before it is entered, so a mistake in
them does not cost a pool a lease.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any

from headrace._client.timeouts import time_limit
from headrace._sql.named_parameters import bound
from headrace.copy import command
from headrace.copy.arguments import standard_strings, with_constants
from headrace.copy.columns import prepared
from headrace.copy.records import copy_records
from headrace.copy.sink import Sink, writer
from headrace.copy.source import Source, chunks
from headrace.copy.transfer import Upload, download, upload

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._sql.named_parameters import AnyQuery

    Lease = AbstractAsyncContextManager[ConnectionInterface]

Options = Mapping[str, object]
"""The options of COPY by name; None stands for the server's default."""


async def copy_table(
    lease: Lease,
    table_name: str,
    schema_name: str | None,
    columns: command.Names,
    output: Sink,
    options: Options,
    timeout: float | None,
) -> str:
    """Copy a table to a sink; returns the command tag. See `Connection.copy_from_table()`."""
    sink = writer(output)
    text = command.to_stdout(command.table(table_name, schema_name), columns, options)
    async with lease as connection:
        return await download(connection._driver, text, sink, connection._timeout(timeout))


async def copy_query(
    lease: Lease, query: AnyQuery, args: tuple[Any, ...], output: Sink, options: Options, timeout: float | None
) -> str:
    """Copy the rows of a query to a sink; returns the command tag. See `Connection.copy_from_query()`."""
    query, args = bound(query, args)
    sink = writer(output)
    async with lease as connection:
        driver = connection._driver
        timeout = connection._timeout(timeout)
        strings = standard_strings(connection)
        query = command.one_statement(query, strings)
        if args:
            statement = await prepared(driver, query, timeout)
            query = await with_constants(connection, query, statement, args, timeout)
        text = command.query_to_stdout(query, options, strings)
        return await download(driver, text, sink, timeout)


async def copy_source(
    lease: Lease,
    table_name: str,
    schema_name: str | None,
    columns: command.Names,
    source: Source,
    where: str | None,
    options: Options,
    timeout: float | None,
) -> str:
    """Copy a source into a table; returns the command tag. See `Connection.copy_to_table()`."""
    pieces = chunks(source)
    table = command.table(table_name, schema_name)
    try:
        async with lease as connection:
            text = command.from_stdin(table, columns, options, where, standard_strings(connection))
            async with time_limit(connection._timeout(timeout), "the COPY"):
                # The first piece is read before the command is sent: a source that fails at once does not fail an open
                # transaction.
                first = await anext(pieces, b"")

                async def pump(transfer: Upload) -> bytes:
                    await transfer.send_bytes(first)
                    async for data in pieces:
                        await transfer.send_bytes(data)
                    return b""

                return await upload(connection._driver, text, pump, None)
    finally:
        await pieces.aclose()


async def copy_rows(
    lease: Lease,
    table_name: str,
    schema_name: str | None,
    columns: command.Names,
    records: Iterable[Any] | AsyncIterable[Any],
    where: str | None,
    timeout: float | None,
) -> str:
    """Copy rows of Python values into a table; returns the command tag. See `Connection.copy_records_to_table()`."""
    table = command.table(table_name, schema_name)
    async with lease as connection:
        return await copy_records(connection, table, records, columns, where, connection._timeout(timeout))


async def copy_columns(
    lease: Lease, table_name: str, schema_name: str | None, columns: command.Names, data: Any, timeout: float | None
) -> str:
    """Copy Arrow data into a table; returns the command tag. See `Connection.copy_arrow_to_table()`."""
    # Few programs have Arrow data, and its encoders are a tenth of the modules.
    from headrace.copy.arrow import check_data, copy_arrow

    table = command.table(table_name, schema_name)
    check_data(data)
    async with lease as connection:
        return await copy_arrow(connection, table, data, columns, connection._timeout(timeout))
