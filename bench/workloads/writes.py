"""Single rows written with a pool's own methods, by one task and by many."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.data import SCHEMA
from bench.peers.peer import Peer
from bench.workloads.workload import POOL_SIZE, Job, Open, Scale, Workload, expect

TABLE = f"{SCHEMA}.written"
INSERT = f"INSERT INTO {TABLE} (id) VALUES ($1)"
TASKS = (1, 16, 200)


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    rows = scale.lookups // 2
    return [
        Workload(
            f"insert-{tasks}",
            f"single INSERTs, {rows:,}, pool of six, {'one task' if tasks == 1 else f'{tasks} tasks'}",
            "rows/s",
            "single writes",
            _inserts(rows, tasks),
            batch=rows,
        )
        for tasks in TASKS
    ] + [
        Workload(
            "insert-each",
            f"single INSERTs, {rows:,} by one call, pool of six",
            "rows/s",
            "single writes",
            _inserts(rows, None),
            batch=rows,
        )
    ]


def _inserts(count: int, tasks: int | None) -> Open:
    """Return the opener of a workload that inserts rows in several tasks, or by one call for all (None)."""

    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.connection(dsn) as connection, peer.pool(dsn, POOL_SIZE) as pool:
            await connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (id int4)")

            async def run(number: int) -> int:
                if tasks is None:
                    await pool.fetchrow_in_one(INSERT, range(number))
                else:
                    await pool.execute_each(INSERT, range(number), tasks)
                return number

            async def check(number: int) -> None:
                rows = await connection.fetch(f"SELECT count(*), count(DISTINCT id) FROM {TABLE}")
                expect(tuple(rows[0]) == (number, number), "every row is there once")

            async def reset() -> None:
                await connection.execute(f"TRUNCATE {TABLE}")

            yield Job(run=run, check=check, reset=reset)

    return opened
