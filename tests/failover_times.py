"""Measures how long a pool takes no writes at a failover, and how much of that is the server's own time.

    .venv/bin/python -m tests.failover_times --pg 15

A primary with two standbys on loopback, and a pool with several hosts and defaults; each call has a second. Some
writers go on all the time. The primary is frozen (SIGSTOP) or killed (SIGKILL), and a standby is promoted. It prints
the seconds from the promotion's beginning to the first write that psycopg got through (the server's own time), and to
the first that the pool got through, and how many calls failed. docs/reliability.md has the figures.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median

import psycopg

import headrace
from tests.installations import installations
from tests.servers import Replicas

WRITERS = 8
PAUSE = 0.02
"""Seconds between two writes of a writer."""


async def failover(replicas: Replicas, kind: str, down: float) -> tuple[float, float, int]:
    """Take the primary away, and promote a standby after `down` seconds; return the two times and the failed calls."""
    former, heir, _ = replicas.servers
    former.sql("CREATE TABLE written (token bigint)")
    replicas.catch_up()
    failed = 0
    first: float | None = None
    promoting = float("inf")
    over = asyncio.Event()

    async def write(pool: headrace.Pool) -> None:
        nonlocal failed, first
        while not over.is_set():
            try:
                port = await pool.fetchval("INSERT INTO written VALUES (1) RETURNING inet_server_port()", timeout=1)
            except (headrace.PostgresError, headrace.InterfaceError, OSError):
                failed += 1
            else:
                if port == heir.port and first is None:
                    first = time.monotonic()
            await asyncio.sleep(PAUSE)

    def take_over() -> float:
        """Promote the standby; return when it took its first write."""
        nonlocal promoting
        promoting = time.monotonic()
        heir.promote()
        with psycopg.connect(heir.dsn(), autocommit=True) as connection:
            connection.execute("INSERT INTO written VALUES (0)")
        return time.monotonic()

    dsn = replicas.dsn(target_session_attrs="primary")
    async with headrace.create_pool(dsn, min_size=4, max_size=8) as pool:
        writers = [asyncio.create_task(write(pool)) for _ in range(WRITERS)]
        await asyncio.sleep(1)
        (former.freeze if kind == "frozen" else former.crash)()
        await asyncio.sleep(down)
        server = await asyncio.to_thread(take_over)
        async with asyncio.timeout(120):
            while first is None:
                await asyncio.sleep(0.01)
        over.set()
        await asyncio.gather(*writers)
    return server - promoting, first - promoting, failed


def main() -> None:
    """Measure each kind of failover several times."""
    parser = argparse.ArgumentParser(description="Measure failovers.")
    parser.add_argument("--pg", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    installation = next(each for each in installations() if each.version == arguments.pg)
    for kind, down in (("killed", 0.0), ("killed", 10.0), ("frozen", 0.0), ("frozen", 3.0)):
        results = []
        for _ in range(arguments.rounds):
            with Replicas(installation) as replicas:
                results.append(asyncio.run(failover(replicas, kind, down)))
        server, pool, failed = (median(column) for column in zip(*results, strict=True))
        print(
            f"{kind}, promoted after {down:g} s: the server took writes {server:.2f} s after the promotion had begun, "
            f"the pool {pool:.2f} s; {failed:g} calls failed (medians of {arguments.rounds})",
            flush=True,
        )


if __name__ == "__main__":
    main()
