"""Fault 16: a server that asks for absurd work, and honest work that keeps nobody waiting."""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Password
from tests.peers.scram import MECHANISM, ScramServer
from tests.secure import PASSWORD

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=16)


async def challenge(peer: Peer, scram: ScramServer) -> None:
    """Play the exchange up to the server's first message."""
    await peer.send(backend.authentication_sasl(MECHANISM))
    _, first = (await peer.expect(Password)).sasl_initial()
    await peer.send(backend.authentication_sasl_continue(scram.challenge(first or b"")))


@pytest.mark.parametrize("iterations", [0, -1, 1_000_001, 10**9, 10**20])
async def test_absurd_iterations_are_refused_before_any_hashing(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, iterations: int
) -> None:
    def hash_(*_: Any) -> bytes:
        raise AssertionError("something was hashed")

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", hash_)

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await challenge(peer, ScramServer(PASSWORD, iterations=iterations))
        await peer.hold()

    server = await fake(script)
    with pytest.raises(headrace.ProtocolError):
        await headrace.connect(server.dsn(), password=PASSWORD, ssl="disable", timeout=10)


async def test_the_loop_turns_while_a_password_is_hashed(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = ScramServer(PASSWORD, iterations=1_000_000)

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await challenge(peer, honest)
        final = await peer.expect(Password)
        outcome = await asyncio.to_thread(honest.outcome, final.data)
        await peer.send(backend.authentication_sasl_final(outcome), backend.greeting())
        await peer.expect_end()

    hashing = threading.Event()
    hashed: list[tuple[threading.Thread, float]] = []
    pbkdf2_hmac = hashlib.pbkdf2_hmac

    def watched(*arguments: Any) -> bytes:
        hashing.set()
        began = time.monotonic()
        try:
            return pbkdf2_hmac(*arguments)
        finally:
            hashed.append((threading.current_thread(), time.monotonic() - began))
            hashing.clear()

    monkeypatch.setattr(hashlib, "pbkdf2_hmac", watched)
    server = await fake(script)
    connecting = asyncio.create_task(headrace.connect(server.dsn(), password=PASSWORD, ssl="disable", timeout=60))
    turns, longest = 0, 0.0
    while not connecting.done():
        before = time.monotonic()
        await asyncio.sleep(0)
        if hashing.is_set():
            turns += 1
            longest = max(longest, time.monotonic() - before)
    await (await connecting).close()
    assert len(hashed) == 2, "the client's and the server's"
    thread, took = hashed[0]
    assert thread is not threading.main_thread()
    assert turns > 100
    # The bound is 50 ms; a busy machine may take the processor away for longer, but not for the whole of the hash.
    assert longest < max(0.05, took / 4)
