"""A primary with two streaming standbys, and clusters of them."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

import headrace
from tests.installations import Installation
from tests.servers import SUPERUSER, Cluster, until

PATIENCE = 30.0

MakeCluster = Callable[..., Awaitable[headrace.Cluster]]


@dataclass
class Trio:
    """A primary and its two standbys."""

    primary: Cluster
    standbys: list[Cluster]
    frozen: set[int] = field(default_factory=set)

    @property
    def all(self) -> list[Cluster]:
        return [self.primary, *self.standbys]

    def dsn(self, *servers: Cluster) -> str:
        hosts = ",".join(f"{each.host()}:{each.port}" for each in servers or self.all)
        return f"postgresql://{SUPERUSER}@{hosts}/{SUPERUSER}"

    def wait_for_replay(self) -> None:
        """Return when both standbys have replayed all that the primary has."""
        position = self.primary.position()
        for standby in self.standbys:
            if standby.is_running:
                standby.catch_up(position)

    def replicate_synchronously(self) -> None:
        """Have the primary acknowledge a commit once both standbys have replayed it."""
        self.primary.sql("ALTER SYSTEM SET synchronous_commit = 'remote_apply'")
        self.primary.sql("ALTER SYSTEM SET synchronous_standby_names = 'ANY 2 (*)'")
        self.primary.sql("SELECT pg_reload_conf()")
        synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'"
        until(lambda: self.primary.sql(synchronous) == [(2,)], "both standbys are synchronous")

    def kill(self, server: Cluster) -> None:
        """Kill a server with all its backends."""
        for pid in pids(server):
            os.kill(pid, signal.SIGKILL)
        server.postmaster.kill()

    def freeze(self, server: Cluster) -> None:
        """Stop the processes of a server: it accepts connections, and does not answer."""
        for pid in pids(server):
            self.frozen.add(pid)
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self.frozen:
            try:
                os.kill(pid, signal.SIGCONT)
            except ProcessLookupError:
                continue
        self.frozen.clear()


def pids(server: Cluster) -> list[int]:
    """Return the processes of a server, the postmaster first."""
    postmaster = server.postmaster.pid
    with open(f"/proc/{postmaster}/task/{postmaster}/children") as file:
        return [postmaster, *map(int, file.read().split())]


@contextmanager
def started(installation: Installation) -> Iterator[Trio]:
    """Run the block with a primary and two standbys that have caught up."""
    with ExitStack() as stack:
        primary = stack.enter_context(Cluster(installation))
        primary.sql("CREATE TABLE written (token int)")
        standbys = [stack.enter_context(Cluster(installation, standby_of=primary)) for _ in range(2)]
        made = Trio(primary, standbys)
        made.wait_for_replay()
        try:
            yield made
        finally:
            made.thaw()


@pytest.fixture
def trio(server: Cluster) -> Iterator[Trio]:
    """Servers for this test alone, to kill, freeze and promote."""
    with started(server.postmaster.installation) as made:
        yield made


@pytest.fixture(scope="module")
def shared_trio(server: Cluster) -> Iterator[Trio]:
    """Servers that the tests of a module share, and leave as they are."""
    with started(server.postmaster.installation) as made:
        yield made


@pytest.fixture
def delayed(shared_trio: Trio) -> Iterator[Trio]:
    """The shared servers, whose standbys replay a commit only 300 ms after it."""
    with ExitStack() as stack:
        for standby in shared_trio.standbys:
            stack.enter_context(standby.settings(recovery_min_apply_delay="300ms"))
        yield shared_trio
    shared_trio.wait_for_replay()


@pytest.fixture
def paused(shared_trio: Trio) -> Iterator[Trio]:
    """The shared servers, whose standbys replay nothing meanwhile."""
    for standby in shared_trio.standbys:
        standby.sql("SELECT pg_wal_replay_pause()")
    yield shared_trio
    for standby in shared_trio.standbys:
        standby.sql("SELECT pg_wal_replay_resume()")
    shared_trio.wait_for_replay()


@pytest.fixture
async def make_cluster() -> AsyncIterator[MakeCluster]:
    """`await make_cluster(dsn, **kwargs)`: a cluster that checks often, closed after the test.

    No check is missed because the machine is busy. A test that freezes servers passes `check_timeout`.
    """
    opened: list[headrace.Cluster] = []

    async def make_cluster(dsn: str, **kwargs: Any) -> headrace.Cluster:
        kwargs = {"min_size": 1, "max_size": 3, "check_interval": 0.05, "check_timeout": PATIENCE, **kwargs}
        made = headrace.create_cluster(dsn, **kwargs)
        opened.append(made)
        return await made

    yield make_cluster
    try:
        async with asyncio.timeout(PATIENCE):
            for made in opened:
                if not made.is_closing() and made._state == "open":
                    await made.close()
    finally:
        for made in opened:
            made.terminate()


async def until_true(condition: Callable[[], bool], what: str) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)
    assert condition(), what
