"""Compress the parts of a result to gzip members that can be joined to a single member without decompressing them.

Many HTTP clients read only the first member of a body with `Content-Encoding: gzip`, and leave out the others without
an error. So a result is sent as one member. A part's compressed data therefore end at a byte, before an empty last
block (RFC 1951, section 3.2.3). The joined member is a header, the data of the parts, an empty last block, and the
checksum and size of everything (RFC 1952, section 2.3), which follow from those of the parts.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Final

LEVEL: Final = 3
"""The level of compression. Levels above it take twice the time for a few per cent."""

_LAST_BLOCK: Final = b"\x03\x00"
_TRAILER: Final = 8

HEADER: Final = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS).flush()[: -_TRAILER - len(_LAST_BLOCK)]
"""The header of each member. It has no name and no time."""

ADDED: Final = len(HEADER) + len(_LAST_BLOCK) + _TRAILER
"""The number of bytes of a member that are not its data."""


class GzipMember:
    """Compresses bytes to one gzip member in memory. `size` is their number."""

    def __init__(self) -> None:
        self.size = 0
        self._compressor = zlib.compressobj(LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self.size += len(data)
        if piece := self._compressor.compress(data):
            self._pieces.append(piece)

    def end(self) -> bytes:
        """Return the member. It is empty if nothing was written."""
        if not self.size:
            return b""
        return b"".join([*self._pieces, self._compressor.flush(zlib.Z_SYNC_FLUSH), self._compressor.flush()])


def data_of(member: bytes) -> bytes:
    """Return the compressed data of a GzipMember."""
    return member[len(HEADER) : -_TRAILER - len(_LAST_BLOCK)]


def end_of(trailers: Iterable[bytes]) -> bytes:
    """Return the end of the member that joins others. `trailers` has the last eight bytes of each."""
    checksum = size = 0
    for trailer in trailers:
        added = int.from_bytes(trailer[4:], "little")
        checksum = _checksum_of_both(checksum, int.from_bytes(trailer[:4], "little"), added)
        size = (size + added) % 2**32
    return _LAST_BLOCK + checksum.to_bytes(4, "little") + size.to_bytes(4, "little")


async def joined(members: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield the member that joins others, in pieces."""
    trailers = []
    yield HEADER
    async for member in members:
        trailers.append(member[-_TRAILER:])
        yield data_of(member)
    yield end_of(trailers)


def _checksum_of_both(first: int, second: int, size: int) -> int:
    """Return the CRC-32 of two texts, one after the other, from that of each and the size of the second.

    `size` bytes multiply the polynomial that the first checksum is by x^(8 * size).
    """
    power, square = 1 << 31, 1 << 23  # x^0 and x^8, with the lowest power in the highest bit
    while size:
        if size & 1:
            power = _product(square, power)
        square = _product(square, square)
        size >>= 1
    return _product(power, first) ^ second


def _product(first: int, second: int) -> int:
    """Multiply two polynomials modulo that of CRC-32."""
    product = 0
    for bit in range(31, -1, -1):
        if first >> bit & 1:
            product ^= second
        second = second >> 1 ^ (0xEDB88320 if second & 1 else 0)
    return product
