"""Fault 17: somebody in between. Channel binding finds him out, and is not given up silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import headrace
from headrace._connect.connector import open_driver
from headrace._connect.limits import SessionLimits
from headrace._connect.params.resolve import resolve
from tests.certificates import Issued
from tests.peers import backend
from tests.peers.scram import MECHANISM, MECHANISM_PLUS, ScramServer
from tests.peers.tls import ManInTheMiddle, server_context
from tests.secure import PASSWORD, Secure

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer
    from tests.secure import Pki

pytestmark = pytest.mark.fault(number=17)

LIMITS = SessionLimits(100, 300, 15360, 100)


async def test_required_of_a_server_that_does_not_offer_it(fake: Fake, pki: Pki) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.start_tls(server_context(pki.server))
        await peer.expect_startup()
        await peer.send(backend.authentication_sasl(MECHANISM))
        await peer.hold()

    server = await fake(script)
    with pytest.raises(headrace.InterfaceError, match="does not offer SCRAM-SHA-256-PLUS"):
        await headrace.connect(server.dsn(), password=PASSWORD, ssl="require", channel_binding="require", timeout=10)
    peer = server.peers[0]
    assert peer.startup is not None
    assert peer.received.endswith(peer.startup.raw), "nothing follows the startup message"


@pytest.mark.parametrize("request_", [backend.authentication_ok(), backend.authentication_cleartext_password()])
async def test_required_of_a_server_that_asks_for_something_else(fake: Fake, pki: Pki, request_: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.start_tls(server_context(pki.server))
        await peer.expect_startup()
        await peer.send(request_)
        await peer.hold()

    server = await fake(script)
    with pytest.raises(headrace.InterfaceError, match="channel_binding=require"):
        await headrace.connect(server.dsn(), password=PASSWORD, ssl="require", channel_binding="require", timeout=10)
    assert PASSWORD.encode() not in server.peers[0].received


@pytest.mark.parametrize("mode", ["allow", "prefer", "require"])
async def test_required_without_tls(fake: Fake, mode: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"N")
        await peer.hold()

    server = await fake(script)
    with pytest.raises(ConnectionError, match="does not support TLS"):
        await headrace.connect(server.dsn(), password=PASSWORD, ssl=mode, channel_binding="require", timeout=10)


async def test_required_without_tls_by_the_users_own_will() -> None:
    with pytest.raises(headrace.ClientConfigurationError, match="channel_binding=require needs TLS"):
        await headrace.connect("postgresql://127.0.0.1:1/", ssl="disable", channel_binding="require")


async def test_required_by_a_unix_socket(secure: Secure) -> None:
    with pytest.raises(headrace.InterfaceError, match="channel_binding=require"):
        await headrace.connect(**secure.to("scram", unix=True), channel_binding="require")


@pytest.mark.parametrize("channel_binding", ["prefer", "require"])
async def test_a_real_server_over_tls_is_bound_to(tls: Secure, channel_binding: str) -> None:
    params = resolve(**tls.to("scram"), ssl="require", channel_binding=channel_binding)
    opened = await open_driver(params, LIMITS.session)
    assert opened.authenticator.method == "scram-sha-256"
    assert opened.authenticator.channel_bound
    await opened.driver.close()


async def test_it_may_be_turned_off(tls: Secure) -> None:
    params = resolve(**tls.to("scram"), ssl="require", channel_binding="disable")
    opened = await open_driver(params, LIMITS.session)
    assert not opened.authenticator.channel_bound
    await opened.driver.close()


@pytest.mark.parametrize("channel_binding", ["prefer", "require"])
async def test_who_sits_in_the_middle_of_tls_is_found_out(tls: Secure, channel_binding: str) -> None:
    """Without verification the client takes any certificate; the server's view of it is what does not fit."""
    async with ManInTheMiddle(tls.cluster.host(), tls.cluster.port, tls.pki.wrong_host) as middle:
        with pytest.raises(headrace.PostgresError, match="channel binding"):
            await headrace.connect(
                **{**tls.to("scram"), "port": middle.port}, ssl="require", channel_binding=channel_binding, timeout=10
            )
        unbound = await headrace.connect(
            **{**tls.to("scram"), "port": middle.port}, ssl="require", channel_binding="disable", timeout=10
        )
        await unbound.close()


@pytest.mark.parametrize("channel_binding", ["prefer", "require"])
async def test_a_certificate_without_a_hash_is_no_silent_downgrade(tls: Secure, channel_binding: str) -> None:
    with tls.presenting(tls.pki.ed25519, root=tls.pki.ed25519_root):
        arguments = {**tls.to("scram"), "sslrootcert": tls.pki.ed25519_root, "timeout": 10}
        with pytest.raises(headrace.InterfaceError, match="Ed25519"):
            await headrace.connect(**arguments, ssl="verify-full", channel_binding=channel_binding)
        connection = await headrace.connect(**arguments, ssl="verify-full", channel_binding="disable")
        await connection.close()


async def test_the_data_is_the_hash_of_the_certificate(fake: Fake, pki: Pki) -> None:
    import hashlib

    issued: Issued = pki.server
    bound = hashlib.sha256(issued.der).digest()

    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.start_tls(server_context(issued))
        await peer.expect_startup()
        scram = ScramServer(PASSWORD, mechanisms=(MECHANISM_PLUS, MECHANISM), channel_binding=bound)
        await scram.authenticate(peer)
        assert scram.mechanism == MECHANISM_PLUS
        assert scram.gs2_header == b"p=tls-server-end-point,,"
        await peer.send(backend.greeting())
        await peer.expect_end()

    server = await fake(script)
    connection = await headrace.connect(server.dsn(), password=PASSWORD, ssl="require", timeout=10)
    await connection.close()
