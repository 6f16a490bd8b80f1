"""Fault 31, the part of connect(): cancelled at any point it leaves nothing open, here or at the server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.secure import PASSWORD, Secure, eventually

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=31)

FINISHED = 3
"""Connections that must have been finished in a row before the cancellation came, for the search to end."""


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/dev/fd"))


def points() -> Iterator[int]:
    """Yield numbers of loop turns after which to cancel: each of the first, then ever fewer."""
    turns = 0
    while True:
        yield turns
        turns += 1 + turns // 20


WAYS: dict[str, dict[str, Any]] = {
    "plain": {"ssl": "disable"},
    "tls": {"ssl": "require"},
    "tls-verified": {"ssl": "verify-full"},
    "refused-first": {"ssl": "allow", "user": "over_tls"},
    "mismatch": {"ssl": "prefer", "target_session_attrs": "prefer-standby"},
}


@pytest.mark.parametrize("way", WAYS)
async def test_connect_cancelled_at_every_point(secure: Secure, way: str) -> None:
    arguments = {**secure.to("scram"), "sslrootcert": secure.pki.root, **WAYS[way]}
    if not secure.has_tls and arguments["ssl"] not in ("disable", "prefer"):
        pytest.skip(f"{secure.cluster.name} is built without OpenSSL")
    await (await headrace.connect(**arguments)).close()  # what is set up once, is now
    await eventually(lambda: secure.backends() == 0, "the server is rid of its client")
    before = descriptors()
    finished = cancelled = 0
    for turns in points():
        connecting = asyncio.create_task(headrace.connect(**arguments))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        (outcome,) = await asyncio.gather(connecting, return_exceptions=True)
        if isinstance(outcome, headrace.Connection):
            finished += 1
            outcome.terminate()
            if finished == FINISHED:
                break
        else:
            assert isinstance(outcome, asyncio.CancelledError), outcome
            finished, cancelled = 0, cancelled + 1
    assert cancelled > 10
    await eventually(lambda: secure.backends() == 0, "the server is rid of its clients")
    await eventually(lambda: descriptors() <= before, "every socket is closed")


async def password() -> str:
    await asyncio.sleep(600)
    return PASSWORD


@pytest.mark.parametrize("stage", ["ssl-request", "handshake", "startup", "password", "authentication"])
async def test_a_server_that_is_silent_is_left_at_once(fake: Fake, stage: str) -> None:
    async def script(peer: Peer) -> None:
        if stage == "handshake":
            await peer.expect_ssl_request(b"S")
        elif stage == "startup":
            await peer.expect_startup()
        elif stage == "authentication":
            await peer.expect_startup()
            await peer.send(backend.authentication_sasl("SCRAM-SHA-256"))
        waiting.set()
        await peer.hold()

    waiting = asyncio.Event()
    server = await fake(script)
    before = descriptors()
    connecting = asyncio.create_task(
        headrace.connect(
            server.dsn(),
            ssl="require" if stage in ("ssl-request", "handshake") else "disable",
            password=password if stage == "password" else PASSWORD,
        )
    )
    await waiting.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    await eventually(lambda: descriptors() <= before, "the socket is closed")


async def test_connections_that_come_too_late_are_closed(secure: Secure) -> None:
    """A time-out may fire at the very moment at which the connection is there."""
    arguments = {**secure.to("scram"), "ssl": "disable"}
    await (await headrace.connect(**arguments)).close()
    timeouts = 0
    for turn in range(60):
        try:
            await (await headrace.connect(**arguments, timeout=0.0005 * turn)).close()
        except TimeoutError:
            timeouts += 1
    assert timeouts
    await eventually(lambda: secure.backends() == 0, "the server is rid of its clients")
