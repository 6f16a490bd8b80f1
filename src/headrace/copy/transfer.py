"""The two directions of COPY: data to the server as fast as it takes it, data from it as fast as it is read.

Whoever runs a COPY is alone on the wire. Whatever ends it before its time (a source or sink that raises, a time-out, a
cancellation) is told to the server, which undoes what was copied; what was asked of the connection meanwhile is sent
once the server is ready for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from headrace._core.pipeline.copy import Copy, CopyIn, CopyOut

if TYPE_CHECKING:
    from headrace._io.driver import Driver

Write = Callable[[bytes], Awaitable[object]]
_Request = TypeVar("_Request", bound=Copy)


class Transfer(Generic[_Request]):
    """One COPY, from its command to its command tag; `timeout` seconds bound each wait, None does not."""

    def __init__(self, driver: Driver, request: _Request, timeout: float | None) -> None:
        self.driver = driver
        self.request = request
        self.timeout = timeout
        self._started = monotonic()
        self._observed = False

    async def begin(self) -> None:
        """Wait until data may flow; raises the server's error where it refuses the command."""
        if not await self.request.began:
            await self.request.waiter

    async def done(self) -> str:
        """Wait for the command tag."""
        tag: str = await self.request.waiter
        self._observe(None)
        return tag

    def withdraw(self, error: BaseException) -> None:
        """End the COPY because of an error, the server's or one on this side; does not wait."""
        request = self.request
        if isinstance(request, CopyIn) and isinstance(error, Exception):
            request.failed(error)
        self.driver.give_up(request)
        if not request.waiter.done():
            request.waiter.cancel()
        elif not request.waiter.cancelled():
            request.waiter.exception()  # it has been seen
        self._observe(error)

    def answer(self) -> BaseException | None:
        """Return the error that the server has ended the COPY with, if it has."""
        waiter = self.request.waiter
        return waiter.exception() if waiter.done() and not waiter.cancelled() else None

    def in_own_loop(self) -> bool:
        """Return whether the event loop that runs here is the connection's."""
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


class Upload(Transfer[CopyIn]):
    """COPY FROM STDIN."""

    async def send(self, messages: bytes) -> None:
        """Send CopyData and wait until the transport takes more; raises the server's error where it has refused any."""
        if not self.request.flowing:
            await self.request.waiter
        if self.driver.send_data(self.request, messages):
            await asyncio.sleep(0)
        else:
            await self.driver.wait_for_room()

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as CopyData."""
        await self.send(self.request.data_message(data))

    async def end(self, messages: bytes = b"") -> str:
        """Send the last messages and CopyDone; returns the command tag."""
        if self.request.flowing:
            self.driver.send_data(self.request, messages + self.request.end())
        return await self.done()


class Download(Transfer[CopyOut]):
    """COPY TO STDOUT."""

    async def data(self) -> bytes:
        """Return what has come, cut between rows; b"" at the end. Raises the server's error."""
        request = self.request
        while not request.backlog and await self._more():
            pass
        data = request.take()
        self.driver.read_on()
        return data

    async def rows(self) -> list[Any]:
        """Return the rows that have come, decoded; none at the end. Raises the server's error, or the decoder's."""
        request = self.request
        while True:
            rows = request.take_rows()
            self.driver.read_on()
            if rows:
                return rows
            if request.failure is not None:
                raise request.failure
            if not await self._more():
                return []

    async def _more(self) -> bool:
        """Wait until there is something to take; returns False at the end."""
        request = self.request
        if request.waiter.done():
            await request.waiter
            return False
        request.arrival = self.driver.loop.create_future()
        async with asyncio.timeout(self.timeout):
            await request.arrival
        return True


async def upload(
    driver: Driver, command: str, pump: Callable[[Upload], Awaitable[bytes]], timeout: float | None
) -> str:
    """Run COPY FROM STDIN within `timeout` seconds; returns its command tag.

    `pump` sends all but the last messages and returns those. It is stopped as soon as the server has refused the data,
    or is gone.
    """
    transfer = Upload(driver, driver.copy_in(command), timeout)
    interruption = Interruption(transfer)
    try:
        async with asyncio.timeout(timeout) as scope:
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
    """Run COPY TO STDOUT within `timeout` seconds; returns its command tag. `sink` is entered once data comes."""
    transfer = Download(driver, driver.copy_out(command), None)
    try:
        async with asyncio.timeout(timeout):
            await transfer.begin()
            async with sink as write:
                while data := await transfer.data():
                    await write(data)
            return await transfer.done()
    except BaseException as error:
        transfer.withdraw(error)
        raise


class Interruption:
    """Ends what the task does inside a block when the COPY is answered before its time.

    Data that nobody takes need not be produced, and its source may wait for something that never comes.
    """

    def __init__(self, transfer: Transfer[Any]) -> None:
        self._waiter = transfer.request.waiter
        self._scope: asyncio.Timeout | None = None
        self.happened = False

    def within(self, scope: asyncio.Timeout) -> Interruption:
        """Name the `asyncio.timeout()` that ends the task."""
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
