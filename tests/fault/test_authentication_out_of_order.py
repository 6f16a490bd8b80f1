"""Fault 15: authentication that skips a step, or proves nothing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Password
from tests.peers.scram import MECHANISM, ScramServer
from tests.secure import PASSWORD, eventually

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=15)

Play = Callable[["Peer"], Awaitable[None]]


async def ok_without_final(peer: Peer) -> None:
    scram = ScramServer(PASSWORD)
    await peer.send(backend.authentication_sasl(MECHANISM))
    _, first = (await peer.expect(Password)).sasl_initial()
    await peer.send(backend.authentication_sasl_continue(scram.challenge(first or b"")))
    await peer.expect(Password)
    await peer.send(backend.greeting())


async def ok_at_once_after_the_offer(peer: Peer) -> None:
    await peer.send(backend.authentication_sasl(MECHANISM))
    await peer.expect(Password)
    await peer.send(backend.greeting())


async def bad_signature(peer: Peer) -> None:
    await ScramServer(PASSWORD, signature=b"\0" * 32).authenticate(peer)
    await peer.send(backend.greeting())


async def challenged(peer: Peer, scram: ScramServer) -> None:
    await peer.send(backend.authentication_sasl(MECHANISM))
    _, first = (await peer.expect(Password)).sasl_initial()
    await peer.send(backend.authentication_sasl_continue(scram.challenge(first or b"")))


async def nonce_not_extended(peer: Peer) -> None:
    await challenged(peer, ScramServer(PASSWORD, nonce="of the server alone".replace(" ", "-")))


async def nonce_of_a_megabyte(peer: Peer) -> None:
    await challenged(peer, ScramServer(PASSWORD, nonce="x" * 2**20))


async def ready_at_once(peer: Peer) -> None:
    await peer.send(backend.ready_for_query())


async def key_at_once(peer: Peer) -> None:
    await peer.send(backend.backend_key_data(), backend.authentication_ok(), backend.ready_for_query())


async def ready_in_the_middle(peer: Peer) -> None:
    await peer.send(backend.authentication_sasl(MECHANISM), backend.ready_for_query())


async def rows_at_once(peer: Peer) -> None:
    await peer.send(backend.row_description("a"), backend.data_row("1"), backend.ready_for_query())


async def asked_twice(peer: Peer) -> None:
    await peer.send(backend.authentication_md5_password(), backend.authentication_cleartext_password())


async def ok_twice(peer: Peer) -> None:
    await peer.send(backend.authentication_ok(), backend.greeting())


PLAYS: list[Play] = [
    ok_without_final,
    ok_at_once_after_the_offer,
    bad_signature,
    nonce_not_extended,
    nonce_of_a_megabyte,
    ready_at_once,
    key_at_once,
    ready_in_the_middle,
    rows_at_once,
    asked_twice,
    ok_twice,
]


@pytest.mark.parametrize("play", PLAYS, ids=lambda play: play.__name__.replace("_", "-"))
async def test_it_is_a_protocol_error_by_default_and_the_connection_is_dead(fake: Fake, play: Play) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await play(peer)
        await peer.hold()

    server = await fake(script)
    with pytest.raises(headrace.ProtocolError):
        await headrace.connect(server.dsn(), password=PASSWORD, ssl="disable", timeout=10)
    assert PASSWORD.encode() not in server.peers[0].received


async def test_an_error_of_the_server_ends_it_also_where_the_server_stays(fake: Fake) -> None:
    """A false server may say no and hold the line: the error comes at once, not at the end of the time-out."""

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.error_response("go away", code="28000", severity="FATAL"))
        await peer.hold()

    server = await fake(script)
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError, match="go away"):
        await headrace.connect(server.dsn(), ssl="disable", timeout=None)


class Kerberos:
    """Stands in for GSSAPI, whose real thing tests/connect/test_gssapi.py has: it does not trust the server."""

    complete = False

    def __init__(self, **_: object) -> None:
        self.asked, self.released = threading.Event(), threading.Event()
        exchanges.append(self)

    def step(self, token: bytes | None) -> bytes | None:
        if token is None:
            return b"first token"
        self.asked.set()
        self.released.wait(10)
        raise headrace.InterfaceError("the server is not who it should be")


exchanges: list[Kerberos] = []


async def test_authentication_ok_does_not_count_before_the_servers_last_token(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With GSSAPI all of it comes at once, ReadyForQuery too, while the token is still being looked at in a thread."""
    monkeypatch.setattr("headrace._connect.auth.GssExchange", Kerberos)

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.authentication_gss())
        assert (await peer.expect(Password)).data == b"first token"
        await peer.send(backend.authentication(8, b"last token"), backend.greeting())
        await peer.hold()

    server = await fake(script)
    connecting = asyncio.create_task(headrace.connect(server.dsn(), ssl="disable", timeout=20))
    # What came in one piece was read in one go: ReadyForQuery too, when the token is being looked at.
    await eventually(lambda: bool(exchanges) and exchanges[-1].asked.is_set(), "the token is looked at")
    assert not connecting.done()
    exchanges[-1].released.set()
    with pytest.raises(headrace.InterfaceError, match="not who it should be"):
        await connecting
