"""Accounts: what is there between the epochs, when nothing is under way.

Descriptors, tasks, objects of the driver by type, blocks of memory and the backends at the server: what the idle pools
need is there, and nothing else.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace._io.driver import Driver

if TYPE_CHECKING:
    from tests.servers import Cluster
    from tests.soak.figures import Figures
    from tests.soak.routes import Route

PATIENCE = 30.0
"""Seconds for what has ended to be gone at the server, and for pools to be back at their sizes."""

PAUSE = 0.05

SLACK = 64
"""By how much a count may differ from one quiet moment to the next: connections that pools open as they need them."""


KEPT = frozenset({"Traits", "Skeleton", "Fields", "Field", "ClassShape", "QueryProfile", "Cost", "CastTypes"})
"""Classes of which objects may be left: what is known of texts of queries and of classes of rows, within bounds."""


@dataclass(frozen=True)
class Sample:
    """The process at a quiet moment."""

    queries: int
    descriptors: int
    tasks: int
    """But for those of the proxies."""
    blocks: int
    """Allocated by Python's own allocator (sys.getallocatedblocks)."""
    resident: int
    """Bytes."""
    objects: Mapping[str, int]
    """Instances of the driver's classes, by name."""
    connections: int
    """Connections of the pools."""


def forget_statements() -> None:
    """Have all connections close their cached statements: how many these are is up to chance."""
    for each in gc.get_objects():
        if type(each) is Driver and not each.is_closed:
            each.session.statements.forget_all()
            each.transport.flush_soon()


def sample(queries: int, routes: Mapping[str, Route]) -> Sample:
    """Take stock, after a collection of garbage."""
    gc.collect()
    gc.collect()
    return Sample(
        queries,
        len(os.listdir("/proc/self/fd")),
        sum(not _is_a_proxys(task) for task in asyncio.all_tasks()),
        sys.getallocatedblocks(),
        _resident(),
        objects(),
        sum(route.pool.get_size() for route in routes.values()),
    )


def _is_a_proxys(task: asyncio.Task[object]) -> bool:
    return getattr(task.get_coro(), "__qualname__", "").partition(".")[0] in ("Proxy", "Link", "Flow")


def objects() -> Counter[str]:
    """Return how many instances there are of each of the driver's classes."""
    return Counter(kind.__qualname__ for each in gc.get_objects() if _is_ours(kind := type(each)))


def _is_ours(kind: type) -> bool:
    # Of a class with a property of that name __module__ is the property.
    return str(getattr(kind, "__module__", "")).partition(".")[0] == "headrace"


def _resident() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


async def quiet(cluster: Cluster, database: str, routes: Mapping[str, Route], figures: Figures) -> None:
    """Wait until only idle connections of the pools are left, here and at the server; find what else there is."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE
    while True:
        left = _left(cluster, database, routes)
        if not left:
            return
        if loop.time() > deadline:
            for each in left:
                figures.find("left behind", each)
            return
        await asyncio.sleep(PAUSE)


def _left(cluster: Cluster, database: str, routes: Mapping[str, Route]) -> list[str]:
    left = []
    backends = [each for each in cluster.backends(database) if each.application.startswith("soak_")]
    for route in routes.values():
        pool = route.pool
        if pool.get_idle_size() != pool.get_size():
            left.append(f"the pool of route {route.name} is not idle: {pool!r}")
        here = sum(each.application == route.application for each in backends)
        if here != pool.get_size():
            left.append(f"route {route.name} has {here} backends at the server, {pool.get_size()} in its pool")
    left += [f"a backend is {each.state}, not idle: {each}" for each in backends if each.state != "idle"]
    locks = cluster.sql(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database ="
        " (SELECT oid FROM pg_database WHERE datname = %s)",
        database,
    )[0][0]
    if locks:
        left.append(f"{locks} advisory locks are still held")
    return left


def compare(samples: Sequence[Sample], figures: Figures) -> None:
    """Find what has grown from the first of the quiet moments to the last: the first two thirds are for warming up."""
    settled = samples[len(samples) // 3 :]
    if len(settled) < 2:
        return
    first, last = settled[0], settled[-1]
    if last.tasks > first.tasks + SLACK:
        figures.find("leak", f"{first.tasks} tasks have become {last.tasks}")
    if last.descriptors - last.connections > first.descriptors - first.connections + SLACK:
        figures.find("leak", f"{first.descriptors} descriptors have become {last.descriptors}")
    for name in sorted((last.objects.keys() | first.objects.keys()) - KEPT):
        before = max(each.objects.get(name, 0) for each in settled[: max(1, len(settled) // 2)])
        now = min(each.objects.get(name, 0) for each in settled[-max(1, len(settled) // 3) :])
        if now > before * 1.25 + SLACK:
            figures.find("leak", f"{before} objects of {name} have become {now}")


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of y over x; 0 where there are fewer than two points."""
    count = len(points)
    if count < 2:
        return 0.0
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0
