"""Failovers that pg_auto_failover or Patroni carries out, while a program writes and reads: `make cluster-tests`.

Each write has a token of its own. Replication is synchronous, so no acknowledged token may be missing afterwards, and
none may be in the table twice. Times are measured and printed. Nothing is asserted about them.
"""

from __future__ import annotations

import asyncio
import collections
import itertools
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import headrace
from headrace.cluster import HostDown, PrimaryChanged, discover
from tests.cluster.automatic import LONGEST_RECOVERY, Bed, Node, Patroni, PgAutoFailover

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster

WRITERS = 20
READERS = 10
PORT = "SELECT current_setting('port')::int"
ERRORS = (headrace.PostgresError, headrace.InterfaceError, OSError)

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.fixture(scope="module", params=[PgAutoFailover, Patroni])
def running_bed(request: pytest.FixtureRequest) -> Iterator[Bed]:
    missing = request.param.missing()
    if missing is not None:
        pytest.skip(f"{request.param.__name__} {missing}")
    with request.param() as made:
        yield made


@pytest.fixture
def bed(running_bed: Bed) -> Iterator[Bed]:
    """Three nodes that are a cluster. A node that the test has killed or frozen is brought back."""
    running_bed.wait_until_whole()
    yield running_bed
    running_bed.revive()


class Probe:
    """Writes to each node by psycopg, in threads: it finds out when the servers themselves take writes."""

    def __init__(self, bed: Bed) -> None:
        self.ended = threading.Event()
        self.times: list[float] = []
        for node in bed.nodes:
            threading.Thread(target=self._write, args=(node,), daemon=True).start()

    def _write(self, node: Node) -> None:
        while not self.ended.is_set():
            with suppress(psycopg.Error), node.connect() as connection:
                while not self.ended.wait(0.02):
                    try:
                        connection.execute("INSERT INTO probed VALUES (1)")
                    except psycopg.errors.ReadOnlySqlTransaction:
                        continue
                    self.times.append(time.monotonic())
            self.ended.wait(0.02)


@dataclass
class Traffic:
    """Tasks that write by a pool or a cluster, and perhaps tasks that read from replicas."""

    writes: Any
    reads: Any = None
    acknowledged: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    failed: list[BaseException] = field(default_factory=list)
    reads_done: int = 0
    reads_failed: list[BaseException] = field(default_factory=list)
    token: int = 0

    async def write(self) -> None:
        while True:
            token = self.token = self.token + 1
            try:
                await self.writes.execute("INSERT INTO written VALUES ($1)", token)
            except ERRORS as error:
                self.failed.append(error)
                await asyncio.sleep(0.01)
            else:
                self.acknowledged.append(token)
                self.times.append(time.monotonic())
            await asyncio.sleep(0.002)

    async def read(self) -> None:
        while True:
            try:
                await self.reads.fetchval("SELECT count(*) FROM written WHERE token < $1", 10)
            except ERRORS as error:
                self.reads_failed.append(error)
            else:
                self.reads_done += 1
            await asyncio.sleep(0.005)

    async def until_more(self, count: int = 200) -> None:
        """Wait for acknowledged writes, and as many reads."""
        writes = len(self.acknowledged) + count
        reads = self.reads_done + count if self.reads is not None else 0
        async with asyncio.timeout(LONGEST_RECOVERY):
            while len(self.acknowledged) < writes or self.reads_done < reads:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def traffic(bed: Bed, what: str, writes: Any, reads: Any = None) -> AsyncIterator[Traffic]:
    """Run the block with traffic. Then check that no write was lost or doubled, and print the figures."""
    await asyncio.to_thread(bed.primary().sql, "TRUNCATE written")
    made = Traffic(writes, reads)
    probe = Probe(bed)
    tasks = [asyncio.create_task(made.write()) for _ in range(WRITERS)]
    if reads is not None:
        tasks += [asyncio.create_task(made.read()) for _ in range(READERS)]
    try:
        await made.until_more()
        yield made
        await made.until_more()
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        probe.ended.set()
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes), outcomes
    await asyncio.to_thread(bed.revive)
    await asyncio.to_thread(bed.wait_until_whole)
    rows = await asyncio.to_thread(bed.primary().sql, "SELECT token, count(*) FROM written GROUP BY token")
    kept = dict(rows)
    lost = set(made.acknowledged) - set(kept)
    doubled = [token for token, count in kept.items() if count > 1]
    gap, own = longest_pause(made.times), longest_pause(probe.times)
    kinds = collections.Counter(type(error).__name__ for error in made.failed)
    print(
        f"\n{type(bed).__name__}, {what}: {len(made.acknowledged)} acknowledged, {len(lost)} lost, "
        f"{len(doubled)} doubled, {len(made.failed)} calls failed {dict(kinds)}, "
        f"no write for {gap:.2f} s (the servers: {own:.2f} s)"
        + (f", {made.reads_done} reads, {len(made.reads_failed)} failed" if reads is not None else "")
        + "".join(f"\n  a read: {error!r}" for error in made.reads_failed[:3]),
        flush=True,
    )
    assert lost == set()
    assert doubled == []


def check_reads(bed: Bed, made: Traffic) -> None:
    """Check that no read failed while one healthy replica was left.

    pg_auto_failover restarts both standbys at the same time, so that there is none for a moment. A read that has lost
    one host after another then fails, and may be repeated.
    """
    if isinstance(bed, PgAutoFailover):
        assert [error for error in made.reads_failed if not headrace.is_safe_to_retry(error)] == []
    else:
        assert made.reads_failed == []


def longest_pause(times: list[float]) -> float:
    """Return the longest time between two acknowledged writes."""
    ordered = sorted(times)
    return max(after - before for before, after in itertools.pairwise(ordered))


async def another_primary(bed: Bed, former: Node) -> None:
    """Wait until the servers have another primary than before."""
    others = [node for node in bed.nodes if node is not former]

    def is_promoted() -> bool:
        for node in others:
            with suppress(psycopg.Error):
                if not node.sql("SELECT pg_is_in_recovery()")[0][0]:
                    return True
        return False

    async with asyncio.timeout(LONGEST_RECOVERY):
        while not await asyncio.to_thread(is_promoted):
            await asyncio.sleep(0.05)


async def test_a_cluster_writes_on_after_the_primary_was_killed(bed: Bed, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(bed.dsn(), max_size=6, check_interval=0.5, failover_timeout=60)
    await cluster.ready(replicas=2)
    former = bed.primary()
    async with traffic(bed, "kill -9, create_cluster()", cluster, cluster.replicas) as made:
        await asyncio.to_thread(former.kill)
        await another_primary(bed, former)
    assert await cluster.fetchval(PORT) == bed.primary().port
    check_reads(bed, made)


@pytest.mark.parametrize("attribute", ["primary", "read-write"])
async def test_a_pool_writes_on_after_the_primary_was_killed(bed: Bed, attribute: str) -> None:
    """pg_auto_failover keeps the new primary read-only for a while, so "primary" has it, and "read-write" not yet."""
    former = bed.primary()
    async with headrace.create_pool(
        bed.dsn(), min_size=2, max_size=6, target_session_attrs=attribute, timeout=3
    ) as pool:
        async with traffic(bed, f"kill -9, create_pool(), {attribute}", pool):
            await asyncio.to_thread(former.kill)
            await another_primary(bed, former)
        assert await pool.fetchval(PORT) == bed.primary().port


async def test_a_cluster_follows_a_switchover(bed: Bed, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(bed.dsn(), max_size=6, check_interval=0.5, failover_timeout=60)
    await cluster.ready(replicas=2)
    former = bed.primary()
    async with traffic(bed, "switchover, create_cluster()", cluster, cluster.replicas) as made:
        await asyncio.to_thread(bed.switch_over)
        await another_primary(bed, former)
    assert bed.primary() is not former
    assert await cluster.fetchval(PORT) == bed.primary().port
    check_reads(bed, made)


async def test_a_pool_follows_a_switchover(bed: Bed) -> None:
    former = bed.primary()
    async with headrace.create_pool(
        bed.dsn(), min_size=2, max_size=6, target_session_attrs="primary", timeout=3
    ) as pool:
        async with traffic(bed, "switchover, create_pool()", pool):
            await asyncio.to_thread(bed.switch_over)
            await another_primary(bed, former)
        assert await pool.fetchval(PORT) == bed.primary().port


async def test_a_cluster_leaves_a_primary_that_is_frozen(bed: Bed, make_cluster: MakeCluster) -> None:
    """The former primary wakes up as one that nobody follows. No write goes there."""
    cluster = await make_cluster(bed.dsn(), max_size=6, check_interval=0.5, failover_timeout=60)
    await cluster.ready(replicas=2)
    events: list[Any] = []
    cluster.add_listener(events.append)
    former = bed.primary()
    async with traffic(bed, "SIGSTOP, create_cluster()", cluster, cluster.replicas) as made:
        await asyncio.to_thread(former.freeze)
        await another_primary(bed, former)
        await made.until_more()
        await asyncio.to_thread(former.thaw)
    assert await cluster.fetchval(PORT) == bed.primary().port != former.port
    assert any(isinstance(event, HostDown) and event.host.port == former.port for event in events)
    check_reads(bed, made)


async def test_no_read_fails_while_one_replica_is_left(bed: Bed, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(bed.dsn(), max_size=6, check_interval=0.5, fallback=False)
    await cluster.ready(replicas=2)
    async with traffic(bed, "kill -9 of a replica, create_cluster()", cluster, cluster.replicas) as made:
        lost = bed.standbys()[0]
        await asyncio.to_thread(lost.kill)
        await made.until_more()
        lost.start()
        await cluster.ready(replicas=2, timeout=LONGEST_RECOVERY)
    assert made.reads_failed == []
    assert cluster.stats().fallbacks == 0


@pytest.mark.parametrize("running_bed", [Patroni], indirect=True)
async def test_patroni_tells_a_cluster_its_hosts(bed: Bed, make_cluster: MakeCluster) -> None:
    """The DSN names one node only, and the first address of the API is one that nothing listens on."""
    assert isinstance(bed, Patroni)
    patroni = bed
    urls = [patroni.url(node) for node in patroni.nodes]
    standby = patroni.standbys()[0]
    cluster = await make_cluster(
        patroni.dsn(standby),
        max_size=6,
        check_interval=0.5,
        failover_timeout=60,
        discover=discover.patroni("http://127.0.0.1:1", *urls),
        discover_interval=0.5,
    )
    await cluster.ready(replicas=2)
    events: list[Any] = []
    cluster.add_listener(events.append)
    assert {info.port for info in cluster.hosts()} == {node.port for node in patroni.nodes}
    assert await cluster.fetchval(PORT) == patroni.primary().port
    former = patroni.primary()
    async with traffic(patroni, "switchover, discover.patroni()", cluster, cluster.replicas) as made:
        await asyncio.to_thread(patroni.switch_over)
        await another_primary(patroni, former)
    assert made.reads_failed == []
    changes = [event.after.port for event in events if isinstance(event, PrimaryChanged) and event.after is not None]
    assert changes[-1] == patroni.primary().port != former.port
    assert cluster.stats().discovery_errors == 0
