"""Peers that speak TLS: an attacker in the middle, and contexts for servers."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from types import TracebackType
from typing import Self

from tests.certificates import Issued
from tests.peers.frontend import SSLRequest, decode_first


def server_context(issued: Issued, *, alpn: str | None = None) -> ssl.SSLContext:
    """Return a server's context with its certificate; `alpn` is the protocol that it selects."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    if alpn is not None:
        context.set_alpn_protocols([alpn])
    return context


class ManInTheMiddle:
    """Ends the client's TLS with a certificate of its own, and passes everything on to the server over another TLS."""

    def __init__(self, host: str, port: int, issued: Issued) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._target = (host, port)
        self._context = server_context(issued)
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(asyncio.CancelledError, ConnectionError, ssl.SSLError):
            request = await reader.readexactly(8)
            assert isinstance(decode_first(request), SSLRequest)
            upstream = await asyncio.open_connection(*self._target)
            try:
                upstream[1].write(request)
                assert await upstream[0].readexactly(1) == b"S"
                trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                trusting.check_hostname = False
                trusting.verify_mode = ssl.CERT_NONE
                await upstream[1].start_tls(trusting)
                writer.write(b"S")
                await writer.start_tls(self._context)
                await asyncio.gather(_pass(reader, upstream[1]), _pass(upstream[0], writer))
            finally:
                await _drop(upstream[1])
        await _drop(writer)
        self._tasks.discard(task)


async def _drop(writer: asyncio.StreamWriter) -> None:
    """Close a connection without a word to TLS, and wait until it is closed."""
    writer.transport.abort()
    with suppress(ConnectionError, ssl.SSLError):
        await writer.wait_closed()


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
