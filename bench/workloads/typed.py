"""Rows as objects of the program's own classes, and their extra cost compared with plain rows.

Objects with lists are compared with objects of one class that has all columns. Drivers without them group such rows.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import make_dataclass
from itertools import groupby
from operator import attrgetter
from statistics import median
from typing import Any, NamedTuple, TypedDict, is_typeddict

from bench.data import SCHEMA
from bench.measurement import SUBJECT
from bench.peers.peer import Peer
from bench.workloads.workload import AtLeast, Job, Open, Scale, Workload, expect

MIXED = f"SELECT * FROM {SCHEMA}.mixed"
COLUMNS = ("id", "name", "price", "made_at", "code", "details", "available", "weight", "due", "labels")
COUNT = 1_000

DEAREST = 1.3
"""How many times as much as plain rows the objects may cost. The note says so if they cost more in this run."""
ROUNDS = 15
FETCHES = 8


class Dict(TypedDict):
    """A mixed row."""

    id: object
    name: object
    price: object
    made_at: object
    code: object
    details: object
    available: object
    weight: object
    due: object
    labels: object


CLASSES: dict[str, tuple[str, Any]] = {
    "dataclass": ("dataclasses", make_dataclass("Plain", COLUMNS)),
    "slots": ("dataclasses with slots", make_dataclass("Slotted", COLUMNS, slots=True)),
    "frozen": ("frozen dataclasses", make_dataclass("Frozen", COLUMNS, frozen=True)),
    "namedtuple": ("NamedTuples", NamedTuple("Tuple", [(column, object) for column in COLUMNS])),
    "typeddict": ("TypedDicts", Dict),
}


NESTED = f"""
    SELECT (id - 1) / 5 AS product_id, 'product ' || (id - 1) / 5 AS product_name, (id - 1) / 50 AS brand_id,
        id AS skus__sku_id, name AS skus__name, available AS skus__available, weight AS skus__weight
    FROM {SCHEMA}.mixed ORDER BY id
"""
"""Five SKUs a product. A join would measure the server."""

Flat = make_dataclass(
    "Flat",
    ("product_id", "product_name", "brand_id", "skus__sku_id", "skus__name", "skus__available", "skus__weight"),
)
Sku = make_dataclass("Sku", [("sku_id", int), ("name", object), ("available", object), ("weight", object)])
Nested = make_dataclass(
    "Nested",
    [("product_id", int), ("product_name", str), ("brand_id", int), ("skus", list[Sku])],  # type: ignore[valid-type]
)


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject; none depends on the scale."""
    return [
        Workload(
            f"typed-{name}",
            f"1,000 mixed rows as {title}",
            "rows/s",
            "many rows a query",
            _fetch_as(row),
            requirement=AtLeast(1.3),
        )
        for name, (title, row) in CLASSES.items()
    ] + [
        Workload(
            "typed-nested",
            "1,000 rows as products with lists of SKUs",
            "rows/s",
            "many rows a query",
            _fetch_nested,
            requirement=AtLeast(1.3),
        )
    ]


def _fetch_as(row: Any) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.connection(dsn) as connection:
            cost = None
            if peer.name == SUBJECT:
                cost = await _cost(lambda: connection.fetch_as(MIXED, row), lambda: connection.fetch(MIXED))

            async def run(count: int) -> object:
                for _ in range(count - 1):
                    await connection.fetch_as(MIXED, row)
                return await connection.fetch_as(MIXED, row)

            async def check(result: Any) -> None:
                expect(len(result) == COUNT, f"{COUNT} rows come, not {len(result)}")
                made = dict if is_typeddict(row) else row
                expect(type(result[0]) is made, f"a row is a {made.__name__}, not a {type(result[0]).__name__}")
                name = result[0]["name"] if made is dict else result[0].name
                expect(name == "product 1", "every field has its column")

            note = ""
            if cost is not None:
                wanted = "" if cost <= DEAREST else f", more than the {DEAREST} wanted"
                note = f"{row.__name__}: {cost:.2f} times the cost of Record{wanted}"
            yield Job(run=run, check=check, units=COUNT, note=note)

    return opened


@asynccontextmanager
async def _fetch_nested(peer: Peer, dsn: str) -> AsyncIterator[Job]:
    """Fetch objects with lists; a driver that has none fetches flat objects, which are grouped here."""
    async with peer.connection(dsn) as connection:
        note = ""
        if peer.name == SUBJECT:
            cost = await _cost(lambda: connection.fetch_as(NESTED, Nested), lambda: connection.fetch_as(NESTED, Flat))
            wanted = "" if cost <= DEAREST else f", more than the {DEAREST} wanted"
            note = f"with lists: {cost:.2f} times the cost of flat objects{wanted}"

        async def fetch() -> Sequence[Any]:
            if peer.name == SUBJECT:
                return await connection.fetch_as(NESTED, Nested)
            rows = await connection.fetch_as(NESTED, Flat)
            return [
                Nested(
                    *key,
                    [Sku(row.skus__sku_id, row.skus__name, row.skus__available, row.skus__weight) for row in group],
                )
                for key, group in groupby(rows, attrgetter("product_id", "product_name", "brand_id"))
            ]

        async def run(count: int) -> object:
            for _ in range(count - 1):
                await fetch()
            return await fetch()

        async def check(result: Any) -> None:
            count = sum(len(product.skus) for product in result)
            expect(count == COUNT, f"{COUNT} SKUs come, not {count}")
            expect(
                {type(each) for each in (result[0], result[0].skus[0])} == {Nested, Sku},
                "the objects are of their classes",
            )
            expect(len({product.product_id for product in result}) == len(result), "each product is one object")

        yield Job(run=run, check=check, units=COUNT, note=note)


async def _cost(dearer: Callable[[], Awaitable[object]], cheaper: Callable[[], Awaitable[object]]) -> float:
    """Return the ratio of the times of two operations, measured alternately."""

    async def seconds(ask: Callable[[], Awaitable[object]]) -> float:
        start = time.perf_counter()
        for _ in range(FETCHES):
            await ask()
        return time.perf_counter() - start

    await seconds(dearer)
    await seconds(cheaper)
    return median([await seconds(dearer) / await seconds(cheaper) for _ in range(ROUNDS)])
