"""A cluster on a primary with two standbys: views, roles, readiness, events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headrace.cluster import HostDown, PrimaryChanged, RoleChanged
from tests.cluster.conftest import until_true

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

PORT = "SELECT current_setting('port')::int"


async def test_writes_go_to_the_primary_and_reads_of_replicas_to_both_standbys(
    trio: Trio, make_cluster: MakeCluster
) -> None:
    cluster = await make_cluster(trio.dsn(*reversed(trio.all)))
    await cluster.ready(replicas=2)
    assert await cluster.execute("INSERT INTO written VALUES (1)") == "INSERT 0 1"
    assert await cluster.fetchval(PORT) == trio.primary.port
    assert await cluster.primary.fetchval(PORT) == trio.primary.port
    ports = await asyncio.gather(*(cluster.replicas.fetchval(PORT) for _ in range(20)))
    assert set(ports) == {standby.port for standby in trio.standbys}
    states = {info.port: (info.role, info.state) for info in cluster.hosts()}
    assert states == {
        trio.primary.port: ("primary", "up"),
        trio.standbys[0].port: ("replica", "up"),
        trio.standbys[1].port: ("replica", "up"),
    }


async def test_the_primary_is_killed_and_a_standby_promoted(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    events: list[object] = []
    cluster.add_listener(events.append)
    await cluster.execute("INSERT INTO written VALUES (1)")
    trio.wait_for_replay()
    trio.kill(trio.primary)
    await until_true(lambda: any(isinstance(event, HostDown) for event in events), "the primary is missed")
    waiting = asyncio.gather(*(cluster.execute("INSERT INTO written VALUES ($1)", n) for n in range(10, 20)))
    await asyncio.sleep(0)
    assert cluster.stats().waiting >= 1
    assert await cluster.replicas.fetchval("SELECT count(*) FROM written") == 1
    trio.standbys[1].promote()
    assert await waiting == ["INSERT 0 1"] * 10
    assert trio.standbys[1].sql("SELECT count(*) FROM written WHERE token >= 10") == [(10,)]
    assert await cluster.fetchval(PORT) == trio.standbys[1].port
    changes = [event for event in events if isinstance(event, (PrimaryChanged, RoleChanged))]
    assert [type(event) for event in changes] == [PrimaryChanged, RoleChanged, PrimaryChanged]
    assert isinstance(changes[-1], PrimaryChanged)
    assert changes[-1].after is not None
    assert changes[-1].after.port == trio.standbys[1].port
