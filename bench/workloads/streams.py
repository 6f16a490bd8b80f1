"""A long result read through a cursor: its cost in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.peers.peer import Peer
from bench.workloads.workload import Below, Job, Scale, Workload, expect

PREFETCH = 1_000


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    rows = scale.stream_rows
    return [
        Workload(
            "stream-memory",
            f"peak memory growth, cursor over {rows:,} rows",
            "rows/s",
            "memory",
            _stream,
            batch=rows,
            memory=True,
            requirement=Below(20.0),
        )
    ]


def _sql(rows: int) -> str:
    # In the select list the server streams a set-returning function; in FROM it would materialise it first.
    return f"SELECT generate_series(1, {rows}) AS id, 'a row of the stream' AS name, now() AS made_at"


@asynccontextmanager
async def _stream(peer: Peer, dsn: str) -> AsyncIterator[Job]:
    async with peer.connection(dsn) as connection:
        asked = 0

        async def run(count: int) -> object:
            nonlocal asked
            asked = count
            return await connection.stream(_sql(count), PREFETCH)

        async def check(seen: Any) -> None:
            expect(seen == asked, f"{asked} rows come, not {seen}")

        yield Job(run=run, check=check)
