"""Programs that end with one request at a time on a connection end on a pool that shares its connections, too.

In each the holder of a lock awaits a call of the pool while all other connections work on what waits for that lock.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import Any

import pytest

BLOCKED = "SELECT a FROM locked"
OTHER = "SELECT a FROM locked WHERE a > 5"
QUICK = "SELECT 42"
BUSY = "SELECT pg_sleep(0.001)"


@pytest.fixture
async def shared(pool: Any) -> Any:
    """A pool of three that has learnt what the texts cost, with each of them prepared on each connection."""
    return await taught(await pool(min_size=3, max_size=3))


async def taught(made: Any) -> Any:
    await made.execute("DROP TABLE IF EXISTS locked")
    await made.execute("CREATE TABLE locked AS SELECT 1 AS a")
    leases = [await made.acquire() for _ in range(3)]
    for lease in leases:
        for query in (BLOCKED, OTHER, QUICK, BUSY):
            await lease.fetch(query)
    for lease in leases:
        await made.release(lease)
    for query in (BLOCKED, OTHER, QUICK, BUSY):
        for _ in range(3):
            await made.fetch(query)
    return made


@pytest.mark.parametrize("late", ["UPDATE locked SET a = 2", OTHER])
async def test_a_claim_that_came_later_does_not_take_the_last_connection(shared: Any, late: str) -> None:
    """The awaited read stands behind a head that waits for the lock, and the late one waits for the lock as well."""
    async with shared.acquire() as lease:
        async with lease.transaction():
            await lease.execute("LOCK TABLE locked")
            calls = [asyncio.create_task(shared.fetch(query)) for query in (BLOCKED, BUSY)]
            awaited = asyncio.create_task(shared.fetchval(QUICK))
            calls.append(asyncio.create_task(shared.fetch(late)))
            assert await asyncio.wait_for(awaited, 60) == 42
    await asyncio.wait_for(asyncio.gather(*calls), 60)


@pytest.mark.parametrize("ahead", range(0, 10, 2))
async def test_reads_that_wait_for_a_lock_give_way_to_a_read_that_came_before_them(shared: Any, ahead: int) -> None:
    async with shared.acquire() as lease:
        async with lease.transaction():
            await lease.execute("LOCK TABLE locked")
            queries = [*["SELECT 1"] * 4, BLOCKED, *["SELECT 1"] * ahead]
            calls = [asyncio.create_task(shared.fetch(query)) for query in queries]
            awaited = asyncio.create_task(shared.fetchval(QUICK))
            calls += [asyncio.create_task(shared.fetch(BLOCKED)) for _ in range(10)]
            assert await asyncio.wait_for(awaited, 60) == 42
    # Those that have given way get their rows all the same.
    assert all(await asyncio.wait_for(asyncio.gather(*calls), 60))


async def test_a_read_that_overruns_during_a_cancellation_gives_way_when_that_is_over(pool: Any, proxy: Any) -> None:
    """The CancelRequest has ended the head before it, and the server has not yet closed the socket that brought it."""
    made = await taught(await pool(host=proxy.host, port=proxy.port, min_size=3, max_size=3))
    async with made.acquire() as lease:
        async with lease.transaction():
            await lease.execute("LOCK TABLE locked")
            # From now on nothing comes back on new sockets.
            links = list(proxy.links)
            proxy.freeze(towards="client")
            for link in links:
                link.thaw(towards="client")
            calls = [asyncio.create_task(made.fetch(query)) for query in (BLOCKED, BUSY)]
            awaited = asyncio.create_task(made.fetchval(QUICK))
            calls += [asyncio.create_task(made.fetch(BLOCKED)) for _ in range(10)]
            async with asyncio.timeout(60):
                # The awaited read may also have been sent behind the other head, and be done already.
                while not awaited.done() and not any(
                    each.blocked and each.work.overrun for each in made._scheduler.available
                ):
                    await asyncio.sleep(0.001)
                proxy.thaw()
                assert await awaited == 42
    assert all(await asyncio.wait_for(asyncio.gather(*calls), 60))


async def test_a_plain_read_by_execute_is_not_stuck_behind_a_head(shared: Any) -> None:
    await shared.execute(QUICK)
    async with shared.acquire() as lease:
        async with lease.transaction():
            await lease.execute("LOCK TABLE locked")
            calls = [asyncio.create_task(shared.fetch(query)) for query in (BLOCKED, BUSY)]
            awaited = asyncio.create_task(shared.execute(QUICK))
            assert await asyncio.wait_for(awaited, 60) == "SELECT 1"
    await asyncio.wait_for(asyncio.gather(*calls), 60)


async def test_a_read_does_not_overtake_a_write_whose_statement_is_being_prepared(pool: Any) -> None:
    """The cost of the write is known, by another connection. The write was asked for first, and must not get stuck."""
    made = await pool(min_size=2, max_size=2)
    await made.execute("DROP TABLE IF EXISTS locked, written")
    await made.execute("CREATE TABLE locked AS SELECT 1 AS a")
    await made.execute("CREATE TABLE written (a int)")
    insert = "INSERT INTO written VALUES ($1)"
    first = await made.acquire()
    for _ in range(3):
        await made.execute(insert, 0)
    second = await made.acquire()
    await made.release(first)
    for _ in range(3):
        await made.fetch(BLOCKED)
    async with second.transaction():
        await second.execute("LOCK TABLE locked")
        write = asyncio.create_task(made.execute(insert, 1))
        read = asyncio.create_task(made.fetch(BLOCKED))
        assert await asyncio.wait_for(write, 60) == "INSERT 0 1"
    assert await asyncio.wait_for(read, 60)
    await made.release(second)


async def test_a_read_that_is_stuck_is_encoded_again_in_the_context_of_its_caller(pool: Any) -> None:
    """Another connection is asked as well; the encoder sees the variables of the task there, too."""
    tenant: ContextVar[int] = ContextVar("tenant")

    async def init(connection: Any) -> None:
        await connection.set_type_codec(
            "int4", schema="pg_catalog", encoder=lambda value: str(value + tenant.get()), decoder=int
        )

    made = await pool(min_size=3, max_size=3, init=init)
    await made.execute("DROP TABLE IF EXISTS locked")
    await made.execute("CREATE TABLE locked AS SELECT 1 AS a")

    async def echo(number: int) -> int:
        tenant.set(number)
        return int(await made.fetchval("SELECT $1::int4", 1000)) - number

    leases = [await made.acquire() for _ in range(3)]
    for lease in leases:
        tenant.set(0)
        await lease.fetch(BLOCKED)
        await lease.fetch("SELECT $1::int4", 1000)
    for lease in leases:
        await made.release(lease)
    for i in range(10):
        await made.fetch(BLOCKED)
        await asyncio.create_task(echo(i))
    async with made.acquire() as lease:
        async with lease.transaction():
            await lease.execute("LOCK TABLE locked")
            blocked = asyncio.create_task(made.fetch(BLOCKED))
            calls = [asyncio.create_task(echo(i)) for i in range(1, 40)]
            assert set(await asyncio.wait_for(asyncio.gather(*calls), 60)) == {1000}
    await asyncio.wait_for(blocked, 60)
