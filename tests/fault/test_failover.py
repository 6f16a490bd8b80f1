"""Fault 51: several hosts of which some are frozen, killed, promoted, demoted, or come back."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import headrace
from headrace._connect import hosts
from headrace.pool import acquire, maintenance, scheduler
from tests.servers import Cluster, Replicas

pytestmark = pytest.mark.fault(number=51)

PATIENCE = 40.0
"""Seconds after which a test gives up."""

PORT = "SELECT inet_server_port()"


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after hosts many times a second, and forget failures as soon."""
    monkeypatch.setattr(scheduler, "PING_AFTER", 0.4)
    monkeypatch.setattr(hosts, "REMEMBERED", 0.1)
    monkeypatch.setattr(maintenance, "REMEMBERED", 0.1)


@asynccontextmanager
async def pool_of(dsn: str, **arguments: Any) -> AsyncIterator[headrace.Pool]:
    pool = headrace.create_pool(dsn, **arguments)
    try:
        async with asyncio.timeout(PATIENCE):
            yield await pool
            await pool.close()
    finally:
        if not pool.is_closing():
            pool.terminate()


async def sizes(pool: headrace.Pool) -> Counter[int]:
    """Return the number of a pool's connections by the port of the server."""
    leases = [await pool.acquire() for _ in range(pool.get_max_size())]
    try:
        return Counter([await each.fetchval(PORT) for each in leases])
    finally:
        for each in leases:
            await pool.release(each)


async def write(pool: headrace.Pool, token: int) -> int:
    """Write until it succeeds; return the port of the server that took it."""
    while True:
        try:
            async with pool.acquire(timeout=1) as connection:
                await connection.execute("INSERT INTO written VALUES ($1)", token, timeout=1)
                return await connection.fetchval(PORT, timeout=1)  # type: ignore[no-any-return]
        except (headrace.PostgresError, headrace.InterfaceError, OSError):
            await asyncio.sleep(0.01)


@pytest.fixture
def written(own_replicas: Replicas) -> Replicas:
    own_replicas.primary.sql("CREATE TABLE written (token int)")
    own_replicas.catch_up()
    return own_replicas


@pytest.mark.slow
async def test_a_frozen_primary_does_not_defeat_the_hosts_behind_it(written: Replicas) -> None:
    """The kernel goes on to accept connections, and nobody answers. `timeout` is a minute."""
    former, heir, _ = written.servers
    async with pool_of(written.dsn(target_session_attrs="primary"), min_size=2, max_size=4) as pool:
        assert await write(pool, 1) == former.port
        written.catch_up()
        former.freeze()
        written.promote(heir)
        ports = await asyncio.gather(*(write(pool, token) for token in range(2, 6)))
        assert set(ports) == {heir.port}
        rows = await pool.fetch("SELECT DISTINCT token FROM written ORDER BY token")
        assert [row["token"] for row in rows] == [1, 2, 3, 4, 5]
        # The pool knows by now which one to try last.
        assert [each.port for each in pool._hosts.order(pool._hosts.addresses, asyncio.get_running_loop().time())][
            -1
        ] == (former.port)
    connection = await headrace.connect(written.dsn(target_session_attrs="primary"))
    assert await connection.fetchval(PORT) == heir.port
    await connection.close()


async def test_a_lease_whose_reset_is_not_answered_is_given_back(
    own_server: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reset of the lease before it stands ahead of the call that was given up, so no CancelRequest is sent."""
    monkeypatch.setattr(acquire, "SILENCE", 0.3)
    async with pool_of(own_server.dsn(), min_size=1, max_size=1) as pool:
        async with pool.acquire() as connection:
            await connection.fetchval("SELECT 1")
        own_server.freeze()
        async with pool.acquire() as connection:
            with pytest.raises(TimeoutError):
                await connection.fetchval("SELECT 2", timeout=0.1)
        own_server.thaw()
        assert await pool.fetchval("SELECT 3") == 3


async def test_a_killed_primary(written: Replicas) -> None:
    former, heir, _ = written.servers
    async with pool_of(written.dsn(target_session_attrs="primary"), min_size=2, max_size=2) as pool:
        assert await write(pool, 1) == former.port
        written.catch_up()
        former.crash()
        told = None
        while told is None:
            with pytest.raises((TimeoutError, headrace.ConnectionDoesNotExistError)) as caught:
                await pool.execute("INSERT INTO written VALUES (0)", timeout=1)
            # A busy machine may not have asked the standbys within the limit.
            told = re.search(f"no primary among 127.0.0.1:{former.port} .refused.*standby", str(caught.value))
        assert headrace.is_safe_to_retry(caught.value)
        written.promote(heir)
        assert await write(pool, 2) == heir.port


async def test_a_pool_of_standbys_leaves_a_server_that_is_promoted(written: Replicas) -> None:
    _, heir, other = written.servers
    dsn = written.dsn(target_session_attrs="standby", load_balance_hosts="random")
    async with pool_of(dsn, min_size=4, max_size=4) as pool:
        assert await sizes(pool) == {heir.port: 2, other.port: 2}
        lease = await pool.acquire()
        while await lease.fetchval(PORT) != heir.port:
            await pool.release(lease)
            lease = await pool.acquire()
        written.promote(heir)
        while heir.port in {await pool.fetchval(PORT) for _ in range(8)}:
            pass
        # A lease is left alone, and what it used is replaced at its end.
        assert await lease.fetchval(PORT) == heir.port
        await pool.release(lease)
        assert await sizes(pool) == {other.port: 4}
        assert pool.stats().closed == {"role_changed": 2}


async def test_servers_that_do_not_report_their_role_are_asked(
    written: Replicas, soon: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As before PostgreSQL 14, and behind some poolers. No call has to be made for it."""
    monkeypatch.setattr(maintenance, "reports_role", lambda parameters: False)
    _, heir, other = written.servers
    async with pool_of(written.dsn(heir, other, target_session_attrs="standby"), min_size=2, max_size=2) as pool:
        assert await sizes(pool) == {heir.port: 2}
        written.promote(heir)
        while pool.stats().closed.get("role_changed") != 2:
            await asyncio.sleep(0.02)
        assert await sizes(pool) == {other.port: 2}


async def test_a_primary_that_becomes_read_only_is_left_before_a_write_fails(written: Replicas) -> None:
    former, heir, _ = written.servers
    async with pool_of(written.dsn(target_session_attrs="read-write"), min_size=2, max_size=2) as pool:
        assert await sizes(pool) == {former.port: 2}
        former.sql("ALTER SYSTEM SET default_transaction_read_only = on")
        former.sql("SELECT pg_reload_conf()")
        written.promote(heir)
        while await pool.fetchval(PORT) == former.port:
            pass
        assert await sizes(pool) == {heir.port: 2}
        assert pool.stats().closed == {"role_changed": 2}


async def test_standbys_that_come_back_are_preferred_again(written: Replicas, soon: None) -> None:
    primary, one, other = written.servers
    dsn = written.dsn(target_session_attrs="prefer-standby", load_balance_hosts="random")
    async with pool_of(dsn, min_size=4, max_size=4) as pool:
        assert await sizes(pool) == {one.port: 2, other.port: 2}
        one.stop("immediate")
        other.stop("immediate")
        while await settled(pool) != {primary.port: 4}:
            pass
        one.start()
        other.start()
        while await settled(pool) != {one.port: 2, other.port: 2}:
            await asyncio.sleep(0.05)


async def settled(pool: headrace.Pool) -> Counter[int]:
    """Return the sizes, as soon as no connection is lost meanwhile."""
    while True:
        try:
            return await sizes(pool)
        except (headrace.PostgresError, headrace.InterfaceError):
            await asyncio.sleep(0.01)


async def test_connections_are_spread_evenly_also_over_a_host_that_comes_back(written: Replicas, soon: None) -> None:
    ports = [each.port for each in written.servers]
    async with pool_of(written.dsn(load_balance_hosts="random"), min_size=9, max_size=9) as pool:
        assert await sizes(pool) == dict.fromkeys(ports, 3)
        written.servers[2].crash()
        while sorted((await settled(pool)).values()) != [4, 5]:
            pass
        written.servers[2].start()
        while await settled(pool) != dict.fromkeys(ports, 3):
            await asyncio.sleep(0.05)
        assert pool.stats().closed["rebalanced"] >= 3


async def test_the_state_of_each_host_is_told(written: Replicas) -> None:
    former, one, other = written.servers
    former.crash()
    with pytest.raises(ConnectionRefusedError) as caught:
        await headrace.connect(written.dsn(target_session_attrs="primary"))
    where = "127.0.0.1"
    states = f"{where}:{former.port} (refused), {where}:{one.port} (standby), {where}:{other.port} (standby)"
    assert str(caught.value) == f"no primary among {states}"
    assert headrace.is_safe_to_retry(caught.value)
    one.freeze()
    with pytest.raises(
        TimeoutError, match=rf"within 2 s .timeout.: no primary among .*{one.port} .no answer in "
    ) as late:
        await headrace.connect(written.dsn(target_session_attrs="primary"), timeout=2)
    assert headrace.is_safe_to_retry(late.value)
