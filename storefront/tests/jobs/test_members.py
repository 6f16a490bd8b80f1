"""Gzip members are joined to one without decompressing them."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator

import pytest

from storefront.jobs.members import GzipMember, joined


async def each_of(members: list[bytes]) -> AsyncIterator[bytes]:
    for member in members:
        yield member


@pytest.mark.parametrize(
    "texts",
    [
        [],
        [b"a"],
        [b"a", b"b"],
        [b"1,chair\n" * 50_000, b"", bytes(range(256)), b"2,table\n" * 3],
        [bytes(1), bytes(65_535), bytes(65_536), bytes(1_000_003)],
    ],
)
async def test_members_that_are_joined_are_one_member(texts: list[bytes]) -> None:
    members = []
    for text in texts:
        member = GzipMember()
        for start in range(0, len(text), 10_000):
            member.write(text[start : start + 10_000])
        if compressed := member.end():
            assert zlib.decompress(compressed, 16 + zlib.MAX_WBITS) == text
            members.append(compressed)
    whole = b"".join([piece async for piece in joined(each_of(members))])
    # This also compares the checksum and the size.
    decompressor = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert decompressor.decompress(whole) == b"".join(texts)
    assert (decompressor.eof, decompressor.unused_data) == (True, b"")
