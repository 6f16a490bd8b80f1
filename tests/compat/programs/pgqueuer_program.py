"""A job queue on pgqueuer with headrace in the place of asyncpg: jobs queued, announced by NOTIFY, worked on.

python pgqueuer_program.py postgresql://user@host:port/database
"""

from __future__ import annotations

import asyncio
import sys

import headrace

headrace.install_as_asyncpg()

import asyncpg  # noqa: E402
from pgqueuer import PgQueuer, Queries  # noqa: E402
from pgqueuer.models import Job  # noqa: E402

JOBS = 200


async def work(pgq: PgQueuer, queries: Queries) -> list[bytes]:
    """Run the queue until all jobs are done; half of them are queued while it waits for news."""
    done: list[bytes] = []

    @pgq.entrypoint("shout")
    async def shout(job: Job) -> None:
        assert job.payload is not None
        done.append(job.payload.upper())
        if len(done) == JOBS:
            pgq.shutdown.set()

    def payloads(numbers: range) -> list[bytes | None]:
        return [f"job {number}".encode() for number in numbers]

    async def queue_more() -> None:
        while not done:
            await asyncio.sleep(0.01)
        await queries.enqueue(["shout"] * (JOBS // 2), payloads(range(JOBS // 2, JOBS)), [0] * (JOBS // 2))

    await queries.enqueue(["shout"] * (JOBS // 2), payloads(range(JOBS // 2)), [0] * (JOBS // 2))
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(queue_more())
        group.create_task(pgq.run())
    return done


async def main(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        queries = Queries.from_asyncpg_connection(connection)
        await queries.install()
        done = await work(PgQueuer.from_asyncpg_connection(connection), queries)
        assert sorted(done) == sorted(f"JOB {number}".encode() for number in range(JOBS))
    finally:
        await connection.close()
    async with asyncpg.create_pool(dsn, min_size=2, max_size=5) as pool:
        queries = Queries.from_asyncpg_pool(pool)
        done = await work(PgQueuer.from_asyncpg_pool(pool), queries)
        assert len(set(done)) == JOBS
        await queries.uninstall()
    assert sys.modules["asyncpg"] is headrace
    print("done")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
