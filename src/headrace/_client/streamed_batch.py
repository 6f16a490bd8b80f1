"""executemany() and fetchmany() with arguments from an asynchronous iterable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from headrace._client.batch_transaction import BatchTransaction, is_in_transaction
from headrace._client.timeouts import time_limit
from headrace.copy.transfer import Interruption
from headrace.exceptions import ArgumentError

if TYPE_CHECKING:
    from headrace._client.interface import ConnectionInterface
    from headrace._core.pipeline.batch import StreamedBatch
    from headrace._core.pipeline.statement_cache import Statement
    from headrace._core.rows.record import Record
    from headrace._core.rows.row_plan import RowShape
    from headrace._io.driver import Driver

END = object()


def is_asynchronous(args: object) -> bool:
    """Return whether the arguments of a batch come from an asynchronous iterable."""
    return hasattr(type(args), "__aiter__")


async def run_batch(
    driver: Driver,
    query: str,
    source: AsyncIterable[Any],
    rows: type[Record] | RowShape,
    collects: bool,
    timeout: float | None,
    statement: Statement | None = None,
    begins_on: ConnectionInterface | None = None,
) -> tuple[Any, str | None]:
    """Run a query for each element of the source, within `timeout` seconds; return the rows and the last command tag.

    The batch is one atomic request. It is queued when the first chunk of its elements is full, or after the last one.
    From then on it has the connection to itself, and waits if the source is slow. No more than two chunks are held.
    An exception of the source is raised as it is, after the batch was undone. The source is closed in any case.
    With `begins_on`, a connection, it is in a transaction of its own, unless one is open when it is queued.
    """
    own = None
    if statement is None:
        statement = own = driver.hold(query)
    batch = _Batch(driver, source, rows, collects, begins_on)
    observer = driver.observer
    watched = observer.start("batch", query, source, timeout) if observer is not None else None
    started = monotonic()
    failure: BaseException | None = None
    try:
        async with time_limit(timeout, "the command") as scope:
            return await batch.run(statement, scope)
    except BaseException as error:
        failure = batch.withdraw(error)
        if failure is error:
            raise
        raise failure from None
    finally:
        observer = driver.observer
        if observer is not None:
            observer.finished(query, source, timeout, monotonic() - started, failure)
        if watched is not None:
            watched.end(failure, *batch.progress)
        if own is not None:
            driver.release(own)
        if not isinstance(failure, GeneratorExit):
            # A coroutine that is thrown away must not wait. The event loop closes its asynchronous generators.
            await batch.close_source()


class _Batch:
    def __init__(
        self,
        driver: Driver,
        source: AsyncIterable[Any],
        rows: type[Record] | RowShape,
        collects: bool,
        begins_on: ConnectionInterface | None,
    ) -> None:
        self._driver = driver
        self._source = source
        self._iterator: AsyncIterator[Any] = aiter(source)
        self._rows = rows
        self._collects = collects
        self._request: StreamedBatch | None = None
        self._is_queued = False
        self._begins_on = begins_on
        self._transaction: BatchTransaction | None = None
        self._context = copy_context()
        """The context outside of the source. Within, requests on this connection are refused."""
        self._interruption: Interruption | None = None

    async def run(self, statement: Statement, scope: asyncio.Timeout) -> tuple[Any, str | None]:
        driver = self._driver
        # The statement is prepared late: a slow source leaves it less time to be closed or altered.
        with driver.reading():
            first = await anext(self._iterator, END)
        await driver.reply(driver.prepare(statement), None)
        request = self._request = driver.streamed_batch(statement, self._source, self._rows, self._collects)
        interruption = self._interruption = Interruption(request.waiter)
        if first is not END:
            with interruption.within(scope), driver.reading():
                await self._add(request, statement, first)
                async for args in self._iterator:
                    await self._add(request, statement, args)
        request.finish()
        await self._send(request)
        result = await request.waiter
        if self._transaction is not None:
            await self._transaction.committed(None)
        return result, request.status or None

    async def _add(self, request: StreamedBatch, statement: Statement, args: Any) -> None:
        try:
            request.add(args)
        except ArgumentError:
            self._driver.session.statements.doubt_refused(statement)
            raise
        if request.is_full:
            await self._send(request)
            while request.is_full and not request.waiter.done():
                request.room = self._driver.loop.create_future()
                await request.room

    @property
    def progress(self) -> tuple[str | None, int | None]:
        """The last command tag and the number of executions, for query hooks."""
        request = self._request
        return (None, None) if request is None else (request.status, request.executions)

    async def _send(self, request: StreamedBatch) -> None:
        if self._is_queued:
            self._driver.transport.flush_soon()
            return
        if self._begins_on is not None and not await self._is_in_transaction(self._begins_on):
            transaction = BatchTransaction(self._driver)
            self._context.run(transaction.send, partial(self._driver.send_batch, request))
            self._transaction = transaction
        else:
            self._driver.send_batch(request)
        self._is_queued = True

    async def _is_in_transaction(self, connection: ConnectionInterface) -> bool:
        while not self._driver.session.commands.is_idle_behind():
            if await asyncio.create_task(is_in_transaction(connection), context=self._context):
                return True
        return False

    def withdraw(self, error: BaseException) -> BaseException:
        """Undo the batch; returns the error to raise: that of the server if it has ended the batch early."""
        request = self._request
        if request is None:
            return error
        waiter = request.waiter
        if isinstance(error, Exception):
            request.failed(error)
        if self._is_queued:
            self._driver.give_up(request)
        if self._transaction is not None:
            self._transaction.give_up()
        if not waiter.done():
            waiter.cancel()
        elif not waiter.cancelled():
            answer = waiter.exception()
            if answer is not None and self._interruption is not None and self._interruption.happened:
                return answer
        return error

    async def close_source(self) -> None:
        close = getattr(self._iterator, "aclose", None)
        if close is not None:
            await close()
