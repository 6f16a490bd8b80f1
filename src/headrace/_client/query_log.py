"""Query loggers: who is told of every query, how long it took and how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace._client.base import ConnectionBase
from headrace._client.listeners import report
from headrace.exceptions import InterfaceError

if TYPE_CHECKING:
    from headrace._connect.params.resolve import ConnectParams
    from headrace._core.pipeline.requests import Request
    from headrace._io.driver import Driver


class LoggedQuery(NamedTuple):
    """What a query logger is told of one query."""

    query: str
    args: Any
    """The arguments: a tuple, or what was given to executemany() and fetchmany()."""

    timeout: float | None
    elapsed: float
    """Seconds from the call to the answer, waiting for others in the pipeline included."""

    exception: BaseException | None
    conn_addr: Any
    """(host, port) as the user has named it, or the path of a Unix socket."""

    conn_params: ConnectParams


QueryLogger = Callable[[LoggedQuery], Any]
"""A function, called before the caller gets the answer, or a coroutine function, run as a task."""


class QueryLogMethods(ConnectionBase):
    """The methods of a connection that add and remove query loggers.

    They see what this connection is asked, through a pool's own methods too. Without any a query costs nothing more. An
    error in one goes to the loop's exception handler.
    """

    def add_query_logger(self, callback: QueryLogger, *, slower_than: float = 0) -> None:
        """Have `callback(record)` called with a `LoggedQuery` for each query, or each slower than so many seconds.

        The time is that from the call to the answer, waiting for others in the pipeline included.
        """
        if not callable(callback):
            raise InterfaceError(f"expected a callable or an `async def` function, got {callback!r}")
        if isinstance(slower_than, bool) or not isinstance(slower_than, (int, float)) or slower_than < 0:
            raise ValueError(f"slower_than is expected to be a number of seconds, got {slower_than!r}")
        log = self._driver.observer
        if log is None:
            log = self._driver.observer = QueryLog(self._driver, self._params, self._addr)
        log.loggers = [*(pair for pair in log.loggers if pair[0] != callback), (callback, slower_than)]

    def remove_query_logger(self, callback: QueryLogger) -> None:
        """Have a callback no longer called."""
        log = self._driver.observer
        if log is not None:
            log.loggers = [pair for pair in log.loggers if pair[0] != callback]
            if not log.loggers:
                self._driver.observer = None

    @contextmanager
    def query_logger(self, callback: QueryLogger, *, slower_than: float = 0) -> Iterator[None]:
        """Have `callback(record)` called for the queries inside a `with` block. See `add_query_logger()`."""
        self.add_query_logger(callback, slower_than=slower_than)
        try:
            yield
        finally:
            self.remove_query_logger(callback)


class QueryLog:
    """The query loggers of one connection; the driver's observer while there are any."""

    def __init__(self, driver: Driver, params: ConnectParams, address: tuple[str, int] | str) -> None:
        self._driver = driver
        self._address = address
        self._params = params
        self._tasks: set[asyncio.Future[Any]] = set()
        self.loggers: list[tuple[QueryLogger, float]] = []

    async def watch(self, request: Request, timeout: float | None) -> Any:
        """Wait for a request, and tell of it."""
        started = monotonic()  # some event loops look at the clock once a turn
        error: BaseException | None = None
        try:
            return await request
        except BaseException as failure:
            error = failure
            raise
        finally:
            self.finished(request.query, request.arguments, timeout, monotonic() - started, error)

    def shared(self, request: Request, timeout: float | None, error: BaseException | None) -> None:
        """Tell of a call of a pool's own methods that has ended."""
        self.finished(request.query, request.arguments, timeout, request.elapsed(), error)

    def refused(self, query: str, args: Any, error: BaseException) -> None:
        """Tell of a query that was not sent, because of its arguments."""
        self.finished(query, args, None, 0.0, error)

    def finished(
        self, query: str, args: Any, timeout: float | None, elapsed: float, error: BaseException | None
    ) -> None:
        """Tell of a query that has ended."""
        record: LoggedQuery | None = None
        for callback, slower_than in self.loggers:
            if query and elapsed >= slower_than:
                if record is None:
                    record = LoggedQuery(query, args, timeout, elapsed, error, self._address, self._params)
                self._tell(callback, record)

    def _tell(self, callback: QueryLogger, record: LoggedQuery) -> None:
        try:
            result = callback(record)
        except Exception as error:
            report(self._driver.loop, callback, error)
            return
        if isawaitable(result):
            task = asyncio.ensure_future(result)
            self._tasks.add(task)
            task.add_done_callback(lambda task: self._ended(callback, task))

    def _ended(self, callback: QueryLogger, task: asyncio.Future[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report(self._driver.loop, callback, error)
