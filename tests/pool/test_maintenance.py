"""A pool over time: what it keeps, replaces and checks, what it reports, and how it ends."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace.pool import dispatcher, maintenance, scheduler

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake, Gate, MakePool
    from tests.peers.fakeserver import Peer
    from tests.peers.proxy import Proxy
    from tests.servers import Cluster

PATIENCE = 10.0
BACKEND = "SELECT pg_backend_pid()"


async def until(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not check():
            await asyncio.sleep(0.005)


def kill(server: Cluster, database: str) -> None:
    for backend in server.backends(database):
        server.sql("SELECT pg_terminate_backend(%s)", backend.pid)


# What it keeps


async def test_min_size_is_kept_in_the_background(pool: MakePool, server: Cluster, database: str) -> None:
    """Nobody has to ask for it: the backends that have died are replaced."""
    made = await pool(min_size=3, max_size=5)
    kill(server, database)
    await until(lambda: made.stats().opened == 6 and made.get_size() == 3)
    assert made.stats().closed == {"connection_lost": 3} or made.stats().closed == {
        "connection_lost": 1,
        "generation_retired": 2,
    }
    await until(lambda: len(server.backends(database)) == 3)


async def test_what_lies_idle_is_closed_down_to_min_size(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=5, max_inactive_connection_lifetime=0.05)
    leases = [await made.acquire() for _ in range(5)]
    for lease in leases:
        await made.release(lease)
    assert made.get_size() == 5
    await until(lambda: made.get_size() == 2)
    await until(lambda: made.stats().draining == 0)
    assert made.stats().closed == {"idle": 3}
    assert await made.fetchval("SELECT 1") == 1


async def test_max_lifetime_replaces_idle_shared_and_leased_ones(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2, max_lifetime=0.1)
    lease = await made.acquire()
    leased = await lease.fetchval(BACKEND)
    seen = {await made.fetchval(BACKEND)}
    async with asyncio.timeout(PATIENCE):
        while len(seen) < 3:
            seen.add(await made.fetchval(BACKEND))
    assert await lease.fetchval(BACKEND) == leased
    assert leased not in seen
    await made.release(lease)
    await until(lambda: made.stats().closed.get("max_lifetime", 0) >= 3)


async def test_a_query_under_way_outlives_the_lifetime_of_its_connection(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1, max_lifetime=0.05)
    assert await made.fetchval("SELECT 5 FROM pg_sleep(0.3)") == 5
    # Nobody gets the room of one that is still at work.
    assert made.stats().opened <= 2


async def test_init_size(pool: MakePool) -> None:
    made = await pool(init_size=3, min_size=1, max_size=4)
    assert made.get_size() == 3


# Asking for a sign of life


@pytest.fixture
def soon_dormant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "PING_AFTER", 0.02)


async def until_dormant(pool: headrace.Pool) -> None:
    def all_lie_idle() -> bool:
        now = scheduler.boot_time()
        idle = [pooled for pooled in pool._scheduler.connections.values() if pooled.idle]
        return len(idle) == pool.get_size() and all(now - pooled.work.replied_at >= 0.02 for pooled in idle)

    await until(all_lie_idle)


async def test_a_connection_that_lay_idle_is_used_again(pool: MakePool, soon_dormant: None) -> None:
    made = await pool(min_size=2, max_size=2)
    before = {backend async for backend in backends(made)}
    for _ in range(3):
        await until_dormant(made)
        assert made.get_idle_size() == 2
        assert await asyncio.gather(*(made.fetchval("SELECT $1::int", i) for i in range(50))) == list(range(50))
        await until_dormant(made)
        async with made.acquire() as one, made.acquire() as two:
            assert {await one.fetchval(BACKEND), await two.fetchval(BACKEND)} == before


async def backends(pool: headrace.Pool) -> Any:
    leases = [await pool.acquire() for _ in range(pool.get_max_size())]
    for lease in leases:
        yield await lease.fetchval(BACKEND)
        await pool.release(lease)


async def test_one_that_has_died_in_silence_is_replaced_unseen(
    pool: MakePool, proxy: Proxy, soon_dormant: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its peer answers nothing any more. The query waits behind the ping, so it can go to another connection."""
    monkeypatch.setattr(dispatcher, "PING_TIMEOUT", 0.3)
    made = await pool(host=proxy.host, port=proxy.port, min_size=1, max_size=1)
    await until_dormant(made)
    proxy.links[0].freeze()
    async with asyncio.timeout(PATIENCE):
        assert await asyncio.gather(*(made.fetchval("SELECT $1::int", i) for i in range(10))) == list(range(10))
    assert made.stats().closed == {"ping_failed": 1}
    await until_dormant(made)
    proxy.links[1].freeze()
    async with asyncio.timeout(PATIENCE), made.acquire() as lease:
        assert await lease.fetchval("SELECT 1") == 1
    assert made.stats().closed == {"ping_failed": 2}


async def test_a_time_limit_covers_the_ping_and_what_comes_after(
    pool: MakePool, proxy: Proxy, soon_dormant: None
) -> None:
    made = await pool(host=proxy.host, port=proxy.port, min_size=1, max_size=1)
    await until_dormant(made)
    proxy.freeze()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(TimeoutError):
            await made.fetchval("SELECT 1", timeout=0.1)
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await made.acquire(timeout=0.1)
        proxy.thaw()
        assert await made.fetchval("SELECT 1") == 1


async def test_a_server_that_accepts_and_says_nothing_holds_up_one_attempt_alone(
    pool: MakePool, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "STALLED", 0.05)

    async def greets(peer: Peer) -> None:
        await peer.greet()
        await peer.expect_end()

    async def says_nothing(peer: Peer) -> None:
        await peer.hold()

    server = await fake(greets, says_nothing, greets)
    made = await pool(dsn=server.dsn(), min_size=1, max_size=2)
    async with asyncio.timeout(PATIENCE):
        one = await made.acquire()
        two = await made.acquire()
        await until(lambda: made.stats().opening == 0)
    assert made.get_size() == 2
    await made.release(one)
    await made.release(two)


# What it reports


async def test_stats(pool: MakePool, gate: Gate) -> None:
    made = await pool(min_size=1, max_size=2)
    lease = await made.acquire()
    gate.close()
    other = await made.acquire()
    waiting = asyncio.create_task(made.acquire(timeout=PATIENCE).__aenter__())
    running = asyncio.create_task(lease.fetchval(gate.query))
    await until(lambda: made.stats().in_flight > 0)
    stats = made.stats()
    assert (stats.size, stats.leased, stats.idle, stats.waiting) == (2, 2, 0, 1)
    assert (stats.opened, stats.acquire_count) == (2, 2)
    gate.open()
    await running
    await made.release(other)
    await made.release(await waiting)
    await made.release(lease)
    stats = made.stats()
    assert (stats.leased, stats.waiting, stats.acquire_count) == (0, 0, 3)
    # `other` stood in line until its connection was open.
    assert stats.wait_time.count == 2
    assert stats.wait_time.total > 0
    as_dict = asdict(stats)
    assert as_dict["wait_time"]["bounds"] == stats.wait_time.bounds
    await made.close()
    assert made.stats().closed == {"pool_closed": 2}


async def test_a_lease_that_is_forgotten_is_reported_and_taken_back(
    pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever acquired it and lost it is named; the pool does not dry up."""
    made = await pool(min_size=1, max_size=1)

    async def forgetful() -> None:
        connection = await made.acquire()
        await connection.execute("BEGIN; SET work_mem = '1234kB'")

    with caplog.at_level(logging.WARNING, "headrace.pool"):
        await forgetful()
        gc.collect()
        async with made.acquire(timeout=PATIENCE) as lease:
            assert await lease.fetchval("SHOW work_mem") != "1234kB"
            assert not lease.is_in_transaction()
    (message,) = [record.message for record in caplog.records if record.name == "headrace.pool"]
    assert "was never given back" in message
    line = forgetful.__code__.co_firstlineno + 1
    assert f"{__file__}:{line}, in " in message
    assert "forgetful" in message
    assert made.stats().leaked == 1


async def test_a_forgotten_lease_shows_all_of_the_stack_in_debug_mode(
    pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    made = await pool(min_size=1, max_size=1, debug=True)

    async def inner() -> None:
        await made.acquire()

    with caplog.at_level(logging.WARNING, "headrace.pool"):
        await inner()
        gc.collect()
        await until(lambda: made.stats().leaked == 1)
    (message,) = caplog.messages
    assert "await made.acquire()" in message
    assert "await inner()" in message


@pytest.mark.parametrize("kept", ["statement", "cursor", "transaction", "listener"])
async def test_a_lease_lasts_as_long_as_what_was_made_during_it(
    pool: MakePool, connect: Connect, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Who keeps a statement, and not the connection, has not lost it."""
    made = await pool(min_size=1, max_size=1)
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def make() -> Any:
        connection = await made.acquire()
        if kept == "statement":
            return await connection.prepare("SELECT 1")
        if kept == "cursor":
            transaction = connection.transaction()
            await transaction.start()
            return await connection.cursor("SELECT 1"), transaction
        if kept == "transaction":
            return connection.transaction()
        return await connection.add_listener("c", lambda *args: heard.set_result(args[3]))

    made_by_lease = await make()
    gc.collect()
    await asyncio.sleep(0.01)
    assert made.stats().leased == 1
    if kept == "statement":
        assert await made_by_lease.fetchval() == 1
    elif kept == "cursor":
        assert await made_by_lease[0].fetchrow() == (1,)
        await made_by_lease[1].rollback()
    elif kept == "transaction":
        async with made_by_lease:
            pass
    else:
        async with asyncio.timeout(PATIENCE):
            other = await connect()
            await other.execute("NOTIFY c, 'heard'")
            assert await heard == "heard"
    assert not caplog.messages
    made.terminate()


async def test_a_wait_in_vain_says_who_has_the_connections(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=2)
    held = [await made.acquire() for _ in range(2)]
    with pytest.raises(TimeoutError) as raised:
        await made.acquire(timeout=0.02)
    (note,) = raised.value.__notes__
    assert "Of at most 2 connections 2 are leased" in note
    assert note.count(f"was acquired at {__file__}:") == 2
    with pytest.raises(TimeoutError) as raised:
        await made.fetchval("SELECT 1", timeout=0.02)
    assert "2 are leased" in raised.value.__notes__[0]
    for lease in held:
        await made.release(lease)


# How it ends


async def test_close_is_bounded_where_that_is_asked(connect_kwargs: dict[str, Any]) -> None:
    made = await headrace.create_pool(**connect_kwargs, min_size=2, max_size=2)
    lease = await made.acquire()
    running = asyncio.create_task(made.execute("SELECT pg_sleep(600)"))
    await asyncio.sleep(0)
    with pytest.raises(TimeoutError) as raised:
        await made.close(timeout=0.05)
    assert f"was acquired at {__file__}:" in raised.value.__notes__[0]
    assert lease.is_closed()
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        await running
    assert made.get_size() == 0
    await made.close()


async def test_close_does_not_wait_for_connections_that_are_being_opened(
    connect_kwargs: dict[str, Any], proxy: Proxy
) -> None:
    made = await headrace.create_pool(
        **{**connect_kwargs, "host": proxy.host, "port": proxy.port}, min_size=1, max_size=2
    )
    lease = await made.acquire()
    proxy.freeze()
    waiting = asyncio.create_task(made.acquire().__aenter__())
    await until(lambda: made.stats().opening == 1)
    proxy.links[0].thaw()
    async with asyncio.timeout(PATIENCE):
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        await made.release(lease)
        await closing
    with pytest.raises(headrace.InterfaceError, match="pool is closing"):
        await waiting


async def test_a_pool_that_could_not_be_opened_can_be_opened_later(
    connect_kwargs: dict[str, Any], proxy: Proxy
) -> None:
    proxy.refuse()
    made = headrace.create_pool(**{**connect_kwargs, "host": proxy.host, "port": proxy.port}, min_size=2, max_size=2)
    with pytest.raises(OSError, match="cannot connect"):
        await made
    await proxy.listen()
    async with made:
        assert made.get_size() == 2
        assert await made.fetchval("SELECT 1") == 1


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"max_lifetime": -1}, "max_lifetime is expected to be greater or equal to zero, got -1"),
        ({"max_lifetime": "1"}, "max_lifetime is expected to be greater or equal to zero, got '1'"),
        ({"init_size": 11}, "init_size is greater than max_size"),
    ],
)
def test_limits_that_make_no_sense(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        headrace.create_pool("postgresql://nowhere", **kwargs)
