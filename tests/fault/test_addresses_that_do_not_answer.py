"""Fault 49: an address that is a black hole, or a server that accepts and says nothing, does not hold up the others."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import pytest

import headrace
import headrace._connect.dialer
import headrace._connect.race
from tests.peers import backend
from tests.peers.blackhole import BlackHole
from tests.peers.fakeserver import ClientError
from tests.peers.frontend import Password
from tests.secure import eventually

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import FakeServer, Peer

pytestmark = pytest.mark.fault(number=49)

PATIENCE = 30.0
"""Seconds after which a test gives up. An attempt to reach a black hole goes on for minutes."""


@pytest.fixture
def hole() -> Iterator[BlackHole]:
    with BlackHole() as hole:
        yield hole


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port that refuses: it is taken, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def to(*servers: BlackHole | FakeServer, **arguments: Any) -> dict[str, Any]:
    """Return connect arguments for the servers in this order, without a time limit."""
    where = {"host": [each.host for each in servers], "port": [each.port for each in servers]}
    return {"user": "me", "ssl": "disable", "timeout": None, **where, **arguments}


async def good(peer: Peer) -> None:
    await peer.greet({"in_hot_standby": "off"})
    await peer.expect_end()


async def standby(peer: Peer) -> None:
    await peer.greet({"in_hot_standby": "on"})
    await peer.expect_end()


async def silent(peer: Peer) -> None:
    await peer.hold()


async def test_the_address_behind_a_black_hole(fake: Fake, hole: BlackHole) -> None:
    server = await fake(good)
    before = descriptors()
    async with asyncio.timeout(PATIENCE):
        connection = await headrace.connect(**to(hole, server))
        await connection.close()
    await eventually(lambda: descriptors() <= before, "the attempt at the black hole is given up")


async def test_behind_several_black_holes_with_tls_and_a_kind_of_server(fake: Fake, hole: BlackHole) -> None:
    wrong, right = await fake(standby), await fake(good)
    with BlackHole() as another:
        async with asyncio.timeout(PATIENCE):
            connection = await headrace.connect(
                **to(hole, wrong, another, right, ssl="prefer", target_session_attrs="primary")
            )
            await connection.close()


@pytest.mark.slow
async def test_no_standby_answers_so_another_server_is_welcome(fake: Fake, hole: BlackHole) -> None:
    """The search for a standby leaves time for what comes after it."""
    server = await fake(good, good)
    async with asyncio.timeout(PATIENCE):
        connection = await headrace.connect(
            **to(hole, server, target_session_attrs="prefer-standby", timeout=PATIENCE / 3)
        )
        await connection.close()


async def test_a_black_hole_alone_is_named(hole: BlackHole) -> None:
    before = descriptors()
    with pytest.raises(TimeoutError, match=f"0.1 s .timeout.*{hole.port}"):
        await headrace.connect(**to(hole, timeout=0.1))
    with pytest.raises(TimeoutError, match="0.1 s .connect_timeout"):
        await headrace.connect(**to(hole, connect_timeout=0.1))
    await eventually(lambda: descriptors() <= before, "nothing is left behind")


async def test_the_error_names_every_address(fake: Fake, hole: BlackHole, unused_port: int) -> None:
    before = descriptors()
    with BlackHole() as another:
        arguments = to(hole, another)
        arguments["host"].append("127.0.0.1")
        arguments["port"].append(unused_port)
        for limit in ("timeout", "connect_timeout"):
            with pytest.raises((TimeoutError, ConnectionRefusedError)) as caught:
                await headrace.connect(**{**arguments, limit: 1})
            note = caught.value.__notes__[0]
            assert [line.split(": ")[:2] for line in note.splitlines()[1:]] == [
                [f"  127.0.0.1:{hole.port}", "TimeoutError"],
                [f"  127.0.0.1:{another.port}", "TimeoutError"],
                [f"  127.0.0.1:{unused_port}", "ConnectionRefusedError"],
            ]
    await eventually(lambda: descriptors() <= before, "nothing is left behind")


async def test_cancelled_while_several_do_not_answer(hole: BlackHole, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headrace._connect.dialer, "CONNECTION_ATTEMPT_DELAY", 0)
    before = descriptors()
    with ExitStack() as stack:
        holes = [hole, *(stack.enter_context(BlackHole()) for _ in range(2))]
        opened = descriptors()
        connecting = asyncio.create_task(headrace.connect(**to(*holes)))
        async with asyncio.timeout(PATIENCE):
            while descriptors() < opened + len(holes):
                await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
        assert descriptors() == opened
    assert descriptors() <= before


async def test_the_first_that_answers_in_time_is_preferred(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one is not even connected to."""
    monkeypatch.setattr(headrace._connect.dialer, "CONNECTION_ATTEMPT_DELAY", 600)
    first, never = await fake(good), await fake()
    await (await headrace.connect(**to(first, never))).close()
    assert never.peers == []


async def test_only_one_server_is_spoken_to_at_a_time(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two that are connected at once do not both get to see a startup message, or a password."""

    async def perhaps(peer: Peer) -> None:
        with suppress(ClientError):
            await good(peer)

    monkeypatch.setattr(headrace._connect.dialer, "CONNECTION_ATTEMPT_DELAY", 0)
    servers = [await fake(perhaps) for _ in range(3)]
    await (await headrace.connect(**to(*servers))).close()
    peers = [await server.connected() for server in servers]
    assert sum(bool(peer.received) for peer in peers) == 1


@pytest.mark.parametrize("stage", ["connected", "ssl-request", "startup", "authentication"])
async def test_a_server_that_says_nothing_does_not_hold_up_the_next(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    async def script(peer: Peer) -> None:
        if stage == "startup":
            await peer.expect_startup()
        elif stage == "authentication":
            await peer.expect_startup()
            await peer.send(backend.authentication_ok())
        await peer.hold()

    def share_of(left: float, others: int) -> float:
        assert others == 1
        return 0.1

    monkeypatch.setattr(headrace._connect.dialer, "share_of", share_of)
    first, second = await fake(script), await fake(good)
    before = descriptors()
    ssl = "prefer" if stage == "ssl-request" else "disable"
    async with asyncio.timeout(PATIENCE):
        connection = await headrace.connect(**to(first, second, ssl=ssl, timeout=PATIENCE))
        await connection.close()
    await eventually(lambda: descriptors() <= before, "nothing is left behind")


async def test_two_servers_that_say_nothing_are_both_named(fake: Fake) -> None:
    """Both are waited for until the end."""
    first, second = await fake(silent), await fake(silent)
    with pytest.raises(TimeoutError, match=f"within 2 s .timeout.*{second.port}") as caught:
        await headrace.connect(**to(first, second, timeout=2))
    assert f"no server among 127.0.0.1:{first.port} (no answer in " in str(caught.value)
    assert caught.value.__notes__[0].count("TimeoutError: no answer in") == 2


def test_shares() -> None:
    """Equal ones of what is left, but no less than a second, as far as there is one."""
    assert headrace._connect.dialer.share_of(60, 2) == 20
    assert headrace._connect.dialer.share_of(60, 0) == 60
    assert headrace._connect.dialer.share_of(10, 99) == 1
    assert headrace._connect.dialer.share_of(0.5, 1) == 0.5
    assert headrace._connect.dialer.share_of(-1, 1) == 0


async def test_a_name_that_nobody_answers_for(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that hangs holds up the other hosts no more than an address that does not answer."""
    if type(asyncio.get_running_loop()).__module__.startswith("uvloop"):
        pytest.skip("uvloop looks names up by itself")
    over = threading.Event()
    getaddrinfo = socket.getaddrinfo

    def hanging(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "hanging.example":
            return getaddrinfo(host, *args, **kwargs)
        if not kwargs.get("flags", 0) & socket.AI_NUMERICHOST:
            over.wait(PATIENCE)
        raise socket.gaierror(socket.EAI_NONAME, "it is a name")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    server = await fake(good)
    arguments = to(server)
    try:
        async with asyncio.timeout(PATIENCE / 2):
            connection = await headrace.connect(
                **{**arguments, "host": ["hanging.example", server.host], "port": [5432, server.port]}
            )
            await connection.close()
    finally:
        over.set()


async def test_the_server_that_comes_late_sees_no_password(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two are under way. The first to speak authenticates, and the other one is left before it gets an answer."""
    monkeypatch.setattr(headrace._connect.race, "ANSWER_DELAY", 0.05)
    asked, late_asked = asyncio.Event(), asyncio.Event()

    async def late(peer: Peer) -> None:
        await peer.expect_startup()
        await asked.wait()
        await peer.send(backend.authentication_cleartext_password())
        late_asked.set()
        await peer.hold()

    async def quick(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.authentication_cleartext_password())
        await peer.expect(Password)
        asked.set()
        await late_asked.wait()
        await peer.send(backend.greeting())
        await peer.expect_end()

    first, second = await fake(late), await fake(quick)
    async with asyncio.timeout(PATIENCE):
        connection = await headrace.connect(**to(first, second, password="secret", allow_cleartext_password=True))
        await connection.close()
    assert b"secret" not in first.peers[0].received
    assert b"secret" in second.peers[0].received


async def test_two_servers_at_most_are_spoken_to_at_once(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """A third one is begun only when one of the silent ones has been left."""
    monkeypatch.setattr(headrace._connect.race, "ANSWER_DELAY", 0.05)
    monkeypatch.setattr(headrace._connect.dialer, "PATIENCE", 0.2)
    open_now = most = 0

    async def counted(peer: Peer) -> None:
        nonlocal open_now, most
        await peer.expect_startup()
        open_now += 1
        most = max(most, open_now)
        try:
            await peer.hold()
        finally:
            open_now -= 1

    async def found(peer: Peer) -> None:
        nonlocal most
        await peer.expect_startup()
        most = max(most, open_now + 1)
        await peer.send(backend.greeting())
        await peer.expect_end()

    servers = [await fake(every=counted), await fake(every=counted), await fake(found)]
    async with asyncio.timeout(PATIENCE):
        connection = await headrace.connect(**to(*servers))
        await connection.close()
    assert most == 2


async def test_hosts_that_failed_are_looked_at_again_beside_a_silent_one(fake: Fake) -> None:
    """A standby is promoted while the search waits for the frozen primary."""
    frozen, heir = await fake(silent), await fake(standby, good)
    async with asyncio.timeout(PATIENCE):
        connection = await headrace.connect(**to(frozen, heir, target_session_attrs="primary"))
        await connection.close()
    assert len(frozen.peers) == 1
    assert len(heir.peers) == 2
