"""Fault 24: the version of the protocol, and the key for cancelling, where the server does not play by the rules."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace._connect.connector import Opened, open_driver
from headrace._connect.limits import SessionLimits
from headrace._connect.params.resolve import resolve
from tests.peers import backend
from tests.peers.frontend import CancelRequest, Query
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake
    from tests.peers.fakeserver import Peer, Script

pytestmark = pytest.mark.fault(number=24)

V3_0, V3_1, V3_2, V3_3, V2_0 = 0x30000, 0x30001, 0x30002, 0x30003, 0x20000

KEY_256 = bytes(range(256))


def negotiating(*messages: bytes) -> Script:
    """Return the script of a server that says this before it lets the client in."""

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(*messages, backend.greeting())
        await peer.hold()

    return script


def with_key(secret: bytes, *messages: bytes) -> Script:
    """Return the script of a server with a key for cancelling."""

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(*messages, backend.greeting(secret=secret))
        await peer.hold()

    return script


async def refused(fake: Fake, script: Script, **versions: Any) -> str:
    """Connect in vain and return the error's text."""
    server = await fake(script)
    with pytest.raises(headrace.ProtocolError) as caught:
        await headrace.connect(server.dsn(), ssl="disable", timeout=10, **versions)
    return str(caught.value)


async def test_negotiation_below_the_minimum(fake: Fake) -> None:
    old = backend.negotiate_protocol_version(V3_0)
    reason = await refused(fake, negotiating(old), min_protocol_version="3.2")
    assert "3.0 at most" in reason
    assert "min_protocol_version=3.2" in reason


@pytest.mark.parametrize(
    ("version", "reason"),
    [(V3_0, "not older than the 3.0"), (V3_2, "not older than the 3.0"), (V2_0, "2.0, which does not exist")],
)
async def test_unsolicited_negotiation(fake: Fake, version: int, reason: str) -> None:
    assert reason in await refused(fake, negotiating(backend.negotiate_protocol_version(version)))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (backend.negotiate_protocol_version(V3_2), "not older than the 3.2"),
        (backend.negotiate_protocol_version(V3_3), "not older than the 3.2"),
        (backend.negotiate_protocol_version(V3_1), "3.1, which does not exist"),
        (backend.negotiate_protocol_version(V2_0), "2.0, which does not exist"),
        (backend.negotiate_protocol_version(-1), "does not exist"),
        (backend.negotiate_protocol_version(V3_0, "_pq_.unknown"), "options that were not asked for"),
        (backend.message(b"v", b"\0\3\0\0"), "cut short"),
        (backend.message(b"v", b"\0\3\0\0\0\0\0\0\0"), "1 bytes too many"),
        (backend.message(b"v", b"\0\3\0\0\x7f\xff\xff\xff"), "options that were not asked for"),
        (backend.negotiate_protocol_version(V3_0) * 2, "unexpected message 'v'"),
        (backend.authentication_ok() + backend.negotiate_protocol_version(V3_0), "unexpected message 'v'"),
    ],
)
async def test_negotiation_that_makes_no_sense(fake: Fake, message: bytes, reason: str) -> None:
    assert reason in await refused(fake, negotiating(message), max_protocol_version="3.2")


async def test_negotiation_when_the_session_has_begun(fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)
        await peer.send(backend.negotiate_protocol_version(V3_0))
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn(), ssl="disable", max_protocol_version="3.2", timeout=10)
    with pytest.raises(headrace.ProtocolError):
        await connection.execute("SELECT 1")
    assert connection.is_closed()


@pytest.mark.parametrize("length", [0, 2, 3, 5, 8, 32, 256, 257])
async def test_a_key_of_the_wrong_length_in_protocol_3_0(fake: Fake, length: int) -> None:
    assert f"a key of {length} bytes, expected 4 in protocol 3.0" in await refused(fake, with_key(bytes(length)))
    old = backend.negotiate_protocol_version(V3_0)
    assert "expected 4" in await refused(fake, with_key(bytes(length), old), max_protocol_version="3.2")


@pytest.mark.parametrize("length", [0, 2, 3, 257, 300])
async def test_a_key_of_the_wrong_length_in_protocol_3_2(fake: Fake, length: int) -> None:
    reason = await refused(fake, with_key(bytes(length)), max_protocol_version="3.2")
    assert f"a key of {length} bytes, expected 4 to 256 in protocol 3.2" in reason


@pytest.mark.parametrize("secret", [KEY_256, KEY_256[:32], KEY_256[:4]], ids=len)
async def test_a_cancel_request_has_all_of_the_key(fake: Fake, secret: bytes) -> None:
    cancelled = asyncio.Event()
    running = asyncio.Event()

    async def session(peer: Peer) -> None:
        startup = await peer.expect_startup()
        assert startup.version == (3, 2)
        await peer.send(backend.greeting(pid=815, secret=secret))
        await peer.expect(Query)
        running.set()
        await cancelled.wait()
        await peer.send(backend.error_response("cancelled", code="57014"), backend.ready_for_query())
        await peer.expect_end()

    async def cancellation(peer: Peer) -> None:
        assert await peer.expect_cancel_request() == CancelRequest(815, secret)
        cancelled.set()

    server = await fake(session, cancellation)
    connection = await headrace.connect(server.dsn(), ssl="disable", max_protocol_version="latest", timeout=10)
    query = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
    await running.wait()
    query.cancel()
    with pytest.raises(asyncio.CancelledError):
        await query
    await cancelled.wait()
    await connection.close()


def secret_of(opened: Opened) -> bytes:
    """The key that CancelRequests carry."""
    key = opened.driver.session.cancellation.key
    assert key is not None
    return key[1]


# Real servers: 18 speaks 3.2 and has a key of 32 bytes then, those before it negotiate.


@pytest.mark.parametrize(
    "versions",
    [{"max_protocol_version": "3.2"}, {"max_protocol_version": "latest"}],
    ids=lambda versions: versions["max_protocol_version"],
)
async def test_a_real_server_agrees_on_what_both_speak(
    server: Cluster, connect_kwargs: dict[str, Any], versions: dict[str, Any]
) -> None:
    params = resolve(**connect_kwargs, **versions)
    opened = await open_driver(params, SessionLimits(100, 300, 15360, 100).session)
    new = server.version >= 18
    assert opened.protocol == (V3_2 if new else V3_0)
    assert len(secret_of(opened)) == (32 if new else 4)
    await opened.driver.close()


async def test_the_default_is_what_every_server_and_pooler_speaks(connect_kwargs: dict[str, Any]) -> None:
    opened = await open_driver(resolve(**connect_kwargs), SessionLimits(100, 300, 15360, 100).session)
    assert opened.protocol == V3_0
    assert len(secret_of(opened)) == 4
    await opened.driver.close()


async def test_a_real_server_that_is_too_old_is_refused(server: Cluster, connect_kwargs: dict[str, Any]) -> None:
    if server.version >= 18:
        connection = await headrace.connect(**connect_kwargs, min_protocol_version="3.2")
        await connection.close()
    else:
        with pytest.raises(headrace.ProtocolError, match="3.0 at most"):
            await headrace.connect(**connect_kwargs, min_protocol_version="3.2")


async def test_a_real_server_takes_the_long_key(connect: Connect) -> None:
    connection = await connect(max_protocol_version="3.2")
    with pytest.raises(TimeoutError):
        await connection.execute("SELECT pg_sleep(600)", timeout=0.1)
    assert await connection.fetchval("SELECT 1") == 1
