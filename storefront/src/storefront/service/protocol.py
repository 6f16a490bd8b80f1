"""uvicorn's HTTP protocol with a time limit for the headers of a request, and a way to break off a response.

uvicorn limits how long an answered connection may stay idle, but not how long a client may take to send a request. A
client that sends one byte a minute, on many connections, would keep all of them. The body has its time limit in
`body`, because the application reads it.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from storefront.service.settings import ServiceSettings
from storefront.service.streaming import HANG_UP

_TIMEOUT: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/problem+json\r\n"
    b"content-length: %d\r\n\r\n%s"
)
_PROBLEM: Final = (
    b'{"type":"urn:storefront:problem:request-timeout","title":"Request timeout","status":408,'
    b'"detail":"the headers of the request took too long"}'
)


class ServiceProtocol(H11Protocol):
    """Closes a connection whose client takes longer than `header_timeout` to send the headers of a request."""

    HEADERS: ClassVar = 32 * 2**10
    """The largest headers of a request, in bytes."""

    header_timeout: ClassVar[float]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._header_timer: asyncio.TimerHandle | None = None
        self._rest_timer: asyncio.TimerHandle | None = None
        self._lost = asyncio.Event()
        self._application = self.app
        self.app = self._run

    async def _run(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application, with the extension that hangs up."""
        scope["extensions"] = {HANG_UP: self.hang_up}
        await self._application(scope, receive, send)

    async def hang_up(self, seconds: float) -> None:
        """Close the connection after what has been sent, or at once if the client does not read that in `seconds`."""
        self.transport.close()
        try:
            async with asyncio.timeout(seconds):
                await self._lost.wait()
        except TimeoutError:
            self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time limit of the first request."""
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        """Pass data on. Start a time limit with the first byte of another request, and stop it with its last."""
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._stop_timer()
        elif self._header_timer is None and self.conn.trailing_data[0]:
            self._start_timer()

    def on_response_complete(self) -> None:
        """Give the client a limited time to send the rest of a body that was answered without being read.

        uvicorn reads and drops it for as long as it comes.
        """
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY and self._rest_timer is None:
            self._rest_timer = self.loop.call_later(self.header_timeout, self._rest_late)

    def _rest_late(self) -> None:
        self._rest_timer = None
        if self.conn.our_state is h11.DONE and self.conn.their_state is h11.SEND_BODY:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time limits."""
        self._stop_timer()
        if self._rest_timer is not None:
            self._rest_timer.cancel()
        self._lost.set()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        self._header_timer = self.loop.call_later(self.header_timeout, self._headers_late)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _headers_late(self) -> None:
        self._header_timer = None
        if not self.transport.is_closing():
            self.transport.write(_TIMEOUT % (len(_PROBLEM), _PROBLEM))
            self.transport.close()


def protocol_with(settings: ServiceSettings) -> type[ServiceProtocol]:
    """Return the protocol with the time limit of `settings`. uvicorn makes an object of it for each connection."""
    return type("ServiceProtocol", (ServiceProtocol,), {"header_timeout": settings.header_timeout})
