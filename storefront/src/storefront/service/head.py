"""HEAD at every address that supports GET: the same headers, without a body (RFC 9110, section 9.3.2).

The request is answered as GET, and its body is dropped. An answer that is streamed sends its headers alone, because
making the rest may take long: it asks `wants_headers_only()`.
"""

from __future__ import annotations

from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEAD: Final = "storefront.head"
"""An ASGI extension that tells that the request is HEAD."""


class HeadRequests:
    """Middleware that answers HEAD as GET is answered, without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, HEAD as GET."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # The server has to know that the request is HEAD, so its scope stays as it is.
        as_get = {**scope, "method": "GET", "extensions": {**(scope.get("extensions") or {}), _HEAD: {}}}
        await self._app(as_get, receive, send_without_body)


def wants_headers_only(scope: Scope) -> bool:
    """Return whether the request is HEAD, so that nothing but the headers of the answer is sent."""
    return _HEAD in (scope.get("extensions") or {})


async def send_headers_only(send: Send, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    """Send an answer that has no body."""
    start: dict[str, Any] = {"type": "http.response.start", "status": status, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
