"""A long result read row by row: by a stream its rate, by a stream and by a cursor its cost in memory."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

from bench.measurement import SUBJECT
from bench.peers.peer import Peer, PeerConnection
from bench.workloads.workload import AtLeast, Below, Job, Open, Scale, Workload, expect

PREFETCH = 1_000

SLOWEST = 0.9
"""The part of fetch()'s rate that a stream has to reach. The note says so if it is slower in this run."""
ROUNDS = 3
COMPARED_ROWS = 1_000_000

Read = Callable[[PeerConnection, str], Awaitable[int]]


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    rows = scale.stream_rows

    def memory(name: str, how: str, read: Read) -> Workload:
        return Workload(
            f"{name}-memory",
            f"peak memory growth, {how} {rows:,} rows",
            "rows/s",
            "memory",
            _read(read),
            batch=rows,
            memory=True,
            requirement=Below(20.0),
        )

    return [
        Workload(
            "stream",
            f"stream (others: their fastest way) of {rows // 10:,} rows",
            "rows/s",
            "many rows a query",
            _read(_stream, compares=True),
            batch=rows // 10,
            requirement=AtLeast(1.3),
        ),
        memory("stream", "stream of", _stream),
        memory("cursor", "cursor over", _cursor),
    ]


def _sql(rows: int) -> str:
    # In the select list the server streams a set-returning function; in FROM it would materialise it first.
    return f"SELECT generate_series(1, {rows}) AS id, 'a row of the stream' AS name, now() AS made_at"


async def _stream(connection: PeerConnection, sql: str) -> int:
    return await connection.stream(sql)


async def _cursor(connection: PeerConnection, sql: str) -> int:
    return await connection.cursor(sql, PREFETCH)


def _read(read: Read, *, compares: bool = False) -> Open:
    """Return the opener of a workload. With `compares` the note compares a stream with fetch()."""

    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.connection(dsn) as connection:
            asked = 0
            note = ""
            if peer.name == SUBJECT and compares:
                rate = await _rate_of_fetch(connection)
                wanted = "" if rate >= SLOWEST else f", less than the {SLOWEST} wanted"
                note = f"stream: {rate:.2f} times the rate of fetch{wanted}"

            async def run(count: int) -> object:
                nonlocal asked
                asked = count
                return await read(connection, _sql(count))

            async def check(seen: Any) -> None:
                expect(seen == asked, f"{asked} rows come, not {seen}")

            yield Job(run=run, check=check, note=note)

    return opened


async def _rate_of_fetch(connection: PeerConnection) -> float:
    """Return the rate of a stream, read row by row, as a multiple of that of fetch() with a loop over its rows."""
    sql = _sql(COMPARED_ROWS)

    async def fetch() -> None:
        for _ in await connection.fetch(sql):
            pass

    ratios = []
    for _ in range(ROUNDS):
        start = time.process_time()
        await fetch()
        middle = time.process_time()
        await connection.stream(sql)
        ratios.append((middle - start) / (time.process_time() - middle))
    return median(ratios)
