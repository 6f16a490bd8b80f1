"""The statistics of a pool, in the text format that Prometheus reads.

python examples/pool_metrics.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import sys
from itertools import accumulate

import headrace
from headrace.pool import PoolStats

GAUGES = {
    "idle": "Connections with nothing to do",
    "leased": "Connections that are acquired now",
    "opening": "Connections being opened",
    "in_flight": "Requests at the server",
    "queued": "Requests that wait to be sent",
    "waiting": "Callers that wait for a connection",
}
COUNTERS = {
    "acquired": ("acquire_count", "Connections acquired"),
    "opened": ("opened", "Connections opened"),
    "connect_errors": ("connect_errors", "Failed attempts to open a connection"),
    "leaked": ("leaked", "Leases that were never given back"),
}


def metrics(stats: PoolStats) -> str:
    """Return the text; see "Exposition formats" in Prometheus' documentation."""
    lines = []
    for name, meaning in GAUGES.items():
        lines += [f"# HELP pool_{name} {meaning}", f"# TYPE pool_{name} gauge", f"pool_{name} {getattr(stats, name)}"]
    for name, (field, meaning) in COUNTERS.items():
        lines += [f"# HELP pool_{name}_total {meaning}", f"# TYPE pool_{name}_total counter"]
        lines += [f"pool_{name}_total {getattr(stats, field)}"]
    lines += ["# HELP pool_closed_total Connections closed", "# TYPE pool_closed_total counter"]
    lines += [f'pool_closed_total{{reason="{reason}"}} {count}' for reason, count in stats.closed.items()]
    lines += ["# HELP pool_wait_seconds Time spent waiting for a connection", "# TYPE pool_wait_seconds histogram"]
    # The buckets of Prometheus hold all that is not longer than their bound.
    totals = accumulate(stats.wait_time.counts)
    for bound, total in zip([*stats.wait_time.bounds, "+Inf"], totals, strict=True):
        lines.append(f'pool_wait_seconds_bucket{{le="{bound}"}} {total}')
    lines += [f"pool_wait_seconds_sum {stats.wait_time.total}", f"pool_wait_seconds_count {stats.wait_time.count}"]
    return "\n".join(lines) + "\n"


async def main(dsn: str) -> None:
    """Have some work done through a pool, and print its metrics."""
    async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:

        async def lease(number: int) -> None:
            async with pool.acquire(timeout=10) as connection:
                await connection.fetchval("SELECT $1::int FROM pg_sleep(0.002)", number)

        await asyncio.gather(*(lease(number) for number in range(20)), *(pool.fetchval("SELECT 1") for _ in range(100)))
        print(metrics(pool.stats()))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
