"""Fault 43: the backends of a pool end under load. An end costs one call at most; nothing is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.servers import until

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.peers.proxy import Proxy
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=43)

PATIENCE = 60.0

READ = "SELECT $1::int FROM pg_sleep($2)"
WRITE = "INSERT INTO written SELECT $1 FROM pg_sleep($2)"
PREPARED = -1
"""The token of writes that are there to have the statement prepared."""

TABLE = "DROP TABLE IF EXISTS written; CREATE TABLE written (token int)"


async def warm(pool: headrace.Pool) -> None:
    """Make the table, and run each text on each connection."""
    await pool.execute(TABLE)
    for _ in range(3):
        await prepare(pool)
    await pool.execute("DELETE FROM written")


async def prepare(pool: headrace.Pool) -> None:
    """Run each text on each connection, so that it is prepared there, and its cost is known."""
    await until_whole(pool)
    connections = range(pool.get_max_size())
    await asyncio.gather(*(pool.fetchval(READ, 0, 0.01) for _ in connections))
    await asyncio.gather(*(pool.execute(WRITE, PREPARED, 0.01) for _ in connections))


async def until_in_flight(pool: headrace.Pool, count: int) -> None:
    """Wait until so many requests of a pool are in flight."""
    async with asyncio.timeout(PATIENCE):
        while pool.stats().in_flight < count:
            await asyncio.sleep(0.001)


async def until_whole(pool: headrace.Pool) -> None:
    """Wait until all connections of a pool are open and idle."""
    async with asyncio.timeout(PATIENCE):
        while pool.get_idle_size() < pool.get_max_size() or pool.stats().draining:
            await asyncio.sleep(0.001)


def all_asleep(server: Cluster, database: str, count: int) -> list[int]:
    """Wait until so many backends of a database sleep in their statement; returns their process ids."""

    def found() -> list[int]:
        return [each.pid for each in server.backends(database) if server.waits_for(each.pid) == "PgSleep"]

    until(lambda: len(found()) == count, f"{count} backends sleep")
    return found()


class Load:
    """Connections that have 100 requests in flight each: a write that does not end, and 99 plain reads behind it.

    More writes wait at the pool. Each has a token of its own.
    """

    def __init__(self, pool: headrace.Pool, first: int, waiting: int = 10) -> None:
        size = pool.get_max_size()
        tokens = itertools.count(first)
        self.head_tokens = list(itertools.islice(tokens, size))
        self.waiting_tokens = list(itertools.islice(tokens, waiting))
        self.heads = [asyncio.create_task(pool.execute(WRITE, token, 600.0)) for token in self.head_tokens]
        self.reads = [asyncio.create_task(pool.fetchval(READ, i, 0.0)) for i in range(99 * size)]
        self.writes = [asyncio.create_task(pool.execute(WRITE, token, 0.0)) for token in self.waiting_tokens]

    async def check_the_others(self) -> None:
        """Each read has its own reply, and each write that had waited is done."""
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(*self.reads) == list(range(len(self.reads)))
            assert await asyncio.gather(*self.writes) == ["INSERT 0 1"] * len(self.writes)

    async def failures(self) -> list[headrace.ConnectionDoesNotExistError]:
        """Return the errors of the heads."""
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(*self.heads, return_exceptions=True)
        errors = [each for each in found if isinstance(each, headrace.ConnectionDoesNotExistError)]
        assert len(errors) == len(self.heads), found
        return errors


async def test_forty_kills_with_a_hundred_in_flight_each(pool: MakePool, server: Cluster, database: str) -> None:
    """Only the head that ran fails, and it says that it is not known to have had no effect."""
    # A backend that is at work ends if the test fails, and drops its lock.
    settings = {"client_connection_check_interval": "100"}
    made = await pool(min_size=2, max_size=2, pipeline_budget=PATIENCE, server_settings=settings)
    await warm(made)
    expected: list[int] = []
    for number in range(20):
        await prepare(made)
        load = Load(made, 100 * number)
        await until_in_flight(made, 200)
        for pid in all_asleep(server, database, 2):
            server.sql("SELECT pg_terminate_backend(%s)", pid)
        await load.check_the_others()
        for error in await load.failures():
            assert isinstance(error, headrace.AdminShutdownError)
            assert not error.safe_to_retry
        expected += load.waiting_tokens
    await made.execute("DELETE FROM written WHERE token = $1", PREPARED)
    assert server.sql("SELECT token FROM written ORDER BY 1", database=database) == [(each,) for each in expected]
    server.sql("DROP TABLE written", database=database)


@pytest.mark.slow
async def test_forty_kills_at_any_time(pool: MakePool, server: Cluster, database: str) -> None:
    """Reads and writes one after another, hundreds at once; backends at work are terminated all the while."""
    made = await pool(min_size=4, max_size=4)
    await warm(made)
    failed: list[BaseException] = []
    done: set[int] = set()
    unknown: set[int] = set()
    tokens = itertools.count()
    going = True
    rng = random.Random(43)

    async def reader(number: int) -> None:
        while going:
            try:
                assert await made.fetchval(READ, number, 0.0) == number
            except headrace.PostgresError as error:
                failed.append(error)

    async def writer() -> None:
        while going:
            token = next(tokens)
            try:
                await made.execute(WRITE, token, 0.001)
            except headrace.ConnectionDoesNotExistError as error:
                failed.append(error)
                if not error.safe_to_retry:
                    unknown.add(token)
            else:
                done.add(token)

    async with asyncio.timeout(PATIENCE):
        async with asyncio.TaskGroup() as group:
            for number in range(400):
                group.create_task(reader(number))
            for _ in range(20):
                group.create_task(writer())
            kills = 0
            while kills < 40:
                backends = [each.pid for each in server.backends(database)]
                if backends:
                    pid = rng.choice(backends)
                    kills += server.sql("SELECT pg_terminate_backend(%s)", pid) == [(True,)]
                    while pid in [each.pid for each in server.backends(database)]:
                        await asyncio.sleep(0.001)
                await asyncio.sleep(0.01)
            going = False
    found = [token for (token,) in server.sql("SELECT token FROM written", database=database)]
    assert len(found) == len(set(found))
    assert done <= set(found) <= done | unknown
    assert done
    assert len(failed) <= 40, failed
    server.sql("DROP TABLE written", database=database)


@asynccontextmanager
async def own_pool(server: Cluster, size: int) -> AsyncIterator[headrace.Pool]:
    """Open a pool on a server of its own; dropped at the end, since backends may still be at work."""
    pool = headrace.create_pool(server.dsn(), min_size=size, max_size=size, pipeline_budget=PATIENCE)
    await pool
    try:
        await warm(pool)
        # Commits are asynchronous here, and a crash would take the table along.
        server.sql("CHECKPOINT")
        yield pool
    finally:
        pool.terminate()


async def test_an_immediate_shutdown_and_a_restart(own_server: Cluster) -> None:
    """The heads are unknown. Reads, and writes that had not been sent, are done when the server is back."""
    async with own_pool(own_server, 2) as pool:
        load = Load(pool, 0)
        await until_in_flight(pool, 200)
        await asyncio.to_thread(own_server.restart, "immediate")
        await load.check_the_others()
        assert not any(error.safe_to_retry for error in await load.failures())
    assert own_server.sql("SELECT token FROM written ORDER BY 1") == [(each,) for each in load.waiting_tokens]


async def test_a_backend_killed_in_a_pool(own_server: Cluster) -> None:
    """The server ends all sessions, and comes back."""
    async with own_pool(own_server, 2) as pool:
        load = Load(pool, 0)
        await until_in_flight(pool, 200)
        os.kill(own_server.backends("postgres")[0].pid, signal.SIGKILL)
        await load.check_the_others()
        assert not any(error.safe_to_retry for error in await load.failures())
    assert own_server.sql("SELECT token FROM written ORDER BY 1") == [(each,) for each in load.waiting_tokens]


async def test_idle_session_timeout_at_the_edge(pool: MakePool, server: Cluster, database: str) -> None:
    """The session ends about when it is used again: no shared call fails, and no write is doubled."""
    made = await pool(min_size=1, max_size=2, server_settings={"idle_session_timeout": "20"})
    await made.execute(TABLE)
    async with asyncio.timeout(PATIENCE):
        for number in range(150):
            # Where the two meet is up to chance: whatever the pause, nothing fails.
            await asyncio.sleep(0.015 + number % 15 / 1000)
            if number % 2:
                assert await made.fetchval("SELECT $1::int", number) == number
            else:
                assert await made.execute("INSERT INTO written VALUES ($1)", number) == "INSERT 0 1"
    expected = [(number,) for number in range(0, 150, 2)]
    assert server.sql("SELECT token FROM written ORDER BY 1", database=database) == expected
    server.sql("DROP TABLE written", database=database)


async def test_a_head_that_never_ends(pool: MakePool, server: Cluster, database: str) -> None:
    """Every caller gets an outcome when its time is up, and a waiting call is not run afterwards."""
    made = await pool(min_size=1, max_size=1)
    await warm(made)
    head = asyncio.create_task(made.execute(WRITE, 0, 600.0))
    await until_in_flight(made, 1)
    async with asyncio.timeout(PATIENCE):
        reads = [made.fetchval(READ, i, 0.0, timeout=0.05) for i in range(50)]
        writes = [made.execute(WRITE, i, 0.0, timeout=0.05) for i in range(1, 50)]
        results = await asyncio.gather(*reads, *writes, return_exceptions=True)
    assert [type(each) for each in results] == [TimeoutError] * 99
    head.cancel()
    await asyncio.gather(head, return_exceptions=True)
    assert await made.fetchval("SELECT count(*) FROM written") == 0
    server.sql("DROP TABLE written", database=database)


async def test_a_server_that_dies_again_and_again(proxy: Proxy, connect_kwargs: dict[str, Any]) -> None:
    """Connections are reset as they are made: every caller gets a result or an error within its time limit."""
    made = headrace.create_pool(**{**connect_kwargs, "host": proxy.host, "port": proxy.port}, min_size=1, max_size=4)
    await made
    ends: list[object] = []

    async def caller(number: int) -> None:
        for _ in range(5):
            try:
                ends.append(await made.fetchval("SELECT $1::int", number, timeout=0.2))
            except (TimeoutError, headrace.ConnectionDoesNotExistError) as error:
                ends.append(type(error))

    async def resetting() -> None:
        while True:
            proxy.reset()
            await asyncio.sleep(0.002)

    shooting = asyncio.create_task(resetting())
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(caller(number) for number in range(50)))
    shooting.cancel()
    assert len(ends) == 250
    async with asyncio.timeout(PATIENCE):
        assert await made.fetchval("SELECT 1") == 1
    made.terminate()


async def test_the_only_lease_awaits_the_pool(pool: MakePool) -> None:
    """It would wait for ever, with asyncpg too; the error names the line that has acquired the connection."""
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as lease:  # this line
        with pytest.raises(TimeoutError) as raised:
            await made.execute("SELECT 1", timeout=0.05)
        assert await lease.fetchval("SELECT 1") == 1
    with open(__file__) as source:
        line = next(number for number, text in enumerate(source, 1) if text.endswith("# this line\n"))
    assert f"was acquired at {__file__}:{line}" in "\n".join(raised.value.__notes__)
    assert await made.fetchval("SELECT 2", timeout=PATIENCE) == 2


async def test_connections_that_are_replaced_while_a_head_waits_for_a_lock(
    pool: MakePool, connect: Connect, server: Cluster, database: str
) -> None:
    """A read that stands behind the head of a connection that is replaced is asked again elsewhere."""
    made, holder = await pool(min_size=2, max_size=2), await connect()
    await warm(made)
    await holder.execute("CREATE TABLE unlocked (a int)")
    count = "SELECT count(*) FROM written"
    for _ in range(3):
        await asyncio.gather(*(made.fetchval(count) for _ in range(2)))
    async with asyncio.timeout(PATIENCE):
        async with holder.transaction():
            await holder.execute("LOCK TABLE written IN ACCESS EXCLUSIVE MODE")
            async with made.acquire():
                head = asyncio.create_task(made.fetchval(count))
                reads = [asyncio.create_task(made.fetchval(READ, i, 0.0)) for i in range(5)]
                await asyncio.sleep(0)
                await made.expire_connections()
            assert await asyncio.gather(*reads) == list(range(5))
            assert await made.execute("INSERT INTO unlocked VALUES (1)") == "INSERT 0 1"
        assert await head == 0
    server.sql("DROP TABLE written, unlocked", database=database)
