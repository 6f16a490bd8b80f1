"""A read that loses one replica after another, while a healthy one is left."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

import headrace
from tests.cluster.conftest import until_true
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

pytestmark = [pytest.mark.any_server, pytest.mark.slow]

READ = "SELECT count(*) FROM written"

LONG = "SELECT count(*) FROM generate_series(1, 10000) AS a, generate_series(1, 10000) AS b"
"""Works for seconds."""


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


async def test_a_read_that_crashes_servers_does_not_go_to_one_after_another(
    trio: Trio, make_cluster: MakeCluster
) -> None:
    cluster = await make_cluster(trio.dsn(), check_timeout=1.0)
    await cluster.ready(replicas=2)
    position = await cluster.position()
    trio.wait_for_replay()
    reading = asyncio.create_task(cluster.replicas.after(position, wait=20).fetchval(LONG, timeout=60))
    crashed: set[int] = set()

    def kill() -> None:
        # The test's own session ends with the crash as well.
        for server in trio.all:
            with suppress(psycopg.OperationalError):
                for each in server.backends():
                    if each.query == LONG and each.state == "active":
                        crashed.add(server.port)
                        with suppress(ProcessLookupError):
                            os.kill(each.pid, signal.SIGKILL)

    async with asyncio.timeout(60):
        while not reading.done():
            await asyncio.to_thread(kill)
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        await reading
    assert len(crashed) <= 2
