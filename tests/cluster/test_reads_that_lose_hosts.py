"""A read that loses one replica after another, while a healthy one is left."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.cluster.conftest import until_true
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

pytestmark = [pytest.mark.any_server, pytest.mark.slow]

READ = "SELECT count(*) FROM written"


async def test_a_read_is_asked_a_third_time(trio: Trio, make_cluster: MakeCluster) -> None:
    with ExitStack() as stack:
        third = stack.enter_context(Cluster(trio.primary.postmaster.installation, standby_of=trio.primary))
        standbys = [*trio.standbys, third]
        cluster = await make_cluster(trio.dsn(trio.primary, *standbys), fallback=False, max_size=1)
        await cluster.ready(replicas=3)
        # The read is prepared on each, so that it waits where it is executed.
        while not all(any(each.query == READ for each in standby.backends()) for standby in standbys):
            await asyncio.gather(*(cluster.replicas.fetchval(READ) for _ in range(6)))
        locking = stack.enter_context(psycopg.connect(trio.dsn(trio.primary)))
        # The standbys replay the lock.
        locking.execute("LOCK TABLE written IN ACCESS EXCLUSIVE MODE")
        position = trio.primary.position()
        for standby in standbys:
            standby.catch_up(position)
        reading = asyncio.create_task(cluster.replicas.fetchval(READ, timeout=60))

        def reader() -> Cluster | None:
            for standby in standbys:
                if standby.is_running and any(
                    each.query == READ and each.state == "active" for each in standby.backends()
                ):
                    return standby
            return None

        for _ in range(2):
            await until_true(lambda: reader() is not None or reading.done(), "a standby reads")
            lost = reader()
            assert lost is not None, reading
            await asyncio.to_thread(lost.stop, "fast")
        await until_true(lambda: reader() is not None or reading.done(), "the last standby reads")
        locking.rollback()
        assert await reading == 0
