"""Fault 34: the server is restarted while a pool is hard at work. Everybody learns what came of his query."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace.pool import scheduler

if TYPE_CHECKING:
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=34)

PATIENCE = 30.0
TASKS = 30
LOST = (
    headrace.AdminShutdownError,  # 57P01
    headrace.CrashShutdownError,  # 57P02
    headrace.CannotConnectNowError,  # 57P03
    headrace.ConnectionDoesNotExistError,
    headrace.InterfaceError,  # a lease whose connection is closed
    OSError,  # no server listens
)


async def stop(server: Cluster, mode: Any) -> None:
    await asyncio.get_running_loop().run_in_executor(None, server.stop, mode)


async def start(server: Cluster) -> None:
    await asyncio.get_running_loop().run_in_executor(None, server.start)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_restart_under_load(own_server: Cluster, mode: str) -> None:
    outcomes: Counter[str] = Counter()
    going = True

    # What is reported as done must be so after a crash; the clusters of tests are not that careful by themselves.
    careful = {"synchronous_commit": "on"}
    async with headrace.create_pool(own_server.dsn(), min_size=4, max_size=6, server_settings=careful) as pool:
        await pool.execute("CREATE TABLE written (token int)")
        written: set[int] = set()

        async def shared(number: int) -> None:
            assert await pool.fetchval("SELECT $1::int", number) == number

        async def leased(number: int) -> None:
            async with pool.acquire(timeout=PATIENCE) as connection, connection.transaction():
                await connection.execute("INSERT INTO written VALUES ($1)", number)
                assert await connection.fetchval("SELECT $1::int FROM pg_sleep(0.001)", number) == number
            written.add(number)

        async def worker(first: int) -> None:
            number = first
            while going:
                number += TASKS
                try:
                    await (shared if number % 3 else leased)(number)
                except LOST as error:
                    outcomes[type(error).__name__] += 1
                else:
                    outcomes["done"] += 1

        async with asyncio.timeout(PATIENCE):
            workers = [asyncio.create_task(worker(i)) for i in range(TASKS)]
            while outcomes["done"] < 100:
                await asyncio.sleep(0.001)
            await stop(own_server, mode)
            # While it is away everybody waits, and nobody runs wild: each attempt takes its pause.
            failed = pool.stats().connect_errors
            assert failed < 20
            while pool.stats().connect_errors < failed + 2 or pool.stats().waiting < TASKS:
                await asyncio.sleep(0.001)
            await start(own_server)
            done = outcomes["done"]
            while outcomes["done"] < done + 200:
                await asyncio.sleep(0.001)
            going = False
            await asyncio.gather(*workers)

        # What it had been told was done is there, once.
        found = [token for (token,) in await pool.fetch("SELECT token FROM written")]
        assert len(found) == len(set(found))
        assert written <= set(found)
        async with asyncio.timeout(PATIENCE):
            while pool.get_size() < 4:
                await asyncio.sleep(0.01)
            while pool.stats().in_flight:
                await asyncio.sleep(0.01)
        assert (pool.stats().waiting, pool.stats().leased) == (0, 0)
    # Shared reads were asked again elsewhere. The leases learnt of it, by the error of their call or before it.
    kinds = set(outcomes) - {"done"}
    assert kinds & {"AdminShutdownError", "CrashShutdownError", "ConnectionDoesNotExistError", "InterfaceError"}


async def test_attempts_while_the_server_is_away(own_server: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are made one at a time, with pauses that grow. Callers wait; a time limit tells what the last came to."""
    monkeypatch.setattr(scheduler, "FIRST_DELAY", 0.02)
    async with headrace.create_pool(own_server.dsn(), min_size=5, max_size=5) as pool:
        await stop(own_server, "fast")
        async with asyncio.timeout(PATIENCE):
            while pool.get_size() or pool.stats().opening:
                await asyncio.sleep(0.001)
            # Each of the five may have been replaced, in vain, as it was lost; from then on it is one attempt a round.
            assert pool.stats().connect_errors < 5 + pool._scheduler.failures
            for _ in range(3):
                failed = pool.stats().connect_errors
                callers = [asyncio.create_task(pool.fetchval("SELECT 1", timeout=0.05)) for _ in range(50)]
                outcomes = await asyncio.gather(*callers, return_exceptions=True)
                assert all(isinstance(each, TimeoutError) for each in outcomes)
                assert all(isinstance(each.__cause__, OSError) for each in outcomes)
                while pool.stats().connect_errors == failed:
                    await asyncio.sleep(0.001)
            assert pool._scheduler.failures >= 3
            waiting = asyncio.create_task(pool.fetchval("SELECT 2"))
            await start(own_server)
            assert await pool.fetchval("SELECT 1", timeout=PATIENCE) == 1
            assert await waiting == 2
            while pool.get_size() < 5:
                await asyncio.sleep(0.001)
        assert pool._scheduler.failures == 0


async def test_a_server_that_is_still_starting(own_server: Cluster) -> None:
    """57P03 is one more reason to wait a little, and the callers see it only if they do not."""
    async with headrace.create_pool(own_server.dsn(), min_size=1, max_size=3) as pool:
        async with asyncio.timeout(PATIENCE):
            await stop(own_server, "immediate")
            starting = asyncio.create_task(start(own_server))
            while True:
                try:
                    assert await pool.fetchval("SELECT 1") == 1
                    break
                except LOST:
                    continue
            await starting
