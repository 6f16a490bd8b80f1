"""Read the body of a request with a limit of its size and of its time."""

from __future__ import annotations

import asyncio
import zlib
from typing import Final

from starlette.requests import Request

from storefront.service.problems import ProblemError, RefusedBodyError
from storefront.service.settings import ServiceSettings

_GZIP: Final = 16 + zlib.MAX_WBITS


async def read_body(request: Request, settings: ServiceSettings) -> bytearray:
    """Return the body, decompressed if it is gzip.

    Raises ProblemError: 413 if it is larger than the limit, before or after it is decompressed, 408 if the client
    sends it too slowly, 415 if it has another encoding, and 400 if it is not what its headers say. It is refused as
    soon as that is known, so memory holds no more than the limit.
    """
    limit = settings.body_limit
    decoder = _decoder(request.headers.get("content-encoding", ""), limit)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    received = 0
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        async with asyncio.timeout_at(started + settings.body_timeout) as deadline:
            async for chunk in request.stream():
                received += len(chunk)
                # A body may take longer the more of it has come, so a slow line is not a slow client.
                deadline.reschedule(started + settings.body_timeout + received / settings.body_rate)
                if received > limit:
                    raise _too_large(limit)
                if decoder is None:
                    body += chunk
                else:
                    decoder.feed(chunk, body)
    except TimeoutError:
        raise RefusedBodyError(408, "Request timeout", "the body of the request came too slowly") from None
    if decoder is not None:
        decoder.finish()
    return body


def _decoder(encoding: str, limit: int) -> _Gunzip | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip":
            return _Gunzip(limit)
        case _:
            raise RefusedBodyError(
                415,
                "Unsupported media type",
                f"the content encoding {encoding[:40]!r} is not supported: expected gzip, or none",
                headers={"Accept-Encoding": "gzip"},
            )


def _too_large(limit: int) -> ProblemError:
    return RefusedBodyError(
        413,
        "Content too large",
        f"the body is larger than {limit:,} bytes: divide it into several requests",
        limit=limit,
    )


class _Gunzip:
    """Decompresses the members of a gzip file, no more than `limit` bytes of them."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes, body: bytearray) -> None:
        """Decompress the next part of the file and append the result to `body`."""
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                body += self._member.decompress(data, self._limit + 1 - len(body))
            except zlib.error as error:
                raise RefusedBodyError(400, "Malformed body", f"the body is not gzip: {error}") from None
            if len(body) > self._limit:
                raise _too_large(self._limit)
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail

    def finish(self) -> None:
        """Check that the file has ended. An empty body is no file, and has no end."""
        if self._begun and not self._member.eof:
            raise ProblemError(400, "Malformed body", "the gzip of the body ends too early")
