"""Fault 42: quick calls beside slow ones, beside a lock, beside a cancellation. A call delays its own caller alone.

The slow ones last until the test ends them, so a quick call that waited for one of them would wait in vain. The
quantiles are measured by `python -m bench --only 'beside*'`.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

import headrace
from headrace._core.pipeline import cancel

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=42)

PATIENCE = 30.0

SLOW = "SELECT $1::int FROM pg_sleep($2)"
QUICK = "SELECT $1::int"
READ = "SELECT count(*) FROM counted"
WRITE = "INSERT INTO counted VALUES ($1)"


async def warm(pool: Any) -> None:
    """Run each text on each connection, so that nothing is known to be slow."""
    for _ in range(3):
        await asyncio.gather(*(pool.fetchval(QUICK, i) for i in range(pool.get_max_size())))
        await asyncio.gather(*(pool.fetchval(SLOW, i, 0.0) for i in range(pool.get_max_size())))


async def until_waiting(server: Cluster, database: str, count: int) -> None:
    """Wait until so many backends wait for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'"
    async with asyncio.timeout(PATIENCE):
        while server.sql(waiting, database) != [(count,)]:
            await asyncio.sleep(0.001)


async def ended(tasks: list[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait for their ends."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def time_outs(driver: Any, kwargs: dict[str, Any], size: int, slow: int, timeout: float) -> int:
    """Return how many of 200 quick calls time out in a pool with some slow ones."""
    async with driver.create_pool(**kwargs, min_size=size, max_size=size) as pool:
        await warm(pool)
        sleeping = [asyncio.create_task(pool.fetchval(SLOW, 0, 600.0)) for _ in range(slow)]
        await asyncio.sleep(0)
        results = await asyncio.gather(
            *(pool.fetchval(QUICK, i, timeout=timeout) for i in range(200)), return_exceptions=True
        )
        assert all(isinstance(each, TimeoutError) or each == i for i, each in enumerate(results))
        late = sum(isinstance(each, TimeoutError) for each in results)
        await ended(sleeping)
    return late


@pytest.mark.parametrize(("size", "slow"), [(2, 1), (6, 1), (6, 2), (10, 1), (10, 2)])
async def test_quick_calls_with_a_time_limit(size: int, slow: int, connect_kwargs: dict[str, Any]) -> None:
    for driver in (asyncpg, headrace):
        assert await time_outs(driver, connect_kwargs, size, slow, PATIENCE) == 0


@pytest.mark.parametrize("size", [2, 6, 10])
async def test_quick_calls_after_a_slow_one_was_found_out(size: int, pool: MakePool) -> None:
    """Call after call, each awaited: no one is sent behind a head that takes long."""
    made = await pool(min_size=size, max_size=size)
    await warm(made)
    sleeping = [asyncio.create_task(made.fetchval(SLOW, 0, 600.0)) for _ in range(min(size - 1, 2))]
    async with asyncio.timeout(PATIENCE):
        for i in range(500):
            assert await asyncio.gather(made.fetchval(QUICK, i), made.fetchval(QUICK, -i)) == [i, -i]
    await ended(sleeping)


async def test_slow_calls_that_follow_quick_ones(pool: MakePool, server: Cluster, database: str) -> None:
    """Both connections come free for reads that wait, and slow calls come next: each of them gets a connection."""
    made = await pool(min_size=2, max_size=2)
    await warm(made)

    async def slow() -> None:
        await made.fetchval(SLOW, 0, 0.05)
        await made.fetchval(SLOW, 0, 600.0)

    async def quick(number: int) -> None:
        for _ in range(2):
            assert await made.fetchval(QUICK, number) == number

    calls = [asyncio.create_task(slow()) for _ in range(2)]
    await asyncio.sleep(0)
    calls += [asyncio.create_task(quick(number)) for number in range(4)]
    asleep = """SELECT count(*) FROM pg_stat_activity
        WHERE datname = %s AND wait_event = 'PgSleep' AND query_start < clock_timestamp() - interval '1 s'"""
    async with asyncio.timeout(PATIENCE):
        while server.sql(asleep, database) != [(2,)]:
            await asyncio.sleep(0.01)
    await ended(calls)


@pytest.mark.parametrize("size", [2, 6, 10])
async def test_calls_beside_a_lock(size: int, pool: MakePool, connect: Connect, server: Cluster, database: str) -> None:
    """Reads and writes wait for a table; what stands behind them is done by other connections."""
    made, holder = await pool(min_size=size, max_size=size), await connect()
    await holder.execute("CREATE TABLE counted (a int)")
    await warm(made)
    await asyncio.gather(*(made.fetchval(READ) for _ in range(size)))
    waiting = min(size - 1, 2)
    async with asyncio.timeout(PATIENCE):
        async with holder.transaction():
            await holder.execute("LOCK TABLE counted IN ACCESS EXCLUSIVE MODE")
            heads = [asyncio.create_task(made.fetchval(READ)) for _ in range(waiting)]
            await asyncio.sleep(0)
            assert await asyncio.gather(*(made.fetchval(QUICK, i) for i in range(200))) == list(range(200))
            await until_waiting(server, database, waiting)
            assert await asyncio.gather(*(made.fetchval(QUICK, i) for i in range(200))) == list(range(200))
        assert await asyncio.gather(*heads) == [0] * waiting
    await holder.execute("DROP TABLE counted")


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection is not given up because a CancelRequest has no effect."""
    monkeypatch.setattr(cancel, "CANCEL_TIMEOUT", 600.0)


@pytest.fixture
def frozen_postmaster(own_server: Cluster) -> Iterator[Any]:
    """Stop the postmaster at a call, so that no CancelRequest is carried out; the backends go on."""
    pid = own_server.postmaster.pid
    try:
        yield lambda: os.kill(pid, signal.SIGSTOP)
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
@pytest.mark.parametrize("size", [2, 6])
async def test_calls_beside_a_cancellation_that_has_no_effect(
    how: str, size: int, patient: None, own_server: Cluster, frozen_postmaster: Any
) -> None:
    """Reads sent behind the cancelled call, writes and leases: all go on while its connection waits for the cancel."""
    pool = headrace.create_pool(own_server.dsn(), min_size=size, max_size=size)
    await pool
    try:
        await pool.execute("CREATE TABLE counted (a int)")
        await warm(pool)
        frozen_postmaster()
        async with asyncio.timeout(PATIENCE):
            slow = asyncio.create_task(pool.fetchval(SLOW, 0, 600.0, timeout=0.001 if how == "timed out" else None))
            await asyncio.sleep(0)
            calls = [asyncio.create_task(pool.fetchval(QUICK, i)) for i in range(200)]
            writes = [asyncio.create_task(pool.execute(WRITE, i)) for i in range(5)]
            await asyncio.sleep(0)
            if how == "cancelled":
                slow.cancel()
            with pytest.raises((asyncio.CancelledError, TimeoutError)):
                await slow
            assert await asyncio.gather(*calls) == list(range(200))
            assert await asyncio.gather(*writes) == ["INSERT 0 1"] * 5
            async with pool.acquire() as lease:
                assert await lease.fetchval(READ) == 5
        # It is still there: nobody had to wait until it was given up.
        assert pool.stats().in_flight
        assert pool.stats().closed == {}
    finally:
        pool.terminate()


async def test_many_cancellations_beside_quick_calls(pool: MakePool) -> None:
    """Slow calls are cancelled one after another; each quick call gets its own reply."""
    made = await pool(min_size=3, max_size=3)
    await warm(made)

    async def cancelling() -> None:
        for i in range(100):
            slow = asyncio.create_task(made.fetchval(SLOW, 0, 600.0))
            for _ in range(i % 5 + 1):
                await asyncio.sleep(0)
            slow.cancel()
            await asyncio.gather(slow, return_exceptions=True)

    async with asyncio.timeout(PATIENCE):
        beside = asyncio.create_task(cancelling())
        asked = 0
        while not beside.done():
            assert await asyncio.gather(*(made.fetchval(QUICK, i) for i in range(20))) == list(range(20))
            asked += 1
        await beside
    assert asked
    assert made.stats().closed == {}
