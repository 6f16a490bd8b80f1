"""Measure the look-ups per second of each way of making them.

The same 10,000 look-ups are made one after another, as code does that awaits each of them; at once, with a connection
of a pool for each; at once on a single connection; and in the ways that a pool of headrace has for many look-ups. Every
answer is checked against the id asked for.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from random import Random
from typing import Any

import headrace
from storefront import hints
from storefront.catalogue import LOOK_UP
from storefront.database import POOL_SIZE, open_connection
from storefront.errors import StorefrontError, UsageError
from storefront.timing import timed

LOOK_UPS = 10_000
WARM_UP = 200
"""The number of look-ups before the first measurement. They open the connections and prepare the statements."""

GROUP = 500
"""The number of ids in a query of Way.GROUPED."""

FIRST_SKUS = """\
SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, s.product_color_name, s.product_size_name
FROM product AS p
CROSS JOIN LATERAL (
    SELECT sku.sku_id, c.product_color_name, z.product_size_name
    FROM sku
    JOIN product_color AS c ON c.product_color_id = sku.product_color_id
    JOIN product_size AS z ON z.product_size_id = sku.product_size_id
    WHERE sku.product_id = p.product_id
    LIMIT 1
) AS s
WHERE p.product_id = ANY($1)"""
"""The first row of catalogue.LOOK_UP for each of many products."""

UNINDEXED_SCHEMA = "storefront_without_index"
"""The schema of the copy of the table sku, which has no index. It exists while the copy is measured."""


class BenchmarkQuery(StrEnum):
    """The query of a look-up."""

    JOIN = "join"
    """A product's first SKU with size and colour by name: the four-way join of catalogue.LOOK_UP."""
    KEY = "key"
    """A product by its primary key. The server has the least work with it, so the driver's share is largest."""

    @property
    def sql(self) -> str:
        """The SQL text of the query."""
        key = "SELECT product_id, product_name, brand_id FROM product WHERE product_id = $1"
        return LOOK_UP if self is BenchmarkQuery.JOIN else key

    @property
    def grouped_sql(self) -> str:
        """The SQL text of the same look-up for the ids of an array. It has one row for each product that is found."""
        key = "SELECT product_id, product_name, brand_id FROM product WHERE product_id = ANY($1)"
        return FIRST_SKUS if self is BenchmarkQuery.JOIN else key

    @property
    def subject(self) -> str:
        """A description of the look-up for headings."""
        return "a product's SKU, a four-way join" if self is BenchmarkQuery.JOIN else "a product by primary key"


class Way(StrEnum):
    """A way of making the look-ups."""

    ONE_AFTER_ANOTHER = "one after another"
    POOL_ACQUIRE = "at once, pool.acquire()"
    ONE_CONNECTION = "at once, ONE connection"
    LAZY_ACQUIRE = "at once, lazy_acquire=True"
    """The code of POOL_ACQUIRE without a change, on a pool that has this option."""
    POOL_METHODS = "at once, pool.fetchrow()"
    EACH = "pool.fetchrow_each()"
    LOADER = "at once, loader.load()"
    GROUPED = "grouped in = ANY($1)"

    @property
    def uses_pool(self) -> bool:
        """True if the way uses all connections of its pool."""
        return self not in (Way.ONE_AFTER_ANOTHER, Way.ONE_CONNECTION)


@dataclass(frozen=True)
class Measurement:
    """The result of one way. `seconds` is the median of the rounds, `speed_up` the factor over one after another."""

    query: BenchmarkQuery
    way: Way
    connections: int
    indexed: bool
    look_ups: int
    seconds: float
    speed_up: float

    @property
    def rate(self) -> float:
        """Look-ups a second."""
        return self.look_ups / self.seconds


@dataclass(frozen=True)
class Plan:
    """The measurements to make. Raises UsageError for impossible numbers.

    The pool sizes apply to the ways that use a whole pool. The others use a pool of the first size.
    """

    query: BenchmarkQuery = BenchmarkQuery.JOIN
    look_ups: int = LOOK_UPS
    pool_sizes: Sequence[int] = (POOL_SIZE,)
    rounds: int = 1
    without_index: bool = False
    seed: int = 1

    def __post_init__(self) -> None:
        if self.look_ups < 1:
            raise UsageError(f"the number of look-ups must be at least 1, got {self.look_ups}")
        if self.rounds < 1:
            raise UsageError(f"the number of rounds must be at least 1, got {self.rounds}")
        if not self.pool_sizes or min(self.pool_sizes) < 1:
            sizes = ",".join(map(str, self.pool_sizes))
            raise UsageError(f"pool sizes must be whole numbers of at least 1, got {sizes!r}")


Answers = Sequence[headrace.Record | None]
Run = Callable[[headrace.Pool, BenchmarkQuery, Sequence[int]], Coroutine[Any, Any, Answers]]


async def _acquire_and_fetch(pool: headrace.Pool, sql: str, product_id: int) -> headrace.Record | None:
    async with pool.acquire() as connection:
        record: headrace.Record | None = await connection.fetchrow(sql, product_id)
    return record


async def one_after_another(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up each id after the previous one is done."""
    return [await _acquire_and_fetch(pool, query.sql, product_id) for product_id in ids]


async def at_once_acquiring(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up all ids at once. Each acquires a connection of its own from the pool."""
    return await asyncio.gather(*(_acquire_and_fetch(pool, query.sql, product_id) for product_id in ids))


async def at_once_on_one_connection(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up all ids at once on a single connection."""
    async with pool.acquire() as connection:
        answers: Answers = await asyncio.gather(*(connection.fetchrow(query.sql, product_id) for product_id in ids))
    return answers


async def at_once_by_pool_methods(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up all ids at once by the pool's own fetchrow."""
    answers: Answers = await asyncio.gather(*(pool.fetchrow(query.sql, product_id) for product_id in ids))
    return answers


async def by_fetchrow_each(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up all ids by a single call, which sends a query for each without a task for each."""
    async with aclosing(pool.fetchrow_each(query.sql, ((product_id,) for product_id in ids))) as rows:
        return [row async for row in rows]


async def at_once_by_loader(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up all ids at once by a new loader, which puts them into a few queries. Repeated ids are sent once."""
    loader = headrace.Loader[int, headrace.Record | None](pool, query.grouped_sql, key="product_id")
    return await asyncio.gather(*(loader.load(product_id) for product_id in ids))


async def grouped(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up all ids in groups, and put the rows into the order of the ids by hand."""
    groups = ((list(ids[start : start + GROUP]),) for start in range(0, len(ids), GROUP))
    found: dict[int, headrace.Record] = {}
    async with aclosing(pool.fetch_each(query.grouped_sql, groups)) as answers:
        async for rows in answers:
            found.update((row["product_id"], row) for row in rows)
    return [found.get(product_id) for product_id in ids]


RUNS: dict[Way, Run] = {
    Way.ONE_AFTER_ANOTHER: one_after_another,
    Way.POOL_ACQUIRE: at_once_acquiring,
    Way.ONE_CONNECTION: at_once_on_one_connection,
    Way.LAZY_ACQUIRE: at_once_acquiring,
    Way.POOL_METHODS: at_once_by_pool_methods,
    Way.EACH: by_fetchrow_each,
    Way.LOADER: at_once_by_loader,
    Way.GROUPED: grouped,
}


async def bench(dsn: str, plan: Plan) -> list[Measurement]:
    """Measure every way of `plan`, with the index and, if asked for, without it. Return the measurements.

    Raises StorefrontError if the catalogue has no SKUs to look up, or if an answer is for another id.
    """
    ids = await _choose_ids(dsn, plan)
    measurements = await _measure(dsn, plan, ids, None)
    if plan.without_index:
        async with _unindexed(dsn) as search_path:
            measurements += await _measure(dsn, plan, ids, search_path)
    return measurements


async def _choose_ids(dsn: str, plan: Plan) -> list[int]:
    async with open_connection(dsn) as connection:
        records = await connection.fetch("SELECT DISTINCT product_id FROM sku ORDER BY product_id")
    if not records:
        raise StorefrontError(f"the catalogue holds no SKUs to look up: run {hints.suggest('load')} first")
    known = [record["product_id"] for record in records]
    random = Random(plan.seed)
    return [known[int(random.random() * len(known))] for _ in range(plan.look_ups)]


@asynccontextmanager
async def _unindexed(dsn: str) -> AsyncIterator[str]:
    """Copy the table sku without its indexes. Yield the search path under which the same SQL finds the copy.

    The table itself keeps its index for its other users. The copy is dropped at the end.
    """
    async with open_connection(dsn) as connection:
        schema = await connection.fetchval("SELECT quote_ident(current_schema())")
        await connection.execute(f"""
            DROP SCHEMA IF EXISTS {UNINDEXED_SCHEMA} CASCADE;
            CREATE SCHEMA {UNINDEXED_SCHEMA};
            CREATE TABLE {UNINDEXED_SCHEMA}.sku AS TABLE sku;
            ANALYZE {UNINDEXED_SCHEMA}.sku;
        """)
        try:
            yield f"{UNINDEXED_SCHEMA}, {schema}"
        finally:
            await connection.execute(f"DROP SCHEMA {UNINDEXED_SCHEMA} CASCADE")


async def _measure(dsn: str, plan: Plan, ids: list[int], search_path: str | None) -> list[Measurement]:
    """Run every way `plan.rounds` times, in turns, so that a slow moment of the machine affects all of them."""
    settings = {"search_path": search_path} if search_path else None
    async with AsyncExitStack() as stack:
        tasks: list[tuple[Way, int, headrace.Pool]] = []
        for number, size in enumerate(plan.pool_sizes):
            pool, lazy = [
                await stack.enter_async_context(
                    headrace.create_pool(
                        dsn, min_size=size, max_size=size, server_settings=settings, lazy_acquire=lazy_acquire
                    )
                )
                for lazy_acquire in (False, True)
            ]
            tasks += [
                (way, size if way.uses_pool else 1, lazy if way is Way.LAZY_ACQUIRE else pool)
                for way in Way
                if number == 0 or way.uses_pool
            ]
        # The tables list the ways in this order, and each way by pool size.
        tasks.sort(key=lambda task: list(Way).index(task[0]))
        for way, _, pool in tasks:
            await RUNS[way](pool, plan.query, ids[:WARM_UP])
        seconds: list[list[float]] = [[] for _ in tasks]
        for _ in range(plan.rounds):
            for (way, _, pool), times in zip(tasks, seconds, strict=True):
                times.append(await run_way(way, plan.query, ids, pool))
    medians = [statistics.median(times) for times in seconds]
    return [
        Measurement(plan.query, way, connections, search_path is None, len(ids), median, medians[0] / median)
        for (way, connections, _), median in zip(tasks, medians, strict=True)
    ]


@timed
async def run_way(way: Way, query: BenchmarkQuery, ids: Sequence[int], pool: headrace.Pool) -> float:
    """Look up all ids in one way and return the seconds. The answers are checked after the clock has stopped."""
    started = time.perf_counter()
    answers = await RUNS[way](pool, query, ids)
    seconds = time.perf_counter() - started
    for product_id, answer in zip(ids, answers, strict=True):
        if answer is None or answer["product_id"] != product_id:
            got = "nothing" if answer is None else f"product {answer['product_id']}"
            raise StorefrontError(f"{way}: the look-up of product {product_id} answered with {got}")
    return seconds
