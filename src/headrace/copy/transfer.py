"""The two directions of COPY: data to the server as fast as it accepts it, and from it as fast as it is read.

A COPY has the connection to itself. Everything that ends it early (a source or sink that raises, a time-out, a
cancellation) is reported to the server, which undoes what was copied. Other requests on the connection wait and are
sent once the server is ready for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headrace._client.timeouts import time_limit
from headrace._core.pipeline.copy import Copy, CopyIn, CopyOut

if TYPE_CHECKING:
    from headrace._io.driver import Driver

Write = Callable[[bytes], Awaitable[object]]
_Request = TypeVar("_Request", bound=Copy)


class Transfer(Generic[_Request]):
    """One COPY, from its command to its command tag. `timeout` limits each wait, in seconds; None does not."""

    def __init__(self, driver: Driver, request: _Request, timeout: float | None) -> None:
        self.driver = driver
        self.request = request
        self.timeout = timeout
        self._started = monotonic()
        self._observed = False
        observer = driver.observer
        self._watched = observer.start("copy", request.query, (), timeout) if observer is not None else None

    async def begin(self) -> None:
        """Wait until data may flow; raises the server's error if it refuses the command."""
        if not await self.request.began:
            await self.request.waiter

    async def done(self) -> str:
        """Wait for the command tag."""
        tag: str = await self.request.waiter
        self._observe(None)
        return tag

    def withdraw(self, error: BaseException) -> None:
        """End the COPY because of an error of the server or the client. Does not wait."""
        request = self.request
        if isinstance(request, CopyIn) and isinstance(error, Exception):
            request.failed(error)
        self.driver.give_up(request)
        if not request.waiter.done():
            request.waiter.cancel()
        elif not request.waiter.cancelled():
            request.waiter.exception()  # mark it as retrieved
        self._observe(error)

    def discard(self) -> None:
        """End a COPY that is going to be run again in another way. Query loggers do not see it. Does not wait."""
        self._observed = True
        if self._watched is not None:
            self._watched.end(None)
        self.withdraw(asyncio.CancelledError())

    def answer(self) -> BaseException | None:
        """Return the error with which the server ended the COPY, if it did."""
        waiter = self.request.waiter
        return waiter.exception() if waiter.done() and not waiter.cancelled() else None

    def in_own_loop(self) -> bool:
        """Return whether the running event loop is the connection's."""
        try:
            return asyncio.get_running_loop() is self.driver.loop
        except RuntimeError:
            return False

    def _observe(self, error: BaseException | None) -> None:
        observer = self.driver.observer
        if observer is not None and not self._observed:
            self._observed = True
            elapsed = monotonic() - self._started
            observer.finished(self.request.query, (), self.timeout, elapsed, error)
        if self._watched is not None:
            self._watched.end(error, self.request.status)


class Upload(Transfer[CopyIn]):
    """COPY FROM STDIN."""

    async def send(self, messages: bytes) -> None:
        """Send CopyData and wait until the transport accepts more; raises the server's error if it refused any."""
        if not self.request.flowing:
            await self.request.waiter
        if self.driver.transport.send_data(self.request, messages):
            await asyncio.sleep(0)
        else:
            await self.driver.transport.wait_for_room()

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as CopyData."""
        await self.send(self.request.data_message(data))

    async def end(self, messages: bytes = b"") -> str:
        """Send the last messages and CopyDone; returns the command tag."""
        if self.request.flowing:
            self.driver.transport.send_data(self.request, messages + self.request.end())
        return await self.done()


class Download(Transfer[CopyOut]):
    """COPY TO STDOUT."""

    async def data(self) -> bytes:
        """Return the data received, cut between rows; b"" at the end. Raises the server's error."""
        request = self.request
        while not request.backlog and await self._more():
            pass
        data = request.take()
        self.driver.transport.read_on()
        return data

    async def rows(self) -> list[Any]:
        """Return the decoded rows received; none at the end. Raises the error of the server or of a decoder."""
        request = self.request
        while True:
            rows = request.take_rows()
            self.driver.transport.read_on()
            if rows:
                return rows
            if request.failure is not None:
                raise request.failure
            if not await self._more():
                return []

    async def _more(self) -> bool:
        """Wait for more data; return False at the end."""
        request = self.request
        if request.waiter.done():
            await request.waiter
            return False
        request.arrival = self.driver.loop.create_future()
        async with time_limit(self.timeout, "the COPY"):
            await request.arrival
        return True


async def upload(
    driver: Driver, command: str, pump: Callable[[Upload], Awaitable[bytes]], timeout: float | None
) -> str:
    """Run COPY FROM STDIN within `timeout` seconds; return its command tag. See `fill()` for `pump`."""
    return await fill(Upload(driver, driver.copy_in(command), timeout), pump, timeout)


async def fill(transfer: Upload, pump: Callable[[Upload], Awaitable[bytes]], timeout: float | None) -> str:
    """Carry out a COPY FROM STDIN within `timeout` seconds; return its command tag.

    `pump` sends all messages but the last, which it returns. It is stopped when the server refuses the data or the
    connection is lost.
    """
    interruption = Interruption(transfer.request.waiter)
    try:
        async with time_limit(timeout, "the COPY") as scope:
            await transfer.begin()
            with interruption.within(scope):
                last = await pump(transfer)
            return await transfer.end(last)
    except BaseException as error:
        answer = transfer.answer() if interruption.happened else None
        transfer.withdraw(answer or error)
        if answer is not None:
            raise answer from None
        raise


async def download(
    driver: Driver, command: str, sink: AbstractAsyncContextManager[Write], timeout: float | None
) -> str:
    """Run COPY TO STDOUT within `timeout` seconds; return its command tag. `sink` is entered once data comes."""
    transfer = Download(driver, driver.copy_out(command), None)
    try:
        async with time_limit(timeout, "the COPY"):
            await transfer.begin()
            async with sink as write:
                while data := await transfer.data():
                    await write(data)
            return await transfer.done()
    except BaseException as error:
        transfer.withdraw(error)
        raise


class Interruption:
    """Interrupts the task inside a block if the request is answered early.

    Data that nobody reads need not be produced, and its source may wait for something that never comes.
    """

    def __init__(self, waiter: asyncio.Future[Any]) -> None:
        self._waiter = waiter
        self._scope: asyncio.Timeout | None = None
        self.happened = False

    def within(self, scope: asyncio.Timeout) -> Interruption:
        """Set the `asyncio.timeout()` that interrupts the task."""
        self._scope = scope
        return self

    def __enter__(self) -> None:
        self._waiter.add_done_callback(self._interrupt)

    def __exit__(self, *_: object) -> None:
        if not self.happened:
            self._scope = None

    def _interrupt(self, waiter: asyncio.Future[Any]) -> None:
        if self._scope is not None and not self._scope.expired():
            self.happened = True
            self._scope.reschedule(waiter.get_loop().time())
