"""Read the body of a request with a limit of its size and of its time, whole or piece by piece."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from starlette.requests import Request

from storefront.service.problems import ProblemError, RefusedBodyError
from storefront.service.settings import ServiceSettings

_GZIP: Final = 16 + zlib.MAX_WBITS

PIECE: Final = 2**18
"""The number of bytes that are decompressed at once."""


async def read_body(request: Request, settings: ServiceSettings) -> bytearray:
    """Return the body, decompressed if it is gzip; raises ProblemError as `stream_body()` does."""
    body = bytearray()
    async for piece in stream_body(request, settings, settings.body_limit, "requests"):
        body += piece
    return body


async def stream_body(
    request: Request, settings: ServiceSettings, limit: int, divided_into: str
) -> AsyncIterator[bytes]:
    """Yield the pieces of a body, decompressed if it is gzip.

    Raises ProblemError: 413 if it is larger than `limit` bytes, before or after it is decompressed, 408 if the client
    sends it too slowly, 415 if it has another encoding, and 400 if it is not what its headers say. It is refused as
    soon as that is known. `divided_into` is the remedy for a body that is too large.
    """
    encoding = request.headers.get("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise RefusedBodyError(
            415,
            "Unsupported media type",
            f"the content encoding {encoding[:40]!r} is not supported: expected gzip, or none",
            headers={"Accept-Encoding": "gzip"},
        )
    too_large = RefusedBodyError(
        413,
        "Content too large",
        f"the body is larger than {limit:,} bytes: divide it into several {divided_into}",
        limit=limit,
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise too_large
    gunzip = _Gunzip() if encoding not in ("", "identity") else None
    received = size = 0
    async for sent in _in_time(request, settings):
        received += len(sent)
        if received > limit:
            raise too_large
        for piece in gunzip.feed(sent) if gunzip else (sent,):
            size += len(piece)
            if size > limit:
                raise too_large
            yield piece
    if gunzip:
        gunzip.end()


async def _in_time(request: Request, settings: ServiceSettings) -> AsyncIterator[bytes]:
    """Yield what the client sends. Only the time that it is waited for counts against the client.

    A body may take longer the more of it has come, so a slow line is not a slow client.
    """
    loop = asyncio.get_running_loop()
    waited, received = 0.0, 0
    pieces = request.stream()
    while True:
        began = loop.time()
        allowed = settings.body_timeout + received / settings.body_rate - waited
        try:
            async with asyncio.timeout(max(allowed, 0.0)):
                piece = await anext(pieces, None)
        except TimeoutError:
            raise RefusedBodyError(408, "Request timeout", "the body of the request came too slowly") from None
        if piece is None:
            return
        waited += loop.time() - began
        received += len(piece)
        yield piece


class _Gunzip:
    """Decompresses the members of a gzip file bit by bit."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the file decompress to, in pieces of limited size."""
        while data:
            if self._member.eof:
                self._member = zlib.decompressobj(_GZIP)
            self._begun = True
            try:
                piece = self._member.decompress(data, PIECE)
            except zlib.error as error:
                raise RefusedBodyError(400, "Malformed body", f"the body is not gzip: {error}") from None
            data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if piece:
                yield piece

    def end(self) -> None:
        """Check that the file has ended. An empty body is no file, and has no end."""
        if self._begun and not self._member.eof:
            raise ProblemError(400, "Malformed body", "the gzip of the body ends too early")
