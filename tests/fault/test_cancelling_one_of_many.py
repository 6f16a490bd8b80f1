"""Faults 25 to 27: cancelling one of many requests in flight never touches its neighbours."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import headrace

if TYPE_CHECKING:
    from tests.fixtures import Gate


def running(conn: headrace.Connection) -> list[str]:
    return [request.query for request in conn._driver.session.sent]


async def until_running(conn: headrace.Connection, query: str) -> None:
    while query not in running(conn):
        await asyncio.sleep(0)


SLEEP = "SELECT pg_sleep($1)"
ECHO = "SELECT $1::int"


@pytest.fixture
async def warmed(conn: headrace.Connection) -> headrace.Connection:
    await conn.fetchval(SLEEP, 0)
    await conn.fetchval(ECHO, 0)
    return conn


@pytest.mark.fault(number=25)
async def test_the_running_head_among_50(warmed: headrace.Connection) -> None:
    head = asyncio.create_task(warmed.fetchval(SLEEP, 600))
    others = [asyncio.create_task(warmed.fetchval(ECHO, i)) for i in range(49)]
    while len(running(warmed)) < 50:
        await asyncio.sleep(0)
    head.cancel()
    with pytest.raises(asyncio.CancelledError):
        await head
    assert await asyncio.gather(*others) == list(range(49))
    assert await warmed.fetchval(ECHO, 1) == 1


@pytest.mark.fault(number=26)
async def test_a_queued_one_that_is_not_the_head(warmed: headrace.Connection, gate: Gate) -> None:
    await warmed.fetchval(gate.query)
    gate.close()
    head = asyncio.create_task(warmed.fetchval(gate.query))
    second = asyncio.create_task(warmed.fetchval(ECHO, 1))
    third = asyncio.create_task(warmed.fetchval(ECHO, 2))
    await until_running(warmed, gate.query)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    gate.open()
    assert await head == 5
    assert await third == 2


@pytest.mark.fault(number=26)
async def test_one_that_was_not_sent(connect: Any, gate: Gate) -> None:
    conn = await connect(max_pipeline=1)
    await conn.fetchval(gate.query)
    await conn.execute("CREATE TEMP TABLE t (a int)")
    gate.close()
    head = asyncio.create_task(conn.fetchval(gate.query))
    unsent = asyncio.create_task(conn.execute("INSERT INTO t VALUES (1)"))
    await until_running(conn, gate.query)
    unsent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unsent
    gate.open()
    assert await head == 5
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


@pytest.mark.fault(number=27)
@pytest.mark.parametrize("delayed", [False, True], ids=["direct", "through-a-slow-proxy"])
async def test_the_late_cancel_race(connect: Any, proxy: Any, delayed: bool) -> None:
    """A cancel aimed at a query as it ends: no neighbour ever sees the 57014."""
    where = {"host": proxy.host, "port": proxy.port} if delayed else {}
    connections = [await connect(**where) for _ in range(5)]
    for conn in connections:
        await conn.fetchval(SLEEP, 0)
        await conn.fetchval(ECHO, 0)
    if delayed:
        proxy.delay(0.0005)

    async def race(conn: headrace.Connection) -> None:
        for i in range(1000):
            head = asyncio.create_task(conn.fetchval(SLEEP, 0.0005))
            neighbours = [
                asyncio.create_task(conn.fetchval("SELECT $1::int FROM pg_sleep(0.0002)", n)) for n in range(4)
            ]
            # On a busy machine all may have been answered already.
            while not running(conn) and not neighbours[-1].done():
                await asyncio.sleep(0)
            for _ in range(i % 7):
                await asyncio.sleep(0)
            head.cancel()
            assert await asyncio.gather(*neighbours) == [0, 1, 2, 3]
            await asyncio.gather(head, return_exceptions=True)

    # Most of the time each of them waits.
    await asyncio.gather(*(race(conn) for conn in connections))


@pytest.mark.fault(number=25)
async def test_a_time_out_is_a_cancellation(warmed: headrace.Connection, connect: Any) -> None:
    with pytest.raises(TimeoutError):
        await warmed.fetchval(SLEEP, 600, timeout=0.01)
    assert await warmed.fetchval(ECHO, 1) == 1
    conn = await connect(command_timeout=0.01)
    with pytest.raises(TimeoutError):
        await conn.execute("SELECT pg_sleep(600)")
    with pytest.raises(TimeoutError):
        await conn.executemany("SELECT pg_sleep($1)", [(600,), (600,)])
    assert await conn.fetchval(ECHO, 1, timeout=60) == 1
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(conn.fetchval(SLEEP, 600, timeout=600), 0.01)
    assert await conn.fetchval(ECHO, 2, timeout=60) == 2


@pytest.mark.fault(number=25)
async def test_all_of_many_are_cancelled(warmed: headrace.Connection) -> None:
    tasks = [asyncio.create_task(warmed.fetchval(SLEEP, 600)) for _ in range(20)]
    while len(running(warmed)) < 20:
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await warmed.fetchval(ECHO, 1) == 1


@pytest.mark.fault(number=27)
async def test_neighbours_that_cannot_be_run_again_are_not_endangered(warmed: headrace.Connection, gate: Gate) -> None:
    """Inside a transaction a 57014 would undo what the neighbours did: the head is left to end by itself."""
    await warmed.fetchval(gate.query)
    gate.close()
    async with warmed.transaction():
        await warmed.fetchval(ECHO, 9)  # nothing is sent behind the first statement before BEGIN was answered
        head = asyncio.create_task(warmed.fetchval(gate.query))
        neighbours = [asyncio.create_task(warmed.fetchval(ECHO, i)) for i in range(3)]
        while len(running(warmed)) < 4:
            await asyncio.sleep(0)
        head.cancel()
        await asyncio.gather(head, return_exceptions=True)
        gate.open()
        assert await asyncio.gather(*neighbours) == [0, 1, 2]
        assert await warmed.fetchval(ECHO, 3) == 3


@pytest.mark.fault(number=25)
async def test_a_statement_that_waits_for_a_lock_while_it_is_prepared(conn: headrace.Connection, connect: Any) -> None:
    await conn.execute("CREATE TABLE locked (a int)")
    other = await connect()
    async with other.transaction():
        await other.execute("LOCK TABLE locked IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(TimeoutError):
            await conn.fetch("SELECT * FROM locked", timeout=0.05)
        assert await conn.fetchval("SELECT 1") == 1
    assert await conn.fetch("SELECT * FROM locked") == []
    await conn.execute("DROP TABLE locked")
