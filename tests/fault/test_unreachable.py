"""Faults 28 to 30: a peer that no longer answers, in several ways. Nobody waits longer for it than was agreed."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import pytest

import headrace
import headrace._core.pipeline.cancel
from tests.peers import scripts
from tests.peers.fakeserver import FakeServer, Peer
from tests.peers.frontend import Bind, CancelRequest, Execute, Sync, split
from tests.peers.proxy import Proxy
from tests.watching import until_in_flight

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake, MakePool
    from tests.secure import Secure

# Not known to be a plain read, so it is described before it is executed.
QUERY = "SELECT a FROM f()"
SLEEP = "SELECT pg_sleep(600)"
DEADLINE = 0.3
"""Seconds that the driver gives cancellations here, instead of its usual five."""
GRACE = 5.0
"""Seconds after which a test gives up; nothing here takes a tenth of them."""


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headrace._core.pipeline.cancel, "CANCEL_TIMEOUT", DEADLINE)


async def falling_silent(peer: Peer) -> None:
    """Answer the query once, and no more."""
    await peer.greet()
    await scripts.prepare(peer, "a")
    await scripts.run(peer, scripts.row("well"))
    await peer.expect(Bind, Execute, Sync)
    await peer.hold()


async def connected(server: FakeServer) -> headrace.Connection:
    """Return a connection that has the query prepared: called with a time limit, it is sent before that can be over."""
    connection = await headrace.connect(server.dsn())
    assert await connection.fetchval(QUERY) == "well"
    return connection


async def holding_the_cancel(peer: Peer) -> None:
    await peer.expect_cancel_request()
    await peer.hold()


@pytest.mark.fault(number=28)
async def test_a_cancel_socket_held_open_delays_no_time_out(fake: Fake, short: None) -> None:
    server = await fake(falling_silent, holding_the_cancel)
    connection = await connected(server)
    async with asyncio.timeout(GRACE):
        with pytest.raises(TimeoutError):
            await connection.fetch(QUERY, timeout=0.05)
        # Whether the cancel will ever arrive is uncertain: nobody may use the connection any more.
        with pytest.raises(headrace.ConnectionDoesNotExistError, match="a CancelRequest") as raised:
            await connection.fetch(QUERY)
    assert raised.value.safe_to_retry
    assert connection.is_closed()


@pytest.mark.fault(number=28)
async def test_close_takes_no_longer_than_its_time_out(fake: Fake) -> None:
    server = await fake(falling_silent, holding_the_cancel)
    connection = await connected(server)
    running = asyncio.create_task(connection.fetch(QUERY))
    await until_in_flight(connection)
    async with asyncio.timeout(GRACE):
        with pytest.raises(TimeoutError):
            await connection.close(timeout=0.2)
        with pytest.raises(headrace.ConnectionDoesNotExistError):
            await running
    assert connection.is_closed()


@pytest.mark.fault(number=28)
async def test_a_cancel_that_changes_nothing(fake: Fake, short: None) -> None:
    """It arrives, again and again, but the query goes on: the connection is given up."""
    cancels: list[CancelRequest] = []

    async def cancel(peer: Peer) -> None:
        cancels.append(await peer.expect_cancel_request())

    server = await fake(falling_silent, every=cancel)
    connection = await connected(server)
    async with asyncio.timeout(GRACE):
        with pytest.raises(TimeoutError):
            await connection.fetch(QUERY, timeout=0.05)
        with pytest.raises(headrace.ConnectionDoesNotExistError, match="a CancelRequest"):
            await connection.fetch(QUERY)
    assert len(cancels) > 1
    assert {(each.pid, each.secret) for each in cancels} == {(4711, b"\x12\x34\x56\x78")}


@pytest.mark.fault(number=28)
async def test_a_cancel_that_comes_too_early_is_repeated(fake: Fake) -> None:
    """A backend drops a signal that reaches it before it has begun with the query; the second one counts."""
    seconds = asyncio.Event()
    numbers: list[int] = []

    async def session(peer: Peer) -> None:
        await peer.greet()
        await scripts.prepare(peer, "a")
        await scripts.run(peer, scripts.row("well"))
        await peer.expect(Bind, Execute, Sync)
        await seconds.wait()
        await peer.send(scripts.cancelled())
        await scripts.run(peer, scripts.row("well"))
        await peer.expect_end()

    async def cancel(peer: Peer) -> None:
        await peer.expect_cancel_request()
        numbers.append(peer.number)
        if len(numbers) == 2:
            seconds.set()

    server = await fake(session, every=cancel)
    connection = await connected(server)
    async with asyncio.timeout(GRACE):
        with pytest.raises(TimeoutError):
            await connection.fetch(QUERY, timeout=0.05)
        assert await connection.fetchval(QUERY) == "well"
        await connection.close()


@pytest.mark.fault(number=28)
async def test_a_tls_connection_is_cancelled_over_tls(tls: Secure) -> None:
    async with Proxy(tls.cluster.host(), tls.cluster.port, record=True) as proxy:
        where = {**tls.to("scram"), "host": proxy.host, "port": proxy.port}
        connection = await headrace.connect(**where, ssl="verify-ca", sslrootcert=str(tls.pki.root))
        async with asyncio.timeout(GRACE):
            with pytest.raises(TimeoutError):
                await connection.execute(SLEEP, timeout=0.05)
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
            for link in proxy.links:
                await link.ended()
    cancels = [link.recorded("server") for link in proxy.links[1:]]
    assert cancels
    for sent in cancels:
        # The first eight bytes ask for TLS, and what comes then is a handshake record (type 22), not a CancelRequest.
        assert [type(each).__name__ for each in split(sent[:8])] == ["SSLRequest"]
        assert sent[8] == 22
        assert connection.get_server_pid().to_bytes(4) not in sent


@pytest.mark.fault(number=29)
async def test_a_frozen_peer(connect: Connect, proxy: Proxy, short: None) -> None:
    """It acknowledges everything and answers nothing: the caller leaves at once, the connection soon after."""
    connection = await connect(host=proxy.host, port=proxy.port)
    running = asyncio.create_task(connection.fetch(SLEEP))
    queued = asyncio.create_task(connection.fetch("SELECT 1"))
    await until_in_flight(connection)
    proxy.freeze()
    running.cancel()
    async with asyncio.timeout(GRACE):
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(headrace.ConnectionDoesNotExistError):
            await queued
    assert connection.is_closed()


@pytest.mark.fault(number=29)
async def test_the_usual_deadline() -> None:
    assert headrace._core.pipeline.cancel.CANCEL_TIMEOUT == 5


@pytest.mark.fault(number=29)
async def test_closing_a_frozen_connection(connect: Connect, proxy: Proxy) -> None:
    """The server does not say that it is gone, so it takes the caller's time-out, with a query under way or without."""
    idle, busy = [await connect(host=proxy.host, port=proxy.port) for _ in range(2)]
    running = asyncio.create_task(busy.execute(SLEEP))
    await until_in_flight(busy)
    proxy.freeze()
    async with asyncio.timeout(GRACE):
        with pytest.raises(TimeoutError):
            await idle.close(timeout=0.1)
        with pytest.raises(TimeoutError):
            await busy.close(timeout=0.1)
    assert idle.is_closed()
    assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], headrace.ConnectionDoesNotExistError)


@pytest.mark.fault(number=29)
async def test_a_pool_whose_connections_freeze(pool: MakePool, proxy: Proxy, short: None) -> None:
    made = await pool(host=proxy.host, port=proxy.port, min_size=2, max_size=2)
    await asyncio.gather(*(made.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.01)") for _ in range(2)))
    proxy.links[0].freeze()
    async with asyncio.timeout(GRACE):
        outcomes = await asyncio.gather(
            *(made.fetchval("SELECT $1::int", i, timeout=0.2) for i in range(20)), return_exceptions=True
        )
        # Half of them wait behind the ice; each gets its own answer or a time-out.
        assert {type(each) for each in outcomes} <= {int, TimeoutError}
        assert all(each == i for i, each in enumerate(outcomes) if type(each) is int)
        # The frozen one is given up; another has soon taken its place.
        while not made.stats().closed:
            await asyncio.sleep(0.01)
        assert await asyncio.gather(*(made.fetchval("SELECT $1::int", i) for i in range(20))) == list(range(20))


needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="TCP_USER_TIMEOUT and packet filters are Linux's")


@pytest.mark.fault(number=30)
@needs_linux
async def test_packets_dropped_while_sending(connect: Connect, proxy: Proxy) -> None:
    """What is sent is never acknowledged: the kernel gives up after tcp_user_timeout. Other connections go on."""
    lost = await connect(host=proxy.host, port=proxy.port, tcp_user_timeout=500)
    other = await connect(host=proxy.host, port=proxy.port)
    assert await lost.fetchval("SELECT 1") == 1
    proxy.links[0].lose()
    async with asyncio.timeout(GRACE):
        outcomes = await asyncio.gather(*(lost.fetchval("SELECT $1::int", i) for i in range(3)), return_exceptions=True)
        assert [type(each) for each in outcomes] == [headrace.ConnectionDoesNotExistError] * 3
        assert await other.fetchval("SELECT 1") == 1
    assert lost.is_closed()


@pytest.mark.fault(number=30)
@needs_linux
async def test_packets_dropped_while_waiting(connect: Connect, proxy: Proxy) -> None:
    """Nothing is sent, so keepalives have to find out."""
    options: dict[str, Any] = {"keepalives_idle": 1, "keepalives_interval": 1, "tcp_user_timeout": 500}
    lost = await connect(host=proxy.host, port=proxy.port, **options)
    other = await connect(host=proxy.host, port=proxy.port)
    sent = proxy.links[0].count("server")
    running = asyncio.create_task(lost.execute(SLEEP))
    async with asyncio.timeout(10):
        while proxy.links[0].count("server") == sent:
            await asyncio.sleep(0)
        proxy.links[0].lose()
        with pytest.raises(headrace.ConnectionDoesNotExistError):
            await running
    assert await other.fetchval("SELECT 1") == 1


@pytest.mark.fault(number=30)
async def test_a_window_that_never_opens_again(connect: Connect, proxy: Proxy) -> None:
    """The peer reads no more: what cannot be sent waits, others go on, and a time limit holds all the same."""
    lost = await connect(host=proxy.host, port=proxy.port)
    other = await connect(host=proxy.host, port=proxy.port)
    assert await lost.fetchval("SELECT length($1::text)", "x") == 1
    proxy.links[0].blackhole()
    async with asyncio.timeout(GRACE):
        with pytest.raises(TimeoutError):
            await lost.fetchval("SELECT length($1::text)", "x" * 20_000_000, timeout=0.2)
        assert await other.fetchval("SELECT 1") == 1
    lost.terminate()
