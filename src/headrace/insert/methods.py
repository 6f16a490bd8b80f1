"""The way of the records into a table: by COPY, by arrays, one by one, or through a temporary table.

All of them have the same outcome, that of one INSERT for each record in turn. COPY is the fastest, where it does what
INSERT does. Otherwise a chunk of records is one array of the table's row type: it holds values of every type, arrays
and composites among them, and the server reads each value as COPY does. Records go one by one into a relation with
rules, and whenever an array cannot hold them or would not keep their order.

Source: PostgreSQL documentation, INSERT (sql-insert), COPY (sql-copy), SAVEPOINT.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from itertools import count
from operator import itemgetter
from secrets import token_hex
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace._client.introspection import learn_types
from headrace._client.timeouts import time_limit
from headrace._core.pipeline.copy import RowEncoder
from headrace._io.driver import KIND_ROWS, KIND_STATUS
from headrace.copy import command as copy_command
from headrace.copy.arguments import standard_strings
from headrace.copy.columns import explaining_names, prepared
from headrace.copy.records import copy_records
from headrace.exceptions import (
    ArgumentError,
    CardinalityViolationError,
    InterfaceError,
    InvalidColumnReferenceError,
    PostgresError,
)
from headrace.insert.command import Command, returning_list
from headrace.insert.conflict import Conflict
from headrace.insert.records import CHUNK_ROWS, Progress, Records
from headrace.insert.table import Table, described, has_rows_as_tuples
from headrace.rows import one_object_a_row

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.requests import Request
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape

    Lease = AbstractAsyncContextManager[ConnectionInterface]
    Place = Callable[[tuple[Any, ...]], tuple[Any, ...]] | None

CHUNKS_IN_FLIGHT = 3
RECORDS_IN_FLIGHT = 100
"""Statements of one record each."""

SAVEPOINT = "headrace_records"
"""The savepoint before a chunk that may name a row twice."""

NEXT_SAVEPOINT = f"RELEASE SAVEPOINT {SAVEPOINT}; SAVEPOINT {SAVEPOINT}"

_block_names = count(1)
_table_names = count(1)


async def insert_records(
    lease: Lease,
    table_name: str,
    schema_name: str | None,
    records: Iterable[Any] | AsyncIterable[Any],
    columns: Iterable[str] | None,
    conflict: Conflict,
    returning: str | Iterable[str] | None,
    rows: type[Record] | RowShape | None,
    ordered: bool | None,
    progress: Progress | None,
    timeout: float | None,
) -> Any:
    """Insert records; returns the number of rows, or the rows of `returning`. See `Connection.insert_records()`."""
    table = copy_command.table(table_name, schema_name)
    if columns is not None:
        columns = columns if isinstance(columns, (str, bytes)) else list(columns)
        copy_command.column_list(columns)  # refuses names that are none
    source = Records(records, progress)
    if returning is None:
        if rows is not None or ordered:
            raise InterfaceError("row, record_class and ordered are about the rows of RETURNING: pass returning=")
    else:
        returning = returning_list(returning)
        if ordered is None:
            ordered = True
        if ordered and conflict.is_possible:
            raise InterfaceError(
                "with on_conflict the rows do not correspond to the records: some may be missing",
                hint="Pass ordered=False, and return the columns that tell which row it is.",
            )
    async with lease as connection:
        seconds = connection._timeout(timeout)
        insertion = Insertion(
            connection, source, conflict, returning, one_object_a_row(connection._rows_as(rows)), bool(ordered)
        )
        async with time_limit(seconds, "insert_records()"), connection._insert_turn.taken():
            return await insertion.run(table, list(columns or ()))


class Chunk(NamedTuple):
    """Records on their way in one statement."""

    request: Request
    records: Sequence[tuple[Any, ...]]
    before: int
    """The number of records before them."""

    reply: asyncio.Task[Any] | None
    """Waits for the reply, if the records come from an asynchronous source."""


class Insertion:
    """One call of `insert_records()` on its connection."""

    def __init__(
        self,
        connection: ConnectionInterface,
        records: Records,
        conflict: Conflict,
        returning: str | None,
        rows: type[Record] | RowShape,
        ordered: bool,
    ) -> None:
        self._connection = connection
        self._driver = connection._driver
        self._records = records
        self._conflict = conflict
        self._returning = returning
        self._row_class = rows
        self._ordered = ordered
        self._rows: list[Any] = []
        self._count = 0
        self._settled = 0
        self._pending: deque[Chunk] = deque()
        self._repeatable = False
        """A statement must not update a row twice (21000). Records of one row are inserted one by one then."""
        self._savepoints: deque[Request] = deque(maxlen=CHUNKS_IN_FLIGHT)
        """The requests for the last savepoints."""
        self._statements: list[Statement] = []
        """The statements that were prepared for this call."""
        self._single: Statement | None = None
        """The INSERT of one record, once it is needed by the side of arrays."""
        self._waiting: asyncio.Timeout | None = None
        """Limits a wait for the source."""

    async def run(self, quoted: str, given: list[str]) -> Any:
        """Insert everything or nothing; `quoted` is the table, `given` the columns, none for all."""
        connection = self._connection
        driver = self._driver
        keys = await self._records.begin()
        async with AsyncExitStack() as block:
            in_transaction = bool(connection._transactions) or await connection._status() != "I"
            if in_transaction:
                await block.enter_async_context(await _all_or_nothing(connection))
            table = await described(driver, quoted)
            columns = given or (list(keys) if keys else None) or (table.writable if table is not None else [])
            if table is None or not columns or any(name not in table.columns for name in columns):
                await self._refused(quoted, columns, table)
                raise InterfaceError(f"{quoted} has no columns that records could be inserted into")
            unchecked = table.unchecked_by_copy(columns)
            await learn_types(driver, table.types_of([*columns, *unchecked]), None)
            self._records.into(table, columns, driver.session.types)
            if self._takes_copy(table, columns, unchecked):
                self._count = await self._by_copy(table.quoted, columns, unchecked)
            else:
                if not in_transaction:
                    await block.enter_async_context(await _all_or_nothing(connection))
                command = Command(table, columns, self._conflict, self._returning, standard_strings(connection))
                await self._by_insert(command)
        self._records.report(self._records.taken)
        return self._count if self._returning is None else self._rows

    async def _refused(self, quoted: str, columns: Sequence[str], table: Table | None) -> None:
        """Have the server say what is wrong with a name."""
        values = ", ".join(f"${i}" for i in range(1, len(columns) + 1))
        names = f" ({copy_command.column_list(columns)}) VALUES ({values})" if columns else " DEFAULT VALUES"
        with explaining_names(quoted, [] if table is None else list(table.columns)):
            await prepared(self._driver, f"INSERT INTO {quoted}{names}", None)

    # -- by COPY ---------------------------------------------------------------------------------------------------

    def _takes_copy(self, table: Table, columns: list[str], unchecked: list[str]) -> bool:
        if self._returning is not None or self._conflict.is_possible or not table.takes_copy(columns):
            return False
        given = columns + unchecked
        try:
            RowEncoder(self._driver.session.types, given, table.types_of(given), table.quoted)
        except InterfaceError:
            return False  # values of one column travel as text alone, those of another one in binary
        return True

    async def _by_copy(self, quoted: str, columns: list[str], unchecked: list[str]) -> int:
        given = columns + unchecked
        records = self._records.one_by_one(len(unchecked))
        if isinstance(records, AsyncGenerator):
            async with aclosing(records):
                return _number(await copy_records(self._connection, quoted, records, given, None, None))
        return _number(await copy_records(self._connection, quoted, records, given, None, None))

    # -- by INSERT -------------------------------------------------------------------------------------------------

    async def _by_insert(self, command: Command) -> None:
        table = command.table
        try:
            if self._conflict.refuses_duplicates and self._conflict.updates(command.columns):
                await self._through_temporary_table(command)
                return
            one_by_one = (
                table.has_rules
                or (self._ordered and table.may_return_in_any_order())
                or any(each.is_strict for name, each in table.columns.items() if name not in command.columns)
                or not await has_rows_as_tuples(self._driver, table)
            )
            if one_by_one:
                await self._one_by_one(command)
            else:
                await self._by_arrays(command)
        except BaseException as error:
            for chunk in self._pending:
                self._driver.give_up(chunk.request)
                if chunk.reply is not None:
                    chunk.reply.cancel()
            for request in self._savepoints:
                self._driver.give_up(request)
            if isinstance(error, InvalidColumnReferenceError) and error.hint is None and self._conflict.columns:
                error.hint = (
                    f"Name the columns of a unique index of {table.quoted} in on_conflict; a partial index also needs "
                    "its condition as where=."
                )
            raise
        finally:
            for statement in self._statements:
                self._driver.release(statement)

    async def _one_by_one(self, command: Command) -> None:
        statement = await self._statement(command.of_values())
        async with aclosing(self._records.chunks(RECORDS_IN_FLIGHT)) as chunks:
            while (records := await self._next(chunks)) is not None:
                await self._send_singly(statement, records, self._records.taken - len(records))
        await self._settle_all()

    async def _by_arrays(self, command: Command) -> None:
        statement = await self._statement(command.of_array())
        place = _placing(command)
        self._repeatable = self._conflict.updates(command.columns)
        if self._repeatable:
            self._driver.background(f"SAVEPOINT {SAVEPOINT}")
        async with aclosing(self._records.chunks(CHUNK_ROWS)) as chunks:
            while (records := await self._next(chunks)) is not None:
                self._send_array(statement, place, records, self._records.taken - len(records))
                if len(self._pending) >= CHUNKS_IN_FLIGHT:
                    await self._settle_array(command, statement, place)
        while self._pending:
            await self._settle_array(command, statement, place)

    def _send_array(self, statement: Statement, place: Place, records: Sequence[tuple[Any, ...]], before: int) -> None:
        self._send(statement, (records if place is None else list(map(place, records)),), records, before)
        if self._repeatable:
            # Nobody waits for its reply. An uncancellable request would keep the server from being stopped.
            self._savepoints.append(self._driver.simple_query(NEXT_SAVEPOINT))

    async def _settle_array(self, command: Command, statement: Statement, place: Place) -> None:
        """Wait for the oldest chunk; if it names a row twice, insert its records one by one."""
        first = self._pending[0]
        try:
            await self._settle()
            return
        except CardinalityViolationError:
            if not self._repeatable or len(first.records) == 1:
                raise
        # The chunks behind it have failed with the transaction.
        behind = list(self._pending)
        while self._pending:
            try:
                await self._reply(self._pending[0])
            except PostgresError as error:
                # One that could not be encoded is going to say so again.
                if error.sqlstate != "25P02" and not isinstance(error, ArgumentError):
                    raise
            self._pending.popleft()
        self._driver.background(f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")
        if self._single is None:
            self._single = await self._statement(command.of_values())
        await self._send_singly(self._single, first.records, first.before)
        await self._settle_all()
        self._driver.background(NEXT_SAVEPOINT)
        for chunk in behind:
            self._send_array(statement, place, chunk.records, chunk.before)

    async def _send_singly(self, statement: Statement, records: Sequence[tuple[Any, ...]], before: int) -> None:
        for record in records:
            if len(self._pending) >= RECORDS_IN_FLIGHT:
                await self._settle()
            self._send(statement, record, (record,), before)
            before += 1

    async def _settle_all(self) -> None:
        while self._pending:
            await self._settle()

    async def _statement(self, text: str) -> Statement:
        """Have the server prepare a statement of this call.

        One that was cached may have been described before the table was altered, and inside a transaction it could not
        be prepared again. All its uses are in one transaction, so that a pooler does not switch backends between them.
        """
        driver = self._driver
        statement = driver.hold(text, name=f"headrace_records_{token_hex(8)}")
        self._statements.append(statement)
        await driver.reply(driver.prepare(statement), None)
        return statement

    def _send(
        self, statement: Statement, args: tuple[Any, ...], records: Sequence[tuple[Any, ...]], before: int
    ) -> None:
        kind = KIND_STATUS if self._returning is None else KIND_ROWS
        try:
            request = self._driver.execute_statement(statement, args, kind, 0, 0, self._row_class)
        except ArgumentError as error:
            explained = self._explained(error, records, before)
            raise explained from explained.__cause__
        reply = None
        if self._records.is_asynchronous:
            reply = self._driver.loop.create_task(self._replied(request))
            reply.add_done_callback(self._interrupt)
        self._pending.append(Chunk(request, records, before, reply))

    async def _replied(self, request: Request) -> Any:
        return await self._driver.reply(request, None)

    async def _reply(self, chunk: Chunk) -> Any:
        return await (self._driver.reply(chunk.request, None) if chunk.reply is None else chunk.reply)

    async def _next(self, chunks: AsyncIterator[list[tuple[Any, ...]]]) -> list[tuple[Any, ...]] | None:
        """Return the next records, None at the end. A wait for them is interrupted by an error of those before."""
        if not self._records.is_asynchronous:
            return await anext(chunks, None)
        try:
            async with asyncio.timeout(None) as self._waiting:
                if self._has_failed_for_good():
                    raise TimeoutError
                return await anext(chunks, None)
        except TimeoutError:
            if self._has_failed_for_good():
                await self._settle_all()  # raises the error
            raise
        finally:
            self._waiting = None

    def _interrupt(self, reply: asyncio.Task[Any]) -> None:
        if self._has_failed(reply) and self._waiting is not None and not self._waiting.expired():
            self._waiting.reschedule(self._driver.loop.time())

    def _has_failed_for_good(self) -> bool:
        """Return whether any statement on its way has failed, so that no more records are needed."""
        return any(chunk.reply is not None and self._has_failed(chunk.reply) for chunk in self._pending)

    def _has_failed(self, reply: asyncio.Task[Any]) -> bool:
        error = reply.exception() if reply.done() and not reply.cancelled() else None
        if self._repeatable and isinstance(error, PostgresError):
            return error.sqlstate not in ("21000", "25P02")
        return error is not None

    async def _settle(self) -> None:
        """Wait for the oldest statement, and take its result."""
        _, records, before, _ = chunk = self._pending[0]
        try:
            result = await self._reply(chunk)
        except ArgumentError as error:
            self._pending.popleft()
            explained = self._explained(error, records, before)
            raise explained from explained.__cause__
        except Exception:
            self._pending.popleft()
            raise
        self._pending.popleft()
        if self._returning is None:
            self._count += _number(result)
        elif self._ordered and len(result) != len(records):
            raise InterfaceError(
                f"the server has returned {len(result)} rows for the records {before + 1} to {before + len(records)}: "
                "it is not known which rows belong to which records, and nothing was inserted",
                hint="A trigger or a rule leaves records out. Pass ordered=False if the order does not matter.",
            )
        else:
            self._rows += result
        self._settled = max(self._settled, before + len(records))
        self._records.report(self._settled)

    def _explained(self, error: Exception, records: Sequence[tuple[Any, ...]], before: int) -> Exception:
        """Return the error that names record, column and type."""
        found = self._records.error_of(records, before)
        return error if found is None else found

    # -- through a temporary table ---------------------------------------------------------------------------------

    async def _through_temporary_table(self, command: Command) -> None:
        """Insert everything by one statement, which the server refuses if it names a row twice."""
        driver = self._driver
        order = "headrace_ord"
        while order in command.columns:
            order += "_"
        names = [order, *command.columns]
        types = ["pg_catalog.int8", *(command.table.columns[name].type_name for name in command.columns)]
        name = f'"headrace_records_{next(_table_names)}"'
        quoted = f"pg_temp.{name}"
        columns = ", ".join(
            f"{copy_command.column_list([each])} {type_}" for each, type_ in zip(names, types, strict=True)
        )
        text = command.of_table(quoted, order)
        await driver.reply(driver.simple_query(f"CREATE TEMPORARY TABLE {name} ({columns}) ON COMMIT DROP"), None)
        async with aclosing(self._numbered()) as records:
            await copy_records(self._connection, quoted, records, names, None, None)
        statement = await prepared(driver, text, None)
        kind = KIND_STATUS if self._returning is None else KIND_ROWS
        try:
            result = await driver.reply(driver.execute_statement(statement, (), kind, 0, 0, self._row_class), None)
        except CardinalityViolationError as error:
            if error.hint is not None:  # a subquery that returns several rows has none
                error.hint = "Two of the records are of the same row. With on_duplicate='last' the last one wins."
            raise
        await driver.reply(driver.simple_query(f"DROP TABLE {quoted}"), None)
        if self._returning is None:
            self._count = _number(result)
        else:
            self._rows = result

    async def _numbered(self) -> AsyncGenerator[tuple[Any, ...], None]:
        number = 0
        async with aclosing(self._records.chunks(CHUNK_ROWS)) as chunks:
            async for records in chunks:
                for record in records:
                    number += 1
                    yield (number, *record)


def _number(tag: str) -> int:
    """Return the number of rows in a command tag."""
    return int(tag.rpartition(" ")[2])


def _placing(command: Command) -> Place:
    """Return the function from the values of a record to those of a whole row; None if they are the same."""
    given = {name: i for i, name in enumerate(command.columns)}
    omitted = len(command.columns)
    places = [given.get(name, omitted) for name in command.table.columns]
    if places == list(range(len(places))) and omitted == len(places):
        return None
    if len(places) == 1:
        return None
    pick = itemgetter(*places)
    return lambda record: pick((*record, None))


async def _all_or_nothing(connection: ConnectionInterface) -> AbstractAsyncContextManager[None]:
    """Return a transaction, or a savepoint inside an open one, also in one that was begun by a statement."""
    if connection._transactions or await connection._status() == "I":
        return connection.transaction()
    return _savepoint(connection)


@asynccontextmanager
async def _savepoint(connection: ConnectionInterface) -> AsyncIterator[None]:
    driver = connection._driver
    name = f"headrace_block_{next(_block_names):x}"
    undo = f"ROLLBACK TO SAVEPOINT {name}; RELEASE SAVEPOINT {name}"
    began = driver.simple_query(f"SAVEPOINT {name}")
    try:
        await driver.reply(began, None)
    except asyncio.CancelledError:
        if began.abandoned or began.status:
            driver.background(undo)
        raise
    try:
        yield
    except BaseException:
        driver.background(undo)
        raise
    await driver.reply(driver.simple_query(f"RELEASE SAVEPOINT {name}", uncancellable=True), None)
