"""Measure look-ups that one server answers, two and more, side by side, and count those of each server.

Servers on one machine share its processors, so more of them are no faster there. The counts tell how the work is
spread.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import headrace
from storefront.benchmark import WARM_UP, BenchmarkQuery, Plan, choose_ids
from storefront.database import has_several_hosts, host_address, open_database
from storefront.errors import StorefrontError
from storefront.wording import counted

STARTED_AT = "pg_postmaster_start_time()"
"""This tells servers apart, and reads nothing that belongs to a session."""


@dataclass(frozen=True)
class Spread:
    """Look-ups that some servers have answered. `seconds` is the median of the rounds, `counts` is of the last."""

    query: BenchmarkQuery
    servers: str
    look_ups: int
    seconds: float
    counts: Mapping[str, int]

    @property
    def rate(self) -> float:
        """Look-ups a second."""
        return self.look_ups / self.seconds


async def spread(dsn: str, plan: Plan) -> list[Spread]:
    """Measure `plan` on the primary, then on one replica, two and so on. With one host there is nothing to measure.

    The look-ups are made at once by the methods of a cluster, with a pool of the plan's first size for each host.
    Raises StorefrontError if a host does not answer.
    """
    if not has_several_hosts(dsn):
        return []
    ids = await choose_ids(dsn, plan)
    async with open_database(dsn, size=1) as database:
        hosts = database.hosts()
    lost = [host_address(info) for info in hosts if info.role is None]
    if lost:
        raise StorefrontError(f"the servers cannot be compared, because {', '.join(lost)} does not answer")
    hosts.sort(key=lambda info: info.role != "primary")
    names = {await _started_at(dsn, info): host_address(info) for info in hosts}
    return [await _measure(dsn, plan, ids, hosts[: number + 1], names) for number in range(len(hosts))]


async def _started_at(dsn: str, info: headrace.cluster.HostInfo) -> Any:
    connection = await headrace.connect(dsn, host=info.host, hostaddr=info.hostaddr or "", port=info.port)
    try:
        return await connection.fetchval(f"SELECT {STARTED_AT}")
    finally:
        await connection.close()


async def _measure(
    dsn: str,
    plan: Plan,
    ids: Sequence[int],
    hosts: Sequence[headrace.cluster.HostInfo],
    names: Mapping[Any, str],
) -> Spread:
    size, replicas = plan.pool_sizes[0], len(hosts) - 1
    sql = f"SELECT found.product_id, {STARTED_AT} FROM ({plan.query.sql}) AS found"
    async with headrace.create_cluster(
        dsn,
        host=[info.host for info in hosts],
        hostaddr=",".join(info.hostaddr or "" for info in hosts),
        port=[info.port for info in hosts],
        min_size=size,
        max_size=size,
    ) as cluster:
        await cluster.ready(replicas=replicas)
        view = cluster.replicas if replicas else cluster.primary

        async def look_up_all(wanted: Sequence[int]) -> tuple[float, Counter[str]]:
            started = time.perf_counter()
            rows = await asyncio.gather(*(view.fetchrow(sql, product_id) for product_id in wanted))
            seconds = time.perf_counter() - started
            counts: Counter[str] = Counter()
            for product_id, row in zip(wanted, rows, strict=True):
                if row is None or row[0] != product_id:
                    raise StorefrontError(f"the look-up of product {product_id} answered with {row and row[0]}")
                counts[names[row[1]]] += 1
            return seconds, counts

        await look_up_all(ids[:WARM_UP])
        rounds = [await look_up_all(ids) for _ in range(plan.rounds)]
    return Spread(
        plan.query,
        counted(replicas, "replica") if replicas else "the primary",
        len(ids),
        statistics.median(seconds for seconds, _ in rounds),
        dict(sorted(rounds[-1][1].items())),
    )
