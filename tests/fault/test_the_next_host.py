"""Fault 23: the first host fails in the middle of authentication, the second is good. Nothing of the first is kept."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace._connect.connector import open_driver
from headrace._connect.limits import SessionLimits
from headrace._connect.params.resolve import resolve
from tests.fault.test_bytes_behind_the_ssl_answer import SSL_REQUEST
from tests.peers import backend
from tests.peers.frontend import Password
from tests.peers.scram import MECHANISM, ScramServer
from tests.peers.tls import server_context
from tests.secure import PASSWORD, Secure

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import FakeServer, Peer

pytestmark = pytest.mark.fault(number=23)

Play = Callable[["Peer"], Awaitable[None]]


async def nothing(peer: Peer) -> None:
    """The server goes away."""


async def reset(peer: Peer) -> None:
    peer.reset()


async def shutting_down(peer: Peer) -> None:
    await peer.send(backend.error_response("shutting down", code="57P01", severity="FATAL"))


async def starting_up(peer: Peer) -> None:
    await peer.send(backend.error_response("starting up", code="57P03", severity="FATAL"))


async def half_of_scram(peer: Peer) -> None:
    await peer.send(backend.authentication_sasl(MECHANISM))
    _, first = (await peer.expect(Password)).sasl_initial()
    await peer.send(backend.authentication_sasl_continue(ScramServer(PASSWORD).challenge(first or b"")))
    await peer.expect(Password)


async def a_false_signature(peer: Peer) -> None:
    await ScramServer(PASSWORD, signature=bytes(32)).authenticate(peer)
    await peer.hold()


async def an_md5_password(peer: Peer) -> None:
    await peer.send(backend.authentication_md5_password())
    await peer.hold()


async def no_protocol(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await peer.hold()


PLAYS: list[Play] = [
    nothing,
    reset,
    shutting_down,
    starting_up,
    half_of_scram,
    a_false_signature,
    an_md5_password,
    no_protocol,
]


def in_turn(first: FakeServer, second: dict[str, Any]) -> dict[str, Any]:
    """Return connect arguments for two hosts."""
    both = {"host": [first.host, second["host"]], "port": [first.port, second["port"]]}
    return {**second, **both, "timeout": 20}


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__.replace("_", "-"))
async def test_the_second_host_gets_fresh_state(fake: Fake, secure: Secure, play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await play(peer)

    false = await fake(script)
    arguments = in_turn(false, secure.to("scram"))
    connection = await headrace.connect(**arguments, ssl="disable", require_auth="scram-sha-256")
    assert await connection.fetchval("SELECT current_user") == "scram"
    await connection.close()


@pytest.mark.parametrize("play", [half_of_scram, a_false_signature], ids=lambda play: play.__name__)
@pytest.mark.parametrize("mode", ["prefer", "require", "verify-full"])
async def test_over_tls_the_second_host_is_bound_to_its_own_certificate(
    fake: Fake, tls: Secure, play: Play, mode: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S")
        await peer.start_tls(server_context(tls.pki.server))
        await peer.expect_startup()
        await play(peer)

    async def without_tls(peer: Peer) -> None:
        """At prefer, a server that goes away in the middle is tried again without TLS, as libpq does."""
        await peer.expect_startup()

    scripts = [script, without_tls] if mode == "prefer" and play is half_of_scram else [script]
    false = await fake(*scripts)
    params = resolve(
        **{key: value for key, value in in_turn(false, tls.to("scram")).items() if key != "timeout"},
        ssl=mode,
        sslrootcert=tls.pki.root,
    )
    opened = await open_driver(params, SessionLimits(100, 300, 15360, 100).session, 20)
    assert opened.endpoint.encrypted
    assert opened.authenticator.channel_bound
    await opened.driver.close()


async def test_a_host_without_tls_does_not_make_the_next_one_be_tried_without(fake: Fake) -> None:
    async def plain_and_gone(peer: Peer) -> None:
        await peer.expect_ssl_request(b"N")
        await peer.expect_startup()

    async def asked_again(peer: Peer) -> None:
        await peer.expect_ssl_request(b"N")
        await peer.greet()
        await peer.expect_end()

    first, second = await fake(plain_and_gone), await fake(asked_again)
    connection = await headrace.connect(
        host=[first.host, second.host], port=[first.port, second.port], user="me", ssl="prefer", timeout=10
    )
    await connection.close()


async def test_every_exchange_has_a_nonce_of_its_own(fake: Fake) -> None:
    nonces: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.authentication_sasl(MECHANISM))
        _, first = (await peer.expect(Password)).sasl_initial()
        nonces.append((first or b"").rpartition(b"r=")[2])

    servers = [await fake(script) for _ in range(3)]
    with pytest.raises(headrace.ConnectionDoesNotExistError) as caught:
        await headrace.connect(
            host=[server.host for server in servers],
            port=[server.port for server in servers],
            user="me",
            password=PASSWORD,
            ssl="disable",
            timeout=10,
        )
    assert len(set(nonces)) == 3
    assert all(f"{server.host}:{server.port}" in "".join(caught.value.__notes__) for server in servers)


async def test_a_server_that_was_tampered_with_is_passed_over(fake: Fake) -> None:
    async def tampered(peer: Peer) -> None:
        await peer.expect_ssl_request(b"S" + backend.greeting())
        await peer.hold()

    async def good(peer: Peer) -> None:
        await peer.greet()
        await peer.expect_end()

    first, second = await fake(tampered), await fake(good)
    connection = await headrace.connect(
        host=[first.host, second.host], port=[first.port, second.port], user="me", ssl="prefer", timeout=10
    )
    await connection.close()
    assert first.peers[0].received == SSL_REQUEST


async def test_a_wrong_password_is_not_taken_elsewhere(fake: Fake, secure: Secure) -> None:
    """Another host would refuse it as well, or has no business knowing it."""
    never = await fake()
    where = secure.to("scram", password="wrong")
    with pytest.raises(headrace.InvalidPasswordError):
        await headrace.connect(
            **{**where, "host": [where["host"], never.host], "port": [where["port"], never.port]}, ssl="disable"
        )
    assert never.peers == []


async def test_no_host_matches(fake: Fake) -> None:
    async def standby(peer: Peer) -> None:
        await peer.greet({"in_hot_standby": "on"})
        await peer.expect_end()

    servers = [await fake(standby) for _ in range(2)]
    where: dict[str, Any] = {"host": [each.host for each in servers], "port": [each.port for each in servers]}
    with pytest.raises(headrace.TargetServerAttributeNotMatched, match="no primary among .*standby.*standby") as caught:
        await headrace.connect(**where, user="me", ssl="disable", target_session_attrs="primary", timeout=10)
    (note,) = caught.value.__notes__
    assert all(f"{each.host}:{each.port}" in note for each in servers)
