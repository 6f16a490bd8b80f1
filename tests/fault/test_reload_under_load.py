"""Fault 50: a setting that servers report is reloaded under load: no connection is lost, all get the new value."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

import headrace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=50)

PATIENCE = 30.0
SIZE = 4


async def init(connection: headrace.Connection) -> None:
    await connection.execute("SET work_mem = '2MB'; SET DateStyle = 'SQL, DMY'")


class Load:
    """Callers of a pool, shared and leased, that go on until they are stopped; an error of one ends the test."""

    def __init__(self, pool: headrace.Pool) -> None:
        self.pool = pool
        self.stopped = False

    async def __aenter__(self) -> Load:
        self.tasks = [asyncio.create_task(each) for each in (*(self.share(n) for n in range(12)), self.lease())]
        return self

    async def __aexit__(self, *raised: object) -> None:
        self.stopped = True
        await asyncio.gather(*self.tasks)

    async def share(self, number: int) -> None:
        while not self.stopped:
            assert await self.pool.fetchval("SELECT $1::int", number) == number
            assert await self.pool.execute("SELECT 1") == "SELECT 1"

    async def lease(self) -> None:
        while not self.stopped:
            async with self.pool.acquire() as lease:
                await lease.execute("SET TimeZone = 'Australia/Eucla'")
                assert await lease.fetchval("SHOW TimeZone") == "Australia/Eucla"

    async def until_all_have(self, zone: str) -> None:
        """Wait until the sessions of all connections have a time zone, as shared calls see them."""
        seen: dict[int, str] = {}
        while len(seen) < SIZE or set(seen.values()) != {zone}:
            rows = await asyncio.gather(
                *(self.pool.fetchrow("SELECT pg_backend_pid(), current_setting('TimeZone')") for _ in range(SIZE))
            )
            seen.update((row[0], row[1]) for row in rows if row is not None)


@pytest.mark.parametrize("callback", [None, init], ids=["without init", "with init"])
async def test_a_time_zone_reloaded_under_load(
    own_server: Cluster, callback: Callable[[Any], Awaitable[None]] | None
) -> None:
    pool = headrace.create_pool(own_server.dsn(), min_size=SIZE, max_size=SIZE, init=callback)
    async with asyncio.timeout(PATIENCE), pool:
        with ExitStack() as stack:
            async with Load(pool) as load:
                await load.until_all_have("UTC")
                for zone in ("Asia/Tokyo", "Europe/Rome", "Asia/Tokyo"):
                    await asyncio.to_thread(stack.enter_context, own_server.settings(timezone=zone))
                    await load.until_all_have(zone)
        assert pool.stats().closed == {}
        assert pool.stats().opened == SIZE


async def test_a_reload_of_what_init_has_set_changes_nothing(own_server: Cluster) -> None:
    async with headrace.create_pool(own_server.dsn(), min_size=1, max_size=1, init=init) as pool:
        with own_server.settings(DateStyle="ISO, YMD", TimeZone="Asia/Tokyo"):
            async with asyncio.timeout(PATIENCE):
                while await pool.fetchval("SHOW TimeZone") != "Asia/Tokyo":
                    await pool.fetchval("SELECT 1")
            assert await pool.fetchval("SHOW DateStyle") == "SQL, DMY"
            async with pool.acquire() as lease:
                await lease.execute("SET DateStyle = 'German'")
            assert await pool.fetchval("SHOW DateStyle") == "SQL, DMY"
        assert pool.stats().closed == {}


async def test_a_shared_call_that_changes_a_reported_setting_under_load(own_server: Cluster) -> None:
    """One connection goes, and what waited for it is done by the others."""
    own_server.sql("CREATE FUNCTION f() RETURNS text LANGUAGE plpgsql AS"
                   " $$ BEGIN RETURN set_config('TimeZone', 'Europe/Rome', false); END $$")  # fmt: skip
    pool = headrace.create_pool(own_server.dsn(), min_size=SIZE, max_size=SIZE)
    async with asyncio.timeout(PATIENCE), pool, Load(pool) as load:
        for number in range(1, 4):
            assert await pool.fetchval("SELECT f()") == "Europe/Rome"
            while pool.stats().closed.get("settings_changed") != number:
                await pool.fetchval("SELECT 1")
            await load.until_all_have("UTC")
