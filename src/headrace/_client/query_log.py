"""Query loggers: callbacks that get each query, the time that it took and its outcome.

A connection without query loggers and query hooks has no `QueryLog`, so its queries cost nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace._client.listeners import report
from headrace._client.query_hooks import Hook, Hooks, Operation, OperationKind, ServerInfo, Watched, new_tuple
from headrace._core.pipeline.batch import Batch
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from headrace._connect.connector import Opened
    from headrace._connect.params.resolve import Address, ConnectParams
    from headrace._core.pipeline.requests import Request
    from headrace._io.driver import Driver


class LoggedQuery(NamedTuple):
    """The record of one query that a query logger gets."""

    query: str
    args: Any
    """The arguments: a tuple, or the `args` of executemany() and fetchmany()."""

    timeout: float | None
    elapsed: float
    """Seconds from the call to the reply, including the wait for other requests in the pipeline."""

    exception: BaseException | None
    conn_addr: Any
    """(host, port) as the program has named it, or the path of a Unix socket."""

    conn_params: ConnectParams


QueryLogger = Callable[[LoggedQuery], Any]
"""A function, which is called before the caller gets the result, or a coroutine function, which runs as a task."""


def add_query_logger(
    driver: Driver, params: ConnectParams, address: tuple[str, int] | str, callback: QueryLogger, slower_than: float
) -> None:
    """Add a query logger to a connection, or change its `slower_than`. See `Connection.add_query_logger()`."""
    if not callable(callback):
        raise InterfaceError(f"expected a callable or an `async def` function, got {callback!r}")
    if isinstance(slower_than, bool) or not isinstance(slower_than, (int, float)) or slower_than < 0:
        raise ValueError(f"slower_than is expected to be a number of seconds, got {shown(slower_than)}")
    log = query_log(driver, params, address)
    log.loggers = [*(pair for pair in log.loggers if pair[0] != callback), (callback, slower_than)]


def remove_query_logger(driver: Driver, callback: QueryLogger) -> None:
    """Remove a query logger, if it is there."""
    log = driver.observer
    if log is not None:
        log.loggers = [pair for pair in log.loggers if pair[0] != callback]
        if not log.loggers and not log.hooks:
            driver.observer = None


def query_log(driver: Driver, params: ConnectParams, address: tuple[str, int] | str) -> QueryLog:
    """Return the observer of a connection, which is made if there is none."""
    if driver.observer is None:
        driver.observer = QueryLog(driver, params, address)
    return driver.observer  # type: ignore[no-any-return]


class ConnectionHooks(Hooks):
    """The query hooks of one connection. The driver has an observer as long as there are any."""

    __slots__ = ("_address", "_driver", "_params")

    def __init__(self, parent: Hooks, driver: Driver, params: ConnectParams, address: tuple[str, int] | str) -> None:
        self._driver = driver
        self._params = params
        self._address = address
        super().__init__(parent)

    def changed(self) -> None:
        driver = self._driver
        if self.all:
            log = query_log(driver, self._params, self._address)
            log.hooks = self.all
            log.level = self._parent
            if self._parent is not None:
                self._parent.connected_to(log.server)
        elif driver.observer is not None:
            driver.observer.hooks = ()
            if not driver.observer.loggers:
                driver.observer = None


class QueryLog:
    """The query loggers and query hooks of one connection; the driver's observer as long as there are any."""

    def __init__(self, driver: Driver, params: ConnectParams, address: tuple[str, int] | str) -> None:
        self._loop = driver.loop
        self._address = address
        self._params = params
        self._tasks: set[asyncio.Future[Any]] = set()
        self.server = server_info(driver, params, address)
        self.loggers: list[tuple[QueryLogger, float]] = []
        self.hooks: tuple[Hook, ...] = ()
        self.level: Hooks | None = None
        """The level above the hooks of the connection: those of its pool, or of all of the process."""

    def on(self, driver: Driver) -> Any:
        """Return the observer of the connection that a shared call was moved to."""
        return driver.observer

    # -- query hooks -----------------------------------------------------------------------------------------------

    def watched(self, kind: OperationKind, query: str, args: Any, timeout: float | None) -> Watched | None:
        """Return an operation that is going to begin; None if there are no hooks."""
        hooks = self.hooks
        if not hooks or not query:
            return None
        level = self.level
        pool = level.pool if level is not None else None
        return Watched(hooks, new_tuple(Operation, (kind, query, args, timeout, self.server, pool)), self)

    def start(self, kind: OperationKind, query: str, args: Any, timeout: float | None) -> Watched | None:
        """Tell the hooks of the start of an operation; returns None if there are none."""
        watched = self.watched(kind, query, args, timeout)
        return watched.begin() if watched is not None else None

    def command(self, query: str) -> PutOff | None:
        """Return the observer of a command that is put off."""
        return PutOff(self, query)

    # -- query loggers ---------------------------------------------------------------------------------------------

    def watch(self, request: Request, timeout: float | None) -> Awaitable[Any]:
        """Return the awaitable of a request whose end hooks and loggers are told of."""
        if self.hooks and request.waiter is None:
            kind: OperationKind = "batch" if isinstance(request, Batch) else "query"
            watched = self.watched(kind, request.query, request.arguments, timeout)
            if watched is not None:
                request.observer = watched.begin()
                return request
        return self._logged(request, timeout)

    async def _logged(self, request: Request, timeout: float | None) -> Any:
        """Wait for a request and log it."""
        started = monotonic()  # some event loops read the clock once a tick
        error: BaseException | None = None
        try:
            return await request
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.finished(request.query, request.arguments, timeout, monotonic() - started, error)

    def shared(self, request: Request, timeout: float | None, error: BaseException | None) -> None:
        """Log a call of a pool's own methods, which has ended."""
        self.finished(request.query, request.arguments, timeout, request.elapsed(), error)

    def refused(self, query: str, args: Any, error: BaseException, kind: OperationKind = "query") -> None:
        """Tell of a query or COPY that was not sent because of its arguments."""
        self.finished(query, args, None, 0.0, error)
        if (watched := self.start(kind, query, args, None)) is not None:
            watched.end(error)

    def finished(
        self, query: str, args: Any, timeout: float | None, elapsed: float, error: BaseException | None
    ) -> None:
        """Log a query that has ended."""
        record: LoggedQuery | None = None
        for callback, slower_than in self.loggers:
            if query and elapsed >= slower_than:
                if record is None:
                    record = LoggedQuery(query, args, timeout, elapsed, error, self._address, self._params)
                self._call(callback, record)

    def _call(self, callback: QueryLogger, record: LoggedQuery) -> None:
        try:
            result = callback(record)
        except Exception as error:
            report(self._loop, callback, error)
            return
        if isawaitable(result):
            task = asyncio.ensure_future(result)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(callback, task))

    def _ended(self, callback: QueryLogger, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(self._loop, callback, error)


class PutOff:
    """The observer of BEGIN, SAVEPOINT or RELEASE, which is sent with a later request.

    The server's reply is read outside of the caller's context, so hooks are called in a copy of it.
    """

    __slots__ = ("_context", "_log", "_watched")

    def __init__(self, log: QueryLog, query: str) -> None:
        self._log = log
        self._watched = log.watched("query", query, (), None)
        self._context = copy_context() if self._watched is not None else None

    def sent(self) -> None:
        """Tell of the start: a request is sent that takes it along."""
        if self._context is not None and self._watched is not None:
            self._context.run(self._watched.begin)

    def shared(self, request: Request, timeout: float | None, error: BaseException | None) -> None:
        """Tell of the end."""
        self._log.shared(request, timeout, error)
        self.skipped(error, request.status)

    def skipped(self, error: BaseException | None, status: str | None = None) -> None:
        """Tell hooks alone: the server has skipped it because of the error of a command ahead of it."""
        if self._context is not None and self._watched is not None:
            self._context.run(self._watched.end, error, status)


async def watched_opening(
    hooks: Hooks, opening: Awaitable[Opened], params: ConnectParams, timeout: float | None
) -> Opened:
    """Open a connection, and tell hooks of it."""
    server = None if len(params.addresses) > 1 else _expected_server(params)
    watched = Watched(hooks.all, Operation("connect", "", (), timeout, server, hooks.pool)).begin()
    failure: BaseException | None = None
    try:
        opened = await opening
        watched.served_by(server_info(opened.driver, params, named(opened.endpoint.address)))
    except BaseException as error:
        failure = error
        raise
    finally:
        watched.end(failure)
        del failure
    return opened


def named(address: Address) -> tuple[str, int] | str:
    """Return an address as the program has named it: (host, port), or the path of a Unix socket."""
    return address.socket_path if address.is_unix else (address.host or address.target, address.port)


def _expected_server(params: ConnectParams) -> ServerInfo:
    address = named(params.addresses[0])
    if isinstance(address, str):
        return ServerInfo(address, None, None, None, params)
    return ServerInfo(*address, None, None, params)


def server_info(driver: Driver, params: ConnectParams, address: tuple[str, int] | str) -> ServerInfo:
    """Return the server of a connection, as query hooks get it."""
    if isinstance(address, str):
        return ServerInfo(address, None, address, None, params)
    peer = driver.transport.get_extra_info("peername")
    if not isinstance(peer, tuple):
        peer = (None, None)
    return ServerInfo(address[0], address[1], peer[0], peer[1], params)
