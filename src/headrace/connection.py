"""The public connection: what a program asks of one backend.

Calls on one connection may run at once, from `gather`, tasks or a TaskGroup: they are pipelined, and the server
carries them out in the order of the calls.
"""

from __future__ import annotations

import asyncio
import warnings
import weakref
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs of all built-in types
from headrace._client.connection_meta import ConnectionMeta as ConnectionMeta
from headrace._client.introspection import TypeMethods
from headrace._client.listeners import ListenerMethods, Listeners
from headrace._client.queries import QueryMethods
from headrace._client.query_log import LoggedQuery as LoggedQuery
from headrace._client.query_log import QueryLogMethods
from headrace._client.settings import ConnectionSettings
from headrace._client.timeouts import checked_command_timeout, checked_timeout
from headrace._connect.connector import open_driver
from headrace._connect.limits import OutOfRange, SessionLimits, StatementMode
from headrace._connect.params.resolve import resolve
from headrace._connect.server_kind import server_kind
from headrace._core.rows.record import Record
from headrace._sql.named_parameters import bound, unbound_text
from headrace.copy import CopyMethods
from headrace.cursor import CursorFactory
from headrace.exceptions import FeatureNotSupportedError, InterfaceError, InterfaceWarning
from headrace.prepared_stmt import PreparedStatement
from headrace.rows import checked_record_class
from headrace.transaction import Transaction
from headrace.types import ServerVersion, parse_server_version

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._client.session_state import SessionState
    from headrace._connect.params.resolve import ConnectArguments
    from headrace._sql.named_parameters import AnyQuery

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Connection(QueryMethods, CopyMethods, ListenerMethods, QueryLogMethods, TypeMethods, metaclass=ConnectionMeta):
    """A connection to a PostgreSQL server; made by `headrace.connect()`.

    Every method that asks the server something is a coroutine function. Its time limit is `timeout` seconds, by
    default the connection's `command_timeout`; past it TimeoutError is raised. A call that is cancelled or times out
    never disturbs its neighbours: what it asked is dropped, passed over, or stopped on the server by a CancelRequest;
    the connection stays usable, or is closed where that cannot be made sure of.

    They raise InterfaceError for wrong use, a closed connection among it, ArgumentError for a value that does not fit
    its parameter and ValueError for a `timeout` that is no number of seconds, all before anything is sent;
    PostgresError, of the class of its SQLSTATE, for what the server refuses; and ConnectionDoesNotExistError where the
    connection is lost, which says whether the request had been sent.

    Source: PostgreSQL documentation, "Message Flow" (protocol-flow), "Pipelining" in particular.
    """

    _lost_callback: Callable[[Connection], None] | None = None
    _lost_with: object = None
    _listeners: Listeners | None = None
    _reset_query: str | None = None
    _initial_state: SessionState | None = None
    """How the session is to be found by each caller of a pool; None if that is not known."""
    _left_managed = False
    """The lease before was given back inside a transaction of an `async with` block."""

    def __repr__(self) -> str:
        state = "closed" if self.is_closed() else f"pid:{self._driver.session.backend_pid}"
        return f"<{type(self).__module__}.{type(self).__qualname__} {state} {id(self):#x}>"

    def __del__(self, warn: Callable[..., None] = warnings.warn) -> None:
        # Attributes are missing where __init__ never ran, or that of a subclass.
        driver = getattr(self, "_driver", None)
        if driver is not None and not driver.is_closed:
            # The event loop would keep the socket open, and the backend with it, for as long as it runs.
            warn(f"unclosed connection {self!r}", ResourceWarning, stacklevel=2, source=self)
            driver.forgotten()

    # -- what is made on it ----------------------------------------------------------------------------------------

    async def prepare(
        self,
        query: str,
        *,
        name: str | None = None,
        timeout: float | None = None,
        record_class: type[Record] | None = None,
    ) -> PreparedStatement:
        """Have the server parse a query; returns the prepared statement.

        `name` gives it a name of the caller's choice on the server; where it is taken, DuplicatePreparedStatementError
        is raised. It lives as long as the object that is returned (sql-prepare).
        """
        rows = self._rows_as(record_class)
        seconds = self._timeout(timeout)
        driver = self._driver
        statement = driver.session.statement(unbound_text(query, "prepare()"), name=name)
        try:
            await driver.reply(driver.prepare(statement), seconds)
        except BaseException:
            driver.release(statement)
            raise
        return PreparedStatement(self, statement, rows)

    @overload
    def cursor(
        self,
        query: AnyQuery,
        *args: object,
        prefetch: int | None = None,
        timeout: float | None = None,
        record_class: None = None,
        row: None = None,
    ) -> CursorFactory[Record]: ...

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
        """Return a cursor over the rows of a query; it needs a transaction (NoActiveSQLTransactionError without).

        `async for row in connection.cursor(...)` fetches `prefetch` rows (50 by default) at a time;
        `cursor = await connection.cursor(...)` has fetch(n), fetchrow() and forward(n). See `fetch()` for what a row
        can be.
        """
        self._check_open()
        rows = self._rows_as(record_class, row)
        query, args = bound(query, args)
        return CursorFactory(self, query, None, args, prefetch=prefetch, timeout=timeout, record_class=rows)

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False
    ) -> Transaction:
        """Return a transaction, to be used by `async with` or by hand; inside another it is a savepoint.

        The transactions of several tasks must not overlap: see `Transaction`. A task that neither has opened the
        transaction that is open nor was created inside it gets a savepoint in it, and the log a warning that names both
        call sites; with `strict_transactions` it gets an InterfaceError.

        `isolation`: 'serializable', 'repeatable_read', 'read_committed' or 'read_uncommitted' (ValueError for anything
        else); None for the server's default. Source: PostgreSQL documentation, BEGIN and SAVEPOINT.
        """
        self._check_open()
        return Transaction(self, isolation, readonly, deferrable)

    # -- what the server says of itself ----------------------------------------------------------------------------

    def get_server_pid(self) -> int:
        """Return the process id of the backend, as it was told at the start: a pooler tells one of its own making."""
        session = self._driver.session
        if session.backend_secret is None:
            raise FeatureNotSupportedError("the server has not told the process id of the backend (BackendKeyData)")
        return session.backend_pid

    def get_server_version(self) -> ServerVersion:
        """Return the server's version."""
        return parse_server_version(self._driver.session.parameters["server_version"])

    def get_settings(self) -> ConnectionSettings:
        """Return the run-time parameters that the server reports, as attributes and items."""
        return ConnectionSettings(self._driver.session.parameters)

    # -- the end ---------------------------------------------------------------------------------------------------

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection gracefully: what runs is cancelled, what was not sent fails.

        Returns when the server has closed the connection: the backend and its locks are gone then. Raises TimeoutError
        if that takes longer than `timeout` seconds, InterfaceError in another event loop. The connection is dropped
        after a time-out, on cancellation, and without `timeout` after ten seconds. Source: PostgreSQL documentation,
        "Termination" (protocol-flow-termination).
        """
        await self._driver.close(checked_timeout(timeout))

    def terminate(self) -> None:
        """Drop the connection at once, without telling the server.

        On a closed event loop this closes the socket; nothing that waits can be woken any more. While the connection's
        event loop runs in another thread, it is dropped in the next turn of that loop.
        """
        self._driver.terminate()

    async def reset(self, *, timeout: float | None = None) -> None:
        """Return the session to its first state: no transaction, locks, cursors, listeners; settings as at first.

        In a pool, settings are as the `init` callback has left them.
        """
        self._check_open()
        driver = self._driver
        seconds = self._timeout(timeout)
        if await self._status() != "I":
            self._report_open_transaction()
            await driver.reply(driver.simple_query("ROLLBACK", uncancellable=True), seconds)
        self._forget_transactions()
        self._drop_listeners()
        if self._listeners is not None:
            self._listeners.logs.clear()
        query = self.get_reset_query()
        if query:
            await driver.reply(driver.simple_query(query), seconds)

    def get_reset_query(self) -> str:
        """Return what `reset()` sends; '' for nothing. For subclasses to override.

        It has no statement that the server lacks, if the server says that it is Redshift, CockroachDB or CrateDB. The
        last statement makes the settings again that the `init` callback of a pool has made.
        """
        if self._reset_query is not None:
            return self._reset_query
        query = server_kind(self._driver.session.parameters).reset_query
        restoring = self._initial_state.restoring if self._initial_state is not None else ""
        return f"{query}\n{restoring}" if query and restoring else query

    # -- for the modules of the package ----------------------------------------------------------------------------

    def _on_lost(self, reason: object) -> None:
        """Learn from the driver that the connection is no more."""
        self._lost_with = self._driver.session.fatal or reason
        self._forget_transactions()
        self._tell_of_end()
        if self._lost_callback is not None:
            self._lost_callback(self)

    def _is_managed(self) -> bool:
        """Return whether an `async with` block is going to end the outermost transaction."""
        return bool(self._transactions) and self._transactions[0].managed

    def _report_open_transaction(self) -> None:
        """Tell the loop's exception handler of a transaction that was left open: a reset is going to undo it.

        One of an `async with` block is not left open. Its block may end after the lease, as that of a generator does.
        """
        if self._left_managed or self._is_managed():
            return
        message = f"Resetting connection with an active transaction {self!r}"
        self._driver.loop.call_exception_handler({"message": message})

    def _when_lost(self, callback: Callable[[Connection], None]) -> None:
        """Name who is told when the connection is no more: its pool."""
        self._lost_callback = callback

    def _lease_begins(self, proxy: object) -> None:
        """Begin a lease; the proxy stands for the connection towards its listeners.

        What others have asked while they shared the connection is done before what the lease asks. The proxy is not
        kept alive: once neither its holder nor what was made during the lease refers to it, it is gone.
        """
        self._proxy = weakref.ref(proxy)
        self._left_managed = False
        self._driver.session.barrier()

    def _lease_over(self) -> list[InterfaceWarning]:
        """End a lease: whatever was made during it (statements, cursors, transactions) is of no use any more.

        Returns warnings about listeners that were left.
        """
        self._term = object()
        self._left_managed = self._is_managed()
        self._forget_transactions()
        self._proxy = None
        return self._drop_listeners()

    def _copying(self) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self)


Connection.know_query_methods("execute", "executemany", "fetch", "fetchmany", "fetchrow", "fetchval")


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
    command_timeout: float | None = None,
    max_pipeline: int = 100,
    strict_transactions: bool = False,
    connection_class: type[Connection] = Connection,
    record_class: type[Record] = Record,
    loop: asyncio.AbstractEventLoop | None = None,
    **arguments: Unpack[ConnectArguments],
) -> Connection:
    """Connect to a PostgreSQL server.

    `dsn` is a URI (`postgresql://user:password@host:5432/database`) or libpq's keyword/value text; keyword arguments
    (host, port, user, password, database, ssl, server_settings ... and every option of libpq) come before it, the
    service file and the PG* environment variables after it. See "Connecting" in the documentation for all of them.

    `timeout` seconds bound the whole of connecting; `command_timeout` is the default for every call. Statements are
    prepared once and kept: `statement_cache_size` of them (0: none), for `max_cached_statement_lifetime` seconds
    (0: for ever), none longer than `max_cacheable_statement_size` characters. `max_pipeline` bounds the requests in
    flight; 1 turns pipelining off.

    `statement_mode` is for poolers that switch backends between transactions: 'unnamed' has statements parsed with each
    execution, by descriptions that are kept here instead; 'describe' asks for the description each time, too.

    `out_of_range` says what becomes of dates, times and intervals that Python's types do not hold, such as the year
    10000: an UnrepresentableValueError for their query, or with 'text' the server's text of them in their place.

    With `strict_transactions` a transaction that begins inside one of another task raises InterfaceError, unless its
    task was created inside that transaction. Otherwise it is a savepoint there, and the log has a warning.

    `single_server=True` says that the pooler in front of the server only ever leads to one server and one database.
    Types that are not built in are looked up once then. Without it a connection behind a pooler looks them up for each
    use, because the OID of a type means another type on another server.

    Raises ClientConfigurationError for bad parameters before anything is sent, OSError where no server answers,
    PostgresError where it refuses, TimeoutError. On cancellation nothing is left open.
    """
    if loop is not None and loop is not asyncio.get_running_loop():
        raise InterfaceError("loop is expected to be the running event loop")
    if not (isinstance(connection_class, type) and issubclass(connection_class, Connection)):
        raise InterfaceError(
            f"connection_class is expected to be a subclass of headrace.Connection, got {connection_class!r}"
        )
    checked_record_class(record_class)
    if not isinstance(strict_transactions, bool):
        raise ValueError(f"strict_transactions is expected to be True or False, got {strict_transactions!r}")
    limits = SessionLimits(
        statement_cache_size,
        max_cached_statement_lifetime,
        max_cacheable_statement_size,
        max_pipeline,
        statement_mode,
        out_of_range,
        single_server,
    )
    command_timeout = checked_command_timeout(command_timeout)
    params = resolve(dsn, **arguments)
    # From here on nothing in this frame shows a password to whoever collects the locals of a traceback.
    del dsn, arguments
    opened = await open_driver(params, limits.session, checked_timeout(timeout))
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
        # A subclass may raise, and nobody else knows the driver.
        driver.terminate()
        raise
    connection._strict_transactions = strict_transactions
    return connection
