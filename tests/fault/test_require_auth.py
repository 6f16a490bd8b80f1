"""Fault 14: the server asks for the password in a weaker way than require_auth allows."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.peers import backend
from tests.secure import PASSWORD, Secure

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=14)


@pytest.mark.parametrize(
    ("request_", "method"),
    [
        (backend.authentication_cleartext_password(), "password"),
        (backend.authentication_md5_password(), "md5"),
        (backend.authentication_ok(), "none"),
    ],
    ids=["cleartext", "md5", "nothing"],
)
async def test_the_capture_holds_no_password(fake: Fake, request_: bytes, method: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(request_)
        await peer.hold()

    server = await fake(script)
    with pytest.raises(headrace.InterfaceError, match=f"{method}|without authentication") as caught:
        await headrace.connect(
            server.dsn(),
            password=PASSWORD,
            ssl="disable",
            require_auth="scram-sha-256",
            allow_cleartext_password=True,
            timeout=10,
        )
    assert "require_auth=scram-sha-256 forbids" in str(caught.value)
    peer = server.peers[0]
    assert peer.startup is not None
    assert bytes(peer.received) == peer.startup.raw, "nothing at all follows the startup message"
    assert hashlib.md5(PASSWORD.encode() + b"postgres").hexdigest().encode() not in peer.received


@pytest.mark.parametrize("role", ["cleartext", "hashed", "trusted"])
async def test_a_real_server_that_is_set_up_so(secure: Secure, role: str) -> None:
    with pytest.raises(headrace.InterfaceError, match="require_auth=scram-sha-256 forbids"):
        await headrace.connect(**secure.to(role), require_auth="scram-sha-256", allow_cleartext_password=True)


async def test_what_is_allowed_gets_in(secure: Secure) -> None:
    connection = await headrace.connect(**secure.to("scram"), require_auth="scram-sha-256")
    await connection.close()


async def test_without_tls_a_password_is_not_sent_in_cleartext_unless_that_is_asked_for(secure: Secure) -> None:
    with pytest.raises(headrace.InterfaceError, match="it was not sent"):
        await headrace.connect(**secure.to("cleartext"), ssl="disable")
    connection = await headrace.connect(**secure.to("cleartext"), ssl="disable", allow_cleartext_password=True)
    await connection.close()
