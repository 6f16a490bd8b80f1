"""Fault 11: bytes that nobody has authenticated stand behind the answer to the SSLRequest (CVE-2021-23222)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.peers import backend

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=11)

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"


@pytest.mark.parametrize("mode", ["prefer", "require"])
async def test_they_are_refused_and_nothing_more_is_sent(fake: Fake, mode: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S" + backend.greeting())
        await peer.hold()

    server = await fake(script)
    with pytest.raises(ConnectionError, match="unencrypted bytes behind its answer"):
        await headrace.connect(server.dsn(), ssl=mode, timeout=10)
    assert server.peers[0].received == SSL_REQUEST
    assert len(server.peers) == 1, "nor is it tried without TLS"


async def test_they_break_the_handshake_where_they_come_a_little_later(fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.send(backend.greeting())
        await peer.hold()

    server = await fake(script)
    with pytest.raises((ConnectionError, ssl.SSLError)):
        await headrace.connect(server.dsn(), ssl="require", timeout=10)
    received = bytes(server.peers[0].received)
    assert received.startswith(SSL_REQUEST)
    assert b"user\0" not in received
