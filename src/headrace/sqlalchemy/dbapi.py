"""The synchronous face of a connection, as SQLAlchemy wants it (PEP 249). It runs inside of SQLAlchemy's greenlets.

SQLAlchemy calls synchronous methods in a greenlet, and `await_` hands an awaitable to the event loop and waits for it.
The usual statement hands over nothing but its request, which is an awaitable itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Self

from sqlalchemy.engine import AdaptedConnection
from sqlalchemy.util.concurrency import in_greenlet

from headrace._core.rows.row_plan import Columns, RowPlan, RowShape, TuplePlan
from headrace._io.driver import KIND_ROWS
from headrace._version import __version__
from headrace.connection import Connection as DriverConnection
from headrace.connection import connect
from headrace.exceptions import InterfaceError, PostgresError
from headrace.sqlalchemy import errors
from headrace.sqlalchemy.errors import translated

try:
    from sqlalchemy.util.concurrency import await_ as await_
except ImportError:  # SQLAlchemy 2.0
    from sqlalchemy.util.concurrency import await_only as await_

if TYPE_CHECKING:
    from headrace._core.pipeline.statement_cache import Statement
    from headrace.cursor import Cursor as ServerCursor
    from headrace.transaction import Transaction

AUTOCOMMIT = "autocommit"

DescriptionItem = tuple[str, int, None, None, None, None, None]

NOT_PREPARED = ("SAVEPOINT ", "RELEASE SAVEPOINT ", "ROLLBACK TO SAVEPOINT ")
"""Beginnings of statements that are sent as simple queries: each has a name of its own, so no two are the same."""

GRACE = 2.0
"""Seconds that a connection may take to close before it is dropped."""


def description_of(statement: Statement) -> list[DescriptionItem] | None:
    """Return the description of a statement's columns as PEP 249 has it, None if it has none."""
    return [(column[0], column[3], None, None, None, None, None) for column in statement.columns] or None


def affected(status: str | None) -> int:
    """Return the number of rows that a command tag tells, -1 if it tells none."""
    count = (status or "").rpartition(" ")[2]
    return int(count) if count.isdecimal() else -1


def quoted(xid: str) -> str:
    """Return the name of a prepared transaction as a string constant of SQL."""
    text = xid.replace("\\", "\\\\").replace("'", "''")
    return f"E'{text}'"


class Tuples(RowShape):
    """Rows as tuples, which SQLAlchemy's rows keep without a copy."""

    def plan(self, columns: Columns) -> RowPlan:
        """Return the plan for rows of these columns."""
        return TuplePlan(columns, tuple, tuple(range(columns.count)))


TUPLES = Tuples()


class Rest:
    """The rest of a coroutine that has run until it awaits something for the first time."""

    __slots__ = ("_awaited", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], awaited: Any) -> None:
        self._coroutine = coroutine
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited = self._awaited
        while True:
            try:
                sent = yield awaited
            except GeneratorExit:
                self._coroutine.close()
                raise
            except BaseException as error:
                step: Callable[[Any], Any] = self._coroutine.throw
                sent = error
            else:
                step = self._coroutine.send
            try:
                awaited = step(sent)
            except StopIteration as end:
                return end.value


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of a coroutine that seldom has to wait. Only if it does is it handed to the event loop."""
    try:
        awaited = coroutine.send(None)
    except StopIteration as end:
        return end.value
    return await_(Rest(coroutine, awaited))


class Cursor:
    """One statement and its rows, all of which are fetched with it."""

    server_side = False
    __slots__ = ("_connection", "_next", "_rows", "arraysize", "description", "rowcount", "schema_version")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: list[Any] = []
        self._next = 0
        """The index of the row that is fetched next."""
        self.arraysize = 1
        self.description: list[DescriptionItem] | None = None
        self.rowcount = -1
        self.schema_version = 0

    @property
    def lastrowid(self) -> None:
        """None: PostgreSQL's tables have no row ids. RETURNING has the new ids."""
        return None

    def execute(self, operation: str, parameters: Sequence[Any] | None = None) -> None:
        """Run a statement. Raises the exceptions of PEP 249."""
        connection = self._connection
        raw = connection._connection
        driver = raw._driver
        try:
            connection.prepare_for(self.schema_version)
            if operation.startswith(NOT_PREPARED):
                await_(raw.execute(operation))
                return
            request = driver.query(operation, tuple(parameters) if parameters else (), KIND_ROWS, 0, 0, TUPLES)
            self._rows = await_(driver.reply(request, raw._command_timeout))
        except Exception as error:
            connection.reraise(error)
        self._next = 0
        self.description = description_of(request.statement)
        self.rowcount = affected(request.status)

    def executemany(self, operation: str, seq_of_parameters: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each sequence of parameters, in one request. The rows of RETURNING are in their order."""
        connection = self._connection
        raw = connection._connection
        driver = raw._driver
        try:
            connection.prepare_for(self.schema_version)
            request = driver.batch(operation, seq_of_parameters, TUPLES, True)
            self._rows = await_(driver.reply(request, raw._command_timeout))
        except Exception as error:
            connection.reraise(error)
        self._next = 0
        self.description = description_of(request.statement)
        self.rowcount = len(self._rows) if self.description is not None else -1

    def fetchone(self) -> Any:
        """Return the next row, None if there is none."""
        at = self._next
        if at == len(self._rows):
            return None
        self._next = at + 1
        return self._rows[at]

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return up to `size` rows."""
        at = self._next
        rows = self._rows[at : at + (self.arraysize if size is None else size)]
        self._next = at + len(rows)
        return rows

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        rows = self._rows[self._next :] if self._next else self._rows
        self._rows, self._next = [], 0
        return rows

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Forget the rows."""
        self._rows, self._next = [], 0

    async def _async_soft_close(self) -> None:
        """Do nothing: SQLAlchemy calls it when the rows are going to be read outside of a greenlet."""

    def setinputsizes(self, *sizes: Any) -> None:
        """Do nothing; types are in the statements."""

    def setoutputsize(self, size: Any, column: Any = None) -> None:
        """Do nothing."""


class ServerSideCursor(Cursor):
    """A cursor of the server, whose rows are fetched as they are asked for."""

    server_side = True
    __slots__ = ("_cursor", "_exhausted")

    BATCH = 1_000
    """Rows for each round trip of fetchall() and of iteration."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._cursor: ServerCursor[Any] | None = None
        self._exhausted = False

    def execute(self, operation: str, parameters: Sequence[Any] | None = None) -> None:
        """Open the cursor. Raises the exceptions of PEP 249."""
        connection = self._connection
        try:
            connection.prepare_for(self.schema_version)
            statement = await_(connection.driver_connection.prepare(operation))
            self.description = description_of(statement._statement)
            self._cursor = await_(statement.cursor(*parameters or ()))
        except Exception as error:
            connection.reraise(error)
        self.rowcount = -1

    def executemany(self, operation: str, seq_of_parameters: Iterable[Sequence[Any]]) -> None:
        """Raise NotSupportedError: a cursor is for one execution."""
        raise errors.NotSupportedError("a server-side cursor runs one statement: leave out stream_results for many")

    def _fill(self, count: int) -> None:
        """Fetch rows until there are `count`, or no more."""
        self._rows, self._next = self._rows[self._next :], 0
        missing = count - len(self._rows)
        if self._cursor is None or self._exhausted or missing <= 0:
            return
        rows = await_(self._connection.guarded(self._cursor.fetch(missing)))
        self._exhausted = len(rows) < missing
        self._rows += rows

    def fetchone(self) -> Any:
        """Return the next row, None if there is none."""
        if self._next == len(self._rows):
            self._fill(self.arraysize)
        return super().fetchone()

    def fetchmany(self, size: int | None = None) -> list[Any]:
        """Return up to `size` rows, in one round trip."""
        count = self.arraysize if size is None else size
        self._fill(count)
        return super().fetchmany(count)

    def fetchall(self) -> list[Any]:
        """Return the rows that are left."""
        found = super().fetchall()
        while self._cursor is not None and not self._exhausted:
            self._fill(self.BATCH)
            found += super().fetchall()
        return found

    def __iter__(self) -> Iterator[Any]:
        while True:
            if self._next == len(self._rows):
                self._fill(self.BATCH)
            if (row := super().fetchone()) is None:
                return
            yield row

    def close(self) -> None:
        """Forget the cursor, which the server closes at the end of the transaction at the latest."""
        super().close()
        self._cursor = None


class Connection(AdaptedConnection):
    """A connection of headrace as SQLAlchemy's pool keeps it.

    The first statement begins a transaction, as PEP 249 says, unless the isolation level is autocommit.
    """

    __slots__ = ("_transaction", "deferrable", "is_returning", "isolation_level", "readonly", "schema_version")

    def __init__(self, connection: DriverConnection) -> None:
        self._connection: Any = connection
        self._transaction: Transaction | None = None
        self.isolation_level: str | None = None
        """AUTOCOMMIT, a level of headrace's transactions, or None for the server's default."""
        self.readonly = False
        self.deferrable = False
        self.schema_version = 0
        self.is_returning = False
        """It is on its way back to SQLAlchemy's pool, and nobody waits for the ROLLBACK."""

    @property
    def driver_connection(self) -> Any:
        """The connection of headrace."""
        return self._connection

    @property
    def autocommit(self) -> bool:
        """True if statements are committed one by one."""
        return self.isolation_level == AUTOCOMMIT

    def cursor(self, server_side: bool = False) -> Cursor:
        """Return a new cursor."""
        return ServerSideCursor(self) if server_side else Cursor(self)

    def execute(self, operation: str, parameters: Sequence[Any] | None = None) -> Cursor:
        """Run a statement on a new cursor, and return it."""
        cursor = self.cursor()
        cursor.execute(operation, parameters)
        return cursor

    def reraise(self, error: Exception) -> NoReturn:
        """Raise the exception of PEP 249 for an error of headrace."""
        instead = translated(error)
        if self._connection.is_closed():
            self._transaction = None
            if isinstance(instead, errors.InterfaceError):
                instead = errors.OperationalError(str(error), error)
        if instead is error:
            raise error
        raise instead from error

    async def guarded(self, awaitable: Awaitable[Any]) -> Any:
        """Return the result of an awaitable. Its error becomes one of PEP 249."""
        try:
            return await awaitable
        except Exception as error:
            self.reraise(error)

    def prepare_for(self, schema_version: int) -> None:
        """Begin a transaction, unless there is one or statements are committed one by one.

        The prepared statements of an older schema are forgotten. Raises SQLAlchemy's MissingGreenlet outside of a
        greenlet, before anything is sent.
        """
        if not in_greenlet():
            await_(asyncio.sleep(0))
        if schema_version > self.schema_version:
            self.schema_version = schema_version
            run(self._connection.reload_schema_state())
        if self._transaction is not None or self.isolation_level == AUTOCOMMIT:
            return
        transaction = self._connection.transaction(
            isolation=self.isolation_level, readonly=self.readonly, deferrable=self.deferrable
        )
        run(transaction.start())
        self._transaction = transaction

    def commit(self) -> None:
        """Commit the transaction, if there is one."""
        self._end("commit")

    def rollback(self) -> None:
        """Roll back the transaction, if there is one."""
        self._end("rollback")

    def _end(self, how: str) -> None:
        transaction, self._transaction = self._transaction, None
        if self.is_returning and how == "rollback":
            # It includes what was begun on the driver's connection, and left open.
            self._connection._roll_back_unawaited()
        elif transaction is not None:
            try:
                await_(transaction.commit() if how == "commit" else transaction.rollback())
            except Exception as error:
                self.reraise(error)

    def prepare_transaction(self, xid: str) -> None:
        """Prepare the transaction for a COMMIT in two phases, which ends it on this connection."""
        try:
            self.prepare_for(self.schema_version)
            await_(self._connection.execute(f"PREPARE TRANSACTION {quoted(xid)}"))
        except Exception as error:
            self.reraise(error)
        # If the server has refused it, a rollback is still to come.
        transaction, self._transaction = self._transaction, None
        if transaction is not None:
            transaction._was_prepared()

    def end_prepared(self, command: str, xid: str) -> None:
        """COMMIT or ROLLBACK a transaction that was prepared, on this connection or another one."""
        self.rollback()
        await_(self.guarded(self._connection.execute(f"{command} PREPARED {quoted(xid)}")))

    def ping(self) -> None:
        """Have the server answer an empty query. Raises the exceptions of PEP 249."""
        await_(self.guarded(self._connection.execute("")))

    def set_isolation_level(self, level: str | None) -> None:
        """Set the level of the transactions from here on. The present one is rolled back."""
        self.rollback()
        self.isolation_level = level

    def close(self) -> None:
        """Close the connection."""
        self._transaction = None
        await_(self.guarded(self._connection.close()))

    def terminate(self) -> None:
        """Close the connection within GRACE seconds, or drop it. Outside of a greenlet nothing can wait: drop it."""
        self._transaction = None
        if not in_greenlet():
            self._connection.terminate()
            return
        try:
            await_(asyncio.shield(self._connection.close(timeout=GRACE)))
        except asyncio.CancelledError:
            self._connection.terminate()
            raise
        except (OSError, PostgresError, InterfaceError):
            self._connection.terminate()


class Module:
    """The module that PEP 249 demands of a driver."""

    apilevel = "2.0"
    threadsafety = 0
    paramstyle = "numeric_dollar"

    Warning = errors.Warning
    Error = errors.Error
    InterfaceError = errors.InterfaceError
    DatabaseError = errors.DatabaseError
    DataError = errors.DataError
    OperationalError = errors.OperationalError
    IntegrityError = errors.IntegrityError
    InternalError = errors.InternalError
    ProgrammingError = errors.ProgrammingError
    NotSupportedError = errors.NotSupportedError

    STRING = str
    NUMBER = float
    DATETIME = object

    __version__ = __version__

    def connect(
        self,
        *args: Any,
        async_creator_fn: Callable[..., Awaitable[DriverConnection]] | None = None,
        **kwargs: Any,
    ) -> Connection:
        """Open a connection by `headrace.connect()`, or by the coroutine function of `create_engine()`."""
        return await_(self._connect(async_creator_fn or connect, args, kwargs))

    async def _connect(
        self, creator: Callable[..., Awaitable[DriverConnection]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Connection:
        try:
            return Connection(await creator(*args, **kwargs))
        except Exception as error:
            instead = translated(error)
            if instead is error:
                raise
            raise instead from error

    def Binary(self, value: bytes) -> bytes:  # noqa: N802
        """Return the value: bytes are what `bytea` takes."""
        return value
