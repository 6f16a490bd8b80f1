"""Fault 12: the server answers the SSLRequest by an error, or by no, where TLS is required."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.fault.test_11_bytes_behind_the_ssl_answer import SSL_REQUEST
from tests.peers import backend

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer
    from tests.secure import Pki

TEXT = "run this program to mend your connection"


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.parametrize(
    "answer",
    [b"N", backend.error_response(TEXT), b"E" + TEXT.encode(), b"H", b""],
    ids=["no", "error", "old-error", "no-postgresql", "end"],
)
async def test_12_it_ends_there(fake: Fake, pki: Pki, mode: str, answer: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(answer)
        if answer:
            await peer.hold()

    server = await fake(script)
    with pytest.raises(ConnectionError) as caught:
        await headrace.connect(server.dsn(), ssl=mode, sslrootcert=pki.root, timeout=10)
    assert TEXT not in "".join(traceback.format_exception(caught.value)), "the text was not authenticated"
    assert server.peers[0].received == SSL_REQUEST
