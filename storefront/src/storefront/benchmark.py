"""Measure the look-ups per second of each way of making them.

The same 10,000 look-ups are made one after another, as code does that awaits each of them; at once, with a connection
of a pool for each; at once on a single connection; and in the ways that a pool of headrace has for many look-ups. Other
drivers, which are called peers here, are measured in the same rounds. Every answer is checked against the id asked for.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from random import Random
from typing import Any, Protocol

import headrace
from storefront import hints
from storefront.catalogue import LOOK_UP
from storefront.database import POOL_SIZE, has_several_hosts, open_connection
from storefront.errors import StorefrontError, UsageError
from storefront.timing import timed

LOOK_UPS = 10_000
WARM_UP = 200
"""The number of look-ups before the measurements, for each way. They prepare the statements on the connections."""

HEADRACE = "headrace"
"""The name of headrace among the drivers."""

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


class Row(Protocol):
    """A row of any driver. It gives the value of a column by name."""

    def __getitem__(self, column: str, /) -> Any:
        """Return the value of a column."""


Answers = Sequence[Row | None]


@dataclass(frozen=True)
class Task:
    """A way of a driver, on a pool that is open. `run` makes the look-ups of the ids."""

    driver: str
    way: Way
    connections: int
    run: Callable[[BenchmarkQuery, Sequence[int]], Coroutine[Any, Any, Answers]]

    @property
    def key(self) -> tuple[str, Way, int]:
        """The driver, the way and the number of connections. They are the same in each round."""
        return self.driver, self.way, self.connections


class Peer(Protocol):
    """A driver to measure beside headrace."""

    @property
    def name(self) -> str:
        """The name of the driver."""

    @property
    def version(self) -> str:
        """The version that is installed."""

    def open(self, dsn: str, size: int, search_path: str | None) -> AbstractAsyncContextManager[list[Task]]:
        """Open connections for the time of a `with` block. Yield a task for each way that the driver has.

        `size` is the number of connections of a pool. Raises StorefrontError if the driver cannot connect.
        """


class NotPossibleError(StorefrontError):
    """A driver does not have a way. The text is the name of the error that it raises."""


@dataclass(frozen=True)
class Measurement:
    """The result of one way. `seconds` is the median of the rounds.

    `speed_up` is the factor over the same driver's one after another. If the driver raises an error in this way, there
    are no figures, and `error` is the name of the error.
    """

    query: BenchmarkQuery
    way: Way
    connections: int
    indexed: bool
    look_ups: int
    seconds: float | None
    speed_up: float | None
    driver: str = HEADRACE
    error: str | None = None

    @property
    def rate(self) -> float | None:
        """Look-ups a second."""
        return None if self.seconds is None else self.look_ups / self.seconds


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
    peers: Sequence[Peer] = ()

    def __post_init__(self) -> None:
        if self.look_ups < 1:
            raise UsageError(f"the number of look-ups must be at least 1, got {self.look_ups}")
        if self.rounds < 1:
            raise UsageError(f"the number of rounds must be at least 1, got {self.rounds}")
        if not self.pool_sizes or min(self.pool_sizes) < 1:
            sizes = ",".join(map(str, self.pool_sizes))
            raise UsageError(f"pool sizes must be whole numbers of at least 1, got {sizes!r}")


Run = Callable[[headrace.Pool, BenchmarkQuery, Sequence[int]], Coroutine[Any, Any, Answers]]


async def _acquire_and_fetch(pool: headrace.Pool, sql: str, product_id: int) -> headrace.Record | None:
    async with pool.acquire() as connection:
        record: headrace.Record | None = await connection.fetchrow(sql, product_id)
    return record


async def one_after_another(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> Answers:
    """Look up each id after the previous one is done, on a single connection."""
    async with pool.acquire() as connection:
        return [await connection.fetchrow(query.sql, product_id) for product_id in ids]


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
    groups = ((group,) for group in groups_of(ids))
    async with aclosing(pool.fetch_each(query.grouped_sql, groups)) as answers:
        return in_order(ids, [rows async for rows in answers])


def groups_of(ids: Sequence[int]) -> list[list[int]]:
    """Return the ids in lists of GROUP."""
    return [list(ids[start : start + GROUP]) for start in range(0, len(ids), GROUP)]


def in_order(ids: Sequence[int], groups: Iterable[Iterable[Row]]) -> Answers:
    """Put the rows of the groups into the order of the ids."""
    found = {row["product_id"]: row for rows in groups for row in rows}
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

    Raises StorefrontError if the catalogue has no SKUs to look up, if a peer fails, or if an answer is for another id.
    """
    ids = await choose_ids(dsn, plan)
    measurements = await _measure(dsn, plan, ids, None)
    if plan.without_index:
        async with _unindexed(dsn) as search_path:
            measurements += await _measure(dsn, plan, ids, search_path)
    return measurements


async def choose_ids(dsn: str, plan: Plan) -> list[int]:
    """Return the ids to look up. Raises StorefrontError if there is no product that has SKUs."""
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


@asynccontextmanager
async def _headrace(dsn: str, size: int, search_path: str | None) -> AsyncIterator[list[Task]]:
    """Open the pools of headrace. Yield a task for each way."""
    settings = {"search_path": search_path} if search_path else None
    attrs: dict[str, Any] = {"target_session_attrs": "primary"} if has_several_hosts(dsn) else {}
    async with AsyncExitStack() as stack:
        pool, lazy = [
            await stack.enter_async_context(
                headrace.create_pool(
                    dsn, min_size=size, max_size=size, server_settings=settings, lazy_acquire=lazy_acquire, **attrs
                )
            )
            for lazy_acquire in (False, True)
        ]
        yield [
            Task(
                HEADRACE,
                way,
                size if way.uses_pool else 1,
                partial(RUNS[way], lazy if way is Way.LAZY_ACQUIRE else pool),
            )
            for way in Way
        ]


async def _measure(dsn: str, plan: Plan, ids: list[int], search_path: str | None) -> list[Measurement]:
    """Run every way `plan.rounds` times, in turns, so that a slow moment of the machine affects all of them.

    Only the pools of one size are open at a time, because a server has a limited number of connections.
    """
    results: dict[tuple[str, Way, int], list[float | NotPossibleError]] = {}
    for number in range(plan.rounds):
        for size in plan.pool_sizes:
            async with AsyncExitStack() as stack:
                tasks = await stack.enter_async_context(_headrace(dsn, size, search_path))
                for peer in plan.peers:
                    tasks += await stack.enter_async_context(peer.open(dsn, size, search_path))
                # The ways that do not use a whole pool are measured with the first size only.
                tasks = [task for task in tasks if len(results.setdefault(task.key, [])) == number]
                for task in tasks:
                    # WARM_UP ids are a single group, for which one connection is enough.
                    await _run(look_up_all, task, plan.query, ids if task.way is Way.GROUPED else ids[:WARM_UP])
                for task in tasks:
                    results[task.key].append(await _run(run_way, task, plan.query, ids))
    return _summarize(plan, results, indexed=search_path is None)


async def _run(
    run: Callable[..., Coroutine[Any, Any, float]], task: Task, query: BenchmarkQuery, ids: Sequence[int]
) -> float | NotPossibleError:
    """Return the seconds of a task, or the error that says that its driver does not have this way."""
    try:
        return await run(task.driver, task.way, query, ids, task.run)
    except NotPossibleError as error:
        return error


def _summarize(
    plan: Plan, results: dict[tuple[str, Way, int], list[float | NotPossibleError]], *, indexed: bool
) -> list[Measurement]:
    """Return the medians by driver, way and pool size, in the order of the tables."""
    drivers = [HEADRACE, *(peer.name for peer in plan.peers)]
    measurements: list[Measurement] = []
    baselines: dict[str, float] = {}
    # The pool sizes of a way stay in the order in which they were measured.
    for key in sorted(results, key=lambda key: (drivers.index(key[0]), list(Way).index(key[1]))):
        driver, way, connections = key
        error = next((str(result) for result in results[key] if isinstance(result, NotPossibleError)), None)
        seconds = speed_up = None
        if error is None:
            seconds = statistics.median(result for result in results[key] if isinstance(result, float))
            speed_up = baselines.setdefault(driver, seconds) / seconds
        measurements.append(
            Measurement(plan.query, way, connections, indexed, plan.look_ups, seconds, speed_up, driver, error)
        )
    return measurements


async def look_up_all(
    driver: str,
    way: Way,
    query: BenchmarkQuery,
    ids: Sequence[int],
    run: Callable[[BenchmarkQuery, Sequence[int]], Coroutine[Any, Any, Answers]],
) -> float:
    """Look up all ids in one way and return the seconds. The answers are checked after the clock has stopped."""
    started = time.perf_counter()
    answers = await run(query, ids)
    seconds = time.perf_counter() - started
    for product_id, answer in zip(ids, answers, strict=True):
        if answer is None or answer["product_id"] != product_id:
            got = "nothing" if answer is None else f"product {answer['product_id']}"
            raise StorefrontError(f"{driver}, {way}: the look-up of product {product_id} answered with {got}")
    return seconds


run_way = timed(look_up_all)
"""Does the same, and logs it. Warming up is not logged."""
