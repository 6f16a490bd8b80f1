"""Calls that wait for one pool and are served by another, and pairs of requests that keep their order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace._client.queries import FETCHVAL
from headrace._core.rows.record import Record
from headrace._io.driver import KIND_VALUE
from headrace.pool.dispatcher import in_order
from headrace.pool.scheduler import Balancer

if TYPE_CHECKING:
    from tests.fixtures import MakePool

PID = "SELECT pg_backend_pid()"

pytestmark = pytest.mark.any_server


async def waiting(pool: headrace.Pool, *calls: Any) -> list[asyncio.Task[Any]]:
    """Return the tasks of calls that wait because the only connection is leased."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    while pool.stats().waiting < len(tasks):
        await asyncio.sleep(0)
    return tasks


async def test_calls_that_wait_are_served_by_another_pool(pool: MakePool) -> None:
    full, free = await pool(min_size=1, max_size=1), await pool(min_size=1, max_size=1)
    lease = await full.acquire()
    tasks = await waiting(
        full,
        full.fetchval("SELECT 1"),
        full.execute("CREATE TABLE moved (a int)"),
        full.executemany("SELECT $1::int", [(1,), (2,)]),
        full.fetchval("SELECT 5", timeout=30),
    )
    taken = full._dispatcher.take_waiting()
    assert len(taken) == 4
    assert full.stats().waiting == 0
    assert free._dispatcher.adopt(taken) == 4
    assert await asyncio.gather(*tasks) == [1, "CREATE TABLE", None, 5]
    await full.release(lease)
    assert await full.fetchval("SELECT 6") == 6


async def test_calls_that_were_given_up_meanwhile_are_left_out(pool: MakePool) -> None:
    full, free = await pool(min_size=1, max_size=1), await pool(min_size=1, max_size=1)
    lease = await full.acquire()
    cancelled, late, kept = await waiting(
        full, full.fetchval("SELECT 1"), full.fetchval("SELECT 2", timeout=0.05), full.fetchval("SELECT 3")
    )
    taken = full._dispatcher.take_waiting()
    cancelled.cancel()
    with pytest.raises(TimeoutError, match="timed out after 0.05 seconds"):
        await late
    assert free._dispatcher.adopt(taken) == 1
    assert await kept == 3
    await full.release(lease)


async def test_a_time_limit_holds_in_the_other_pool(pool: MakePool) -> None:
    full, other = await pool(min_size=1, max_size=1), await pool(min_size=1, max_size=1)
    leases = [await full.acquire(), await other.acquire()]
    limited, cancelled = await waiting(full, full.fetchval("SELECT 1", timeout=0.1), full.fetchval("SELECT 2"))
    assert other._dispatcher.adopt(full._dispatcher.take_waiting()) == 2
    with pytest.raises(TimeoutError, match="no connection was free"):
        await limited
    cancelled.cancel()
    await asyncio.wait({cancelled})
    assert other.stats().waiting == 0
    await full.release(leases[0])
    await other.release(leases[1])
    assert await other.fetchval("SELECT 3") == 3


async def test_a_pinned_call_stays(pool: MakePool) -> None:
    full = await pool(min_size=1, max_size=1)
    lease = await full.acquire()
    request: Any = full._request(FETCHVAL, "SELECT 4", (), 0, None, None)
    request.pinned = True
    assert full._dispatcher.take_waiting() == []
    await full.release(lease)
    assert await request == 4


async def test_a_pair_runs_in_order_on_one_connection(pool: MakePool) -> None:
    made = await pool(min_size=3, max_size=3)
    await made.execute("CREATE SEQUENCE pair")
    for count in range(1, 30):
        pair = made._dispatcher.pair(
            "SELECT nextval('pair')", (), "SELECT last_value FROM pair", (), KIND_VALUE, 1, 0, Record, None
        )
        assert pair is not None
        first, second = pair
        assert [await first, await second] == [count, count]
        assert in_order(first, second)
    pairs = [made._dispatcher.pair(PID, (), PID, (), KIND_VALUE, 1, 0, Record, 5.0) for _ in range(3)]
    for found in pairs:
        assert found is not None
        assert await found[0] == await found[1]
    # No connection is free for both.
    leases = [await made.acquire() for _ in range(3)]
    assert made._dispatcher.pair(PID, (), PID, (), KIND_VALUE, 1, 0, Record, None) is None
    assert made.stats().waiting == 0
    for lease in leases:
        await made.release(lease)


async def test_the_errors_of_a_pair_are_its_own(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    pair = made._dispatcher.pair("SELECT 1", (), "SELECT 1 / $1::int", (0,), KIND_VALUE, 1, 0, Record, None)
    assert pair is not None
    assert await pair[0] == 1
    with pytest.raises(headrace.DivisionByZeroError):
        await pair[1]
    pair = made._dispatcher.pair("SELECT 1", (), "SELECT $1::int", ("five",), KIND_VALUE, 1, 0, Record, None)
    assert pair is not None
    assert await pair[0] == 1
    with pytest.raises(headrace.ArgumentError):
        await pair[1]
    pair = made._dispatcher.pair("SELECT 1", (), "SELECT pg_sleep(60)", (), KIND_VALUE, 1, 0, Record, 0.1)
    assert pair is not None
    assert await pair[0] == 1
    with pytest.raises(TimeoutError):
        await pair[1]
    # The connection takes nothing until the CancelRequest is done.
    assert await made.fetchval("SELECT 2") == 2
    pair = made._dispatcher.pair("SELECT 1", (), "SELECT pg_sleep(60)", (), KIND_VALUE, 1, 0, Record, None)
    assert pair is not None
    assert await pair[0] == 1
    pair[1].close()
    assert await made.fetchval("SELECT 2") == 2


async def test_a_balancer_chooses_the_least_loaded_pool_and_takes_turns(pool: MakePool) -> None:
    pools = [await pool(min_size=2, max_size=2) for _ in range(3)]
    balancer = Balancer([each._scheduler for each in pools], [0, 1, 2])
    assert sorted(balancer.choose() for _ in range(3)) == [0, 1, 2]  # type: ignore[type-var]
    lease = await pools[1].acquire()
    assert {balancer.choose() for _ in range(6)} == {0, 2}
    assert pools[1]._scheduler.load() == 1
    await pools[1].release(lease)
    assert Balancer([], []).choose() is None
