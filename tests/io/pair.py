"""A driver on one end of a pair of sockets; the test is the server at the other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Any

import headrace._core.codecs.builtin  # noqa: F401  registers the codecs of all built-in types
from headrace._core.codecs.typemap import TypeMap
from headrace._core.pipeline.session import Session
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_ROWS, Driver
from tests.peers import backend

BUFFER = 1 << 19


class Pair:
    """`driver`, and the socket at the other end, which neither blocks nor needs a loop."""

    def __init__(self, driver: Driver, server: socket.socket) -> None:
        self.driver = driver
        self.turns = 0
        """In how many ticks of the event loop bytes have come."""
        self._server = server
        self._read = driver.transport.buffer_updated
        driver.transport.buffer_updated = self._count  # type: ignore[method-assign]

    def _count(self, size: int) -> None:
        self.turns += 1
        self._read(size)

    @classmethod
    async def open(cls, *, hidden: bool = False, **limits: Any) -> Pair:
        """Connect a driver; its session takes requests at once, as if it were past authentication.

        With `hidden` the driver cannot get at its socket, as on Windows, where a Proactor loop alone may read it.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX)
        for end in (ours, theirs):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
            end.setblocking(False)
        loop = asyncio.get_running_loop()
        driver = Driver(loop, lambda events: Session(TypeMap(), events=events, **limits))
        pair = cls(driver, theirs)
        protocol = Hidden(driver) if hidden else driver.transport
        await loop.create_unix_connection(lambda: protocol, sock=ours)
        return pair

    def ask(self, query: str, record_class: type[Record] = Record) -> Awaitable[list[Any]]:
        """Ask for the rows of a query; returns what they are awaited by."""
        request = self.driver.query(query, (), KIND_ROWS, 0, 0, record_class)
        rows: Awaitable[list[Any]] = self.driver.reply(request, None)
        return rows

    async def prepare(self, query: str) -> None:
        """Have a query prepared and run once, whose rows are one text each."""

        async def call() -> list[Any]:
            return await self.ask(query)

        first = asyncio.create_task(call())
        await self.hear()
        self.say(
            backend.parse_complete(),
            backend.parameter_description(),
            backend.row_description(backend.Field("text")),
            backend.ready_for_query(),
        )
        await self.hear()
        self.say(reply())
        assert await first == []

    def say(self, *messages: bytes) -> None:
        """Send all of it at once."""
        data = b"".join(messages)
        sent = self._server.send(data)
        assert sent == len(data), f"the socket takes {sent} bytes at once, not {len(data)}"

    def heard(self) -> bytes:
        """What has come from the driver since."""
        try:
            return self._server.recv(BUFFER)
        except BlockingIOError:
            return b""

    async def hear(self) -> bytes:
        """What comes from the driver."""
        while not (data := self.heard()):
            await asyncio.sleep(0)
        return data

    def hang_up(self) -> None:
        """Drop the server's end."""
        self._server.close()

    def close(self) -> None:
        """Drop both ends."""
        self.driver.terminate()
        self._server.close()


class Hidden(asyncio.BufferedProtocol):
    """Passes everything on to the protocol of a driver, but for the socket."""

    def __init__(self, driver: Driver) -> None:
        self._inner = driver.transport
        self.get_buffer = self._inner.get_buffer  # type: ignore[method-assign]
        self.eof_received = self._inner.eof_received  # type: ignore[method-assign]
        self.connection_lost = self._inner.connection_lost  # type: ignore[method-assign]
        self.pause_writing = self._inner.pause_writing  # type: ignore[method-assign]
        self.resume_writing = self._inner.resume_writing  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Show the driver a transport that does not tell its socket."""
        self._inner.connection_made(Silent(transport))

    def buffer_updated(self, size: int) -> None:
        """Pass it on."""
        self._inner.buffer_updated(size)


class Silent(asyncio.Transport):
    """A transport that tells nothing of itself. That of uvloop cannot be changed, and the loop logs the error only."""

    def __init__(self, transport: Any) -> None:
        super().__init__()
        self.write = transport.write  # type: ignore[method-assign]
        self.abort = transport.abort  # type: ignore[method-assign]
        self.close = transport.close  # type: ignore[method-assign]


def reply(*texts: str) -> bytes:
    """The reply to an execution, with a row for each text."""
    rows = [backend.data_row(text) for text in texts]
    return b"".join(
        [
            backend.bind_complete(),
            *rows,
            backend.command_complete(f"SELECT {len(rows)}"),
            backend.ready_for_query(),
        ]
    )
