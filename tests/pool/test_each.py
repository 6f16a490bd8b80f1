"""fetch_each() and its kin on a pool: beside other callers, beside backends that end, and in bounded memory."""

from __future__ import annotations

import asyncio
import itertools
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.fault.test_cancellation_everywhere import Watch, cancelled_at_every_step, every_moment
from tests.watching import PATIENCE

if TYPE_CHECKING:
    from tests.fixtures import MakePool
    from tests.servers import Cluster

ECHO = "SELECT $1::int"
INSERT = "INSERT INTO each_kept VALUES ($1) RETURNING a"


def endless() -> Iterator[tuple[int]]:
    return ((i,) for i in itertools.count())


async def consume(results: Any, until: asyncio.Event) -> int:
    """Take results, which must be the numbers from 0 on, until the event is set; return how many."""
    expected = 0
    async with aclosing(results):
        async for value in results:
            assert value == expected
            expected += 1
            if until.is_set():
                break
    return expected


# -- beside other callers ------------------------------------------------------------------------------------------


async def test_other_callers_take_their_turns_beside_an_endless_iteration(pool: MakePool) -> None:
    """A hundred calls of each kind are answered while it goes on: leases, writes, reads, new texts."""
    made = await pool(min_size=2, max_size=2)
    await made.execute("CREATE TABLE IF NOT EXISTS each_turns (a int)")
    over = asyncio.Event()
    running = asyncio.create_task(consume(made.fetchval_each(ECHO, endless()), over))
    async with asyncio.timeout(60):
        for i in range(100):
            assert await made.fetchval(ECHO, i) == i
            assert await made.fetchval(f"SELECT {i}") == i
            assert await made.execute("INSERT INTO each_turns VALUES ($1)", i) == "INSERT 0 1"
            async with made.acquire() as lease:
                assert await lease.fetchval(ECHO, i) == i
    over.set()
    assert await running > 0


async def test_two_iterations_share_a_pool(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    over = asyncio.Event()
    counts: list[int] = []

    async def run() -> None:
        seen = 0
        async for value in made.fetchval_each(ECHO, endless()):
            assert value == seen
            seen += 1
            if seen == 5000:
                counts.append(seen)
                break

    async with asyncio.timeout(60):
        await asyncio.gather(run(), run(), run())
    assert counts == [5000] * 3
    assert not over.is_set()


async def test_slow_heads_do_not_hold_it_up(pool: MakePool) -> None:
    """One connection is stuck in somebody else's statement. Reads sent behind it are asked again elsewhere."""
    made = await pool(min_size=2, max_size=2)
    for _ in range(5):
        await made.fetchval("SELECT 1 FROM pg_sleep($1)", 0)
    over = asyncio.Event()
    running = asyncio.create_task(consume(made.fetchval_each(ECHO, endless()), over))
    await asyncio.sleep(0)
    # Its text is known as quick, so that reads are sent behind it.
    slow = asyncio.create_task(made.fetchval("SELECT 1 FROM pg_sleep($1)", 100))
    results = made.fetchval_each(ECHO, ((i,) for i in range(20_000)))
    async with asyncio.timeout(60):
        assert [value async for value in results] == list(range(20_000))
    slow.cancel()
    over.set()
    assert await running > 0
    await asyncio.wait([slow])


async def test_other_connections_go_on_while_one_write_is_late(pool: MakePool) -> None:
    """An element waits for a transaction that has inserted its key. Fifty for each connection are under way."""
    made = await pool(min_size=2, max_size=2, pipeline_budget=60.0)
    await made.execute("DROP TABLE IF EXISTS each_late; CREATE TABLE each_late (a int PRIMARY KEY)")
    insert = "INSERT INTO each_late VALUES ($1) RETURNING a"
    assert await made.fetchval(insert, -1) == -1
    other = await pool(min_size=1, max_size=1)
    async with other.acquire() as holder, asyncio.timeout(60):
        locked = holder.transaction()
        await locked.start()
        await holder.execute("INSERT INTO each_late VALUES (0)")
        keys = [*range(1, 11), 0, *range(11, 200)]
        results = made.fetchval_each(insert, ((key,) for key in keys))
        assert [await anext(results) for _ in range(10)] == keys[:10]
        late_one = asyncio.create_task(anext(results))
        while await holder.fetchval("SELECT count(*) FROM each_late WHERE a > 10") < 50:
            assert not late_one.done()
        await locked.rollback()
        assert await late_one == 0
        assert [value async for value in results] == keys[11:]


async def test_the_question_for_settings_does_not_stay_behind_a_slow_head(pool: MakePool) -> None:
    """It has to be prepared, so a read that was asked for later may reach the server first."""
    sleep = "SELECT 1 FROM pg_sleep($1)"
    made = await pool(min_size=2, max_size=2)
    first = await made.acquire()
    assert [value async for value in made.fetchval_each(ECHO, [(0,), (1,)])] == [0, 1]
    second = await made.acquire()
    await made.release(first)
    await made.fetchval(ECHO, 0)
    for _ in range(5):
        await made.fetchval(sleep, 0)

    async def results() -> list[int]:
        return [value async for value in made.fetchval_each(ECHO, [(i,) for i in range(10)])]

    running = asyncio.create_task(results())
    slow = asyncio.create_task(made.fetchval(sleep, 100))
    for _ in range(1000):
        # If the machine is so busy that the text seems slow, no read is sent behind it.
        if made.stats().in_flight >= 2:
            break
        await asyncio.sleep(0)
    await made.release(second)
    async with asyncio.timeout(10):
        assert await running == list(range(10))
    slow.cancel()
    await asyncio.wait([slow])


# -- beside backends that end --------------------------------------------------------------------------------------


async def test_plain_reads_lose_nothing_when_backends_are_terminated(
    pool: MakePool, server: Cluster, database: str
) -> None:
    """Forty backends are terminated one after another. Each result comes once, in order, and without an error.

    A read that was at the head of two connections that ended is not asked again, so each kill waits until all that was
    under way at the one before is done.
    """
    made = await pool(min_size=3, max_size=3)
    over = asyncio.Event()
    window = 1024
    taken = 0

    async def results() -> AsyncIterator[Any]:
        nonlocal taken
        async with aclosing(made.fetchval_each(ECHO, endless(), window=window)) as values:
            async for value in values:
                taken += 1
                yield value

    running = asyncio.create_task(consume(results(), over))
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active' LIMIT 1) AS victim"
    )
    killed = 0
    while killed < 40 and not running.done():
        goal = taken + 2 * window
        while taken < goal and not running.done():
            await asyncio.sleep(0)
        killed += int((await asyncio.to_thread(server.sql, kill, database=database))[0][0])
    over.set()
    assert await running > 0


async def test_a_write_is_never_repeated_when_its_backend_is_terminated(
    pool: MakePool, server: Cluster, database: str
) -> None:
    made = await pool(min_size=3, max_size=3)
    await made.execute("DROP TABLE IF EXISTS each_kept; CREATE TABLE each_kept (a int)")
    kill = (
        "SELECT count(pg_terminate_backend(pid)) FROM (SELECT pid FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE 'INSERT%' LIMIT 1) AS victim"
    )
    results: list[Any] = []
    async for result in made.fetchval_each(INSERT, ((i,) for i in range(600)), return_errors=True):
        results.append(result)
        if len(results) % 60 == 0:
            server.sql(kill, database=database)
    kept = [int(row[0]) for row in server.sql("SELECT a FROM each_kept", database=database)]
    assert len(kept) == len(set(kept)), "a write was run twice"
    assert len(results) == 600
    for i, result in enumerate(results):
        if isinstance(result, Exception):
            assert isinstance(result, headrace.PostgresConnectionError)
            assert not (result.safe_to_retry and i in kept)
        else:
            assert result == i
            assert i in kept


# -- cancelled anywhere --------------------------------------------------------------------------------------------


@pytest.fixture
async def watch(server: Cluster, database: str) -> Watch:
    watch = Watch(server, database, 0)
    await watch.is_back()
    return watch


@every_moment
@pytest.mark.parametrize("query", [ECHO, INSERT, "SELECT set_config('a.b', $1::int::text, false)"])
async def test_cancelled_at_every_step(pool: MakePool, watch: Watch, moment: str, query: str) -> None:
    made = await pool(min_size=2, max_size=2)
    await made.execute("CREATE TABLE IF NOT EXISTS each_kept (a int)")

    async def work() -> None:
        async with aclosing(made.fetchval_each(query, ((i,) for i in range(7)))) as results:
            assert [str(value) async for value in results] == [str(i) for i in range(7)]

    assert await cancelled_at_every_step(moment, work) >= 1
    async with asyncio.timeout(PATIENCE):
        while made.get_idle_size() < made.get_size():
            await asyncio.sleep(0.01)
    assert await made.fetchval("SELECT 42") == 42
    await watch.beside(2).is_back()


# -- memory --------------------------------------------------------------------------------------------------------


MEGABYTE = 1_000_000
MOST = 48 * MEGABYTE


async def peak_of(results: Any, count: int) -> int:
    """Return the most memory that is taken while a slow consumer takes so many results."""
    tracemalloc.start()
    try:
        async with aclosing(results):
            for _ in range(count):
                await anext(results)
                for _ in range(100):
                    await asyncio.sleep(0)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.any_server
@pytest.mark.parametrize("query", ["SELECT repeat('x', $1::int)", "SELECT repeat('x', $1::int), now()"])
async def test_memory_is_bounded_by_the_bytes_of_rows(pool: MakePool, query: str) -> None:
    """Rows of a megabyte that wait for the consumer are bounded by their bytes, and not only by their number."""
    made = await pool(min_size=2, max_size=2)
    assert await peak_of(made.fetchval_each(query, itertools.repeat((MEGABYTE,))), 50) < MOST


@pytest.mark.slow
@pytest.mark.any_server
@pytest.mark.parametrize("query", ["SELECT length($1)", "SELECT length($1), now()"])
async def test_memory_is_bounded_by_the_bytes_of_arguments(pool: MakePool, query: str) -> None:
    made = await pool(min_size=2, max_size=2)
    elements = (("x" * MEGABYTE,) for _ in itertools.count())
    assert await peak_of(made.fetchval_each(query, elements), 50) < MOST


@pytest.mark.slow
@pytest.mark.any_server
async def test_memory_does_not_grow_with_the_elements(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    tracemalloc.start()
    try:
        expected = 0
        async for value in made.fetchval_each(ECHO, ((i,) for i in range(200_000))):
            assert value == expected
            expected += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert expected == 200_000
    assert peak < 16 << 20
