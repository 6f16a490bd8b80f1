"""Query loggers: callbacks that get each query, the time that it took and its outcome.

A connection without query loggers has no `QueryLog`, so its queries cost nothing more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from inspect import isawaitable
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from headrace._client.listeners import report
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace._connect.params.resolve import ConnectParams
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
    log = driver.observer
    if log is None:
        log = driver.observer = QueryLog(driver.loop, params, address)
    log.loggers = [*(pair for pair in log.loggers if pair[0] != callback), (callback, slower_than)]


def remove_query_logger(driver: Driver, callback: QueryLogger) -> None:
    """Remove a query logger, if it is there."""
    log = driver.observer
    if log is not None:
        log.loggers = [pair for pair in log.loggers if pair[0] != callback]
        if not log.loggers:
            driver.observer = None


class QueryLog:
    """The query loggers of one connection; the driver's observer as long as there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, params: ConnectParams, address: tuple[str, int] | str) -> None:
        self._loop = loop
        self._address = address
        self._params = params
        self._tasks: set[asyncio.Future[Any]] = set()
        self.loggers: list[tuple[QueryLogger, float]] = []

    async def watch(self, request: Request, timeout: float | None) -> Any:
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

    def refused(self, query: str, args: Any, error: BaseException) -> None:
        """Log a query that was not sent because of its arguments."""
        self.finished(query, args, None, 0.0, error)

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
