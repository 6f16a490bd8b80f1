"""Fault 12: the server answers the SSLRequest by an error, or by no, where TLS is required."""

from __future__ import annotations

import ssl
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.fault.test_bytes_behind_the_ssl_answer import SSL_REQUEST
from tests.peers import backend
from tests.peers.tls import server_context

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer
    from tests.secure import Pki

pytestmark = pytest.mark.fault(number=12)

TEXT = "run this program to mend your connection"


NO_ANSWERS = {
    "error": backend.error_response(TEXT),
    "old-error": b"E" + TEXT.encode(),
    "no-postgresql": b"H",
    "end": b"",
    "reset": None,
}
"""Neither yes nor no; None is for a connection that is reset."""


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "verify-full"])
@pytest.mark.parametrize("answer", NO_ANSWERS)
async def test_what_is_neither_yes_nor_no_ends_the_attempt(fake: Fake, pki: Pki, mode: str, answer: str) -> None:
    """As in libpq since 17: prefer does not go on without TLS, for nobody knows who has answered."""
    bytes_sent = NO_ANSWERS[answer]

    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(bytes_sent or b"")
        if bytes_sent is None:
            peer.reset()
        elif bytes_sent:
            await peer.hold()

    server = await fake(script)
    with pytest.raises(ConnectionError, match="the SSLRequest") as caught:
        await headrace.connect(server.dsn(), ssl=mode, sslrootcert=pki.root, timeout=10)
    assert TEXT not in "".join(traceback.format_exception(caught.value)), "the text was not authenticated"
    assert server.peers[0].received == SSL_REQUEST


async def test_another_host_is_tried_after_it(fake: Fake) -> None:
    async def wrong(peer: Peer) -> None:
        await peer.expect_ssl_request(b"H")
        await peer.hold()

    async def good(peer: Peer) -> None:
        await peer.greet()
        await peer.expect_end()

    first, second = await fake(wrong), await fake(good)
    connection = await headrace.connect(
        host=[first.host, second.host], port=[first.port, second.port], user="me", ssl="prefer", timeout=10
    )
    await connection.close()


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
async def test_no_ends_the_attempt_if_tls_is_required(fake: Fake, pki: Pki, mode: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"N")
        await peer.hold()

    server = await fake(script)
    with pytest.raises(ConnectionError, match="does not support TLS"):
        await headrace.connect(server.dsn(), ssl=mode, sslrootcert=pki.root, timeout=10)
    assert server.peers[0].received == SSL_REQUEST


@pytest.mark.parametrize("drop", ["close", "reset"])
async def test_a_wrong_password_with_tls_tells_more_than_a_plain_attempt_that_is_dropped(
    fake: Fake, pki: Pki, drop: str
) -> None:
    async def wrong_password(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.start_tls(server_context(pki.server))
        await peer.expect_startup()
        await peer.send(backend.error_response("password authentication failed", code="28P01", severity="FATAL"))

    async def dropped(peer: Peer) -> None:
        await peer.expect_startup()
        if drop == "reset":
            peer.reset()

    server = await fake(wrong_password, dropped)
    with pytest.raises(headrace.InvalidPasswordError) as caught:
        await headrace.connect(server.dsn(), ssl="prefer", timeout=10)
    assert "the other attempt failed with ConnectionDoesNotExistError" in "".join(caught.value.__notes__)


async def test_a_failed_handshake_tells_more_than_a_plain_attempt_that_is_dropped(fake: Fake, pki: Pki) -> None:
    async def no_handshake(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        with suppress(OSError):
            await peer.start_tls(server_context(pki.expired))

    async def dropped(peer: Peer) -> None:
        await peer.expect_startup()

    server = await fake(no_handshake, dropped)
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        await headrace.connect(server.dsn(), ssl="prefer", sslrootcert=pki.root, timeout=10)
