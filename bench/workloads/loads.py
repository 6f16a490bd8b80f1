"""Look-ups that a loader puts together, beside a look-up for each key on an acquired connection."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from statistics import median
from typing import Any

from bench.data import SCHEMA, SKUS
from bench.peers.peer import Peer, PeerLoader, Rows
from bench.workloads.lookups import PRODUCT, keys_of
from bench.workloads.workload import POOL_SIZE, AtLeast, Job, Open, Scale, Workload, expect

# Unlike those of products, no key comes twice.
SKU = f"SELECT sku_id, product_id, product_size_id FROM {SCHEMA}.sku WHERE sku_id = $1"

SUBJECT = "headrace"
MOST_BARE_FUTURES = 2.5
"""gather() of load() may take this many times as long as gather() of as many futures that get a result at once."""

Ask = Callable[[PeerLoader], Callable[[Sequence[int]], Awaitable[Rows]]]


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    products, skus = keys_of(scale.lookups), skus_of(scale.lookups)

    def workload(name: str, title: str, opened: Open, times: float | None) -> Workload:
        requirement = None if times is None else AtLeast(times)
        return Workload(
            name, title, "queries/s", "one row a key, by a loader", opened, batch=scale.lookups, requirement=requirement
        )

    count = f"{scale.lookups:,}"
    return [
        workload("load-at-once", f"{count} load() at once", _at_once(products), 30.0),
        workload(
            "load-tasks",
            f"{count} tasks, a load() in each",
            _opened(PRODUCT, "product_id", products, lambda loader: loader.load_in_tasks),
            10.0,
        ),
        workload(
            "load-many",
            f"load_many() of {count}",
            _opened(PRODUCT, "product_id", products, lambda loader: loader.load_many),
            100.0,
        ),
        workload(
            "load-distinct",
            f"{count} load() at once, all keys distinct",
            _opened(SKU, "sku_id", skus, lambda loader: loader.load_at_once),
            None,
        ),
        workload(
            "load-many-distinct",
            f"load_many() of {count}, all keys distinct",
            _opened(SKU, "sku_id", skus, lambda loader: loader.load_many),
            None,
        ),
    ]


def skus_of(count: int) -> list[int]:
    """Return random sku ids without repetition, which are the same in every run."""
    return random.Random(1).sample(range(1, SKUS + 1), count)


def _opened(sql: str, column: str, keys: list[int], ask: Ask) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.pool(dsn, POOL_SIZE) as pool:
            run = ask(pool.loader(sql, column))
            yield Job(run=lambda n: run(keys[:n]), check=_right_rows(keys))

    return opened


def _at_once(keys: list[int]) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.pool(dsn, POOL_SIZE) as pool:
            loader = pool.loader(PRODUCT, "product_id")
            note = ""
            if peer.name == SUBJECT:
                ratio = await _to_bare_futures(loader, keys)
                wanted = "" if ratio <= MOST_BARE_FUTURES else f", more than the {MOST_BARE_FUTURES} wanted"
                note = f"{ratio:.2f} times the time of gather() of as many bare futures{wanted}"
            yield Job(run=lambda n: loader.load_at_once(keys[:n]), check=_right_rows(keys), note=note)

    return opened


async def _to_bare_futures(loader: PeerLoader, keys: list[int]) -> float:
    """Return how many times as long gather() of load() takes as gather() of as many futures: the median of rounds."""
    await loader.load_at_once(keys)
    ratios = []
    for _ in range(11):
        bare = await _seconds(_gather_bare(len(keys)))
        ratios.append(await _seconds(loader.load_at_once(keys)) / bare)
    return median(ratios)


async def _seconds(awaitable: Awaitable[object]) -> float:
    start = time.perf_counter()
    await awaitable
    return time.perf_counter() - start


async def _gather_bare(count: int) -> None:
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[None]] = [loop.create_future() for _ in range(count)]

    def settle() -> None:
        for future in futures:
            future.set_result(None)

    loop.call_soon(settle)
    await asyncio.gather(*futures)


def _right_rows(keys: Sequence[int]) -> Callable[[Any], Awaitable[None]]:
    async def check(rows: Any) -> None:
        got = [row[0] for row in rows]
        expect(got == list(keys[: len(got)]) and len(got) > 0, "every row is its own key's")

    return check
