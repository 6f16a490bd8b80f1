"""Look-ups of one row: at once and one after another, through a pool and on one connection."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

from bench.data import PRODUCTS, SCHEMA
from bench.peers.peer import Peer
from bench.workloads.workload import POOL_SIZE, AtLeast, Job, Limit, Open, Scale, Workload, expect

PRODUCT = f"SELECT product_id, product_name, brand_id FROM {SCHEMA}.product WHERE product_id = $1"

# A join of four tables with one SKU of the product, so that no driver pays for rows that it does not need.
JOIN = f"""
    SELECT p.product_id, p.product_name, p.brand_id, s.sku_id, c.product_color_name, z.product_size_name
    FROM {SCHEMA}.product AS p
    JOIN {SCHEMA}.sku AS s ON s.product_id = p.product_id
    JOIN {SCHEMA}.product_color AS c ON c.product_color_id = s.product_color_id
    JOIN {SCHEMA}.product_size AS z ON z.product_size_id = s.product_size_id
    WHERE p.product_id = $1 LIMIT 1
"""

# The default of max_pipeline, the most that headrace has in flight on a connection.
PIPELINE = 100
SERIAL_SHARE = 2
TASKS = 16


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    at_once = f"{scale.lookups:,} at once"
    serial = scale.lookups // SERIAL_SHARE

    def limit(sql: str, clients: int, pipeline: int) -> Limit:
        statement = " ".join(sql.replace("$1", ":key").split())
        script = f"\\set key random(1, {PRODUCTS})\n{statement};\n"
        queries = scale.lookups * (20 if pipeline > 1 else 2)
        return Limit(script, clients=clients, queries=queries, pipeline=pipeline)

    def workload(name: str, title: str, opened: Open, **rest: Any) -> Workload:
        return Workload(name, title, "queries/s", "one row a query", opened, **rest)

    return [
        workload(
            "lookup-pool",
            f"primary key, {at_once}, pool of six",
            _pooled(PRODUCT, scale.lookups, leased=False),
            batch=scale.lookups,
            at_once=True,
            requirement=AtLeast(8.0),
            limit=limit(PRODUCT, POOL_SIZE, PIPELINE),
        ),
        workload(
            "lookup-16",
            f"primary key, {scale.lookups:,} by 16 tasks, pool of six",
            _in_tasks(PRODUCT, scale.lookups, TASKS),
            batch=scale.lookups,
            limit=limit(PRODUCT, TASKS, 1),
        ),
        workload(
            "lookup-acquire",
            f"primary key, {at_once}, pool of six, acquire around each",
            _pooled(PRODUCT, scale.lookups, leased=True),
            batch=scale.lookups,
            requirement=AtLeast(1.5),
            limit=limit(PRODUCT, POOL_SIZE, 1),
        ),
        workload(
            "lookup-lazy",
            f"primary key, {at_once}, pool of six with lazy_acquire, acquire around each",
            _pooled(PRODUCT, scale.lookups, leased=True, lazy=True),
            batch=scale.lookups,
            at_once=True,
            requirement=AtLeast(5.0),
            limit=limit(PRODUCT, POOL_SIZE, PIPELINE),
        ),
        workload(
            "lookup-connection",
            f"primary key, {at_once}, one connection",
            _one_connection(scale.lookups),
            batch=scale.lookups,
            at_once=True,
            requirement=AtLeast(5.0),
            limit=limit(PRODUCT, 1, PIPELINE),
        ),
        workload(
            "lookup-serial",
            f"primary key, {serial:,} one after another, one connection",
            _serial(serial),
            batch=serial,
            requirement=AtLeast(1.0),
            limit=limit(PRODUCT, 1, 1),
        ),
        workload(
            "each-pool",
            f"primary key, {scale.lookups:,} by one call, pool of six",
            _in_one(PRODUCT, scale.lookups),
            batch=scale.lookups,
            at_once=True,
            requirement=AtLeast(25.0),
            limit=limit(PRODUCT, POOL_SIZE, PIPELINE),
        ),
        workload(
            "each-alone",
            f"primary key and now(), {scale.lookups:,} by one call, pool of six",
            _in_one(PRODUCT + " AND now() IS NOT NULL", scale.lookups),
            batch=scale.lookups,
            at_once=True,
            requirement=AtLeast(12.0),
            limit=limit(PRODUCT, POOL_SIZE, PIPELINE),
        ),
        workload(
            "each-connection",
            f"primary key, {scale.lookups:,} by one call, one connection",
            _in_one_on_a_connection(scale.lookups),
            batch=scale.lookups,
            at_once=True,
            limit=limit(PRODUCT, 1, PIPELINE),
        ),
        workload(
            "join-acquire",
            f"product join, {at_once}, pool of six, acquire around each",
            _pooled(JOIN, scale.lookups, leased=True),
            batch=scale.lookups,
            limit=limit(JOIN, POOL_SIZE, 1),
        ),
    ]


def keys_of(count: int) -> list[int]:
    """Return random product ids, which are the same in every run."""
    source = random.Random(1)
    return [source.randint(1, PRODUCTS) for _ in range(count)]


def _pooled(sql: str, count: int, *, leased: bool, lazy: bool = False) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        keys = keys_of(count)
        async with peer.pool(dsn, POOL_SIZE, lazy=lazy) as pool:
            ask = pool.fetchrow_leased if leased else pool.fetchrow_at_once
            yield Job(run=lambda n: ask(sql, keys[:n]), check=_right_rows(keys))

    return opened


def _in_tasks(sql: str, count: int, tasks: int) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        keys = keys_of(count)
        async with peer.pool(dsn, POOL_SIZE) as pool:
            yield Job(run=lambda n: pool.fetchrow_in_tasks(sql, keys[:n], tasks), check=_right_rows(keys))

    return opened


def _one_connection(count: int) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        keys = keys_of(count)
        if peer.overlapping:
            async with peer.connection(dsn) as connection:
                yield Job(run=lambda n: connection.fetchrow_at_once(PRODUCT, keys[:n]), check=_right_rows(keys))
        else:
            # A user of such a driver would do this instead, and the required ratio refers to it.
            async with peer.pool(dsn, POOL_SIZE) as pool:
                yield Job(
                    run=lambda n: pool.fetchrow_at_once(PRODUCT, keys[:n]),
                    check=_right_rows(keys),
                    note="one connection cannot; measured with its pool of six",
                )

    return opened


def _in_one(sql: str, count: int) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        keys = keys_of(count)
        async with peer.pool(dsn, POOL_SIZE) as pool:
            yield Job(run=lambda n: pool.fetchrow_in_one(sql, keys[:n]), check=_right_rows(keys))

    return opened


def _in_one_on_a_connection(count: int) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        keys = keys_of(count)
        if peer.name == "headrace":
            async with peer.connection(dsn) as connection:
                yield Job(run=lambda n: connection.fetchrow_in_one(PRODUCT, keys[:n]), check=_right_rows(keys))
        else:
            async with peer.pool(dsn, POOL_SIZE) as pool:
                yield Job(
                    run=lambda n: pool.fetchrow_in_one(PRODUCT, keys[:n]),
                    check=_right_rows(keys),
                    note="has no such call; measured with its pool of six, acquire around each",
                )

    return opened


def _serial(count: int) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        keys = keys_of(count)
        async with peer.connection(dsn) as connection:
            yield Job(run=lambda n: connection.fetchrow_each(PRODUCT, keys[:n]), check=_right_rows(keys))

    return opened


def _right_rows(keys: Sequence[int]) -> Callable[[Any], Awaitable[None]]:
    async def check(rows: Any) -> None:
        got = [row[0] for row in rows]
        expect(got == list(keys[: len(got)]) and len(got) > 0, "every row is its own key's")
        expect(isinstance(rows[0][1], str), "text decodes to str")

    return check
