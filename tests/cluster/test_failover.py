"""Servers of a cluster that die, freeze, come back and change their roles, while a program works."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import headrace
from headrace.cluster import HostDown, HostUp, PrimaryChanged, Split
from headrace.exceptions import NoPrimaryError, NoReplicaError
from tests.cluster.conftest import until_true

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

PORT = "SELECT current_setting('port')::int"
READ = "SELECT count(*) FROM written WHERE token > $1"

pytestmark = [pytest.mark.any_server, pytest.mark.slow]


class Writers:
    """Tasks that write tokens, and note which of them were acknowledged."""

    def __init__(self, cluster: headrace.Cluster, count: int = 10) -> None:
        self.cluster = cluster
        self.acknowledged: list[int] = []
        self.failed: list[BaseException] = []
        self.next = 1000
        self.tasks = [asyncio.create_task(self.write()) for _ in range(count)]

    async def write(self) -> None:
        while True:
            token = self.next = self.next + 1
            try:
                await self.cluster.execute("INSERT INTO written VALUES ($1)", token)
            except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
                self.failed.append(error)
            else:
                self.acknowledged.append(token)
            await asyncio.sleep(0.001)

    async def until_more(self, count: int = 50) -> None:
        enough = len(self.acknowledged) + count
        await until_true(lambda: len(self.acknowledged) >= enough, "writes go on")

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


class Readers:
    """Tasks that read from replicas. The error of a read is raised by stop()."""

    def __init__(self, cluster: headrace.Cluster, count: int = 10) -> None:
        self.cluster = cluster
        self.ports: list[int] = []
        self.tasks = [asyncio.create_task(self.read()) for _ in range(count)]

    async def read(self) -> None:
        while True:
            await self.cluster.replicas.fetchval(READ, 0)
            self.ports.append(await self.cluster.replicas.fetchval("SELECT $1::int + 1", 1))
            await asyncio.sleep(0)

    async def until_more(self, count: int = 100) -> None:
        enough = len(self.ports) + count
        await until_true(lambda: len(self.ports) >= enough or any(task.done() for task in self.tasks), "reads go on")

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        for outcome in await asyncio.gather(*self.tasks, return_exceptions=True):
            if not isinstance(outcome, asyncio.CancelledError):
                raise outcome if isinstance(outcome, BaseException) else AssertionError(outcome)


async def test_no_read_fails_while_one_replica_is_left(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn(), fallback=False)
    await cluster.ready(replicas=2)
    readers = Readers(cluster)
    await readers.until_more()
    trio.kill(trio.standbys[0])
    await readers.until_more()
    trio.standbys[0].start()
    await cluster.ready(replicas=2, timeout=30)
    await readers.until_more()
    trio.standbys[1].stop("fast")
    await readers.until_more()
    # The primary is not needed for it.
    trio.kill(trio.primary)
    await readers.until_more()
    await readers.stop()
    assert cluster.stats().fallbacks == 0


async def test_no_read_fails_while_a_replica_does_not_answer(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn(), check_timeout=1.0)
    await cluster.ready(replicas=2, timeout=30)
    await cluster.execute("INSERT INTO written VALUES (1)")
    position = await cluster.position()
    readers = Readers(cluster)
    await readers.until_more()
    for standby in trio.standbys:
        trio.freeze(standby)
    # A read of one's own writes goes to the primary before anybody knows that the replicas are away.
    view = cluster.replicas.after(position, wait=0.02)
    assert await view.fetchval(READ, 0) == 1
    await readers.until_more()
    trio.thaw()
    await cluster.ready(replicas=2, timeout=30)
    await readers.until_more()
    await readers.stop()


async def test_writes_go_on_at_the_promoted_standby(trio: Trio, make_cluster: MakeCluster) -> None:
    first, second = trio.standbys
    trio.replicate_synchronously()
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    writers = Writers(cluster)
    await writers.until_more()
    trio.kill(trio.primary)
    first.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
    first.promote()
    await writers.until_more()
    await writers.stop()
    assert await cluster.fetchval(PORT) == first.port
    kept = [token for (token,) in first.sql("SELECT token FROM written")]
    assert set(writers.acknowledged) - set(kept) == set()
    assert len(kept) == len(set(kept))
    for error in writers.failed:
        # Their outcome is unknown, except for those that were not sent.
        assert isinstance(error, headrace.ConnectionDoesNotExistError | NoPrimaryError), repr(error)
    # The other standby follows the lost primary, and nobody reads from it as if it were up to date.
    assert second.sql("SELECT pg_is_in_recovery()") == [(True,)]


async def test_a_primary_that_does_not_answer_is_left(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn(), check_timeout=1.0, failover_timeout=60)
    await cluster.ready(replicas=2, timeout=30)
    events: list[Any] = []
    cluster.add_listener(events.append)
    writers = Writers(cluster, 3)
    await writers.until_more(10)
    trio.freeze(trio.primary)
    await until_true(lambda: any(isinstance(event, HostDown) for event in events), "the primary is missed")
    trio.standbys[0].promote()
    await writers.until_more(10)
    assert await cluster.fetchval(PORT) == trio.standbys[0].port
    # The former primary wakes up, and says that it is the primary still.
    trio.thaw()
    await until_true(lambda: any(isinstance(event, HostUp) for event in events), "the former primary answers")
    # It completes what it had received before it was frozen.
    await until_true(
        lambda: not any(each.query.startswith("INSERT") for each in trio.primary.backends()), "it has no writer left"
    )
    before = trio.primary.sql("SELECT count(*) FROM written")
    await writers.until_more(10)
    await writers.stop()
    assert trio.primary.sql("SELECT count(*) FROM written") == before
    states = {info.port: info.state for info in cluster.hosts()}
    assert states[trio.primary.port] == "former primary"
    assert cluster.replicas is not None


async def test_both_standbys_are_gone_and_come_back(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    for standby in trio.standbys:
        standby.stop("fast")
    readers = Readers(cluster, 3)
    await readers.until_more()
    assert await cluster.replicas.fetchval(PORT) == trio.primary.port
    assert cluster.stats().fallbacks > 0
    for standby in trio.standbys:
        standby.start()
    await cluster.ready(replicas=2, timeout=30)
    await readers.until_more()
    await readers.stop()
    ports = await asyncio.gather(*(cluster.replicas.fetchval(PORT) for _ in range(10)))
    assert set(ports) == {standby.port for standby in trio.standbys}


async def test_a_standby_that_is_promoted_by_hand_gets_the_writes(trio: Trio, make_cluster: MakeCluster) -> None:
    """The former primary is still there. It gets no write once the promotion is seen, and replicas stay replicas."""
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    events: list[Any] = []
    cluster.add_listener(events.append)
    readers = Readers(cluster, 3)
    trio.standbys[1].promote()
    await until_true(lambda: any(isinstance(event, PrimaryChanged) for event in events), "the promotion is seen")
    before = trio.primary.sql("SELECT count(*) FROM written")
    for token in range(20):
        await cluster.execute("INSERT INTO written VALUES ($1)", token)
    assert trio.primary.sql("SELECT count(*) FROM written") == before
    assert trio.standbys[1].sql("SELECT count(*) FROM written") == [(20,)]
    await readers.until_more()
    await readers.stop()
    for _ in range(10):
        assert await cluster.replicas.fetchval(PORT) == trio.standbys[0].port


async def test_two_standbys_promoted_apart_get_no_write(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn(), failover_timeout=0.5)
    await cluster.ready(replicas=2)
    events: list[Any] = []
    cluster.add_listener(events.append)
    trio.kill(trio.primary)
    for standby in trio.standbys:
        standby.promote()
    await until_true(lambda: any(isinstance(event, Split) for event in events), "the split is seen")
    with pytest.raises(NoPrimaryError, match="on the same timeline 2") as caught:
        await cluster.execute("INSERT INTO written VALUES (1)")
    assert headrace.is_safe_to_retry(caught.value)
    for standby in trio.standbys:
        assert f"{standby.host()}:{standby.port}: split primary" in str(caught.value)
    assert f"{trio.primary.host()}:{trio.primary.port}: down" in str(caught.value)
    # One of them is fenced off, so the other one is the primary.
    trio.standbys[0].stop("fast")
    await cluster.ready(replicas=0, timeout=30)
    assert await cluster.execute("INSERT INTO written VALUES (2)") == "INSERT 0 1"


async def test_without_any_host_calls_end_with_the_state_of_each(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    for each in trio.all:
        each.stop("fast")
    await until_true(lambda: all(info.state == "down" for info in cluster.hosts()), "all hosts are down")
    with pytest.raises(NoPrimaryError, match="no host says that it is the primary") as caught:
        await cluster.fetchval("SELECT 1", timeout=0.1)
    for each in trio.all:
        assert f"{each.host()}:{each.port}: down (ConnectionRefusedError" in str(caught.value)
    with pytest.raises(NoReplicaError, match="nor a primary"):
        await cluster.replicas.fetchval("SELECT 1", timeout=0.1)
    with pytest.raises(NoPrimaryError):
        await cluster.acquire(timeout=0.1)
    with pytest.raises(TimeoutError, match="the cluster was not ready within 0.1 seconds: expected 1 primary and 1"):
        await cluster.ready(timeout=0.1)
    waiting = asyncio.create_task(cluster.fetchval("SELECT 5"))
    trio.primary.start()
    assert await waiting == 5


async def test_leases_and_transactions_wait_for_the_next_primary(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn(), max_size=1)
    await cluster.ready(replicas=2)
    holder = await cluster.acquire()

    async def lease() -> int:
        async with cluster.acquire() as connection:
            return await connection.fetchval(PORT)  # type: ignore[no-any-return]

    async def write(connection: Any) -> int:
        await connection.execute("INSERT INTO written VALUES (1)")
        return await connection.fetchval(PORT)  # type: ignore[no-any-return]

    # They wait for the connection that is leased, and a statement that takes a lease of its own does so too.
    waiting = [asyncio.create_task(lease()), asyncio.create_task(cluster.run(write))]
    many = asyncio.create_task(cluster.execute("SET work_mem = '1MB'; SELECT 1"))
    shared = asyncio.create_task(cluster.fetchval(PORT))
    await asyncio.sleep(0.05)
    trio.kill(trio.primary)
    trio.standbys[0].promote()
    assert await asyncio.gather(*waiting) == [trio.standbys[0].port] * 2
    assert await shared == trio.standbys[0].port
    assert await many == "SELECT 1"
    with pytest.raises(headrace.InterfaceError, match="connection is closed"):
        await holder.fetchval("SELECT 1")
    await cluster.release(holder)
    assert await cluster.fetchval("SELECT 7") == 7


async def test_listening_follows_the_primary(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    async with cluster.listen("news") as events, aclosing(aiter(events)) as received:  # type: ignore[type-var]
        await cluster.execute("NOTIFY news, 'one'")
        assert (await anext(received)).payload == "one"  # type: ignore[union-attr]
        # The former primary stays: the connection to it would not be lost.
        trio.standbys[0].promote()
        gap = await anext(received)
        assert isinstance(gap, headrace.Gap)
        await cluster.execute("NOTIFY news, 'two'")
        assert (await anext(received)).payload == "two"  # type: ignore[union-attr]
    with pytest.raises(AttributeError):
        cluster.replicas.listen("news")  # type: ignore[attr-defined]


async def test_a_read_on_a_connection_that_was_to_be_replaced_moves_too(trio: Trio, make_cluster: MakeCluster) -> None:
    """Its pool had retired the connection already when the host was lost."""
    cluster = await make_cluster(trio.dsn(), fallback=False, check_timeout=0.3)
    await cluster.ready(replicas=2)
    with psycopg.connect(trio.dsn(trio.primary)) as locking:
        # The standbys replay the lock, so the read waits there.
        locking.execute("LOCK TABLE written IN ACCESS EXCLUSIVE MODE")
        trio.wait_for_replay()
        reading = asyncio.create_task(cluster.replicas.fetchval(READ, 0))
        await until_true(
            lambda: any(info.in_flight for info in cluster.hosts() if info.role == "replica"), "it is sent"
        )
        port = next(info.port for info in cluster.hosts() if info.role == "replica" and info.in_flight)
        lost = next(standby for standby in trio.standbys if standby.port == port)
        await cluster.expire_connections()
        trio.freeze(lost)
        await until_true(
            lambda: any(info.port == port and info.state == "down" for info in cluster.hosts()), "it is down"
        )
        locking.rollback()
        assert await reading == 0
