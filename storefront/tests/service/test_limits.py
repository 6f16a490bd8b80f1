"""Limits of partners, which hold for several processes because the database counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from fastapi import FastAPI

import headrace
from storefront import open_connection
from storefront.partners import Partner
from storefront.service.application import create_application
from storefront.service.limits import Limits
from storefront.service.problems import ProblemError
from storefront.service.settings import ServiceSettings


@pytest.fixture
async def second(application: FastAPI, settings: ServiceSettings) -> AsyncIterator[FastAPI]:
    """Another process's application, with a pool of its own, after the first has created the tables."""
    another = create_application(settings)
    async with another.router.lifespan_context(another):
        yield another


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[headrace.Pool]:
    async with headrace.create_pool(dsn, min_size=1, max_size=4) as pool:
        yield pool


async def refused(call: Any) -> bool:
    """Return whether a call is refused by a limit."""
    try:
        await call
    except ProblemError as error:
        return error.status == 429
    return False


async def test_requests_a_minute_hold_for_all_processes(
    application: FastAPI, second: FastAPI, open_client: Any, new_partner: Any, dsn: str, until: Any
) -> None:
    key = (await new_partner(requests_per_minute=3)).key
    async with open_client(key) as one, open_client(key, second) as another:
        answers = [await client.get("/v1/products/1/skus") for client in (one, another, one, another, one)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
        problem = answers[-1].json()
        assert answers[-1].headers["content-type"] == "application/problem+json"
        assert (problem["title"], problem["limit"]) == ("Too many requests", 3)
        assert 1 <= int(answers[-1].headers["retry-after"]) == problem["retry_after"] <= 60
        # The minute passes.
        pool = application.state.service.pool
        await pool.execute("UPDATE partner_usage SET minute_began = minute_began - interval '1 minute'")

        async def is_answered() -> bool:
            return (await one.get("/v1/products/1/skus")).status_code == 200

        await until(is_answered)


async def test_limits_are_each_partners_own(open_client: Any, new_partner: Any) -> None:
    keys = [(await new_partner(name, requests_per_minute=1)).key for name in ("Aurora", "Boreal")]
    for key in keys:
        async with open_client(key) as client:
            assert (await client.get("/v1/products/1/skus")).status_code == 200
            assert (await client.get("/v1/products/1/skus")).status_code == 429


@pytest.mark.parametrize("limit", [20, 1_000])
async def test_requests_at_the_same_time_are_counted_exactly(
    application: FastAPI, new_partner: Any, pool: headrace.Pool, limit: int
) -> None:
    partner: Partner = (await new_partner(requests_per_minute=limit)).partner
    one, another = Limits(pool, 60.0), Limits(pool, 60.0)
    outcomes = await asyncio.gather(
        *(refused((one, another)[number % 2].count_request(partner)) for number in range(limit * 2))
    )
    granted = outcomes.count(False)
    # A process that has taken requests for later may keep them while the other refuses: a hundredth of the limit.
    assert limit - limit // 100 <= granted <= limit


async def test_batches_at_once_hold_for_all_processes(
    application: FastAPI,
    second: FastAPI,
    open_client: Any,
    new_partner: Any,
    locked: headrace.Connection,
    until: Any,
) -> None:
    key = (await new_partner(batches_at_once=1)).key
    batch = {"content": "1\n", "headers": {"Content-Type": "text/plain"}}
    async with open_client(key) as one, open_client(key, second) as another:
        running = asyncio.create_task(one.post("/v1/batches", **batch))
        await until(lambda: locked.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
        answer = await another.post("/v1/batches", **batch)
        assert (answer.status_code, answer.json()["title"]) == (429, "Too many batches at once")
        assert answer.headers["retry-after"] == "1"
        await locked.execute("ROLLBACK")
        assert (await running).status_code == 200
        # The first is over as soon as its answer is complete.
        assert (await another.post("/v1/batches", **batch)).status_code == 200


async def test_no_more_batches_begin_at_the_same_time_than_the_limit(
    application: FastAPI, new_partner: Any, pool: headrace.Pool
) -> None:
    partner: Partner = (await new_partner(batches_at_once=5)).partner
    processes = Limits(pool, 60.0), Limits(pool, 60.0)
    outcomes = await asyncio.gather(*(refused(processes[number % 2].begin_batch(partner)) for number in range(20)))
    assert outcomes.count(False) == 5


async def test_a_slot_that_another_process_is_taking_is_not_taken_twice(
    application: FastAPI, new_partner: Any, pool: headrace.Pool, dsn: str, until: Any
) -> None:
    partner: Partner = (await new_partner(batches_at_once=1)).partner
    async with open_connection(dsn) as another:
        async with another.transaction():
            await another.execute(
                "INSERT INTO partner_batch VALUES ($1, 1, gen_random_uuid(), now() + interval '1 hour')",
                partner.partner_id,
            )
            # The new row cannot be seen yet, so the slot looks free.
            beginning = asyncio.create_task(refused(Limits(pool, 60.0).begin_batch(partner)))
            await until(lambda: another.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
        assert await beginning


async def test_a_killed_process_leaves_no_batch_counted_for_ever(
    application: FastAPI, new_partner: Any, pool: headrace.Pool, until: Any
) -> None:
    partner: Partner = (await new_partner(batches_at_once=1)).partner
    # This process renews nothing.
    await Limits(pool, 0.5).begin_batch(partner)
    living = Limits(pool, 60.0)

    async def is_free() -> bool:
        return not await refused(living.begin_batch(partner))

    await until(is_free)
    assert await refused(living.begin_batch(partner))


async def test_a_running_batch_keeps_its_lease(
    application: FastAPI, new_partner: Any, pool: headrace.Pool, until: Any
) -> None:
    partner: Partner = (await new_partner(batches_at_once=1)).partner
    limits = Limits(pool, 2.0)
    lease = await limits.begin_batch(partner)
    begun = await pool.fetchval("SELECT expires_at FROM partner_batch")
    renewing = asyncio.create_task(limits.keep_leases())
    try:
        await until(lambda: pool.fetchval("SELECT expires_at > $1 FROM partner_batch", begun))
    finally:
        renewing.cancel()
    await limits.end_batch(lease)
    assert await pool.fetchval("SELECT count(*) FROM partner_batch") == 0


async def test_a_batch_that_is_cancelled_gives_its_lease_back(
    application: FastAPI, new_partner: Any, pool: headrace.Pool, until: Any
) -> None:
    partner: Partner = (await new_partner()).partner
    limits = Limits(pool, 60.0)
    begun = asyncio.Event()

    async def batch() -> None:
        async with limits.batch(partner):
            begun.set()
            await asyncio.sleep(3_600)

    task = asyncio.create_task(batch())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM partner_batch"))


async def test_too_many_ids_are_refused(open_client: Any, new_partner: Callable[..., Any]) -> None:
    key = (await new_partner(batch_ids=3)).key
    async with open_client(key) as client:
        for content, kind in (
            ("1\n2\n3", "text/plain"),
            ("product_id\n1\n2\n3\n", "text/csv"),
            ("[1,2,3]", "application/json"),
        ):
            answer = await client.post("/v1/batches", content=content, headers={"Content-Type": kind})
            assert answer.status_code == 200, answer.text
        for content, kind in (
            ("1\n2\n3\n4", "text/plain"),
            ("1\n2\n3\n4\n", "text/csv"),
            ("[1,2,3,4]", "application/json"),
        ):
            answer = await client.post("/v1/batches", content=content, headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()["limit"]) == (413, 3)
