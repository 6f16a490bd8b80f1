"""A database with partners and jobs, and what tests do with jobs again and again."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

import headrace
from storefront import Order, OrderLine, Tally, answer, encoder, open_connection
from storefront.catalogue import COLUMNS
from storefront.database import named_database, with_database
from storefront.formats import Format
from storefront.jobs import Job, JobLimits, WorkerSettings, create_job, get_job, list_parts, read_part
from storefront.jobs.claims import Claim, claim_job, store_part
from storefront.jobs.parts import answer_parts
from storefront.partners import add_partner
from storefront.service_schema import create_service_tables
from tests.fixtures import chosen_installations

GIVEN = os.environ.get("STOREFRONT_TEST_DSN")

NEVER = 3_600.0
"""An interval that does not pass during a test."""

PATIENT = WorkerSettings(
    lease=timedelta(hours=1), heartbeat=NEVER, poll=NEVER, sweep=NEVER, retry_pause=timedelta(0), part_size=2**20
)
"""Settings with which nothing happens because time passes."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every PostgreSQL that --pg chooses, because claims and their locks are the server's work."""
    found = [] if GIVEN else chosen_installations(metafunc.config)
    if found and "postgres" in metafunc.fixturenames:
        metafunc.parametrize("postgres", found, ids=[each.name for each in found], indirect=True, scope="session")


@pytest.fixture
def dsn(dsn: str) -> Iterator[str]:
    """The DSN of a new database with the small catalogue. It is dropped, because the server has more tests to serve."""
    yield dsn

    async def drop() -> None:
        async with open_connection(with_database(dsn, "postgres")) as connection:
            await connection.execute(f"DROP DATABASE {named_database(dsn)} WITH (FORCE)")

    asyncio.run(drop())


@pytest.fixture
async def shop(dsn: str) -> str:
    """The DSN of a new database with the small catalogue and the tables of partners and jobs."""
    async with open_connection(dsn) as connection:
        await create_service_tables(connection)
    return dsn


@pytest.fixture
async def pool(shop: str) -> AsyncIterator[headrace.Pool]:
    """A pool on the database `shop`."""
    async with headrace.create_pool(shop, min_size=1, max_size=4) as pool:
        yield pool


@pytest.fixture
async def partner(pool: headrace.Pool) -> int:
    """The id of a partner."""
    return (await add_partner(pool, "Aurora")).partner.partner_id


async def in_pieces(text: str | bytes, size: int = 7) -> AsyncIterator[bytes]:
    """Yield a body in small pieces, which end anywhere in a line."""
    data = text.encode() if isinstance(text, str) else text
    for start in range(0, len(data), size):
        yield data[start : start + size]


Submit = Callable[..., Awaitable[Job]]


@pytest.fixture
def submit(pool: headrace.Pool, partner: int) -> Submit:
    """A function that creates a job from a text, whose input is stored in parts of ten lines."""

    async def submit(text: str, *, of: int = partner, **options: Any) -> Job:
        created = await create_job(pool, of, in_pieces(text), **{"input_lines": 10, **options})
        return created.job

    return submit


async def result_of(pool: headrace.Pool, job_id: UUID) -> bytes:
    """Return the stored result of a job, its parts joined and decompressed."""
    parts = [await read_part(pool, job_id, info.part) for info in await list_parts(pool, job_id)]
    return gzip.decompress(b"".join(part for part in parts if part is not None))


async def batch_output(pool: headrace.Pool, text: str) -> tuple[bytes, Tally]:
    """Return what `storefront batch` writes for these lines, and its counts."""
    output = io.BytesIO()
    encode = encoder(Format.CSV, COLUMNS)
    output.write(encode.header())
    tally = await answer(pool, Order(io.BytesIO(text.encode())), output.write, encode, report=lambda problem: None)
    return output.getvalue(), tally


async def until(check: Callable[[], Awaitable[Any]], what: str) -> Any:
    """Ask until there is an answer that is true, and return it."""
    async with asyncio.timeout(60):
        while not (answer := await check()):
            await asyncio.sleep(0.01)
    return answer


async def until_ended(pool: headrace.Pool, job: Job) -> Job:
    """Wait until a job has ended, and return it."""

    async def ended() -> Job | None:
        now = await get_job(pool, job.partner_id, job.job_id)
        return now if now.state.has_ended else None

    result: Job = await until(ended, "the job ends")
    return result


async def expire_claims(pool: headrace.Pool) -> None:
    """Let the claims of all workers be over, as if their time had passed."""
    await pool.execute("UPDATE job SET claimed_until = '-infinity' WHERE state = 'running'")


async def check_complete(pool: headrace.Pool, job: Job, text: str) -> None:
    """Check that a job has the result of a batch of the same lines, with no row doubled and none lost."""
    done = await get_job(pool, job.partner_id, job.job_id)
    assert done.state == "done", done
    expected, tally = await batch_output(pool, text)
    assert job.result_format is Format.CSV
    assert await result_of(pool, job.job_id) == expected
    assert done.tally == tally
    parts = await list_parts(pool, job.job_id)
    assert [info.part for info in parts] == list(range(1, done.parts + 1))
    assert sum(info.size for info in parts) == done.result_size == len(expected)
    assert sum(info.row_count for info in parts) == tally.skus


LIMITS = JobLimits(jobs_at_once=2, lines=100, stored_bytes=10_000)


KEEP = timedelta(days=7)
LEASE = timedelta(hours=1)

TEXT = "7\n3\nabc\n999\n7\n50\n1\n" + "".join(f"{number}\n" for number in range(50, 0, -1))
"""57 lines, which are stored in six parts. Some are malformed, unknown or repeated."""


async def claim(pool: headrace.Pool, worker: str = "A", max_attempts: int = 3) -> Claim | None:
    """Claim a job as a worker of this name."""
    return await claim_job(pool, worker, lease=LEASE, max_attempts=max_attempts, keep=KEEP)


async def store(pool: headrace.Pool, claimed: Claim, *lines: int, last: int) -> None:
    """Answer some products as the next part of a job, and store it."""
    parts = answer_parts(
        pool,
        [OrderLine(last - len(lines) + place, product) for place, product in enumerate(lines, start=1)],
        claimed.result_format,
        header=claimed.parts == 0,
    )
    (part,) = [part async for part in parts]
    await store_part(pool, claimed, part, lease=LEASE, keep=KEEP, stored_bytes=2**30)


@asynccontextmanager
async def look_ups_held(dsn: str) -> AsyncIterator[None]:
    """Let look-ups of SKUs wait until the end of the block."""
    async with open_connection(dsn) as connection, connection.transaction():
        await connection.execute("LOCK TABLE sku IN ACCESS EXCLUSIVE MODE")
        yield


async def until_looking_up(pool: headrace.Pool, number: int = 1) -> None:
    """Wait until look-ups wait for the lock of `look_ups_held`."""

    async def waiting() -> bool:
        count: int = await pool.fetchval(
            "SELECT count(*) FROM pg_locks WHERE relation = 'sku'::regclass AND NOT granted"
        )
        return count >= number

    await until(waiting, "look-ups wait")
