"""Answers that are sent as they are made.

An answer has its status once the first bytes are sent. An error before them is a problem with its own status; one after
them is told in the stream, and the connection is closed without the end that HTTP requires. So a client that looks at
neither sees all the same that the answer is not complete.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias, TypeVar

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from storefront.partners import Partner
from storefront.service.head import send_headers_only, wants_headers_only
from storefront.service.problems import ProblemError, problem_of
from storefront.service.service import Service

log = logging.getLogger(__name__)

HANG_UP: Final = "storefront.hang_up"
"""An ASGI extension of `protocol`: a coroutine function that closes the connection."""

_GZIP: Final = 16 + zlib.MAX_WBITS

Produce: TypeAlias = "Callable[[StreamedAnswer], Awaitable[None]]"
Failure: TypeAlias = Callable[[ProblemError], bytes]

T = TypeVar("T")


class ClientGoneError(Exception):
    """The client has closed the connection, or reads nothing."""


class StreamedAnswer(Response):
    """An answer that `produce` makes by calls of `write`. `failure` returns the last bytes of one that has failed.

    The block of `while_connected` ends when the client goes away. A revoked key and a shutdown end all of it.
    """

    def __init__(
        self,
        service: Service,
        partner: Partner,
        produce: Produce,
        failure: Failure,
        *,
        media_type: str,
        accept_encoding: str = "",
    ) -> None:
        super().__init__(None, media_type=media_type)
        self._service = service
        self._partner = partner
        self._produce = produce
        self._failure = failure
        self._gzip = zlib.compressobj(1, zlib.DEFLATED, _GZIP) if accepts_gzip(accept_encoding) else None
        self._started = False
        del self.headers["content-length"]
        self.headers["cache-control"] = "no-store"
        self.headers["vary"] = "Accept, Accept-Encoding, Authorization"
        # A buffering proxy would keep the first rows.
        self.headers["x-accel-buffering"] = "no"
        if self._gzip is not None:
            self.headers["content-encoding"] = "gzip"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        if wants_headers_only(scope):
            await send_headers_only(send, 200, self.raw_headers)
            return
        self._receive, self._send = receive, send
        farewell = self._service.settings.farewell
        hang_up = (scope.get("extensions") or {}).get(HANG_UP)
        try:
            async with self._service.running_batches.run(self._partner):
                await self._produce(self)
                await self._finish()
            return
        except ClientGoneError:
            pass
        except Exception as error:
            problem = problem_of(error)
            if not self._started:
                await problem.response()(scope, receive, send)
                return
            log.warning("an answer to %s has failed: %s", self._partner.partner_name, problem)
            with suppress(TimeoutError):
                async with asyncio.timeout(farewell):
                    await self._send_body(self._failure(problem), last=True)
        if hang_up is not None:
            await hang_up(farewell)
        elif self._started:
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def write(self, data: bytes) -> None:
        """Send the next part, and wait if the client has not read enough of what was sent before.

        Raises ClientGoneError if the client reads nothing for `send_timeout`.
        """
        if not data:
            return
        try:
            async with asyncio.timeout(self._service.settings.send_timeout):
                await self._send_body(data)
        except TimeoutError:
            raise ClientGoneError from None

    @asynccontextmanager
    async def while_connected(self) -> AsyncIterator[None]:
        """Cancel the block when the client goes away, and raise ClientGoneError. The body must have been read."""
        task = asyncio.current_task()
        assert task is not None
        gone = False

        async def watch() -> None:
            nonlocal gone
            while (await self._receive())["type"] != "http.disconnect":
                pass
            gone = True
            task.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
            if gone:
                # The block was faster than the cancellation, which is still under way.
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not gone or task.uncancel() > 0:
                raise
            raise ClientGoneError from None
        finally:
            watching.cancel()

    async def _finish(self) -> None:
        """End the answer as HTTP requires."""
        await self._start()
        rest = b"" if self._gzip is None else self._gzip.flush()
        await self._send({"type": "http.response.body", "body": rest, "more_body": False})

    async def _start(self) -> None:
        if not self._started:
            # A cancellation may come first, and then another status can be sent.
            await self._send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            self._started = True

    async def _send_body(self, data: bytes, *, last: bool = False) -> None:
        await self._start()
        if self._gzip is not None:
            # Each part is sent at once, as it would be without compression.
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
        await self._send({"type": "http.response.body", "body": data, "more_body": True})


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether a client takes gzip (RFC 9110, section 12.5.3)."""
    weights = dict(_weights(accept_encoding))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def preferred(accept: str, offered: dict[str, T]) -> T | None:
    """Return what is offered under the media type that a client prefers, or None if it takes none of them.

    Media types that it prefers equally are tried in their order. Source: RFC 9110, section 12.5.1.
    """
    weights = dict(_weights(accept or "*/*"))
    best: str | None = None
    best_weight = 0.0
    for media_type in offered:
        main = media_type.split("/")[0]
        weight = next((weights[each] for each in (media_type, f"{main}/*", "*/*") if each in weights), 0.0)
        if weight > best_weight:
            best, best_weight = media_type, weight
    return None if best is None else offered[best]


def _weights(header: str) -> list[tuple[str, float]]:
    result = []
    for part in header.split(","):
        name, *parameters = (each.strip().lower() for each in part.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter[2:])
                except ValueError:
                    weight = 0.0
        if name:
            result.append((name, weight))
    return result
