"""Fault 43: a plain read whose connection ends is run again, unless it ends each connection that it comes to."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

import headrace
from headrace.pool.scheduler import Reason
from tests.peers import backend
from tests.peers.fakeserver import Peer
from tests.peers.frontend import Bind, Execute, Sync
from tests.peers.scripts import INT4, prepare, row, run

if TYPE_CHECKING:
    from tests.fixtures import Fake, MakePool
    from tests.peers.proxy import Proxy
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=43)

PATIENCE = 60.0

LONG = "SELECT count(*) FROM generate_series(1, 10000) AS a, generate_series(1, 10000) AS b"
"""Works for seconds."""


async def test_a_read_survives_that_one_connection_of_its_host_after_another_ends(proxy: Proxy, pool: MakePool) -> None:
    made = await pool(host=proxy.host, port=proxy.port, min_size=5, max_size=5)
    await asyncio.gather(*(made.fetchval("SELECT 1 FROM pg_sleep(0.02)") for _ in range(5)))
    links = list(proxy.links)
    sent = {link: link.count("server") for link in links}
    for link in links:
        link.freeze(towards="client")
    reading = asyncio.create_task(made.fetchval("SELECT 1"))
    async with asyncio.timeout(PATIENCE):
        while not reading.done():
            for link in links:
                if link.count("server") > sent[link]:
                    link.reset()
            await asyncio.sleep(0.001)
    assert await reading == 1
    assert made.stats().closed["generation_retired"] >= 1


async def test_a_read_does_not_try_one_connection_after_another_of_a_host_that_is_gone(
    fake: Fake, pool: MakePool
) -> None:
    """Not even if it was lost for the second time with a connection that was to be closed after it."""
    begun, gone = asyncio.Event(), asyncio.Event()

    async def read(peer: Peer) -> None:
        await peer.greet()
        await prepare(peer, backend.Field("a", INT4), parameters=(INT4,))
        await peer.expect(Bind, Execute, Sync)

    async def first(peer: Peer) -> None:
        await read(peer)
        peer.reset()

    async def second(peer: Peer) -> None:
        await read(peer)
        begun.set()
        await gone.wait()
        peer.reset()

    async def unused(peer: Peer) -> None:
        await peer.greet()
        await peer.expect_end()

    async def answers(peer: Peer) -> None:
        if peer.number > 5:
            await peer.hold()
            return
        await peer.greet()
        await prepare(peer, backend.Field("a", INT4), parameters=(INT4,))
        await run(peer, row(b"\0\0\0\7"))
        await peer.expect_end()

    # The fourth one is opened in place of the first.
    server = await fake(first, second, unused, unused, every=answers)
    made = await pool(dsn=server.dsn(), min_size=3, max_size=3)
    reading = asyncio.create_task(made.fetchval("SELECT a FROM t WHERE b = $1", 1))
    await begun.wait()
    (busy,) = (pooled for pooled in made._scheduler.available if not pooled.idle)
    await server.connected(4)
    while len(made._scheduler.connections) < 3:
        await asyncio.sleep(0)
    made._maintenance.retire(busy, Reason.MAX_LIFETIME)
    gone.set()
    async with asyncio.timeout(PATIENCE):
        assert await reading == 7
    assert made.stats().closed["generation_retired"] == 2


@pytest.mark.slow
async def test_a_read_that_crashes_the_server_crashes_it_twice_at_most(own_server: Cluster, pool: MakePool) -> None:
    made = await pool(dsn=own_server.dsn(), min_size=5, max_size=5)
    reading = asyncio.create_task(made.fetchval(LONG))
    killed: set[int] = set()

    def kill() -> None:
        # The test's own session ends with the crash as well.
        with suppress(psycopg.OperationalError):
            for each in own_server.backends():
                if each.query == LONG and each.state == "active" and each.pid not in killed:
                    killed.add(each.pid)
                    os.kill(each.pid, signal.SIGKILL)

    async with asyncio.timeout(PATIENCE):
        while not reading.done():
            await asyncio.to_thread(kill)
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        await reading
    assert len(killed) == 2
    assert await made.fetchval("SELECT 1", timeout=PATIENCE) == 1


async def test_a_read_for_which_a_server_ends_a_connection_is_run_once_more(fake: Fake, pool: MakePool) -> None:
    ended = 0

    async def script(peer: Peer) -> None:
        nonlocal ended
        await peer.greet()
        while not isinstance(await peer.next(), Sync):
            pass
        ended += 1
        await peer.send(backend.error_response("server conn crashed?", code="08P01", severity="FATAL"))

    # No further connection is answered.
    server = await fake(script, script, every=Peer.hold)
    made = await pool(dsn=server.dsn(), min_size=2, max_size=2)
    with pytest.raises(headrace.PostgresError, match="server conn crashed") as raised:
        await made.fetch("SELECT a FROM t")
    assert isinstance(raised.value, headrace.ConnectionDoesNotExistError)
    assert ended == 2
