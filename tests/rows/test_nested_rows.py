"""Objects with lists: rows of one object become that object, with a list of what the rows have of their own."""

from __future__ import annotations

import copy
import gc
import pickle
import random
import sys
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, NewType, NotRequired, Optional, TypedDict

import attrs
import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass

import headrace

if TYPE_CHECKING:
    from decimal import Decimal as OnlyForCheckers


@dataclass
class Sku:
    sku_id: int
    label: str | None


@dataclass
class Product:
    id: int
    name: str | None
    skus: list[Sku]


@dataclass(slots=True)
class SlottedSku:
    sku_id: int
    label: Optional[str]  # noqa: UP045


@dataclass(slots=True)
class Slotted:
    id: int
    name: str | None
    skus: list[SlottedSku]


@dataclass(frozen=True)
class Frozen:
    id: int
    name: str | None
    skus: Sequence[Sku]


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    id: int
    name: str | None
    skus: list[SlottedSku] = field(default_factory=list)


@dataclass(kw_only=True)
class ByKeyword:
    skus: list[Sku] | None
    name: str | None
    id: int


class TupleSku(NamedTuple):
    sku_id: int
    label: str | None


class Tuple(NamedTuple):
    skus: list[TupleSku]
    id: int
    name: str | None


class DictSku(TypedDict):
    sku_id: int
    label: str | None


class Dict(TypedDict):
    id: int
    name: str | None
    skus: NotRequired[list[DictSku]]


@attrs.define
class AttrsSku:
    sku_id: int
    label: str | None


@attrs.define
class Attrs:
    id: int
    name: str | None
    skus: list[AttrsSku]


@attrs.frozen
class FrozenAttrs:
    id: int
    name: str | None
    skus: Annotated[list[AttrsSku], "annotated"]


class StructSku(msgspec.Struct, frozen=True):
    sku_id: int
    label: str | None


class Struct(msgspec.Struct):
    id: int
    name: str | None
    skus: list[StructSku]


class ModelSku(pydantic.BaseModel):
    sku_id: int
    label: str | None


class Model(pydantic.BaseModel):
    id: int
    name: str | None
    skus: list[ModelSku]


@pydantic_dataclass
class ModelDataclass:
    id: int
    name: str | None
    skus: list[Sku]


CLASSES: list[tuple[Any, Any]] = [
    (Product, Sku), (Slotted, SlottedSku), (Frozen, Sku), (FrozenSlotted, SlottedSku), (ByKeyword, Sku), (Tuple, TupleSku),
    (Dict, DictSku), (Attrs, AttrsSku), (FrozenAttrs, AttrsSku), (Struct, StructSku), (Model, ModelSku),
    (ModelDataclass, Sku),
]  # fmt: skip

every_class = pytest.mark.parametrize(("row", "sku"), CLASSES, ids=lambda each: each.__name__)

# The product g has g - 1 SKUs, so the first has none.
QUERY = """
    SELECT g AS id, 'product ' || nullif(g, 3) AS name, s AS skus__sku_id, 'sku ' || nullif(s, 2) AS skus__label
    FROM generate_series(1, $1::int) AS g LEFT JOIN generate_series(1, $1) AS s ON s < g
    ORDER BY g, s
"""


def products(row: Any, sku: Any, count: int) -> list[Any]:
    """Return what the rows of QUERY become."""
    return [
        row(
            id=g,
            name=None if g == 3 else f"product {g}",
            skus=[sku(sku_id=s, label=None if s == 2 else f"sku {s}") for s in range(1, g)],
        )
        for g in range(1, count + 1)
    ]


@every_class
async def test_rows_become_objects_with_lists(conn: headrace.Connection, pool: Any, row: Any, sku: Any) -> None:
    expected = products(row, sku, 4)
    rows = await conn.fetch(QUERY, 4, row=row)
    assert rows == expected
    assert all(type(each) is type(expected[0]) for each in rows)
    assert await conn.fetch(QUERY, 0, row=row) == []
    assert await conn.fetchrow(QUERY, 4, row=row) == expected[0]
    assert await conn.fetchrow(QUERY + " OFFSET 4", 4, row=row) == expected[3]
    assert await conn.fetchrow(QUERY, 0, row=row) is None
    assert await conn.fetchmany(QUERY, [(3,), (0,), (2,)], row=row) == [*expected[:3], *expected[:2]]
    assert [each async for each in conn.copy_out(QUERY, 4, row=row)] == expected

    statement = await conn.prepare(QUERY)
    assert await statement.fetch(4, row=row) == expected
    assert await statement.fetchrow(4, row=row) == expected[0]
    assert await statement.fetchmany([(2,), (2,)], row=row) == expected[:2] * 2

    async with conn.transaction():
        assert [each async for each in conn.cursor(QUERY, 4, prefetch=2, row=row)] == expected
        assert [each async for each in statement.cursor(4, row=row)] == expected
        cursor = await conn.cursor(QUERY, 4, row=row)
        assert await cursor.fetchrow() == expected[0]
        assert await cursor.forward(1) == 1
        assert await cursor.fetch(5) == expected[2:]
        assert await cursor.fetch(5) == []
        assert await cursor.fetchrow() is None
        assert await cursor.forward(1) == 0

    shared = await pool(min_size=1, max_size=1)
    assert await shared.fetch(QUERY, 4, row=row) == expected
    assert await shared.fetchrow(QUERY, 4, row=row) == expected[0]
    assert await shared.fetchmany(QUERY, [(1,)], row=row) == expected[:1]
    assert [each async for each in shared.copy_out(QUERY, 4, row=row)] == expected
    async with shared.acquire() as lease:
        assert await lease.fetch(QUERY, 4, row=row) == expected


@every_class
async def test_each_element_has_a_result_of_its_own(
    conn: headrace.Connection, pool: Any, row: Any, sku: Any
) -> None:
    counts = [3, 0, 3, 3, 1, 4]
    lists = [products(row, sku, count) for count in counts]
    firsts = [each[-1] if each else None for each in lists]
    first = QUERY.replace("ORDER BY g, s", "ORDER BY g DESC, s")
    shared = await pool(min_size=1, max_size=2)
    for one in (conn, shared):
        assert [each async for each in one.fetch_each(QUERY, [(count,) for count in counts], row=row)] == lists
        assert [each async for each in one.fetchrow_each(first, [(count,) for count in counts], row=row)] == firsts


@pytest.mark.parametrize("seed", range(8))
async def test_they_are_what_grouping_in_python_makes(conn: headrace.Connection, seed: int) -> None:
    chance = random.Random(seed)
    await conn.execute("CREATE TEMP TABLE flat (n serial, id int, name text, sku_id int, label text)")
    flat: list[tuple[int, str | None, int | None, str | None]] = []
    for number in chance.sample(range(1000), 40):
        name = chance.choice([None, "", "a", "b" * number])
        count = chance.choice([0, 0, 1, 2, 7])
        flat += [(number, name, s, chance.choice([None, "", f"sku {s}"])) for s in range(count)]
        if not count:
            flat.append((number, name, None, None))
    await conn.copy_records_to_table("flat", records=flat, columns=["id", "name", "sku_id", "label"])
    expected = []
    for (number, name), group in groupby(flat, lambda each: each[:2]):
        skus = [Sku(s, label) for _, _, s, label in group if s is not None]
        expected.append(Product(number, name, skus))
    columns = ["id", "name", "sku_id AS skus__sku_id", "label AS skus__label"]
    chance.shuffle(columns)
    query = f"SELECT {', '.join(columns)} FROM flat ORDER BY n"

    assert await conn.fetch(query, row=Product) == expected
    assert await conn.fetchrow(query, row=Product) == expected[0]
    assert [each async for each in conn.copy_out(query, row=Product)] == expected
    async with conn.transaction():
        assert [each async for each in conn.cursor(query, prefetch=chance.randint(1, 60), row=Product)] == expected
        cursor = await conn.cursor(query, row=Product)
        left = list(expected)
        while left:
            count = chance.randint(1, 20)
            if chance.random() < 0.3:
                assert await cursor.forward(count) == min(count, len(left))
            else:
                assert await cursor.fetch(count) == left[:count]
            del left[:count]
        assert await cursor.fetch(1) == []
