"""Delivers CancelRequests: each on a connection of its own, made the way the session's was.

Source: PostgreSQL documentation, "Canceling Requests in Progress" (protocol-flow-canceling-requests).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from headrace._connect.tls import Attempt
from headrace._core.wire.frontend import cancel_request

if TYPE_CHECKING:
    from headrace._connect.endpoint import Endpoint


class CancelSender:
    """Called with process id and secret key, delivers a CancelRequest to the server that a session is with."""

    def __init__(self, place: Endpoint) -> None:
        self._place = place

    async def __call__(self, pid: int, secret: bytes) -> None:
        """Return once the server has closed the connection: by then it has signalled the backend.

        The request goes to the same socket address, over TLS where the session has TLS. Raises OSError where that
        fails. There is no time limit here: the caller has one. On cancellation the connection is dropped.
        """
        place = self._place
        way = Attempt(tls=bool(place.encrypted), direct=place.attempt.direct)
        loop = asyncio.get_running_loop()
        transport, delivery = await replace(place, attempt=way).open(lambda: _Delivery(loop))
        try:
            transport.write(cancel_request(pid, secret))
            await delivery.ended
        finally:
            transport.abort()


class _Delivery(asyncio.Protocol):
    """Waits for the end of the connection. A reset is as good as an orderly one: the server is done either way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
