"""Send the result of a job, or a part of it, out of the database. A download that was broken off can be continued.

The parts are stored as gzip members. A client that accepts gzip gets them joined to one. For others they are
decompressed while they are sent. Both are representations of their own, each with its ETag, so that a range of bytes
(RFC 9110, section 14) always means the same bytes.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from storefront.jobs import Job, PartInfo, read_part
from storefront.jobs.members import ADDED, HEADER, data_of, end_of
from storefront.partners import Partner
from storefront.service.head import send_headers_only, wants_headers_only
from storefront.service.problems import ProblemError, unavailable
from storefront.service.service import Service
from storefront.service.streaming import accepts_gzip

PIECE: Final = 2**18
"""The number of bytes that are sent at once."""

_RANGE: Final = re.compile(r"bytes\s*=\s*(\d*)\s*-\s*(\d*)\s*$", re.ASCII | re.IGNORECASE)


class PartsResponse(StreamingResponse):
    """Sends pieces until the client goes away, the partner's key is revoked or the service ends."""

    def __init__(
        self,
        service: Service,
        partner: Partner,
        pieces: AsyncIterator[bytes],
        *,
        status: int,
        headers: dict[str, str],
        media_type: str,
    ) -> None:
        super().__init__(pieces, status, headers, media_type)
        self._service = service
        self._partner = partner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        if wants_headers_only(scope):
            await send_headers_only(send, self.status_code, self.raw_headers)
        else:
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """Send the pieces. If they end early, the connection is closed, and the client sees that bytes are missing."""
        timeout = self._service.settings.send_timeout

        async def send_in_time(message: object) -> None:
            async with asyncio.timeout(timeout):
                await send(message)  # type: ignore[arg-type]

        try:
            async with self._service.running_batches.run(self._partner):
                await super().stream_response(send_in_time)
        except (ProblemError, TimeoutError):
            return


_Block = tuple[PartInfo | bytes, int]
"""A part, or bytes that are sent between them, and the number of bytes that are sent."""


@dataclass(frozen=True)
class _Range:
    first: int
    last: int


def parts_response(
    request: Request, service: Service, partner: Partner, job: Job, parts: Sequence[PartInfo], *, name: str
) -> Response:
    """Return the response with these parts of a job's result, or with the range of bytes that is asked for.

    `name` distinguishes what the parts are, for the ETag. Raises ProblemError 416 for a range behind the end.
    """
    compressed = accepts_gzip(request.headers.get("accept-encoding", ""))
    blocks: list[_Block] = [(part, part.size) for part in parts]
    if compressed:
        end_of_all = end_of(part.trailer for part in parts)
        # A part without rows is empty.
        data = [(part, part.stored_size - ADDED) for part in parts if part.stored_size]
        blocks = [(HEADER, len(HEADER)), *data, (end_of_all, len(end_of_all))]
    size = sum(size for _, size in blocks)
    etag = f'"{job.job_id.hex}-{name}{"-gzip" if compressed else ""}"'
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "ETag": etag,
        "Vary": "Accept-Encoding, Authorization",
    }
    if compressed:
        headers["Content-Encoding"] = "gzip"
    # Tags are compared weakly here, and strongly for If-Range (RFC 9110, sections 13.1.2 and 13.1.5).
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if etag in known or known == ["*"]:
        return Response(None, 304, headers)
    wanted = None
    # A range of another representation, or of one that has changed, is not a part of this one. HEAD has no ranges.
    if request.headers.get("if-range", etag) == etag and not wants_headers_only(request.scope):
        wanted = _range(request.headers.get("range", ""), size)
    status = 200
    if wanted is not None:
        status = 206
        headers["Content-Range"] = f"bytes {wanted.first}-{wanted.last}/{size}"
    first, end = (wanted.first, wanted.last + 1) if wanted else (0, size)
    headers["Content-Length"] = str(end - first)
    media_type = job.result_format.media_type
    pieces = _pieces(service, job.job_id, blocks, first, end, compressed=compressed)
    return PartsResponse(service, partner, pieces, status=status, headers=headers, media_type=media_type)


def _range(header: str, size: int) -> _Range | None:
    """Return the one range that a header asks for. One that is no range, or several, are ignored, as is allowed."""
    found = _RANGE.match(header.strip())
    if found is None or found[1] == found[2] == "":
        return None
    if found[1] == "":
        first, last = max(size - int(found[2]), 0), size - 1
    else:
        first, last = int(found[1]), min(int(found[2]), size - 1) if found[2] else size - 1
        if found[2] and int(found[2]) < first:
            return None
    if first > last:
        raise ProblemError(
            416,
            "Range not satisfiable",
            f"there are {size:,} bytes, and the range begins behind them",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return _Range(first, last)


async def _pieces(
    service: Service,
    job_id: UUID,
    blocks: Sequence[_Block],
    first: int,
    end: int,
    *,
    compressed: bool,
) -> AsyncIterator[bytes]:
    """Yield the bytes from `first` up to `end` of the blocks joined. Memory holds one part."""
    begin = 0
    for block, size in blocks:
        if begin < end and begin + size > first:
            if isinstance(block, bytes):
                content = iter((block,))
            else:
                # A part never changes, so any server that has it may answer.
                member = await read_part(service.reads, job_id, block.part)
                if member is None and service.database.has_replicas:
                    member = await read_part(service.pool, job_id, block.part)
                if member is None:
                    raise unavailable("the job was deleted meanwhile")
                content = _slices(data_of(member)) if compressed else gunzipped(member)
            for piece in _cut(content, first - begin, end - begin):
                yield piece
        begin += size


def _cut(pieces: Iterator[bytes], first: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `first` up to `end`, counted from the beginning of the pieces."""
    begin = 0
    for piece in pieces:
        wanted = piece[max(first - begin, 0) : max(end - begin, 0)]
        if wanted:
            yield wanted
        begin += len(piece)
        if begin >= end:
            return


def _slices(data: bytes) -> Iterator[bytes]:
    for start in range(0, len(data), PIECE):
        yield data[start : start + PIECE]


def gunzipped(data: bytes) -> Iterator[bytes]:
    """Yield what a gzip member decompresses to, in pieces of limited size."""
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    while not member.eof:
        yield member.decompress(data, PIECE)
        data = member.unconsumed_tail
