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
    (Product, Sku), (Slotted, SlottedSku), (Frozen, Sku), (FrozenSlotted, SlottedSku), (ByKeyword, Sku),
    (Tuple, TupleSku), (Dict, DictSku), (Attrs, AttrsSku), (FrozenAttrs, AttrsSku), (Struct, StructSku),
    (Model, ModelSku), (ModelDataclass, Sku),
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
async def test_each_element_has_a_result_of_its_own(conn: headrace.Connection, pool: Any, row: Any, sku: Any) -> None:
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


# -- which columns, and which rows ----------------------------------------------------------------------------------


@dataclass
class Keyed:
    id: Annotated[int, headrace.key]
    note: str | None
    skus: list[Sku]


async def test_the_key_alone_tells_objects_apart(conn: headrace.Connection) -> None:
    values = "(VALUES (1, 'a', 1), (1, 'b', 2), (2, NULL, NULL), (1, 'c', 3)) AS v (id, note, sku)"
    query = f"SELECT id, note, sku AS skus__sku_id, NULL AS skus__label FROM {values}"
    expected = [Keyed(1, "a", [Sku(1, None), Sku(2, None)]), Keyed(2, None, [])]
    assert await conn.fetch(f"{query} LIMIT 3", row=Keyed) == expected
    assert await conn.fetchrow(f"{query} LIMIT 3", row=Keyed) == expected[0]
    for ask in (conn.fetch(query, row=Keyed), conn.fetchrow(query, row=Keyed)):
        with pytest.raises(headrace.InterfaceError, match="not consecutive.*ORDER BY is missing") as caught:
            await ask
        assert caught.value.hint is not None
        assert caught.value.hint.endswith("ORDER BY id.")
    # A stream does not remember all that has passed.
    expected.append(Keyed(1, "c", [Sku(3, None)]))
    assert [each async for each in conn.copy_out(query, row=Keyed)] == expected
    async with conn.transaction():
        assert [each async for each in conn.cursor(query, row=Keyed)] == expected
    assert await conn.fetchval("SELECT 1") == 1


def test_the_key_is_one_object() -> None:
    assert repr(headrace.key) == "headrace.key"
    assert copy.deepcopy(headrace.key) is headrace.key
    assert pickle.loads(pickle.dumps(headrace.key)) is headrace.key


class KeyedModel(pydantic.BaseModel):
    id: Annotated[int, headrace.key]
    note: str
    skus: list[ModelSku]


@pydantic_dataclass
class KeyedModelDataclass:
    id: Annotated[int, headrace.key]
    note: str
    skus: list[ModelSku]


class KeyedStruct(msgspec.Struct):
    id: Annotated[int, headrace.key]
    note: str
    skus: list[ModelSku]


class KeyedDict(TypedDict):
    id: Annotated[int, headrace.key]
    note: str
    skus: list[ModelSku]


@attrs.define
class KeyedAttrs:
    id: Annotated[int, headrace.key]
    note: str
    skus: list[ModelSku]


@pytest.mark.parametrize(
    "row", [KeyedModel, KeyedModelDataclass, KeyedStruct, KeyedDict, KeyedAttrs], ids=lambda row: row.__name__
)
async def test_keys_of_all_kinds_of_classes(conn: headrace.Connection, row: Any) -> None:
    query = "SELECT 1 AS id, 'n' || s AS note, s AS skus__sku_id, NULL AS skus__label FROM generate_series(1, 2) AS s"
    skus = [ModelSku(sku_id=1, label=None), ModelSku(sku_id=2, label=None)]
    assert await conn.fetch(query, row=row) == [row(id=1, note="n1", skus=skus)]


async def test_an_element_with_a_null_where_none_is_expected(conn: headrace.Connection) -> None:
    @dataclass
    class Part:
        a: int
        b: int

    @dataclass
    class Whole:
        parts: list[Part]

    values = "(VALUES (NULL::int, NULL::int), (1, NULL), (NULL, 2)) AS v (a, b)"
    whole = await conn.fetchrow(f"SELECT a AS parts__a, b AS parts__b FROM {values}", row=_local(Whole, Part))
    assert whole is not None
    assert [(part.a, part.b) for part in whole.parts] == [(1, None), (None, 2)]


def _local(row: Any, element: Any) -> Any:
    """Give a class that was defined in a function the annotation that it would have without the __future__ import."""
    row.__annotations__["parts"] = list[element]
    return row


Number = NewType("Number", int)


@dataclass
class Loose:
    a: int | None = None
    b: Any = None
    c: object = None
    d: Optional["Number"] = None  # noqa: UP037, UP045


@dataclass
class LooseList:
    id: int
    parts: list[Loose]


async def test_elements_that_may_be_all_null_are_refused_before_anything_is_done(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (id int, a int)")
    query = "INSERT INTO t VALUES (1, 2) RETURNING id, a AS parts__a, 1 AS parts__b, 1 AS parts__c, 1 AS parts__d"
    for ask in (conn.fetch, conn.fetchrow):
        with pytest.raises(TypeError, match="all fields of Loose that have a column may be None, .* type without None"):
            await ask(query, row=LooseList)
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


@dataclass
class Strict:
    number: Number
    price: OnlyForCheckers | None


@dataclass
class StrictList:
    id: int
    price: OnlyForCheckers
    parts: list[Strict]


async def test_other_annotations_may_be_known_to_type_checkers_alone(conn: headrace.Connection) -> None:
    query = "SELECT 1 AS id, 2 AS price, 3 AS parts__number, NULL AS parts__price"
    assert await conn.fetch(query, row=StrictList) == [StrictList(1, 2, [Strict(Number(3), None)])]  # type: ignore[arg-type]


async def test_a_column_of_the_fields_own_name_fills_it_as_ever(conn: headrace.Connection) -> None:
    @dataclass
    class Flat:
        id: int
        skus__sku_id: int
        skus: list[Sku]

    query = "SELECT 1 AS id, 2 AS skus__sku_id, ARRAY[3] AS skus"
    assert await conn.fetch(query, row=Flat) == [Flat(1, 2, [3])]  # type: ignore[list-item]
    query = "SELECT 1 AS id, NULL AS name, ARRAY[3] AS skus FROM generate_series(1, 2)"
    assert await conn.fetch(query, row=Product) == [Product(1, None, [3])] * 2  # type: ignore[list-item]
    assert await conn.fetch("SELECT 1 AS id, NULL AS name", row=FrozenSlotted) == [FrozenSlotted(1, None)]


@dataclass
class Renamed:
    id: int = field(metadata={"column": "product_id"})
    skus: list[RenamedSku] = field(metadata={"column": "sku"})


@dataclass
class RenamedSku:
    id: int = field(metadata={"column": "sku_id"})
    other__name: str = ""


async def test_columns_by_other_names(conn: headrace.Connection) -> None:
    expected = [Renamed(1, [RenamedSku(2, "x")])]
    assert (
        await conn.fetch("SELECT 1 AS product_id, 2 AS sku__sku_id, 'x' AS sku__other__name", row=Renamed) == expected
    )
    assert await conn.fetch("SELECT 1 AS id, 2 AS skus__id, 'x' AS skus__other__name", row=Renamed) == expected


@dataclass
class Deep:
    id: int
    products: list[Product]


@dataclass
class Two:
    id: int
    skus: list[Sku]
    others: list[Sku]


@dataclass
class Numbers:
    id: int
    skus: list[int]


@dataclass
class Hidden:
    id: int
    skus: list[NotDefinedAtAll]  # type: ignore[name-defined]  # noqa: F821


@dataclass
class HiddenKey:
    id: Annotated[OnlyForCheckers, headrace.key]
    skus: list[Sku]


@pytest.mark.parametrize(
    ("row", "columns", "text"),
    [
        (Product, "1 AS id, '' AS name, 2 AS skus__sku_id, 3 AS skus__lable",
         "cannot become Sku: no column for the field label; no field for the column skus__lable\n"
         "HINT:  Is skus__lable meant to be skus__label"),
        (Product, "1 AS id, 2 AS skus__sku_id, '' AS skus__label",
         "cannot become Product: no column for the field name"),
        (Product, "1 AS id, '' AS name",
         "no column for the field skus\nHINT:  The list skus .* such as: AS skus__sku_id"),
        (Product, "1 AS id, '' AS name, 2 AS skus__sku_id, '' AS skus__label, 3 AS skus",
         "the column skus and columns skus__... are for one field"),
        (Product, "1 AS id, '' AS name, 2 AS skus__sku_id, 3 AS skus__sku_id, '' AS skus__label",
         "cannot become Sku: two columns skus__sku_id for the field sku_id"),
        (Two, "1 AS id, 2 AS skus__sku_id, '' AS skus__label, 2 AS others__sku_id, '' AS others__label",
         "cannot become Two: there are columns for 2 lists, skus and others\nHINT:  A join has each element"),
        (Two, "1 AS id, 2 AS skus__sku_id, '' AS skus__label", "no column for the field others"),
        (Deep, "1 AS id, 1 AS products__id, '' AS products__name, 2 AS products__skus__sku_id",
         "Product.skus is a list inside of the list products"),
        (Numbers, "1 AS id, 2 AS skus__sku_id", "no field for the column skus__sku_id"),
        (Product, "1 AS id, '' AS name, 2 AS skus__", "no field for the column skus__"),
        (Hidden, "1 AS id, 2 AS skus__sku_id",
         r"the type of Hidden.skus is not known at run time: 'list\[NotDefinedAtAll\]'\nHINT:  Define or import"),
        (HiddenKey, "1 AS id, 2 AS skus__sku_id, '' AS skus__label",
         "the type of HiddenKey.id is not known at run time"),
    ],
)  # fmt: skip
async def test_columns_that_do_not_fit_are_named(conn: headrace.Connection, row: Any, columns: str, text: str) -> None:
    await conn.execute("CREATE TEMP TABLE t (n int)")
    query = f"INSERT INTO t VALUES (1) RETURNING {columns}"
    for ask in (conn.fetch(query, row=row), conn.fetchmany(query, [(), ()], row=row)):
        with pytest.raises(headrace.InterfaceError, match=text):
            await ask
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


@dataclass
class KeyWithDefault:
    name: str
    skus: list[Sku]
    id: Annotated[int, headrace.key] = 0


async def test_the_key_needs_its_column(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.InterfaceError, match="no column for the field id, marked as headrace.key"):
        await conn.fetch("SELECT '' AS name, 1 AS skus__sku_id, '' AS skus__label", row=KeyWithDefault)


async def test_where_each_row_has_a_place_of_its_own_lists_are_refused(conn: headrace.Connection, pool: Any) -> None:
    await conn.execute("CREATE TEMP TABLE t (id int)")
    with pytest.raises(headrace.InterfaceError, match="each row is a result of its own"):
        await conn.insert_records(
            "t", [(1,)], returning="id, NULL AS name, 1 AS skus__sku_id, '' AS skus__label", row=Product
        )
    assert await conn.fetchval("SELECT count(*) FROM t") == 0
    query = QUERY.replace("$1::int", "3").replace("$1", "3").replace("ORDER BY", "WHERE g = ANY($1::int[]) ORDER BY")
    loader = headrace.Loader(await pool(), query, key="id", row=Product)
    with pytest.raises(headrace.InterfaceError, match="a loader cannot return objects with lists"):
        await loader.load(1)


# -- how they are made ----------------------------------------------------------------------------------------------


class Counting(pydantic.BaseModel):
    id: int
    skus: Annotated[list[ModelSku], pydantic.Field(min_length=2)]


async def test_the_code_of_a_class_sees_the_whole_list(conn: headrace.Connection) -> None:
    @dataclass
    class Total:
        id: int
        skus: list[Sku]
        total: int = field(init=False)

        def __post_init__(self) -> None:
            self.total = sum(sku.sku_id for sku in self.skus)

    Total.__annotations__["skus"] = list[Sku]
    query = "SELECT 1 AS id, s AS skus__sku_id, '' AS skus__label FROM generate_series(1, $1::int) AS s"
    (made,) = await conn.fetch(query, 4, row=Total)
    assert made.total == 10
    (counting,) = await conn.fetch(query, 2, row=Counting)
    assert len(counting.skus) == 2
    with pytest.raises(pydantic.ValidationError, match="at least 2 items"):
        await conn.fetch(query, 1, row=Counting)
    assert await conn.fetchval("SELECT 1") == 1


async def test_objects_of_many_columns_and_many_elements(conn: headrace.Connection) -> None:
    names = [f"c{i}" for i in range(100)]
    part = attrs.make_class("Part", {name: attrs.field(type=int) for name in names})
    whole = attrs.make_class("Whole", {
        **{name: attrs.field(type=int) for name in names},
        "parts": attrs.field(type=list[part]),  # type: ignore[valid-type]
    })  # fmt: skip
    columns = [f"{i} AS {name}, g AS parts__{name}" for i, name in enumerate(names)]
    query = f"SELECT {', '.join(columns)} FROM generate_series(1, 300) AS g"
    expected = whole(*range(100), [part(*[g] * 100) for g in range(1, 301)])
    assert await conn.fetch(query, row=whole) == [expected]
    assert await conn.fetchrow(query, row=whole) == expected
    async with conn.transaction():
        cursor = await conn.cursor(query, row=whole)
        assert await cursor.fetch(1) == [expected]
        assert await cursor.fetch(1) == []


async def test_types_that_are_looked_up_once_rows_are_there(connect: Any) -> None:
    query = "SELECT g AS id, '' AS name, s AS skus__sku_id, ROW(s, 'a'::{}) AS skus__label " \
        "FROM generate_series(1, 3) AS g, generate_series(1, 3) AS s ORDER BY g, s"  # fmt: skip
    expected = [Product(g, "", [Sku(s, (s, "a")) for s in (1, 2, 3)]) for g in (1, 2, 3)]  # type: ignore[arg-type]
    maker = await connect()
    for number in range(3):
        await maker.execute(f"CREATE TYPE nested_letter{number} AS ENUM ('a')")
    try:
        connection = await connect()
        assert await connection.fetch(query.format("nested_letter0"), row=Product) == expected
        assert await connection.fetchrow(query.format("nested_letter1"), row=Product) == expected[0]
        async with connection.transaction():
            rows = connection.cursor(query.format("nested_letter2"), prefetch=2, row=Product)
            assert [each async for each in rows] == expected
    finally:
        for number in range(3):
            await maker.execute(f"DROP TYPE nested_letter{number}")


async def test_a_batch_that_failed_leaves_no_cut_off_objects(conn: headrace.Connection) -> None:
    query = """
        SELECT g / 40 AS id, NULL AS name, g AS skus__sku_id,
            CASE WHEN g = 70 THEN '20000-01-01'::timestamp END AS skus__label
        FROM generate_series(0, 119) AS g
    """
    async with conn.transaction():
        cursor = await conn.cursor(query, row=Product)
        (first,) = await cursor.fetch(1)
        assert len(first.skus) == 40
        with pytest.raises(headrace.UnrepresentableValueError, match="column 'skus__label'"):
            await cursor.fetch(2)
        with pytest.raises(headrace.InterfaceError, match="an earlier fetch of this cursor has failed"):
            await cursor.fetch(1)
        assert await conn.fetchval("SELECT 1") == 1


@dataclass
class Refusing:
    id: int
    name: str | None
    skus: list[Sku]

    def __post_init__(self) -> None:
        raise LookupError("an object of this class is never made")


@dataclass
class RefusingSku(Sku):
    def __post_init__(self) -> None:
        raise LookupError("an object of this class is never made")


@dataclass
class WithRefusingSku:
    id: int
    name: str | None
    skus: list[RefusingSku]


@pytest.mark.parametrize("row", [*(row for row, _ in CLASSES), Refusing, WithRefusingSku], ids=lambda row: row.__name__)
@pytest.mark.parametrize("last", ["held", "no value that the decoder knows"], ids=["", "and a decoder raises"])
async def test_every_reference_is_given_back(conn: headrace.Connection, row: Any, last: str) -> None:
    """All rows hold the same object; when they are gone it is held as often as before."""
    held = "an object of its own"
    await conn.set_type_codec("text", schema="pg_catalog", encoder=str, decoder={"held": held}.__getitem__)
    query = """
        SELECT g / 7 AS id, 'held'::text AS name, g AS skus__sku_id,
            CASE WHEN g = 50 THEN $1 ELSE 'held' END AS skus__label
        FROM generate_series(1, 50) AS g
    """
    before = sys.getrefcount(held)
    for _ in range(3):
        if last == "held" and "Refusing" not in row.__name__:
            rows = await conn.fetch(query, last, row=row)
            assert len(rows) == 8
            rows = [each async for each in conn.copy_out(query, last, row=row)]
            assert len(rows) == 8
            assert await conn.fetchrow(query, last, row=row) is not None
            del rows
        else:
            with pytest.raises(LookupError):
                await conn.fetch(query, last, row=row)
    await conn.fetchval("SELECT 1")
    gc.collect()
    assert sys.getrefcount(held) <= before + 2


async def test_a_cursor_that_is_dropped_lets_go_of_the_object_it_was_reading(conn: headrace.Connection) -> None:
    class Value:
        pass

    values: weakref.WeakSet[Value] = weakref.WeakSet()

    def decode(text: str) -> Value:
        value = Value()
        values.add(value)
        return value

    await conn.set_type_codec("text", schema="pg_catalog", encoder=str, decoder=decode)
    query = """
        SELECT 1 AS id, 'a'::text AS name, s AS skus__sku_id, 'b'::text AS skus__label FROM generate_series(1, 200) AS s
    """
    async with conn.transaction():
        iterator = aiter(conn.cursor(query, row=Product))
        cursor = await conn.cursor(query, row=Product)
        portal = cursor._portal
        assert await portal._request(60, None) == []
        assert len(values) == 61
        del cursor, portal, iterator
        await conn.fetchval("SELECT 1")
        gc.collect()
        assert len(values) == 0
