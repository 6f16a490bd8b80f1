"""Sends CancelRequests: each on a connection of its own, opened the same way as the session's.

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
    """Called with process id and secret key, sends a CancelRequest to the server of a session."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint

    async def __call__(self, pid: int, secret: bytes) -> None:
        """Return once the server has closed the connection: it has then signalled the backend.

        The request goes to the same socket address, over TLS if the session has TLS. Raises OSError if that fails.
        The caller sets the time limit. On cancellation the connection is dropped.
        """
        endpoint = self._endpoint
        attempt = Attempt(tls=bool(endpoint.encrypted), direct=endpoint.attempt.direct)
        loop = asyncio.get_running_loop()
        transport, delivery = await replace(endpoint, attempt=attempt).open(lambda: _Delivery(loop))
        try:
            transport.write(cancel_request(pid, secret))
            await delivery.ended
        finally:
            transport.abort()


class _Delivery(asyncio.Protocol):
    """Waits for the end of the connection. A reset counts like an orderly close: the server is done either way."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self.transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
