"""Fault 35: a standby is promoted, and a name moves to it. What was connected to the former primary is replaced."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace.pool import scheduler
from tests.servers import SUPERUSER, Cluster, until

if TYPE_CHECKING:
    from tests.fixtures import MakePool

pytestmark = pytest.mark.fault(number=35)

PATIENCE = 30.0
NAME = "primary.example"
"""The name that moves."""


class Name:
    """Resolves NAME, for asyncio's resolver, to wherever it stands for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Cluster) -> None:
        self.target = target
        self.asked = 0
        loop = asyncio.get_running_loop()
        original = loop.getaddrinfo

        async def getaddrinfo(host: Any, port: Any, **kwargs: Any) -> Any:
            if host != NAME:
                return await original(host, port, **kwargs)
            self.asked += 1
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.target.host(), self.target.port))]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "GENERATION_PAUSE", 0.0)


@pytest.fixture
def standby(own_server: Cluster) -> Iterator[Cluster]:
    own_server.sql("CREATE TABLE written (token int)")
    with Cluster(own_server.postmaster.installation, standby_of=own_server) as cluster:
        until(lambda: bool(cluster.sql("SELECT to_regclass('written') IS NOT NULL")[0][0]), "the standby follows")
        yield cluster


async def test_writes_resume_at_the_promoted_standby(
    own_server: Cluster, standby: Cluster, monkeypatch: pytest.MonkeyPatch, no_pause: None
) -> None:
    name = Name(monkeypatch, own_server)
    async with headrace.create_pool(host=NAME, user=SUPERUSER, database=SUPERUSER, min_size=3, max_size=3) as pool:
        await asyncio.gather(*(pool.execute("INSERT INTO written VALUES ($1)", i) for i in range(10)))
        until(lambda: standby.sql("SELECT count(*) FROM written") == [(10,)], "the standby has caught up")

        # The former primary is fenced off: it takes no writes any more, but goes on to answer.
        own_server.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        own_server.sql("SELECT pg_reload_conf()")
        standby.promote()
        name.target = standby
        asked = name.asked

        lease = await pool.acquire()
        refused = 0
        async with asyncio.timeout(PATIENCE):
            token = 10
            while True:
                try:
                    await pool.execute("INSERT INTO written VALUES ($1)", token)
                    if standby.sql("SELECT count(*) FROM written WHERE token = %s", token) == [(1,)]:
                        break
                except headrace.ReadOnlySQLTransactionError:
                    refused += 1
                token += 1
        assert refused > 0
        assert name.asked > asked

        # The lease is still with the former one; given back, it is replaced too.
        assert await lease.fetchval("SELECT count(*) FROM written WHERE token >= 10 AND token <> $1", -1) >= 0
        await pool.release(lease)
        async with asyncio.timeout(PATIENCE):
            while True:
                leases = [await pool.acquire() for _ in range(3)]
                ports = {await each.fetchval("SELECT inet_server_port()") for each in leases}
                for each in leases:
                    await pool.release(each)
                if ports == {standby.port}:
                    break
        results = await asyncio.gather(*(pool.execute("INSERT INTO written VALUES (-1)") for _ in range(30)))
        assert results == ["INSERT 0 1"] * 30
        assert pool.stats().closed["generation_retired"] >= 2


async def test_connected_to_the_standby_too_early(
    own_server: Cluster, standby: Cluster, monkeypatch: pytest.MonkeyPatch, no_pause: None
) -> None:
    """The name has moved before the promotion was done: the first refusals make the pool look again."""
    name = Name(monkeypatch, standby)
    async with headrace.create_pool(host=NAME, user=SUPERUSER, database=SUPERUSER, min_size=2, max_size=2) as pool:
        for _ in range(3):
            with pytest.raises(headrace.ReadOnlySQLTransactionError):
                await pool.execute("INSERT INTO written VALUES (1)")
        standby.promote()
        asked = name.asked
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await pool.execute("INSERT INTO written VALUES (2)")
                    break
                except headrace.ReadOnlySQLTransactionError:
                    await asyncio.sleep(0.01)
        assert name.asked >= asked
        assert standby.sql("SELECT token FROM written") == [(2,)]


async def test_target_session_attrs_follow_the_primary(own_server: Cluster, standby: Cluster) -> None:
    """Without a name that moves: both are listed, and the one that takes writes is found."""
    hosts = f"{own_server.host()}:{own_server.port},{standby.host()}:{standby.port}"
    dsn = f"postgresql://{SUPERUSER}@{hosts}/{SUPERUSER}?target_session_attrs=read-write"
    async with headrace.create_pool(dsn, min_size=2, max_size=2) as pool:
        await pool.execute("INSERT INTO written VALUES (1)")
        until(lambda: standby.sql("SELECT count(*) FROM written") == [(1,)], "the standby has caught up")
        own_server.stop("immediate")
        standby.promote()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    await pool.execute("INSERT INTO written VALUES (2)")
                    break
                except (headrace.PostgresError, headrace.InterfaceError, OSError):
                    await asyncio.sleep(0.01)
        assert await pool.fetchval("SELECT inet_server_port()") == standby.port


async def test_a_transaction_that_wants_to_be_read_only_evicts_nobody(pool: MakePool, no_pause: None) -> None:
    made = await pool(min_size=2, max_size=2)
    before = made.stats().opened
    async with made.acquire() as connection:
        with pytest.raises(headrace.ReadOnlySQLTransactionError):
            async with connection.transaction(readonly=True):
                await connection.execute("CREATE TABLE never (a int)")
    await asyncio.gather(*(made.fetchval("SELECT 1") for _ in range(10)))
    assert made.stats().opened == before
    assert made.stats().closed == {}
