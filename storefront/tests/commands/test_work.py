"""`storefront work`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from typer.testing import Result

import headrace
from storefront import open_connection
from storefront.jobs import create_job, list_jobs
from storefront.partners import add_partner
from storefront.service_schema import create_service_tables


async def create(dsn: str) -> int:
    """Create a partner with a job, and return the partner's id."""

    async def body() -> AsyncIterator[bytes]:
        yield b"1\n2\n999\n"

    async with open_connection(dsn) as connection:
        await create_service_tables(connection)
        partner = (await add_partner(connection, "Aurora")).partner.partner_id
    async with headrace.create_pool(dsn, min_size=1) as pool:
        await create_job(pool, partner, body())
    return partner


def states(dsn: str, partner: int) -> list[tuple[str, int]]:
    """Return the state and the answered lines of each job."""

    async def ask() -> list[tuple[str, int]]:
        async with open_connection(dsn) as connection:
            return [(job.state, job.tally.lines) for job in await list_jobs(connection, partner)]

    return asyncio.run(ask())


def test_jobs_that_wait_are_worked_off(run: Callable[..., Result], dsn: str) -> None:
    partner = asyncio.run(create(dsn))
    result = run("work", "--until-idle", dsn=dsn)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert states(dsn, partner) == [("done", 3)]


def test_without_jobs_it_ends_at_once(run: Callable[..., Result], dsn: str) -> None:
    result = run("work", "--until-idle", "--workers", "3", dsn=dsn)
    assert (result.exit_code, result.stderr) == (0, "")


def test_no_worker_makes_no_sense(fails: Callable[..., None], dsn: str) -> None:
    fails("work", "--workers", "0", status=2, message="--workers", dsn=dsn)
