"""Typed rows: `row=` makes objects of the caller's own classes, and says beforehand where class and columns differ."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import random
import sys
import weakref
from collections import namedtuple
from dataclasses import InitVar, dataclass, field, make_dataclass
from decimal import Decimal
from typing import Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic
import pytest
from pydantic.dataclasses import dataclass as pydantic_dataclass

import headrace
from headrace.rows.shape import ClassShape


@dataclass
class Plain:
    id: int
    name: str | None


@dataclass(slots=True)
class Slotted:
    id: int
    name: str | None


@dataclass(frozen=True)
class Frozen:
    id: int
    name: str | None


@dataclass(frozen=True, slots=True)
class FrozenSlotted:
    id: int
    name: str | None


@dataclass(slots=True)
class HalfSlotted(Plain):
    """The field of its own has a slot, those it inherits are in `__dict__`."""

    name: str | None


@dataclass(kw_only=True)
class ByKeyword:
    name: str | None
    id: int


class Tuple(NamedTuple):
    id: int
    name: str | None


class Dict(TypedDict):
    id: int
    name: str | None


@attrs.define
class Attrs:
    id: int
    name: str | None


@attrs.frozen
class FrozenAttrs:
    id: int
    name: str | None


@attrs.define(slots=False)
class OpenAttrs:
    id: int
    name: str | None


class Struct(msgspec.Struct):
    id: int
    name: str | None


class Model(pydantic.BaseModel):
    id: int
    name: str | None


@pydantic_dataclass
class ModelDataclass:
    id: int
    name: str | None


CLASSES: list[Any] = [
    Plain, Slotted, Frozen, FrozenSlotted, HalfSlotted, ByKeyword, Tuple, namedtuple("Bare", "id name"), Dict, Attrs,
    FrozenAttrs, OpenAttrs, Struct, Model, ModelDataclass,
]  # fmt: skip

every_class = pytest.mark.parametrize("row", CLASSES, ids=lambda row: row.__name__)

ROWS = "SELECT g AS id, CASE WHEN g < 3 THEN 'item ' || g END AS name FROM generate_series(1, $1::int) AS g"


@every_class
async def test_rows_are_objects_of_the_class(conn: headrace.Connection, pool: Any, row: Any) -> None:
    expected = [row(id=1, name="item 1"), row(id=2, name="item 2"), row(id=3, name=None)]
    rows = await conn.fetch(ROWS, 3, row=row)
    assert rows == expected
    assert all(type(each) is type(expected[0]) for each in rows)
    assert await conn.fetchrow(ROWS, 3, row=row) == expected[0]
    assert await conn.fetchrow(ROWS, 0, row=row) is None
    assert await conn.fetchmany(ROWS, [(1,), (0,), (2,)], row=row) == [expected[0], *expected[:2]]

    statement = await conn.prepare(ROWS)
    assert await statement.fetch(3, row=row) == expected
    assert await statement.fetchrow(3, row=row) == expected[0]
    assert await statement.fetchmany([(1,), (1,)], row=row) == [expected[0]] * 2

    async with conn.transaction():
        assert [each async for each in conn.cursor(ROWS, 3, prefetch=2, row=row)] == expected
        assert [each async for each in statement.cursor(3, row=row)] == expected
        cursor = await conn.cursor(ROWS, 3, row=row)
        assert await cursor.fetchrow() == expected[0]
        assert await cursor.fetch(5) == expected[1:]

    shared = await pool(min_size=1, max_size=1)
    assert await shared.fetch(ROWS, 3, row=row) == expected
    assert await shared.fetchrow(ROWS, 3, row=row) == expected[0]
    assert await shared.fetchmany(ROWS, [(1,)], row=row) == expected[:1]
    async with shared.acquire() as lease:
        assert await lease.fetch(ROWS, 3, row=row) == expected


@every_class
async def test_columns_come_in_any_order(conn: headrace.Connection, row: Any) -> None:
    assert await conn.fetchrow("SELECT 'seven' AS name, 7 AS id", row=row) == row(id=7, name="seven")


@pytest.mark.parametrize("row", [Plain, Frozen, OpenAttrs, Slotted, HalfSlotted], ids=lambda row: row.__name__)
async def test_attributes_are_those_that_init_would_have_set(conn: headrace.Connection, row: Any) -> None:
    """Also in their order, and though other objects of the class have had more of them, and in another order."""
    if row is not Slotted:
        other = row.__new__(row)
        object.__setattr__(other, "more", 1)
        object.__setattr__(other, "name", "first")
    called = row(id=7, name="seven")
    made: Any = await conn.fetchrow("SELECT 'seven' AS name, 7 AS id", row=row)
    assert getattr(made, "__dict__", None) == getattr(called, "__dict__", None)
    assert list(getattr(made, "__dict__", ())) == list(getattr(called, "__dict__", ()))
    for each in (copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert each == called
    if row is not Slotted:
        object.__setattr__(made, "more", "attributes")
        object.__delattr__(made, "id")
        object.__setattr__(made, "id", 8)
        assert (made.id, made.name, made.more) == (8, "seven", "attributes")
        made.__dict__.clear()
        assert not hasattr(made, "more")


@pytest.mark.parametrize("seed", range(12))
async def test_classes_of_all_shapes(conn: headrace.Connection, seed: int) -> None:
    """Fields of a base class and of its own, in slots or not, frozen or not, up to more than the interpreter shares the
    keys of; what comes equals what the call of the class makes, one object like the other."""
    rng = random.Random(seed)
    for shape in range(10):
        number = rng.choice((1, 2, 5, 29, 30, 31, 40))
        names = [f"f{n}" for n in range(number)]
        cut = rng.randrange(number)
        frozen = rng.random() < 0.5
        base = make_dataclass("Base", names[:cut], frozen=frozen, slots=rng.random() < 0.3)
        row = make_dataclass(f"Row{shape}", names[cut:], bases=(base,), frozen=frozen, slots=rng.random() < 0.3)
        columns = rng.sample(names, number)
        listed = ", ".join(f"{rng.randrange(10)} * g AS {name}" for name in columns)
        query = f"SELECT {listed} FROM generate_series(1, 5) AS g"
        plain = await conn.fetch(query)
        for _ in range(2):
            rows = await conn.fetch(query, row=row)
            called = [row(**dict(record)) for record in plain]
            assert rows == called
            for one, other in zip(rows, called, strict=True):
                assert list(getattr(one, "__dict__", {}).items()) == list(getattr(other, "__dict__", {}).items())
                for each in (one, other):
                    if hasattr(each, "__dict__"):
                        object.__setattr__(each, rng.choice(("more", "still_more")), object())


async def test_a_dictionary_may_outlive_its_object(conn: headrace.Connection) -> None:
    rows = await conn.fetch("SELECT g AS id, 'item ' || g AS name FROM generate_series(1, 100) AS g", row=Plain)
    kept = [row.__dict__ for row in rows]
    del rows
    gc.collect()
    assert kept == [{"id": n, "name": f"item {n}"} for n in range(1, 101)]


class Mark:
    """Something to hold on to weakly."""


@pytest.mark.parametrize("row", [Plain, Frozen, Slotted, Tuple, Dict], ids=lambda row: row.__name__)
async def test_rows_in_a_cycle_are_collected(conn: headrace.Connection, row: Any) -> None:
    made: Any = await conn.fetchrow("SELECT 1 AS id, '{a}'::text[] AS name", row=row)
    inside = made["name"] if row is Dict else made.name
    assert inside == ["a"]
    inside += [made, Mark()]
    mark = weakref.ref(inside[-1])
    del made, inside
    await asyncio.sleep(0)
    gc.collect()
    assert mark() is None


@pytest.mark.parametrize("frozen", [False, True])
async def test_descriptors_and_finalizers_see_rows_alone(conn: headrace.Connection, frozen: bool) -> None:
    seen: list[object] = []

    class Doubled:
        def __set_name__(self, owner: type, name: str) -> None:
            self.name = "_" + name

        def __get__(self, instance: Any, owner: type) -> int:
            if instance is None:
                raise AttributeError("no default")
            return int(vars(instance)[self.name])

        def __set__(self, instance: Any, value: int) -> None:
            seen.append(value)
            vars(instance)[self.name] = 2 * value

    class Watched:
        def __del__(self) -> None:
            seen.append(vars(self))

    described: Any = dataclass(frozen=frozen)(
        type("Described", (), {"__annotations__": {"n": int, "id": Doubled}, "id": Doubled()})
    )
    (row,) = await conn.fetch("SELECT 1 AS id, 3 AS n", row=described)
    assert (row.id, row.n, seen) == (2, 3, [1])

    watched: Any = dataclass(frozen=frozen)(type("Watched", (Watched,), {"__annotations__": {"id": int}}))
    row = await conn.fetchrow("SELECT 5 AS id", row=watched)
    assert (row.id, seen) == (5, [1])
    del row
    await asyncio.sleep(0)
    assert seen == [1, {"id": 5}]


@pytest.mark.parametrize("slots", [False, True])
@pytest.mark.parametrize("make", [make_dataclass, namedtuple, attrs.make_class, msgspec.defstruct, TypedDict])
async def test_rows_of_many_columns(conn: headrace.Connection, make: Any, slots: bool) -> None:
    names = [f"c{n}" for n in range(200)]
    options = {"slots": slots} if make in (make_dataclass, attrs.make_class) else {}
    row = make("Wide", dict.fromkeys(names, int) if make is TypedDict else names, **options)
    query = "SELECT " + ", ".join(f"{n} * g AS c{n}" for n in range(200)) + " FROM generate_series(1, 3) AS g"
    rows = await conn.fetch(query, row=row)
    assert rows == [row(**{f"c{n}": n * g for n in range(200)}) for g in (1, 2, 3)]


async def test_record_classes_are_rows_too(conn: headrace.Connection) -> None:
    class Row(headrace.Record):
        pass

    assert type(await conn.fetchrow("SELECT 1", row=Row)) is Row
    assert type(await conn.fetchrow("SELECT 1", row=headrace.Record)) is headrace.Record


async def test_generic_classes(conn: headrace.Connection) -> None:
    item = TypeVar("item")

    @dataclass
    class Page(Generic[item]):
        number: int
        items: list[item]

    query = "SELECT 1 AS number, ARRAY['a', 'b'] AS items"
    assert await conn.fetchrow(query, row=Page[str]) == Page(1, ["a", "b"])


async def test_without_a_statement_cache(connect: Any) -> None:
    connection = await connect(statement_cache_size=0)
    for _ in range(2):
        assert await connection.fetch(ROWS, 1, row=Slotted) == [Slotted(1, "item 1")]


# -- what the class has to say --------------------------------------------------------------------------------------


async def test_fields_with_defaults_need_no_column(conn: headrace.Connection) -> None:
    @dataclass
    class Dataclass:
        id: int
        price: Decimal = Decimal(1)
        tags: list[str] = field(default_factory=list)
        name: str = field(default="nothing", kw_only=True)

    class Partial(NamedTuple):
        id: int
        price: Decimal = Decimal(1)
        name: str = "nothing"

    class Keys(TypedDict):
        id: int
        name: NotRequired[str]

    class Optional(Dict, total=False):
        price: Decimal

    @attrs.frozen
    class Defined:
        id: int
        name: str = "nothing"
        tags: list[str] = attrs.field(factory=list)

    class Structure(msgspec.Struct, kw_only=True):
        id: int
        tags: list[str] = msgspec.field(default_factory=list)
        name: str = "nothing"

    class Validated(pydantic.BaseModel):
        id: int
        tags: list[str] = pydantic.Field(default_factory=list)
        name: str = "nothing"

    for row in (Dataclass, Partial, Defined, Structure, Validated):
        assert await conn.fetchrow("SELECT 1 AS id", row=row) == row(id=1)
        assert await conn.fetchrow("SELECT 'x' AS name, 1 AS id", row=row) == row(id=1, name="x")
    assert await conn.fetchrow("SELECT 1 AS id", row=Keys) == {"id": 1}
    assert await conn.fetchrow("SELECT 1 AS id, 'x' AS name", row=Keys) == {"id": 1, "name": "x"}
    assert await conn.fetchrow("SELECT 1 AS id, 'x' AS name", row=Optional) == {"id": 1, "name": "x"}
    first, second = await conn.fetch("SELECT 1 AS id UNION SELECT 2 ORDER BY id", row=Dataclass)
    assert first.tags is not second.tags


async def test_annotations_may_be_known_to_type_checkers_alone(conn: headrace.Connection) -> None:
    @dataclass(slots=True)
    class Dataclass:
        id: Unknown  # type: ignore[name-defined]  # noqa: F821

    class Pair(NamedTuple):
        id: Unknown  # type: ignore[name-defined]  # noqa: F821

    class Keys(TypedDict):
        id: Unknown  # type: ignore[name-defined]  # noqa: F821

    @attrs.define
    class Defined:
        id: Unknown  # type: ignore[name-defined]  # noqa: F821

    for row in (Dataclass, Pair, Keys, Defined):
        assert await conn.fetchrow("SELECT 1 AS id", row=row) == row(id=1)


async def test_fields_may_have_columns_of_other_names(conn: headrace.Connection) -> None:
    @dataclass
    class Dataclass:
        id: int = field(metadata={"column": "product_id"})
        name: str = field(metadata={"column": ("product_name", "title")})

    @attrs.define
    class Defined:
        id: int = attrs.field(metadata={"column": "product_id"})
        _name: str = attrs.field(metadata={"column": "product_name"})

    class Structure(msgspec.Struct, rename={"id": "product_id", "name": "product_name"}):
        id: int
        name: str

    class Validated(pydantic.BaseModel):
        id: int = pydantic.Field(alias="product_id")
        name: str = pydantic.Field(validation_alias=pydantic.AliasChoices("product_name", pydantic.AliasPath("n", 0)))

    class ByName(pydantic.BaseModel, validate_by_name=True):
        id: int = pydantic.Field(alias="product_id")
        name: str = pydantic.Field(alias="product_name")

    for row in (Dataclass, Defined, Structure, Validated, ByName):
        made: Any = await conn.fetchrow("SELECT 'x' AS product_name, 1 AS product_id", row=row)
        assert (made.id, made._name if row is Defined else made.name) == (1, "x")
        made = await conn.fetchrow("SELECT 'x' AS name, 1 AS id", row=row)
        assert (made.id, made._name if row is Defined else made.name) == (1, "x")
    assert await conn.fetchrow("SELECT 'x' AS title, 1 AS id", row=Dataclass) == Dataclass(1, "x")


async def test_a_private_attribute_of_attrs_takes_the_column_of_its_public_name(conn: headrace.Connection) -> None:
    @attrs.define
    class Defined:
        _id: int

    assert (await conn.fetchrow("SELECT 1 AS id", row=Defined)) == Defined(1)
    assert (await conn.fetchrow("SELECT 1 AS _id", row=Defined)) == Defined(1)


async def test_the_code_of_a_class_runs(conn: headrace.Connection) -> None:
    """Quick ways around calling a class are taken only where the call would do nothing else."""
    calls: list[str] = []

    def halved(id: float) -> float:
        return id / 2

    @dataclass(slots=True)
    class PostInit:
        id: int
        half: float = field(init=False)

        def __post_init__(self) -> None:
            self.half = self.id / 2

    @dataclass
    class WithInitVar:
        id: InitVar[int]
        half: float = 0.0

        def __post_init__(self, id: int) -> None:
            self.half = id / 2

    @dataclass(init=False, slots=True)
    class OwnInit:
        half: float

        def __init__(self, id: int) -> None:
            self.half = id / 2

    @dataclass(slots=True)
    class InheritedInit(OwnInit):
        def __init__(self, id: int) -> None:
            super(InheritedInit, self).__init__(id)

    @dataclass
    class OwnNew:
        id: int

        def __new__(cls, id: int) -> OwnNew:
            calls.append("__new__")
            return super().__new__(cls)

        half = property(lambda self: self.id / 2)

    @dataclass(slots=True)
    class OwnSetattr:
        id: int

        def __setattr__(self, name: str, value: Any) -> None:
            calls.append(f"__setattr__ {name}")
            object.__setattr__(self, name, value)

        @property
        def half(self) -> float:
            return self.id / 2

    class Meta(type):
        def __call__(cls, id: int) -> Any:
            calls.append("Meta.__call__")
            return super().__call__(id)

    @dataclass(frozen=True, slots=True)
    class OwnMeta(metaclass=Meta):
        id: int
        half = property(lambda self: self.id / 2)

    class Base(NamedTuple):
        id: int

    class OwnTuple(Base):
        def __new__(cls, id: int) -> OwnTuple:
            calls.append("tuple.__new__")
            return super().__new__(cls, id)

        half = property(lambda self: self.id / 2)

    @attrs.define
    class Converted:
        id: float = attrs.field(converter=halved)
        half = property(lambda self: self.id)

    @attrs.define
    class PostAttrs:
        id: int
        half: float = attrs.field(init=False)

        def __attrs_post_init__(self) -> None:
            self.half = self.id / 2

    @attrs.frozen(cache_hash=True)
    class Hashed:
        id: int
        half = property(lambda self: (hash(self), self.id / 2)[1])

    class Structure(msgspec.Struct):
        id: int
        half: float = 0.0

        def __post_init__(self) -> None:
            self.half = self.id / 2

    class Validated(pydantic.BaseModel):
        id: int
        half: float = 0.0

        def model_post_init(self, context: Any) -> None:
            self.half = self.id / 2

    for row in (PostInit, WithInitVar, OwnInit, InheritedInit, OwnNew, OwnSetattr, OwnMeta, OwnTuple, Converted,
                PostAttrs, Hashed, Structure, Validated):  # fmt: skip
        made: Any = await conn.fetchrow("SELECT 7 AS id", row=row)
        assert type(made) is row
        assert made.half == 3.5
    assert calls == ["__new__", "__setattr__ id", "Meta.__call__", "tuple.__new__"]


async def test_pydantic_validates(conn: headrace.Connection) -> None:
    assert await conn.fetchrow("SELECT '12' AS id, NULL AS name", row=Model) == Model(id=12, name=None)
    with pytest.raises(pydantic.ValidationError, match="valid integer"):
        await conn.fetchrow("SELECT 'twelve' AS id, NULL AS name", row=Model)


async def test_classes_that_take_any_keyword_take_any_column(conn: headrace.Connection) -> None:
    class Loose(pydantic.BaseModel, extra="allow"):
        id: int

    @dataclass(init=False)
    class Bag:
        values: dict[str, Any]

        def __init__(self, **values: Any) -> None:
            self.values = values

    made = await conn.fetchrow("SELECT 1 AS id, 2 AS other", row=Loose)
    assert made == Loose(id=1, other=2)  # type: ignore[call-arg]
    assert await conn.fetchrow("SELECT 1 AS id, 2 AS other", row=Bag) == Bag(id=1, other=2)


# -- where class and columns differ ---------------------------------------------------------------------------------


@every_class
async def test_columns_and_fields_that_differ_are_named(conn: headrace.Connection, row: Any) -> None:
    with pytest.raises(headrace.InterfaceError) as error:
        await conn.fetch("SELECT 1 AS id, 'x' AS nam, 2 AS c", row=row)
    assert str(error.value) == (
        f"rows of this query cannot become {row.__qualname__}: no column for the field name; "
        "no field for the columns nam, c\nHINT:  Is nam meant to be name? Select it as: nam AS name."
    )
    with pytest.raises(headrace.InterfaceError, match="two columns id for the field id; no column for the field name"):
        await conn.fetch("SELECT 1 AS id, 2 AS id", row=row)
    with pytest.raises(headrace.InterfaceError, match="no column for the fields (id, name|name, id)"):
        await conn.execute("CREATE TEMP TABLE t (a int)")
        await conn.fetch("INSERT INTO t VALUES (1)", row=row)
    assert await conn.fetchrow(ROWS, 1, row=row) == row(id=1, name="item 1")


async def test_a_column_by_alias_and_one_by_name(conn: headrace.Connection) -> None:
    @dataclass
    class Product:
        id: int = field(metadata={"column": "product_id"})

    with pytest.raises(headrace.InterfaceError, match="the columns id and product_id for the field id"):
        await conn.fetch("SELECT 1 AS id, 1 AS product_id", row=Product)


async def test_a_field_that_rows_cannot_set(conn: headrace.Connection) -> None:
    @dataclass
    class Computed:
        id: int
        total: int = field(init=False, default=0)

    assert await conn.fetchrow("SELECT 1 AS id", row=Computed) == Computed(1)
    with pytest.raises(headrace.InterfaceError, match="no field for the column total\nHINT:  .* init=False"):
        await conn.fetch("SELECT 1 AS id, 2 AS total", row=Computed)


@pytest.mark.parametrize("known", [False, True], ids=["new statement", "known statement"])
async def test_they_differ_before_anything_is_done(connect: Any, known: bool) -> None:
    connection = await connect()
    await connection.execute("CREATE TEMP TABLE t (a int)")
    query = "INSERT INTO t VALUES ($1) RETURNING a"
    if known:
        assert await connection.fetchval(query, 1) == 1
    before = await connection.fetchval("SELECT count(*) FROM t")
    for ask in (connection.fetch(query, 2, row=Plain), connection.fetchmany(query, [(3,), (4,)], row=Plain)):
        with pytest.raises(headrace.InterfaceError, match="no field for the column a"):
            await ask
    assert await connection.fetchval("SELECT count(*) FROM t") == before
    async with connection.transaction():
        with pytest.raises(headrace.InterfaceError, match="no field for the column a"):
            await connection.cursor(query, 5, row=Plain)
        assert await connection.fetchval("SELECT count(*) FROM t") == before


class Unfit:
    id: int


@pytest.mark.parametrize(
    ("row", "text"),
    [
        (int, "expected to be a dataclass, .* got builtins.int\nHINT:  .*fetchval"),
        (Unfit, "got .*Unfit"),
        (dict, "got builtins.dict"),
        (tuple, "got builtins.tuple"),
        (dict[str, int], "got builtins.dict"),
        ({"id": int}, "got dict {'id': <class 'int'>}"),
        (Plain(1, "an object, not a class"), "got Plain Plain"),
        ("Plain", "got str 'Plain'"),
    ],
)
async def test_what_rows_cannot_become(conn: headrace.Connection, pool: Any, row: Any, text: str) -> None:
    for ask in (conn.fetch, conn.fetchrow, (await pool(min_size=1, max_size=1)).fetch):
        with pytest.raises(headrace.InterfaceError, match=text):
            await ask("SELECT 1 AS id", row=row)


async def test_a_column_name_that_is_none(conn: headrace.Connection) -> None:
    @dataclass
    class Wrong:
        id: int = field(metadata={"column": 7})

    with pytest.raises(headrace.InterfaceError, match=r"the column of .*Wrong.id is expected to be a name .*, got 7"):
        await conn.fetch("SELECT 1 AS id", row=Wrong)


async def test_row_or_record_class(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.InterfaceError, match="row and record_class cannot both be given"):
        await conn.fetch("SELECT 1", row=Plain, record_class=headrace.Record)  # type: ignore[call-overload]
    with pytest.raises(headrace.InterfaceError, match="subclass of headrace.Record.*\nHINT:  .* row="):
        await conn.fetch("SELECT 1", record_class=Plain)  # type: ignore[type-var]


# -- plans ----------------------------------------------------------------------------------------------------------


async def test_the_plan_is_made_once_for_a_statement_and_a_class(
    conn: headrace.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = []
    plan = ClassShape.plan

    def spy(self: ClassShape, columns: Any) -> Any:
        planned.append(self.cls)
        return plan(self, columns)

    monkeypatch.setattr(ClassShape, "plan", spy)
    for _ in range(3):
        await conn.fetch(ROWS, 1, row=Plain)
        await conn.fetchrow(ROWS, 1, row=Tuple)
    assert planned == [Plain, Tuple]


async def test_classes_made_as_the_program_goes_are_not_kept_for_ever(conn: headrace.Connection) -> None:
    first: Any = make_dataclass("First", ["id", "name"])
    assert await conn.fetchrow(ROWS, 1, row=first) == first(1, "item 1")
    gone = weakref.ref(first)
    del first
    for n in range(300):
        row: Any = make_dataclass(f"Made{n}", ["id", "name"])
        assert await conn.fetchrow(ROWS, 1, row=row) == row(1, "item 1")
    gc.collect()
    assert gone() is None


async def test_the_plan_is_made_again_when_the_statement_is(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (id int, name text); INSERT INTO t VALUES (1, 'one')")
    query = "SELECT * FROM t"
    assert await conn.fetch(query, row=Slotted) == [Slotted(1, "one")]
    await conn.execute("ALTER TABLE t DROP COLUMN id; ALTER TABLE t ADD COLUMN id bigint DEFAULT 2")
    assert await conn.fetch(query, row=Slotted) == [Slotted(2, "one")]
    await conn.execute("ALTER TABLE t ADD COLUMN weight int")
    with pytest.raises(headrace.InterfaceError, match="no field for the column weight"):
        await conn.fetch(query, row=Slotted)


async def test_the_plan_is_made_again_when_a_codec_is_set(conn: headrace.Connection) -> None:
    query = "SELECT 1 AS id, 'one' AS name"
    assert await conn.fetchrow(query, row=Slotted) == Slotted(1, "one")
    await conn.set_type_codec("text", schema="pg_catalog", encoder=str, decoder=str.upper)
    assert await conn.fetchrow(query, row=Slotted) == Slotted(1, "ONE")
    await conn.reset_type_codec("text", schema="pg_catalog")
    assert await conn.fetchrow(query, row=Slotted) == Slotted(1, "one")


# -- errors of the class, and what is left behind -------------------------------------------------------------------


async def test_a_class_that_raises_fails_its_own_query_alone(conn: headrace.Connection) -> None:
    @dataclass
    class Picky:
        id: int
        name: str | None

        def __post_init__(self) -> None:
            if self.id == 2:
                raise LookupError("no twos")

    first, second, third = await asyncio.gather(
        conn.fetch(ROWS, 1, row=Picky),
        conn.fetch(ROWS, 3, row=Picky),
        conn.fetch(ROWS, 2, row=Plain),
        return_exceptions=True,
    )
    assert first == [Picky(1, "item 1")]
    assert repr(second) == "LookupError('no twos')"
    assert third == [Plain(1, "item 1"), Plain(2, "item 2")]
    assert await conn.fetchval("SELECT 1") == 1


@dataclass
class Refusing:
    id: int
    name: str | None

    def __post_init__(self) -> None:
        raise LookupError("a row of this class is never made")


class RefusingTuple(Tuple):
    def __new__(cls, id: int, name: str | None) -> RefusingTuple:
        raise LookupError("a row of this class is never made")


class RefusingModel(Model):
    def model_post_init(self, context: Any) -> None:
        raise LookupError("a row of this class is never made")


@pytest.mark.parametrize("row", [*CLASSES, Refusing, RefusingTuple, RefusingModel], ids=lambda row: row.__name__)
@pytest.mark.parametrize("last", ["held", "no value that the decoder knows"], ids=["", "and a decoder raises"])
async def test_every_reference_is_given_back(conn: headrace.Connection, row: Any, last: str) -> None:
    """All rows hold the same object; when they are gone it is held as often as before."""
    held = "an object of its own"
    await conn.set_type_codec("text", schema="pg_catalog", encoder=str, decoder={"held": held}.__getitem__)
    query = "SELECT g AS id, CASE WHEN g = 50 THEN $1 ELSE 'held' END AS name FROM generate_series(1, 50) AS g"
    swapped = f"SELECT name, id FROM ({query}) AS rows"
    before = sys.getrefcount(held)
    for each in (query, swapped) * 3:
        if last == "held" and not row.__name__.startswith("Refusing"):
            rows = await conn.fetch(each, last, row=row)
            assert [type(each) for each in rows] == [type(rows[0])] * 50
            del rows
        else:
            with pytest.raises(LookupError):
                await conn.fetch(each, last, row=row)
    await asyncio.sleep(0)  # until the loop has let go of the last result
    assert sys.getrefcount(held) <= before + 2
