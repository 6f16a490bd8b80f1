"""Prepared statements: a query parsed once, run many times."""

from __future__ import annotations

import json
from collections.abc import AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from headrace import cursor as cursors
from headrace._client.batch_transaction import checked_transaction, run_in_transaction
from headrace._client.streamed_batch import run_batch
from headrace._core.arrow.result import ArrowShape, ArrowTable
from headrace._io.driver import KIND_ARROW, KIND_FIRST_ROW, KIND_ROWS, KIND_STATUS, KIND_VALUE
from headrace.arrow import BATCH_ROWS, ArrowStream, OutOfRange, batches
from headrace.rows.type_vars import RecordT_co
from headrace.rows.values import checked_value, value_class
from headrace.stream import Rows, Stream, Unleased
from headrace.transaction import Transaction
from headrace.types import Attribute, Type

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.requests import Request
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape

    R = TypeVar("R", bound=Record)

T = TypeVar("T")
Elements = Iterable[Sequence[object]] | AsyncIterable[Sequence[object]]


class PreparedStatement(Generic[RecordT_co]):
    """A statement that the server has parsed. `Connection.prepare()` returns it.

    The statement lives as long as this object. Its methods raise InterfaceError once the connection was released to the
    pool. If DDL or a DEALLOCATE invalidates it, it is prepared again transparently, outside of transactions.
    """

    __slots__ = ("__weakref__", "_connection", "_lease", "_record_class", "_statement", "_status")

    def __init__(
        self, connection: ConnectionInterface, statement: Statement, record_class: type[Record] | RowShape
    ) -> None:
        self._connection = connection
        self._lease = connection._lease
        self._statement = statement
        self._record_class = record_class
        self._status: str | None = None

    def __del__(self) -> None:
        # Attributes are missing if __init__ never ran.
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection._driver.release(self._statement)

    def _check(self, method: str) -> Statement:
        self._connection._check_lease(self._lease, f"PreparedStatement.{method}()")
        return self._statement

    async def _run(self, request: Request, seconds: float | None) -> Any:
        result = await self._connection._driver.reply(request, seconds)
        self._status = request.status or None
        return result

    def get_name(self) -> str:
        """Return the name of the statement on the server; '' if it is unnamed."""
        return self._check("get_name").name.decode()

    @property
    def _query(self) -> str:
        """For tools that trace queries: the attribute's name in asyncpg."""
        return self._statement.query

    def get_query(self) -> str:
        """Return the text of the query."""
        return self._check("get_query").query

    def get_statusmsg(self) -> str | None:
        """Return the command tag of the last execution, such as "SELECT 1"; None before the first."""
        self._check("get_statusmsg")
        return self._status

    def get_parameters(self) -> tuple[Type, ...]:
        """Return the type of each parameter."""
        return tuple(Type(*fields) for fields in self._check("get_parameters").parameter_types())

    def get_attributes(self) -> tuple[Attribute, ...]:
        """Return the name and type of each column of the result; empty if it has none."""
        return tuple(
            Attribute(name, Type(oid, type_name, kind, schema))
            for name, oid, type_name, kind, schema in self._check("get_attributes").column_types()
        )

    @overload
    def cursor(
        self, *args: object, prefetch: int | None = None, timeout: float | None = None, row: None = None
    ) -> cursors.CursorFactory[RecordT_co]: ...

    @overload
    def cursor(
        self, *args: object, prefetch: int | None = None, timeout: float | None = None, row: type[T]
    ) -> cursors.CursorFactory[T]: ...

    def cursor(
        self,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        row: type[Any] | None = None,
    ) -> cursors.CursorFactory[Any]:
        """Return a cursor over the result, for `async for` or to be awaited. See `Connection.cursor()`."""
        self._check("cursor")
        return cursors.CursorFactory(
            self._connection,
            self._statement.query,
            self._statement,
            args,
            prefetch=prefetch,
            timeout=timeout,
            record_class=self._rows_as(None, row),
        )

    @overload
    def stream(
        self, *args: object, prefetch: int | None = None, timeout: float | None = None, row: None = None
    ) -> Stream[RecordT_co]: ...

    @overload
    def stream(
        self, *args: object, prefetch: int | None = None, timeout: float | None = None, row: type[T]
    ) -> Stream[T]: ...

    def stream(
        self,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        row: type[Any] | None = None,
    ) -> Stream[Any]:
        """Return the rows of the statement as an asynchronous iterator. See `Connection.stream()`."""
        statement = self._check("stream")
        rows = self._rows_as(None, row)
        return Stream(Rows(Unleased(self._connection), statement.query, args, rows, prefetch, timeout, statement))

    def stream_arrow(
        self,
        *args: object,
        batch_rows: int = BATCH_ROWS,
        timeout: float | None = None,
        decimal: tuple[int, int] | None = None,
        out_of_range: OutOfRange = "error",
    ) -> ArrowStream:
        """Return the rows of the statement as record batches. See `Connection.stream_arrow()`."""
        statement = self._check("stream_arrow")
        shape = batches(batch_rows, decimal, out_of_range)
        return ArrowStream(Rows(Unleased(self._connection), statement.query, args, shape, None, timeout, statement))

    async def explain(self, *args: object, analyze: bool = False) -> Any:
        """Return the server's plan for the statement as parsed JSON.

        With `analyze` the statement is executed, inside a transaction that is rolled back.
        """
        statement = self._check("explain")
        options = "FORMAT JSON, VERBOSE, ANALYZE" if analyze else "FORMAT JSON, VERBOSE"
        query = f"EXPLAIN ({options}) {statement.query}"
        if not analyze:
            return _parsed(await self._connection.fetchval(query, *args))
        transaction = Transaction(self._connection)
        await transaction.start()
        try:
            return _parsed(await self._connection.fetchval(query, *args))
        finally:
            await transaction.rollback()

    async def execute(self, *args: object, timeout: float | None = None) -> str:
        """Run the statement and return its command tag, such as "INSERT 0 1". Rows are discarded."""
        return await self._execute("execute", args, KIND_STATUS, 0, 0, self._record_class, timeout)  # type: ignore[no-any-return]

    @overload
    async def fetch(
        self, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> list[RecordT_co]: ...

    @overload
    async def fetch(
        self, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> list[R]: ...

    @overload
    async def fetch(
        self, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> list[T]: ...

    async def fetch(
        self,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run the statement and return all rows. See `Connection.fetch()` for the classes of rows."""
        rows = self._rows_as(record_class, row)
        return await self._execute("fetch", args, KIND_ROWS, 0, 0, rows, timeout)  # type: ignore[no-any-return]

    async def fetch_arrow(
        self,
        *args: object,
        timeout: float | None = None,
        decimal: tuple[int, int] | None = None,
        out_of_range: OutOfRange = "error",
    ) -> ArrowTable:
        """Run the statement and return all rows as columns in Arrow's format. See `Connection.fetch_arrow()`."""
        shape = ArrowShape(decimal, out_of_range)
        return await self._execute("fetch_arrow", args, KIND_ARROW, 0, 0, shape, timeout)  # type: ignore[no-any-return]

    @overload
    async def fetchrow(
        self, *args: object, timeout: float | None = None, record_class: None = None, row: None = None
    ) -> RecordT_co | None: ...

    @overload
    async def fetchrow(
        self, *args: object, timeout: float | None = None, record_class: type[R], row: None = None
    ) -> R | None: ...

    @overload
    async def fetchrow(
        self, *args: object, timeout: float | None = None, record_class: None = None, row: type[T]
    ) -> T | None: ...

    async def fetchrow(
        self,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Any:
        """Run the statement and return its first row; None if there is none."""
        rows = self._rows_as(record_class, row)
        return await self._execute("fetchrow", args, KIND_FIRST_ROW, 1, 0, rows, timeout)

    @overload
    async def fetchval(
        self, *args: object, column: int | str = 0, timeout: float | None = None, type: None = None
    ) -> Any: ...

    @overload
    async def fetchval(
        self, *args: object, column: int | str = 0, timeout: float | None = None, type: type[T]
    ) -> T | None: ...

    async def fetchval(
        self,
        *args: object,
        column: int | str = 0,
        timeout: float | None = None,
        type: type[Any] | None = None,
    ) -> Any:
        """Run the statement and return one column of its first row; None if there is no row.

        See `Connection.fetchval()` for the class of the value.
        """
        expected = None if type is None else value_class(type)
        value = await self._execute("fetchval", args, KIND_VALUE, 1, column, self._record_class, timeout)
        return value if expected is None else checked_value(value, expected)

    @overload
    async def fetchmany(
        self,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: None = None,
        row: None = None,
    ) -> list[RecordT_co]: ...

    @overload
    async def fetchmany(
        self,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: type[R],
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetchmany(
        self,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: None = None,
        row: type[T],
    ) -> list[T]: ...

    async def fetchmany(
        self,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run the statement for each element of `args`, as one atomic request, and return all rows.

        `args` is an iterable or asynchronous iterable. See `Connection.executemany()`, also for `transaction`.
        """
        statement = self._check("fetchmany")
        rows = self._rows_as(record_class, row)
        return await self._batch(statement, args, rows, True, timeout, transaction)  # type: ignore[no-any-return]

    async def executemany(self, args: Elements, *, timeout: float | None = None, transaction: bool = False) -> None:
        """Run the statement for each element of `args`, as one atomic request.

        `args` is an iterable or asynchronous iterable. See `Connection.executemany()`, also for `transaction`.
        """
        statement = self._check("executemany")
        await self._batch(statement, args, self._record_class, False, timeout, transaction)

    async def _batch(
        self,
        statement: Statement,
        args: Elements,
        rows: type[Record] | RowShape,
        collects: bool,
        timeout: float | None,
        transaction: bool,
    ) -> Any:
        connection = self._connection
        seconds = connection._timeout(timeout)
        driver = connection._driver
        begins = checked_transaction(transaction)
        if isinstance(args, AsyncIterable):
            result, self._status = await run_batch(
                driver, statement.query, args, rows, collects, seconds, statement, connection if begins else None
            )
            return result
        if begins:

            def queue(repeated: int) -> Request:
                return driver.batch(statement.query, args, rows, collects, statement, repeated)

            request, result = await run_in_transaction(connection, queue, seconds)
            self._status = request.status or None
            return result
        return await self._run(driver.batch(statement.query, args, rows, collects, statement=statement), seconds)

    async def _execute(
        self,
        method: str,
        args: tuple[object, ...],
        kind: int,
        limit: int,
        column: int | str,
        rows: type[Record] | RowShape,
        timeout: float | None,
    ) -> Any:
        statement = self._check(method)
        seconds = self._connection._timeout(timeout)
        request = self._connection._driver.execute_statement(statement, args, kind, limit, column, rows)
        return await self._run(request, seconds)

    def _rows_as(self, record_class: type[Record] | None, row: type[Any] | None) -> type[Record] | RowShape:
        if record_class is None and row is None:
            return self._record_class
        return self._connection._rows_as(record_class, row)


def _parsed(plan: Any) -> Any:
    """Return the plan as parsed JSON, whether or not a codec for json has already parsed it."""
    return json.loads(plan) if isinstance(plan, str) else plan
