"""The connection: the public class and the function that makes it.

Calls on one connection may run at the same time, from `gather`, tasks or a TaskGroup. They are pipelined, and the
server runs them in the order of the calls.
"""

from __future__ import annotations

import asyncio
import warnings
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar, Unpack, overload

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs of all built-in types
from headrace._client.batch_transaction import checked_transaction, run_in_transaction
from headrace._client.forgotten_await import not_awaited
from headrace._client.introspection import type_oid
from headrace._client.listeners import Listener, Listeners
from headrace._client.queries import (
    EXECUTE,
    EXECUTEMANY,
    EXECUTEMANY_BEGINNING,
    FETCH,
    FETCH_ARROW,
    FETCH_EACH,
    FETCHMANY,
    FETCHMANY_BEGINNING,
    FETCHROW,
    FETCHROW_EACH,
    FETCHVAL,
    FETCHVAL_EACH,
    QUERY_METHODS,
    EachOptions,
    Queryable,
    QueryMethod,
    ResultIterator,
    checked_elements,
)
from headrace._client.query_hooks import OPENING, QueryHook
from headrace._client.query_log import (
    ConnectionHooks,
    QueryLogger,
    add_query_logger,
    named,
    remove_query_logger,
    watched_opening,
)
from headrace._client.query_log import LoggedQuery as LoggedQuery
from headrace._client.settings import ConnectionSettings
from headrace._client.streamed_batch import is_asynchronous, run_batch
from headrace._client.timeouts import checked_command_timeout, checked_timeout
from headrace._connect.connector import open_driver
from headrace._connect.limits import OutOfRange, SessionLimits, StatementMode
from headrace._connect.params.resolve import ConnectArguments, resolve
from headrace._connect.server_kind import ServerKind, server_kind
from headrace._core.arrow.result import ArrowShape, ArrowTable
from headrace._core.codecs.json_functions import JsonOption
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS, KIND_STATUS
from headrace._io.each import Each
from headrace._io.each_sender import ConnectionSender
from headrace._sql.named_parameters import bound, bound_each, unbound_text
from headrace.arrow import BATCH_ROWS, ArrowStream, batches
from headrace.arrow import OutOfRange as ArrowOutOfRange
from headrace.copy import CopyReader, CopyWriter
from headrace.copy import command as copy_command
from headrace.copy.methods import copy_columns, copy_query, copy_rows, copy_source, copy_table
from headrace.copy.sink import Sink
from headrace.copy.source import Source
from headrace.cursor import CursorFactory
from headrace.exceptions import FeatureNotSupportedError, InterfaceError, InterfaceWarning
from headrace.exceptions._values import shown
from headrace.insert.conflict import Conflict, OnConflict, OnDuplicate, Update
from headrace.insert.turn import Turn
from headrace.prepared_stmt import PreparedStatement
from headrace.rows import checked_record_class, rows_as
from headrace.rows.type_vars import RecordT, RecordT_co
from headrace.rows.values import checked_value, value_class
from headrace.stream import Rows, Stream, StreamLease, Unleased, released
from headrace.transaction import Transaction
from headrace.types import ServerVersion, parse_server_version

if TYPE_CHECKING:
    from headrace._client.session_state import SessionState
    from headrace._connect.hosts import Place
    from headrace._connect.params.resolve import Address, ConnectParams
    from headrace._core.pipeline.requests import Request
    from headrace._core.rows.row_plan import RowShape
    from headrace._io.driver import Driver
    from headrace._sql.named_parameters import AnyQuery
    from headrace.copy.arrow import ArrowData
    from headrace.exceptions import PostgresLogMessage

T = TypeVar("T")
R = TypeVar("R", bound=Record)
C = TypeVar("C", bound="Connection[Any]")

Element = Sequence[object] | Mapping[str, object]
Elements = Iterable[Element] | AsyncIterable[Element]
Columns = Iterable[str] | None
Force = Iterable[str] | bool | None

WINDOW = 4096
"""Elements of fetch_each() and its kin that may be under way."""


class Connection(Generic[RecordT_co]):
    """A connection to a PostgreSQL server; made by `headrace.connect()`.

    Every method that sends a request to the server is a coroutine function. It takes at most `timeout` seconds, by
    default the connection's `command_timeout`, and raises TimeoutError after that. A call that is cancelled or times
    out does not disturb other calls: its request is withdrawn, its reply is drained, or the server is stopped by a
    CancelRequest. The connection stays usable; it is closed if the outcome of the cancellation is uncertain.

    Methods raise InterfaceError for wrong use, such as a call on a closed connection, ArgumentError for a value that
    does not fit its parameter, and ValueError for a `timeout` that is not a number of seconds, all before anything is
    sent. They raise the PostgresError of the SQLSTATE if the server reports an error. They raise
    ConnectionDoesNotExistError if the connection is lost; the error says whether the request had been sent.

    Source: PostgreSQL documentation, "Message Flow" (protocol-flow), "Pipelining" in particular.
    """

    _initial_state: SessionState | None = None
    """The state of the session that each caller of a pool gets; None if it is not known."""
    _strict_transactions = False
    _place: Place | None = None
    """The socket address that it is connected to, and the host that this belongs to."""
    _reset_query: str | None = None
    _lost_callback: Callable[[Connection], None] | None = None
    _lost_with: object = None
    """The reason of the loss: an exception or a text."""

    def __init__(
        self,
        driver: Driver,
        params: ConnectParams,
        *,
        record_class: type[RecordT_co] = Record,  # type: ignore[assignment]
        command_timeout: float | None = None,
        address: Address | None = None,
    ) -> None:
        self._driver = driver
        self._params = params
        self._address = address if address is not None else params.addresses[0]
        self._record_class = record_class
        self._command_timeout = command_timeout
        self._listeners = Listeners(driver.loop)
        self._hooks = ConnectionHooks(OPENING.get(), driver, params, self._addr)

        self._transactions: list[Any] = []
        """An `OpenTransaction` for each open transaction, the outermost first."""
        self._overlap: InterfaceError | None = None
        """The error of transactions of two tasks that have overlapped; None again once all of them have ended."""
        self._rollback_sent = -1
        """The driver's count of requests just behind a ROLLBACK that nobody waits for."""
        self._reported_overlaps: set[tuple[str, str]] = set()
        """Pairs of call sites whose transactions have overlapped and for which the log has a warning."""

        self._copied_as_text: set[str] = set()
        """The COPYs of rows, in the binary format, that had to be in the text format when they were last run."""
        self._insert_turn = Turn()

        self._proxy: Callable[[], object] | None = None
        """A weak reference to the pool's proxy during a lease."""
        self._term: object = object()
        """The lease outside of a pool, and between two leases of one."""
        self._reset_at = 0
        """The request count after the reset of the last lease. The reset may still be in flight."""
        self._left_managed = False
        """The last lease ended inside a transaction of an `async with` block."""
        self._left_unsent = False
        """The last lease ended inside a transaction whose BEGIN had not been sent."""
        driver.attach(self)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed() else f"pid:{self._driver.session.types.backend_pid}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {state} {id(self):#x}>"

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # Attributes are missing if __init__ never ran, or that of a subclass.
        driver = getattr(self, "_driver", None)
        if driver is not None and not driver.is_closed:
            # The event loop would keep the socket and the backend open for as long as it runs.
            warn(f"unclosed connection {self!r}", ResourceWarning, stacklevel=2, source=self)
            driver.forgotten()

    # -- queries: Pool has the same methods ------------------------------------------------------------------------

    async def execute(self: Queryable, query: AnyQuery, *args: object, timeout: float | None = None) -> str:
        """Run a query and return the last command tag, such as "INSERT 0 1".

        Without arguments the text may hold several statements, which run as one implicit transaction
        (protocol-flow-multi-statement). With arguments it holds one.
        """
        return await self._request(EXECUTE, query, args, 0, None, timeout)  # type: ignore[no-any-return]

    async def executemany(
        self: Queryable,
        command: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
    ) -> None:
        """Run a command once for each element of `args`. If one of them fails, none has any effect.

        An element is a sequence of arguments. For a `sql()` with named parameters it is a mapping with a value for each
        name. Elements are encoded while the server works on those before; one that cannot be encoded undoes all.

        `args` may be an asynchronous iterable. An exception that it raises undoes all and is raised here. Elements are
        sent in chunks of some 64 kB, and `timeout` covers the waits for them. Before the first chunk is full, nothing
        is sent. From then on the calls of other tasks on this connection wait for the end. A call on this connection
        from within the iterable would wait for itself; it raises InterfaceError. On a pool this takes a lease.

        Without `transaction` the server runs all of it as one implicit transaction. Citus has none for several
        statements, so there it is not atomic. With `transaction=True` it is: BEGIN and COMMIT are sent with it, which
        costs no round trip. In an open transaction they are not sent. On a pool this takes a lease. An error of COMMIT,
        such as that of a deferred constraint, is raised here. A cancellation or a time-out rolls back, unless COMMIT
        has been reached.
        """
        method = EXECUTEMANY_BEGINNING if checked_transaction(transaction) else EXECUTEMANY
        return await self._request(method, command, args, 0, None, timeout)  # type: ignore[no-any-return]

    @overload
    async def fetch(
        self: Queryable[R],
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetch(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetch(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> list[T]: ...

    async def fetch(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run a query and return all rows, as `Record`s or as objects of the class that is passed.

        `record_class` is a subclass of `Record`. `row` is a dataclass, NamedTuple, TypedDict, attrs, msgspec or
        pydantic class, whose fields get the columns of their names. If fields and columns differ, InterfaceError names
        them before the query runs.

        Columns such as `skus__id` fill the field `skus`, a list of objects. Consecutive rows that agree in the other
        columns are one object then. If such rows are not consecutive, InterfaceError is raised. TypeError is raised
        before the query runs if all columns of the list may be NULL.
        """
        rows = record_class if row is None else rows_as(row, record_class)
        return await self._request(FETCH, query, args, 0, rows, timeout)  # type: ignore[no-any-return]

    @overload
    async def fetchmany(
        self: Queryable[R],
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: None = None,
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetchmany(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: type[R],
        row: None = None,
    ) -> list[R]: ...

    @overload
    async def fetchmany(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: None = None,
        row: type[T],
    ) -> list[T]: ...

    async def fetchmany(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        transaction: bool = False,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> list[Any]:
        """Run a query once for each element of `args`, as one atomic request; returns the rows of all, in order.

        See `executemany()` for the elements and `transaction`, and `fetch()` for the rows.
        """
        rows = record_class if row is None else rows_as(row, record_class)
        method = FETCHMANY_BEGINNING if checked_transaction(transaction) else FETCHMANY
        return await self._request(method, query, args, 0, rows, timeout)  # type: ignore[no-any-return]

    @overload
    async def fetchrow(
        self: Queryable[R],
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> R | None: ...

    @overload
    async def fetchrow(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> R | None: ...

    @overload
    async def fetchrow(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> T | None: ...

    async def fetchrow(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Any:
        """Run a query and return its first row, or None if there is no row. See `fetch()` for the row's class.

        An object with a list has all its rows; the rows of other objects are passed over.
        """
        rows = record_class if row is None else rows_as(row, record_class)
        return await self._request(FETCHROW, query, args, 0, rows, timeout)

    @overload
    async def fetchval(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        column: int | str = 0,
        timeout: float | None = None,
        type: None = None,
    ) -> Any: ...

    @overload
    async def fetchval(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        column: int | str = 0,
        timeout: float | None = None,
        type: type[T],
    ) -> T | None: ...

    async def fetchval(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        column: int | str = 0,
        timeout: float | None = None,
        type: type[Any] | None = None,
    ) -> Any:
        """Run a query and return one column (by index or name) of its first row, or None if there is no row.

        `type` is the class that the value is expected to have, unless it is None. The value is not converted: if it is
        of another class, InterfaceError is raised after the query has run. Of `list[int]` only the list is checked.

        Raises IndexError or KeyError if there is no such column.
        """
        if type is None:
            return await self._request(FETCHVAL, query, args, column, None, timeout)
        expected = value_class(type)
        return checked_value(await self._request(FETCHVAL, query, args, column, None, timeout), expected)

    @overload
    def fetch_each(
        self: Queryable[R],
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
        return_errors: Literal[False] = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[list[R]]: ...

    @overload
    def fetch_each(
        self: Queryable[R],
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
        return_errors: Literal[True],
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[list[R] | Exception]: ...

    @overload
    def fetch_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
        return_errors: Literal[False] = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[list[R]]: ...

    @overload
    def fetch_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
        return_errors: Literal[True],
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[list[R] | Exception]: ...

    @overload
    def fetch_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
        return_errors: Literal[False] = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[list[T]]: ...

    @overload
    def fetch_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
        return_errors: Literal[True],
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[list[T] | Exception]: ...

    def fetch_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
        return_errors: bool = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[Any]:
        """Return an asynchronous iterator over the rows of a query, a list of them for each element of `args`.

        `async for rows in pool.fetch_each(query, ((key,) for key in keys))` gets the lists in the order of the
        elements, while the requests for more elements are under way. No task is made for them. `args` is an iterable or
        asynchronous iterable of sequences, or of mappings for a `sql()` with named parameters. It may have millions of
        elements: it is read as results are taken. At most `window` elements are under way or wait to be taken, and
        fewer if their rows are expected to take more than 16 MB.

        Plain reads are pipelined, and several of them share a round trip. On a pool they are spread over its
        connections. Anything else is sent one element at a time on each connection, so on a pool the elements run
        concurrently, in no certain order. With `pipeline_writes` they are pipelined on one connection, which a pool
        leases for them. Then the end of the connection makes the outcome of several elements unknown, and a deadlock
        with a lease of the same program is possible.

        The error of an element is raised in its turn and ends the iteration. Notes on it name the number of the
        element, and later elements that had been sent. With `return_errors` the error takes the place of the result and
        the iteration goes on, unless it has failed an open transaction block, or the connection is lost.

        `timeout` limits the wait for each result: TimeoutError ends the iteration. If the iteration ends early, by an
        error, a `break`, a cancellation or `aclose()`, requests that were not sent never run, and plain reads are
        cancelled. Other requests that were sent go on; `aclose()` and the error of an element wait for them. A
        cancellation or time-out cancels them on the server.

        Raises TypeError if `args` cannot be iterated, ValueError for a `window` that is no positive number, and
        InterfaceError if another task is waiting for a result of the iterator, or if the connection was released to its
        pool meanwhile. See docs/each.md.
        Source: PostgreSQL documentation, "Pipelining" (protocol-flow-pipelining).
        """
        rows = record_class if row is None else rows_as(row, record_class)
        options = EachOptions(timeout, return_errors, pipeline_writes, window)
        return self._each(FETCH_EACH, query, args, 0, rows, options)

    @overload
    def fetchrow_each(
        self: Queryable[R],
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
        return_errors: Literal[False] = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[R | None]: ...

    @overload
    def fetchrow_each(
        self: Queryable[R],
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
        return_errors: Literal[True],
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[R | Exception | None]: ...

    @overload
    def fetchrow_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
        return_errors: Literal[False] = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[R | None]: ...

    @overload
    def fetchrow_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
        return_errors: Literal[True],
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[R | Exception | None]: ...

    @overload
    def fetchrow_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
        return_errors: Literal[False] = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[T | None]: ...

    @overload
    def fetchrow_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
        return_errors: Literal[True],
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[T | Exception | None]: ...

    def fetchrow_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
        return_errors: bool = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[Any]:
        """Return an asynchronous iterator over the first row, or None, for each element of `args`.

        See `fetch_each()`.
        """
        rows = record_class if row is None else rows_as(row, record_class)
        options = EachOptions(timeout, return_errors, pipeline_writes, window)
        return self._each(FETCHROW_EACH, query, args, 0, rows, options)

    def fetchval_each(
        self: Queryable,
        query: AnyQuery,
        args: Elements,
        *,
        timeout: float | None = None,
        column: int | str = 0,
        return_errors: bool = False,
        pipeline_writes: bool = False,
        window: int = WINDOW,
    ) -> ResultIterator[Any]:
        """Return an asynchronous iterator over one column of the first row for each element of `args`.

        It is None for an element without rows. See `fetch_each()`."""
        options = EachOptions(timeout, return_errors, pipeline_writes, window)
        return self._each(FETCHVAL_EACH, query, args, column, None, options)

    # -- streams: Pool has the same method --------------------------------------------------------------------------

    @overload
    def stream(
        self: Queryable[R],
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> Stream[R]: ...

    @overload
    def stream(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> Stream[R]: ...

    @overload
    def stream(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> Stream[T]: ...

    def stream(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> Stream[Any]:
        """Return the rows of a query as an asynchronous iterator, in memory that does not grow with their number.

        `async for row in connection.stream(...)` reads them. `async with connection.stream(...) as rows:` also ends the
        stream at the end of the block. See `fetch()` for the rows. Objects with lists are those of consecutive rows: an
        object whose rows are not consecutive comes twice.

        Outside of a transaction the query is executed once, and the stream has the connection to itself until its end.
        The server waits while the reader is slow: some 256 kB of rows are read ahead, or `prefetch` rows. Calls of
        other tasks on the connection wait for the end. A call of the task that reads would wait for itself; it raises
        InterfaceError, and so does one of a task that was made between two rows. A pool takes a lease for the stream.
        Inside a transaction the rows are those of a cursor, which fetches `prefetch` rows at a time, by default as many
        as take 128 kB, between 50 and 1,000. Other queries run between these batches.

        Ending early, by a `break`, an exception, a cancellation or `aclose()`, frees the connection: the query is
        cancelled on the server, and the connection is closed if that is not confirmed within five seconds. A statement
        that writes has been carried out then as a whole, or not at all. Inside a transaction the cursor is closed
        instead.

        `timeout` limits each wait for rows, and on a pool the wait for a connection; TimeoutError ends the stream. The
        server's `statement_timeout` and the snapshot of the query last as long as the reader takes. An error in the
        middle, of the server, of a value or of the connection, is raised after the rows before it.

        Raises InterfaceError for a `prefetch` that is no positive number, and if the connection was released to its
        pool meanwhile. Source: PostgreSQL documentation, "Extended Query" (protocol-flow-ext-query).
        """
        rows = record_class if row is None else rows_as(row, record_class)
        query, args = bound(query, args)
        return Stream(Rows(self._for_stream(query), query, args, rows, prefetch, timeout))

    async def fetch_arrow(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        timeout: float | None = None,
        decimal: tuple[int, int] | None = None,
        out_of_range: ArrowOutOfRange = "error",
    ) -> ArrowTable:
        """Run a query and return all rows as columns in Arrow's format.

        `polars.DataFrame(result)`, `pyarrow.table(result)`, DuckDB, pandas and others take the result, by the Arrow
        PyCapsule interface and without a copy. headrace needs none of them. A result of no rows has its columns, and
        that of a statement that returns no rows has none.

        docs/arrow.md has the Arrow type of each PostgreSQL type. A numeric whose scale is declared is a decimal.
        `decimal=(precision, scale)` makes decimals of the others, which are text without it; digits behind the scale
        are rounded, as by a cast in the server. `out_of_range` is for values that the Arrow type cannot hold, such as
        infinity in a date or NaN in a decimal: "error", "null" or "saturate" (the nearest value, and NULL for NaN).

        Raises UnrepresentableValueError, which is a DataError, for such a value; it names the row and the column, and
        only this query fails. Raises ValueError for options that make no sense. A new query takes two round trips. On
        a pool it goes to an idle connection. Cancellation is as for `fetch()`. Source: Apache Arrow, "The Arrow
        PyCapsule Interface".
        """
        shape = ArrowShape(decimal, out_of_range)
        return await self._request(FETCH_ARROW, query, args, 0, shape, timeout)  # type: ignore[no-any-return]

    def stream_arrow(
        self: Queryable,
        query: AnyQuery,
        *args: object,
        batch_rows: int = BATCH_ROWS,
        timeout: float | None = None,
        decimal: tuple[int, int] | None = None,
        out_of_range: ArrowOutOfRange = "error",
    ) -> ArrowStream:
        """Return the rows of a query as record batches in Arrow's format: `async for batch in ...`, or `async with`.

        A batch has `batch_rows` rows, and the last one those that are left. Memory is bounded: outside of a transaction
        the next two are read while you have one, or 256 kB of smaller ones. Inside a transaction each batch is a
        request of its own, and other queries run in between. In all else it is a stream as `stream()` returns it:
        ownership of the connection, the lease of a pool, `timeout`, cancellation and ending early are the same.

        The other options are those of `fetch_arrow()`. An error in the middle, of the server, of a value or of the
        connection, is raised after the batches that were complete before it. Raises ValueError for bad `batch_rows`,
        and InterfaceError for a query that returns no rows. Source: PostgreSQL documentation, "Extended Query"
        (protocol-flow-ext-query).
        """
        shape = batches(batch_rows, decimal, out_of_range)
        query, args = bound(query, args)
        return ArrowStream(Rows(self._for_stream(query), query, args, shape, None, timeout))

    # -- cursors, statements, transactions -------------------------------------------------------------------------

    @overload
    def cursor(
        self,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> CursorFactory[RecordT_co]: ...

    @overload
    def cursor(
        self,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> CursorFactory[R]: ...

    @overload
    def cursor(
        self,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> CursorFactory[T]: ...

    def cursor(
        self,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> CursorFactory[Any]:
        """Return a cursor over the rows of a query. It needs a transaction (NoActiveSQLTransactionError without one).

        `async for row in connection.cursor(...)` fetches `prefetch` rows at a time. By default it fetches 50 at first,
        and then as many as take 128 kB, between 50 and 1,000.
        `cursor = await connection.cursor(...)` has fetch(n), fetchrow() and forward(n). See `fetch()` for the rows.
        """
        self._check_open()
        rows = self._rows_as(record_class, row)
        query, args = bound(query, args)
        return CursorFactory(self, query, None, args, prefetch=prefetch, timeout=timeout, record_class=rows)

    @overload
    async def prepare(
        self, query: str, *, name: str | None = None, timeout: float | None = None, record_class: None = None
    ) -> PreparedStatement[RecordT_co]: ...

    @overload
    async def prepare(
        self, query: str, *, name: str | None = None, timeout: float | None = None, record_class: type[R]
    ) -> PreparedStatement[R]: ...

    async def prepare(
        self,
        query: str,
        *,
        name: str | bool | None = None,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
    ) -> PreparedStatement[Any]:
        """Have the server parse a query; returns the prepared statement.

        `name` is its name on the server. With None or True it is chosen here; None leaves the statement unnamed if the
        statement cache is off. With False it is unnamed: the server parses it at each execution. Raises
        DuplicatePreparedStatementError if the name is in use. The statement lives as long as the object that is
        returned (sql-prepare).
        """
        if name is not None and not isinstance(name, (str, bool)):
            raise InterfaceError(f"name is expected to be a str, True, False or None, got {shown(name)}")
        rows = self._rows_as(record_class)
        seconds = self._timeout(timeout)
        driver = self._driver
        text = unbound_text(query, "prepare()")
        statement = driver.hold(text, named=name is None or bool(name), name=name or None)
        watched = driver.observer.start("prepare", text, (), seconds) if driver.observer is not None else None
        failure: BaseException | None = None
        try:
            await driver.reply(driver.prepare(statement), seconds)
        except BaseException as error:
            failure = error
            driver.release(statement)
            raise
        finally:
            if watched is not None:
                watched.end(failure)
            del failure
        return PreparedStatement(self, statement, rows)

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return a transaction, to be used by `async with` or by hand; inside another one it is a savepoint.

        The transactions of several tasks must not overlap: see `Transaction`. A task may find a transaction open that
        it neither has opened nor was created in. It then gets a savepoint in that one, and the log a warning that names
        both call sites; with `strict_transactions` it gets an InterfaceError.

        `isolation`: 'serializable', 'repeatable_read', 'read_committed' or 'read_uncommitted' (ValueError for anything
        else); None for the server's default. Source: PostgreSQL documentation, BEGIN and SAVEPOINT.
        """
        self._check_open()
        return Transaction(self, isolation, readonly, deferrable)

    def is_in_transaction(self) -> bool:
        """Return whether a transaction block is open.

        It is from `start()` of a transaction on, and otherwise according to the last reply of the server.
        """
        driver = self._driver
        if driver.session.commands.is_open:
            return True
        if driver.request_count - driver.pending < self._reset_at:
            return False  # the last reply belongs to the lease before
        return driver.session.commands.status in ("T", "E")

    # -- COPY: Pool has the same methods ---------------------------------------------------------------------------

    async def copy_from_table(
        self: Queryable,
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

        `output` is a path, an object with write(), or a function that takes bytes; write() and the function may be
        coroutine functions. A path is opened once the server has begun to send. A slow output slows the server down.

        The options of the COPY methods are those of COPY (sql-copy), by the same names. A COPY has its connection to
        itself: it waits for the requests before it, and those after it wait for it. On a pool it takes a lease. An
        error in the source or output is raised here. Like a time-out and a cancellation it ends the COPY: a table keeps
        nothing of it, and the connection stays usable.
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
        return await copy_table(self._for_copy(), table_name, schema_name, columns, output, options, timeout)

    async def copy_from_query(
        self: Queryable,
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

        `args` are the query's arguments; the server turns them into constants. See `copy_from_table()`.
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
        return await copy_query(self._for_copy(), query, args, output, options, timeout)

    async def copy_to_table(
        self: Queryable,
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
        that returns bytes, and no bytes at the end. read() and the function may be coroutine functions. `where` is an
        SQL condition that rows must meet. `default` needs PostgreSQL 16, `on_error` and `log_verbosity` 17,
        `reject_limit` 18.
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
        return await copy_source(self._for_copy(), table_name, schema_name, columns, source, where, options, timeout)

    async def copy_records_to_table(
        self: Queryable,
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
        (by default all columns that the server does not compute). Values are encoded like the arguments of a query, by
        custom codecs too, and sent in chunks. Raises ArgumentError for a row that does not fit; it names the row by its
        number from 1, the column and its type.
        """
        return await copy_rows(self._for_copy(), table_name, schema_name, columns, records, where, timeout)

    async def copy_arrow_to_table(
        self: Queryable,
        table_name: str,
        data: ArrowData,
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Copy columns in Arrow's layout into a table; returns the command tag, such as "COPY 3".

        `data` is any object of the Arrow PyCapsule interface: a Table, RecordBatch or RecordBatchReader of pyarrow, a
        DataFrame of polars or pandas, a relation of DuckDB. Its columns, or those named by `columns`, go into the
        table's columns of the same names, and the table's other columns get their defaults. Compiled code writes them
        in COPY's binary format; codecs that were set play no part. The data is asked for a batch at a time, in a
        thread, and one batch is held in memory. `timeout` is in seconds, and covers everything.

        Raises TypeError for data without the interface. Raises InterfaceError for names that the data lacks or has
        twice, and for an error of its stream, UndefinedColumnError for columns that the table lacks, and ArgumentError
        if types do not fit, which lists all such columns, or for a value that does not, with its row, counted from 1,
        and its column. After an error, a cancellation or a time-out the table keeps nothing of the COPY. The thread
        cannot be interrupted: a stream that is computing a batch is released when it returns.

        Source: Apache Arrow, "The Arrow PyCapsule interface"; PostgreSQL documentation, COPY (sql-copy).
        """
        return await copy_columns(self._for_copy(), table_name, schema_name, columns, data, timeout)

    def copy_in(
        self: Queryable,
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

        Inside the block `await copy.write_row((1, "two"))` writes rows of Python values. With a `format`, and the other
        options of `copy_to_table()`, `await copy.write(data)` writes bytes. `copy.rows` and `copy.bytes_sent` show the
        progress.
        """
        given: Mapping[str, object] = {"format": format, **options}
        return CopyWriter(self._for_copy(), copy_command.table(table_name, schema_name), columns, where, given, timeout)

    @overload
    def copy_out(
        self: Queryable[R],
        query: AnyQuery,
        *args: Any,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> CopyReader[R]: ...

    @overload
    def copy_out(
        self: Queryable,
        query: AnyQuery,
        *args: Any,
        timeout: float | None = None,
        record_class: type[R],
        row: None = None,
    ) -> CopyReader[R]: ...

    @overload
    def copy_out(
        self: Queryable,
        query: AnyQuery,
        *args: Any,
        timeout: float | None = None,
        record_class: None = None,
        row: type[T],
    ) -> CopyReader[T]: ...

    def copy_out(
        self: Queryable,
        query: AnyQuery,
        *args: Any,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
        row: type[Any] | None = None,
    ) -> CopyReader[Any]:
        """Return the rows of a query by way of COPY: `async for row in connection.copy_out(...)`.

        This is faster than a cursor and needs as little memory. It needs no transaction, and keeps the connection for
        itself until the end. See `fetch()` for the rows.
        """
        rows = record_class if row is None else rows_as(row, record_class)
        query, args = bound(query, args)
        return CopyReader(self._for_copy(), query, args, rows, timeout)

    # -- INSERT of many records: Pool has the same method ----------------------------------------------------------

    @overload
    async def insert_records(
        self: Queryable,
        table_name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        on_conflict: OnConflict | None = None,
        update: Update | None = None,
        constraint: str | None = None,
        where: str | None = None,
        on_duplicate: OnDuplicate = "last",
        returning: None = None,
        row: None = None,
        record_class: None = None,
        ordered: bool | None = None,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> int: ...

    @overload
    async def insert_records(
        self: Queryable,
        table_name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        on_conflict: OnConflict | None = None,
        update: Update | None = None,
        constraint: str | None = None,
        where: str | None = None,
        on_duplicate: OnDuplicate = "last",
        returning: str | Iterable[str],
        row: None = None,
        record_class: None = None,
        ordered: bool | None = None,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> list[Record]: ...

    @overload
    async def insert_records(
        self: Queryable,
        table_name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        on_conflict: OnConflict | None = None,
        update: Update | None = None,
        constraint: str | None = None,
        where: str | None = None,
        on_duplicate: OnDuplicate = "last",
        returning: str | Iterable[str],
        row: None = None,
        record_class: type[R],
        ordered: bool | None = None,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> list[R]: ...

    @overload
    async def insert_records(
        self: Queryable,
        table_name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        on_conflict: OnConflict | None = None,
        update: Update | None = None,
        constraint: str | None = None,
        where: str | None = None,
        on_duplicate: OnDuplicate = "last",
        returning: str | Iterable[str],
        row: type[T],
        record_class: None = None,
        ordered: bool | None = None,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> list[T]: ...

    async def insert_records(
        self: Queryable,
        table_name: str,
        records: Iterable[Any] | AsyncIterable[Any],
        *,
        columns: Columns = None,
        schema_name: str | None = None,
        on_conflict: OnConflict | None = None,
        update: Update | None = None,
        constraint: str | None = None,
        where: str | None = None,
        on_duplicate: OnDuplicate = "last",
        returning: str | Iterable[str] | None = None,
        row: type[Any] | None = None,
        record_class: type[Record] | None = None,
        ordered: bool | None = None,
        progress: Callable[[int], object] | None = None,
        timeout: float | None = None,
    ) -> int | list[Any]:
        """Insert records into a table, all or none; returns the number of rows, or the rows that `returning` asks for.

        `records` is an iterable or asynchronous iterable of tuples, lists or Records with a value for each of
        `columns`, or of mappings with these keys. By default the columns are the keys of the first mapping, or all
        columns that the server does not compute. Columns that are not named get their defaults. The outcome is that of
        an INSERT for each record in turn, but records travel many at a time, by COPY if that does the same.

        A record that conflicts with a row is an error, unless `on_conflict` says otherwise: "ignore", ("ignore",
        columns) or ("update", columns), with the columns of a unique index, and its condition as `where` if it is
        partial. `constraint` names a constraint instead. An update sets all other given columns; `update` names those
        to set, or maps them to SQL expressions. If two records are of one row, the last one wins, or with
        `on_duplicate="error"` CardinalityViolationError is raised.

        `returning` is a list of column names or SQL, such as "*". The rows come in the order of the records. If the
        server does not return a row for each, InterfaceError is raised; with `on_conflict` pass `ordered=False`. See
        `fetch()` for their class. `progress` is called with the number of records that were inserted.

        It runs in a transaction, or behind a savepoint in an open one, so an error, a time-out and a cancellation leave
        nothing behind. Raises ArgumentError for a record that does not fit; it names the record by its number from 1,
        the column and its type. On a pool it takes a lease. Source: PostgreSQL documentation, INSERT (sql-insert).
        """
        # Imported by the first call, because few programs call it.
        from headrace.insert.methods import insert_records

        conflict = Conflict(on_conflict, update, constraint, where, on_duplicate)
        rows = record_class if row is None else rows_as(row, record_class)
        return await insert_records(  # type: ignore[no-any-return]
            self._for_copy(timeout),
            table_name,
            schema_name,
            records,
            columns,
            conflict,
            returning,
            rows,
            ordered,
            progress,
            timeout,
        )

    # -- listeners -------------------------------------------------------------------------------------------------

    async def add_listener(self, channel: str, callback: Listener) -> None:
        """Have `callback(connection, pid, channel, payload)` called for each notification on a channel.

        `channel` is the exact name: upper case and spaces are kept. Inside a transaction the server listens from its
        COMMIT on, and not at all if it is rolled back. A callback that is added twice is called once.

        Listeners of all kinds are functions or coroutine functions. They are called in the event loop, in the order in
        which they were added; the next one does not wait for a coroutine function. Their first argument is the
        connection, or the pool's proxy if they were added during a lease. The loop's exception handler gets an error in
        a listener.
        """
        self._check_open()
        await self._listeners.add(self, channel, callback)

    async def remove_listener(self, channel: str, callback: Listener) -> None:
        """Have a callback no longer called for a channel. Does nothing if it was not added.

        The last callback of a channel ends the listening on the server (UNLISTEN).
        """
        await self._listeners.remove(self, channel, callback)

    def add_log_listener(self, callback: Callable[[Any, PostgresLogMessage], Any]) -> None:
        """Have `callback(connection, message)` called for each notice, warning or other log message of the server.

        A callback that is added during a lease is removed at its end; one that a pool's `init` adds stays.
        """
        self._check_open()
        self._listeners.add_log(callback, leased=self._proxy is not None)

    def remove_log_listener(self, callback: Callable[[Any, PostgresLogMessage], Any]) -> None:
        """Have a callback no longer called for log messages."""
        self._listeners.remove_log(callback)

    def add_termination_listener(self, callback: Callable[[Any], Any]) -> None:
        """Have `callback(connection)` called once when the connection has ended, for whatever reason.

        It is never called if the connection is closed already.
        """
        self._listeners.add_termination(callback)

    def remove_termination_listener(self, callback: Callable[[Any], Any]) -> None:
        """Have a callback no longer called at the end of the connection."""
        self._listeners.remove_termination(callback)

    # -- query loggers ---------------------------------------------------------------------------------------------

    def add_query_logger(self, callback: QueryLogger, *, slower_than: float = 0) -> None:
        """Have `callback(record)` called with a `LoggedQuery` for each query that takes `slower_than` seconds or more.

        The time is that from the call to the reply, including the wait for other requests in the pipeline. A query
        logger sees all queries that run on this connection, also those of a pool's own methods. The loop's exception
        handler gets an error in a query logger.
        """
        add_query_logger(self._driver, self._params, self._addr, callback, slower_than)

    def remove_query_logger(self, callback: QueryLogger) -> None:
        """Have a callback no longer called."""
        remove_query_logger(self._driver, callback)

    @contextmanager
    def query_logger(self, callback: QueryLogger, *, slower_than: float = 0) -> Iterator[None]:
        """Have `callback(record)` called for the queries inside a `with` block. See `add_query_logger()`."""
        self.add_query_logger(callback, slower_than=slower_than)
        try:
            yield
        finally:
            self.remove_query_logger(callback)

    # -- query hooks: Pool has the same methods --------------------------------------------------------------------

    def add_query_hook(self, hook: QueryHook) -> None:
        """Have a hook told of the start and the end of each operation on this connection. See `QueryHook`.

        `hook.start(operation)` returns a token, which `hook.end(token, outcome)` gets. Both run in the caller's context
        (contextvars). A hook sees the calls that are made on this connection, and not those of a pool's own methods,
        which `Pool.add_query_hook()` is for. Raises InterfaceError if the hook lacks a method.
        """
        self._hooks.add(hook)

    def remove_query_hook(self, hook: QueryHook) -> None:
        """Have a hook no longer told of operations. Those under way still end."""
        self._hooks.remove(hook)

    # -- type codecs: for this connection, from the next query on ---------------------------------------------------

    async def set_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        encoder: Callable[[Any], Any] | None,
        decoder: Callable[[Any], Any] | None,
        format: Literal["text", "binary", "tuple"] = "text",
    ) -> None:
        """Have values of a type converted by two functions, also inside arrays, composites, ranges, domains and COPY.

        `encoder` turns a value into the type's text form (`format` 'text', a str), its binary form ('binary', bytes)
        or, for dates, times and composite types, a tuple ('tuple'). `decoder` takes the same form and returns a value.
        One of them may be None if values go in one direction only. Built-in types are in the schema pg_catalog. Raises
        ValueError for an unknown type, and InterfaceError if the type does not take a codec, such as an array, a range
        or a domain.
        """
        self._check_open()
        for name, function in (("encoder", encoder), ("decoder", decoder)):
            if function is not None and not callable(function):
                raise InterfaceError(f"{name} is expected to be a function, got {shown(function)}")
        oid = await type_oid(self._driver, typename, schema, self._command_timeout)
        self._driver.session.types.set_codec(oid, format, encoder, decoder)
        self._driver.session.statements.forget_all()

    async def reset_type_codec(self, typename: str, *, schema: str = "public") -> None:
        """Return to headrace's own codec of a type; raises ValueError for an unknown type."""
        self._check_open()
        oid = await type_oid(self._driver, typename, schema, self._command_timeout)
        self._driver.session.types.reset_codec(oid)
        self._driver.session.statements.forget_all()

    async def set_builtin_type_codec(
        self,
        typename: str,
        *,
        schema: str = "public",
        codec_name: str,
        format: Literal["text", "binary"] | None = None,
    ) -> None:
        """Have values of a type converted like those of a built-in type, which must have the same form on the wire.

        `codec_name` is the name of a built-in type, such as 'int', or 'pg_contrib.hstore'. `format` None stands for the
        format of that codec. Raises ValueError for an unknown type, InterfaceError for an unknown codec.
        """
        self._check_open()
        oid = await type_oid(self._driver, typename, schema, self._command_timeout)
        self._driver.session.types.set_builtin(oid, codec_name, format)
        self._driver.session.statements.forget_all()

    async def reload_schema_state(self) -> None:
        """Forget the types and statements of the database; each is read again when it is next needed.

        After types were altered, on this connection or another one, this saves the first query that meets them an
        error.
        """
        session = self._driver.session
        session.types.catalogue.forget()
        session.statements.forget_all()

    # -- the server ------------------------------------------------------------------------------------------------

    def get_server_pid(self) -> int:
        """Return the process id of the backend, as reported at the start. A pooler makes one up."""
        key = self._driver.session.cancellation.key
        if key is None:
            raise FeatureNotSupportedError("the server has not told the process id of the backend (BackendKeyData)")
        return key[0]

    def get_server_version(self) -> ServerVersion:
        """Return the server's version."""
        return parse_server_version(self._driver.session.parameters["server_version"])

    def get_settings(self) -> ConnectionSettings:
        """Return the run-time parameters that the server reports, as attributes and items."""
        return ConnectionSettings(self._driver.session.parameters)

    # -- reset and end ---------------------------------------------------------------------------------------------

    async def reset(self, *, timeout: float | None = None) -> None:
        """Return the session to its first state: no transaction, locks, cursors or listeners, and the first settings.

        In a pool the first settings are those that the `init` callback has left.
        """
        self._check_open()
        driver = self._driver
        seconds = self._timeout(timeout)
        commands = driver.session.commands
        if commands.is_unsent:
            self._report_open_transaction()
        if commands.is_unsent or commands.is_over:
            self._forget_transactions()
        if await self._status() != "I":
            self._report_open_transaction()
            await driver.reply(driver.simple_query("ROLLBACK", uncancellable=True), seconds)
        self._forget_transactions()
        self._listeners.end_lease(self)
        self._listeners.clear_logs()
        query = self.get_reset_query()
        if query:
            await driver.reply(driver.simple_query(query), seconds)

    def get_reset_query(self) -> str:
        """Return the text that `reset()` sends, '' for nothing. Subclasses may override it.

        Statements that Redshift, CockroachDB or CrateDB lack are left out if the server says that it is one of them.
        The last statement restores the settings that the `init` callback of a pool has made.
        """
        if self._reset_query is not None:
            return self._reset_query
        query = self._server_kind.reset_query
        restoring = self._initial_state.restoring if self._initial_state is not None else ""
        return f"{query}\n{restoring}" if query and restoring else query

    @cached_property
    def _server_kind(self) -> ServerKind:
        """The kind of the server, by the parameters that it has reported at the start."""
        return server_kind(self._driver.session.parameters)

    def is_closed(self) -> bool:
        """Return whether the connection is closed, by either side."""
        return self._driver.is_closed

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection gracefully. Requests that run are cancelled, and those that were not sent fail.

        Returns when the server has closed the connection; the backend and its locks are gone then. Raises TimeoutError
        if that takes longer than `timeout` seconds, InterfaceError in another event loop. The connection is dropped
        after a time-out, on cancellation, and without `timeout` after ten seconds. Source: PostgreSQL documentation,
        "Termination" (protocol-flow-termination).
        """
        await self._driver.close(checked_timeout(timeout))

    def terminate(self) -> None:
        """Drop the connection at once, without telling the server.

        On a closed event loop this closes the socket; tasks that wait cannot be woken any more. While the connection's
        event loop runs in another thread, that loop drops the connection in its next tick.
        """
        self._driver.terminate()

    # -- requests: see Queryable and ConnectionInterface in _client --------------------------------------------------

    def _request(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        timeout: float | None,
    ) -> Awaitable[Any]:
        driver = self._driver
        seconds = self._command_timeout if timeout is None else checked_timeout(timeout)
        rows = self._record_class if rows is None else checked_record_class(rows)
        if method.many:
            if is_asynchronous(args):
                return self._stream(query, args, rows, method.kind == KIND_ROWS, seconds, method.begins)
            if method.begins:
                return self._begin_batch(query, args, rows, method.kind == KIND_ROWS, seconds)
            return driver.reply(driver.batch(query, args, rows, method.kind == KIND_ROWS), seconds)
        if method.kind == KIND_STATUS:
            if not isinstance(query, str):
                query, args = bound(query, args)
            if not args:
                return driver.reply(driver.simple_query(query), seconds)
        return driver.reply(driver.query(query, args, method.kind, method.limit, column, rows), seconds)

    async def _stream(
        self,
        query: AnyQuery,
        args: AsyncIterable[Any],
        rows: type[Record] | RowShape,
        collects: bool,
        seconds: float | None,
        begins: bool,
    ) -> Any:
        text, elements = bound_each(query, args)
        owner = self if begins else None
        return (await run_batch(self._driver, text, elements, rows, collects, seconds, begins_on=owner))[0]

    async def _begin_batch(
        self,
        query: AnyQuery,
        args: Any,
        rows: type[Record] | RowShape,
        collects: bool,
        seconds: float | None,
    ) -> Any:
        def queue(repeated: int) -> Request:
            return self._driver.batch(query, args, rows, collects, repeated=repeated)

        return (await run_in_transaction(self, queue, seconds))[1]

    def _each(
        self,
        method: QueryMethod,
        query: AnyQuery,
        args: Any,
        column: int | str,
        rows: type[Record] | RowShape | None,
        options: EachOptions,
    ) -> ResultIterator[Any]:
        options = options.checked(self._command_timeout)
        rows = self._record_class if rows is None else checked_record_class(rows)
        query, args = bound_each(query, checked_elements(args))
        lease = self._lease

        def still_valid() -> None:
            if lease != self._lease:
                raise InterfaceError(
                    f"cannot go on with {method.name}(): the connection has been released back to the pool",
                    hint="Take the results inside the `async with pool.acquire()` block, or call the pool's method.",
                )

        observer = self._driver.observer
        sender = ConnectionSender(self._driver, query, still_valid, pipeline_writes=options.pipeline_writes)
        return Each(
            sender, query, args, method.kind, method.limit, column, rows,
            return_errors=options.return_errors, timeout=options.timeout, window=options.window,
            watched=None if observer is None else observer.watched("each", query, args, options.timeout),
        )  # fmt: skip

    def _for_copy(self, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self)

    def _for_stream(self, query: str) -> StreamLease:
        return Unleased(self)

    def _timeout(self, timeout: float | None) -> float | None:
        return self._command_timeout if timeout is None else checked_timeout(timeout)

    def _rows_as(
        self, record_class: type[Record] | RowShape | None, row: type[Any] | None = None
    ) -> type[Record] | RowShape:
        if row is not None:
            return rows_as(row, record_class)
        return self._record_class if record_class is None else checked_record_class(record_class)

    def _check_open(self) -> None:
        if self.is_closed():
            raise InterfaceError("connection is closed")

    def _roll_back_unawaited(self) -> None:
        """Roll back all that is open, without waiting for the answer. SQLAlchemy's dialect calls it.

        The ROLLBACK is written before the caller goes on: a program may then block the event loop and wait for what
        the transaction has locked.
        """
        driver = self._driver
        was_open = bool(self._transactions)
        if self._forget_transactions():
            return
        # With requests in flight the status of the server is not known, and an earlier ROLLBACK may be one of them.
        if was_open if driver.pending else not driver.is_idle:
            driver.background("ROLLBACK", vital=True)
            self._rollback_sent = driver.request_count

    def _in_own_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._driver.loop
        except RuntimeError:
            return False

    async def _status(self) -> str:
        driver = self._driver
        if driver.request_count == self._rollback_sent:
            # It closes the connection if the server refuses it.
            return "I"
        commands = driver.session.commands
        if driver.pending and (commands.status != "I" or commands.is_open):
            await driver.reply(driver.simple_query(""), self._command_timeout)
        return commands.status

    # -- events: the driver calls these ----------------------------------------------------------------------------

    def _on_notice(self, message: PostgresLogMessage) -> None:
        self._listeners.log(self._face, message)

    def _on_notification(self, pid: int, channel: str, payload: str) -> None:
        self._listeners.notify(self._face, pid, channel, payload)

    def _on_lost(self, reason: object) -> None:
        self._lost_with = self._driver.session.fatal or reason
        self._forget_transactions()
        self._listeners.terminated(self._face)
        if self._lost_callback is not None:
            self._lost_callback(self)

    def _when_lost(self, callback: Callable[[Connection], None]) -> None:
        """Set the callback for the end of the connection. The pool uses it."""
        self._lost_callback = callback

    # -- transactions that are open --------------------------------------------------------------------------------

    def _is_managed(self) -> bool:
        """Return whether an `async with` block is going to end the outermost transaction."""
        return bool(self._transactions) and self._transactions[0].managed

    def _report_open_transaction(self) -> None:
        """Report a transaction that was left open, and that a reset rolls back, to the loop's exception handler.

        A transaction of an `async with` block is not reported. Its block may end after the lease, as that of a
        generator does.
        """
        if self._left_managed or self._is_managed():
            return
        message = f"Resetting connection with an active transaction {self!r}"
        self._driver.loop.call_exception_handler({"message": message})

    def _forget_transactions(self) -> bool:
        """Mark all transactions as ended: the connection is lost, or a reset is going to roll them back.

        Return whether there was one whose BEGIN had not been sent.
        """
        for transaction in self._transactions:
            transaction.is_open = transaction.starting = False
        self._transactions.clear()
        self._overlap = None
        return self._driver.session.commands.forget_block()

    # -- leases of a pool ------------------------------------------------------------------------------------------

    @property
    def _lease(self) -> object:
        return self._term if self._proxy is None else self._proxy()

    @property
    def _face(self) -> object:
        return (self._proxy() if self._proxy is not None else None) or self

    def _check_lease(self, lease: object, what: str) -> None:
        if lease != self._lease:
            raise InterfaceError(
                f"cannot call {what}: the underlying connection has been released back to the pool",
                hint="Use it inside the `async with pool.acquire()` block in which it was made.",
            )
        if self.is_closed():
            raise InterfaceError(f"cannot call {what}: the underlying connection is closed")

    def _lease_begins(self, proxy: object) -> None:
        """Begin a lease: the requests of the shared calls before it complete before its own are sent.

        There is only a weak reference to the proxy. It is gone as soon as neither its holder nor an object that was
        made during the lease refers to it.
        """
        self._proxy = weakref.ref(proxy)
        self._left_managed = False
        self._driver.session.statements.barrier()

    def _lease_over(self) -> list[InterfaceWarning]:
        """End a lease, and with it the statements, cursors and transactions that were made during it.

        Returns warnings about listeners that were not removed.
        """
        self._term = object()
        self._left_managed = self._is_managed()
        self._left_unsent = self._forget_transactions()
        self._driver.end_row_streams(released, self)
        self._proxy = None
        return self._listeners.end_lease(self)

    def _reset_is_sent(self) -> None:
        """Note that the requests up to now undo all that the last lease has left."""
        self._reset_at = self._driver.request_count

    # -- names that asyncpg's instrumentation reads -----------------------------------------------------------------

    @property
    def _addr(self) -> tuple[str, int] | str:
        """The server as the program has named it: (host, port), or the path of a Unix socket."""
        return named(self._address)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that the connection belongs to."""
        return self._driver.loop


for _method in (*QUERY_METHODS, EXECUTEMANY_BEGINNING, FETCHMANY_BEGINNING):
    _method.original = getattr(Connection, _method.name)

ConnectionMeta = type(Connection)
"""For imports and annotations that are written for asyncpg. A connection's class needs no metaclass of its own."""


class ConnectOptions(ConnectArguments, total=False):
    """The keyword arguments of `connect()`, but for the classes of the connection and of its rows."""

    timeout: float | None
    statement_cache_size: int
    max_cached_statement_lifetime: float
    max_cacheable_statement_size: int
    statement_mode: StatementMode
    out_of_range: OutOfRange
    single_server: bool
    json: JsonOption
    command_timeout: float | None
    max_pipeline: int
    strict_transactions: bool
    loop: asyncio.AbstractEventLoop | None


@overload
async def connect(
    dsn: str | None = None, *, record_class: type[RecordT] = ..., **options: Unpack[ConnectOptions]
) -> Connection[RecordT]: ...


@overload
async def connect(
    dsn: str | None = None,
    *,
    connection_class: type[C],
    record_class: type[Record] = ...,
    **options: Unpack[ConnectOptions],
) -> C: ...


@not_awaited
async def connect(
    dsn: str | None = None,
    *,
    timeout: float | None = 60,
    statement_cache_size: int = 100,
    max_cached_statement_lifetime: float = 300,
    max_cacheable_statement_size: int = 1024 * 15,
    statement_mode: StatementMode = "named",
    out_of_range: OutOfRange = "error",
    single_server: bool = False,
    json: JsonOption = False,
    command_timeout: float | None = None,
    max_pipeline: int = 100,
    strict_transactions: bool = False,
    connection_class: type[Connection[Any]] = Connection,
    record_class: type[Record] = Record,
    loop: asyncio.AbstractEventLoop | None = None,
    **arguments: Unpack[ConnectArguments],
) -> Connection[Any]:
    """Connect to a PostgreSQL server.

    `dsn` is a URI (`postgresql://user:password@host:5432/database`) or libpq's keyword/value text; keyword arguments
    (host, port, user, password, database, ssl, server_settings ... and every option of libpq) override it; it overrides
    the service file and the PG* environment variables. See "Connecting" in the documentation for all of them.

    `timeout` limits the whole of connecting, in seconds; `command_timeout` is the default limit of every call.
    Statements are prepared once and cached: `statement_cache_size` of them (0: none), for
    `max_cached_statement_lifetime` seconds (0: for ever), none longer than `max_cacheable_statement_size` characters.
    `max_pipeline` limits the requests in flight; 1 turns pipelining off.

    `statement_mode` is for poolers that switch backends between transactions. With 'unnamed' the server parses a
    statement at each execution, and only its description is cached. With 'describe' the description is asked for each
    time as well.

    With `json=True` values of json and jsonb are Python objects, made by Python's json; without it they are str.
    Another library may be named, `json=orjson` or `json=msgspec.json`, or any object with `loads` and `dumps` or with
    `decode` and `encode`, or the pair of functions `(loads, dumps)`. `set_type_codec()` overrides it for a type.

    `out_of_range` decides about dates, times and intervals that Python's types cannot hold, such as the year 10000:
    with 'error' their query raises UnrepresentableValueError, with 'text' the value is the server's text.

    With `strict_transactions` a transaction that begins inside one of another task raises InterfaceError, unless its
    task was created inside that transaction. Otherwise it is a savepoint there, and the log has a warning.

    `single_server=True` states that the pooler in front of the server always leads to the same server and database.
    Types that are not built in are then looked up once. Without it a connection behind a pooler looks them up for each
    use, because the same OID may mean another type on another server.

    Raises ClientConfigurationError for bad parameters before anything is sent, OSError if no server answers,
    PostgresError if the server refuses the connection, and TimeoutError. On cancellation nothing is left open.
    """
    try:
        if loop is not None and loop is not asyncio.get_running_loop():
            raise InterfaceError("loop is expected to be the running event loop")
        if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
            raise InterfaceError(
                f"connection_class is expected to be a subclass of headrace.Connection, got {connection_class!r}"
            )
        checked_record_class(record_class)
        if not isinstance(strict_transactions, bool):
            raise ValueError(f"strict_transactions is expected to be True or False, got {shown(strict_transactions)}")
        limits = SessionLimits(
            statement_cache_size,
            max_cached_statement_lifetime,
            max_cacheable_statement_size,
            max_pipeline,
            statement_mode,
            out_of_range,
            single_server,
            json,
        )
        command_timeout = checked_command_timeout(command_timeout)
        params = resolve(dsn, **arguments)
    finally:
        # Tools show the local variables of each frame in a traceback, and these may contain a password.
        del dsn, arguments
    opening = open_driver(params, limits.session, checked_timeout(timeout))
    hooks = OPENING.get()
    opened = await (watched_opening(hooks, opening, params, timeout) if hooks.all else opening)
    driver = opened.driver
    if not server_kind(driver.session.parameters).tells_identity:
        driver.session.types.stay_alone()
    try:
        connection = connection_class(
            driver,
            params,
            record_class=record_class,
            command_timeout=command_timeout,
            address=opened.endpoint.address,
        )
    except BaseException:
        # A subclass may raise, and nothing else refers to the driver.
        driver.terminate()
        raise
    connection._strict_transactions = strict_transactions
    connection._place = opened.endpoint.place
    return connection
