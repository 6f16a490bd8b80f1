"""A PostgreSQL server that plays a script: what it expects of the client, and what it answers, byte for byte.

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Parse, Describe, Sync)
        await peer.send(backend.error_response(code="42601"), backend.ready_for_query())
        await peer.expect_end()

    async with FakeServer(script) as server:
        ...connect to server.host, server.port...

The first connection plays the first script, and so on. A client that does something else than its script
expects, or nothing, makes leaving the `with` block raise ClientError. Nothing here sleeps: scripts wait for
what the client sends, and for events that the test sets.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Self, TypeVar

from tests.peers import backend
from tests.peers.frontend import (
    CancelRequest,
    ClientError,
    GSSENCRequest,
    Message,
    SSLRequest,
    StartupMessage,
    Terminate,
    decode,
    decode_first,
)

PATIENCE = 10.0
"""Seconds that a client may take for the next thing its script expects."""

_M = TypeVar("_M", bound=Message)


class Peer:
    """One connection, as its script sees it: the client is at the other end.

    Methods that wait raise ClientError when something else comes, the client leaves, or nothing comes in
    PATIENCE.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int, over: asyncio.Event
    ) -> None:
        self.number = number
        self.received = bytearray()
        """All that the client has sent, inside TLS where that is on."""
        self.startup: StartupMessage | None = None
        self._reader = reader
        self._writer = writer
        self._over = over

    # Expecting

    async def expect(self, kind: type[_M], *more: type[Message]) -> _M:
        """Wait for one message of each class, in this order, and return the first of them."""
        first = await self.next()
        if not isinstance(first, kind):
            raise ClientError(f"expected {kind.__name__}, got {first}")
        for wanted in more:
            got = await self.next()
            if not isinstance(got, wanted):
                raise ClientError(f"expected {wanted.__name__}, got {got}")
        return first

    async def next(self) -> Message:
        """Wait for the next message of a session, whichever it is."""
        header = await self._read(5)
        return decode(header + await self._read(self._length(header[1:])))

    async def first(self) -> Message:
        """Wait for the message that opens a connection, or that follows a refused SSLRequest."""
        header = await self._read(4)
        return decode_first(header + await self._read(self._length(header)))

    async def expect_ssl_request(self, answer: bytes = b"N") -> None:
        """Wait for SSLRequest and answer with these bytes; after `S` comes `start_tls`."""
        await self._expect_first(SSLRequest)
        await self.send(answer)

    async def expect_startup(self, **parameters: str) -> StartupMessage:
        """Wait for StartupMessage with at least these parameters; encryption asked for before is refused."""
        while isinstance(got := await self.first(), SSLRequest | GSSENCRequest):
            await self.send(b"N")
        if not isinstance(got, StartupMessage):
            raise ClientError(f"expected StartupMessage, got {got}")
        for name, value in parameters.items():
            if got.parameters.get(name) != value:
                raise ClientError(f"expected startup parameter {name}={value!r}, got {got.parameters}")
        self.startup = got
        return got

    async def expect_cancel_request(self) -> CancelRequest:
        """Wait for CancelRequest; encryption asked for before is refused."""
        while isinstance(got := await self.first(), SSLRequest | GSSENCRequest):
            await self.send(b"N")
        if not isinstance(got, CancelRequest):
            raise ClientError(f"expected CancelRequest, got {got}")
        return got

    async def expect_end(self) -> None:
        """Wait until the client leaves, with or without Terminate; the script should close or end then.

        Some clients wait for that after Terminate, as a real backend exits at once.
        """
        try:
            kind = await self._within(self._reader.read(1))
        except ConnectionError:
            return
        if kind:
            self.received += kind
            header = kind + await self._read(4)
            got = decode(header + await self._read(self._length(header[1:])))
            if not isinstance(got, Terminate):
                raise ClientError(f"expected the client to leave, got {got}")

    # Answering

    async def send(self, *chunks: bytes) -> None:
        """Send these bytes; a client that has left already is no error here."""
        with suppress(ConnectionError):
            self._writer.write(b"".join(chunks))
            await self._writer.drain()

    async def greet(self, parameters: Mapping[str, str] | None = None) -> StartupMessage:
        """Wait for the start-up and accept the session without authentication; `parameters` are reported."""
        startup = await self.expect_startup()
        await self.send(backend.greeting(parameters))
        return startup

    async def start_tls(self, context: ssl.SSLContext) -> None:
        """Go on inside TLS; the client has been answered `S`."""
        await self._within(self._writer.start_tls(context))

    async def hold(self) -> None:
        """Keep the connection open and silent until the client leaves, or the test; what comes is kept."""
        over = asyncio.ensure_future(self._over.wait())
        try:
            while not over.done():
                read = asyncio.ensure_future(self._reader.read(65536))
                await asyncio.wait((read, over), return_when=asyncio.FIRST_COMPLETED)
                if not read.done():
                    read.cancel()
                elif read.exception() is not None or not read.result():
                    return
                else:
                    self.received += read.result()
        finally:
            over.cancel()

    async def close(self) -> None:
        """Close the connection in good order (FIN)."""
        self._writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await self._writer.wait_closed()

    def reset(self) -> None:
        """Drop the connection (RST): the client's next read or write fails."""
        reset(self._writer)

    # How it is done

    async def _expect_first(self, kind: type[_M]) -> _M:
        got = await self.first()
        if not isinstance(got, kind):
            raise ClientError(f"expected {kind.__name__}, got {got}")
        return got

    async def _read(self, count: int) -> bytes:
        try:
            data = await self._within(self._reader.readexactly(count))
        except asyncio.IncompleteReadError as error:
            self.received += error.partial
            raise ClientError(f"the client left after {bytes(self.received)!r}") from None
        except ConnectionError as error:
            raise ClientError(f"the client broke off ({error}) after {bytes(self.received)!r}") from None
        self.received += data
        return data

    async def _within(self, awaitable: Awaitable[_T]) -> _T:
        try:
            async with asyncio.timeout(PATIENCE):
                return await awaitable
        except TimeoutError:
            raise ClientError(f"nothing in {PATIENCE:g} s after {bytes(self.received)!r}") from None

    @staticmethod
    def _length(header: bytes) -> int:
        length = int(struct.unpack("!i", header)[0])
        if not 4 <= length <= 1 << 30:
            raise ClientError(f"the client sent a frame of length {length}")
        return length - 4


_T = TypeVar("_T")

Script = Callable[[Peer], Awaitable[None]]
"""What one connection does: a coroutine function of its Peer."""


def reset(writer: asyncio.StreamWriter) -> None:
    """Close a TCP connection by RST: what is unsent is lost, and the other side sees an error."""
    # A connection that has ended already has no socket any more, or none that can be set.
    sock = writer.get_extra_info("socket")
    with suppress(OSError):
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class FakeServer:
    """A listener on loopback that plays one script a connection; `every` is the one for all further ones.

    Leaving the `with` block waits for the scripts to end, and raises ClientError for the first that failed,
    for one that still waits, and for one that no connection came for.
    """

    def __init__(self, *scripts: Script, every: Script | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.peers: list[Peer] = []
        """The connections so far, in order."""
        self.failures: list[Exception] = []
        self._scripts = scripts
        self._every = every
        self._playing: dict[asyncio.Task[None], Peer] = {}
        self._server: asyncio.Server | None = None
        self._connected = asyncio.Condition()
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self._over.set()
        # After an error the client may never do what its script waits for.
        await self._all_played(PATIENCE if error is None else 0)
        for task, peer in self._playing.items():
            self.failures.append(ClientError(f"the script of connection {peer.number} was not played to its end"))
            task.cancel()
        await self._all_played(PATIENCE)
        missing = len(self._scripts) - len(self.peers)
        if missing > 0:
            self.failures.append(ClientError(f"no connection came for the last {missing} script(s)"))
        if error is not None:
            for failure in self.failures:
                error.add_note(f"fake server: {failure}")
        elif self.failures:
            raise self.failures[0]

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """Return a connection URI without a password."""
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    async def connected(self, count: int = 1) -> Peer:
        """Wait for the connection of that number, counting from 1, and return its Peer."""
        async with asyncio.timeout(PATIENCE), self._connected:
            await self._connected.wait_for(lambda: len(self.peers) >= count)
        return self.peers[count - 1]

    async def _all_played(self, within: float) -> None:
        if self._playing:
            await asyncio.wait(self._playing, timeout=within)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        peer = Peer(reader, writer, len(self.peers) + 1, self._over)
        self._playing[task] = peer
        self.peers.append(peer)
        async with self._connected:
            self._connected.notify_all()
        # Cancelled by __aexit__ alone; left cancelled, the task would be logged as an error by asyncio.
        with suppress(asyncio.CancelledError):
            try:
                await self._play(peer)
            except Exception as failure:
                failure.add_note(f"on connection {peer.number} of the fake server")
                self.failures.append(failure)
            finally:
                await peer.close()
        del self._playing[task]

    async def _play(self, peer: Peer) -> None:
        if peer.number <= len(self._scripts):
            await self._scripts[peer.number - 1](peer)
        elif self._every is not None:
            await self._every(peer)
        else:
            raise ClientError(f"connection {peer.number} has no script")
