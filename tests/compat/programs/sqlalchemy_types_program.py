"""Values of every type that SQLAlchemy knows for PostgreSQL: as parameters, stored, read back typed and untyped."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import ipaddress
import json
import math
import uuid
from typing import Any

import noting
import sqlalchemy as sa
from noting import Notes
from sqlalchemy import event
from sqlalchemy.dialects import postgresql as pg
from sqlalchemy.dialects.postgresql import Range
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

D = decimal.Decimal
EAST = dt.timezone(dt.timedelta(hours=2, minutes=30))
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5)


class Mood(enum.Enum):
    happy = "h"
    sad = "s"


mood = pg.ENUM("happy", "sad", name="mood", create_type=False)
positive = pg.DOMAIN("positive", sa.Integer(), create_type=False)

TYPES: list[tuple[Any, list[Any]]] = [
    (sa.Integer(), [1, -(2**31), 2**31, "1", D(1), None]),
    (sa.SmallInteger(), [1, 40_000]),
    (sa.BigInteger(), [2**62, 2**63]),
    (sa.Numeric(), [1, 1.5, D("1.50"), D("NaN"), D("Infinity"), D("1e-200"), "1.5", "x"]),
    (sa.Numeric(10, 2), [D("1.505"), D("12345678901")]),
    (sa.Numeric(10, 2, asdecimal=False), [D("1.505"), 3]),
    (sa.Float(), [1, 1.5, D("1.5"), math.inf, math.nan, "x"]),
    (sa.Float(asdecimal=True), [1.5]),
    (sa.REAL(), [1.1, 1e300]),
    (sa.String(5), ["abc", "abcdef", "", 5, b"x", "\ud800"]),
    (sa.Text(), ["é€😀", None]),
    (sa.CHAR(4), ["ab"]),
    (sa.Boolean(), [True, False, None]),
    (sa.LargeBinary(), [b"\0\xff", bytearray(b"a"), memoryview(b"abc"), b"", "x", 5]),
    (sa.Date(), [dt.date(2020, 1, 1), dt.date.max, NOON, "2020-01-01"]),
    (sa.Time(), [dt.time(1, 2, 3, 4), "01:02"]),
    (sa.Time(timezone=True), [dt.time(1, 2, 3, 4, tzinfo=EAST), dt.time(1)]),
    (sa.DateTime(), [NOON, NOON.replace(tzinfo=dt.UTC), dt.datetime.max, dt.date(2020, 1, 1), "2020-01-01"]),
    (sa.DateTime(timezone=True), [NOON.replace(tzinfo=EAST), NOON, dt.date(2020, 1, 1)]),
    (sa.Interval(), [dt.timedelta(1, 2, 3), dt.timedelta(days=-400), 5]),
    (sa.Uuid(), [uuid.UUID(int=5)]),
    (sa.Uuid(as_uuid=False), [str(uuid.UUID(int=6)), "x"]),
    (sa.JSON(), [{"a": [1, None, "é"]}, None, "x", 1.5]),
    (pg.JSONB(none_as_null=True), [{"a": [1, None, "é"]}, None, [1], {"u": "\0"}]),
    (pg.INET(), ["10.0.0.1", "10.0.0.1/8", ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"), "bad"]),
    (pg.CIDR(), ["10.0.0.0/8", ipaddress.ip_network("::/0"), "10.0.0.1/8"]),
    (pg.MACADDR(), ["08:00:2b:01:02:03"]),
    (pg.MACADDR8(), ["08:00:2b:01:02:03:04:05"]),
    (pg.MONEY(), ["12.50", "$1,000.00", 5]),
    (pg.BIT(3), ["101", "1"]),
    (pg.BIT(varying=True), ["10101", ""]),
    (pg.OID(), [5, 2**32 - 1, 2**32, "x"]),
    (pg.REGCLASS(), ["pg_class"]),
    (pg.REGCONFIG(), ["english"]),
    (pg.TSVECTOR(), ["a:1 b:2"]),
    (pg.TSQUERY(), ["a & b"]),
    (mood, ["happy", "angry", None]),
    (sa.Enum(Mood, name="mood", create_type=False), [Mood.happy, "sad", "x"]),
    (sa.Enum(Mood, native_enum=False), [Mood.sad]),
    (positive, [1, -1, "x"]),
    (pg.INT4RANGE(), [Range(1, 5, bounds="[]"), Range(empty=True), Range(None, 5), Range(5, 1), Range(1, 2**40), None]),
    (pg.NUMRANGE(), [Range(D("1.5"), D(2)), Range(None, None)]),
    (pg.DATERANGE(), [Range(dt.date(2020, 1, 1), None)]),
    (pg.TSTZRANGE(), [Range(NOON.replace(tzinfo=dt.UTC), None)]),
    (pg.INT4MULTIRANGE(), [[Range(1, 3), Range(2, 6), Range(8, 9)], [], pg.MultiRange([Range(1, 2)]), None]),
    *(
        (pg.ARRAY(item), values)
        for item, values in [
            (sa.Integer(), [[1, None], [], [[1, 2], [3, 4]], (1, 2), [[1], [2, 3]], {1}, ["a"], None]),
            (sa.Text(), [["a", None, "NULL", '"', "{}"]]),
            (sa.Numeric(5, 2), [[D("1.5"), None]]),
            (sa.DateTime(timezone=True), [[NOON.replace(tzinfo=EAST)]]),
            (sa.Uuid(), [[uuid.UUID(int=1), None]]),
            (pg.JSONB(), [[{"a": 1}, None], [[{"a": 1}], [{"b": 2}]]]),
            (pg.JSON(), [[{"a": 1}, [1]]]),
            (mood, [["happy", None], [["happy"], ["sad"]], ["x"]]),
            (sa.Enum(Mood, name="mood", create_type=False), [[Mood.happy, Mood.sad]]),
            (sa.LargeBinary(), [[b"a", None]]),
            (pg.INET(), [["10.0.0.1", None]]),
            (pg.INT4RANGE(), [[Range(1, 2), None]]),
            (pg.INT4MULTIRANGE(), [[[Range(1, 2)]]]),
            (pg.BIT(3), [["101"]]),
            (positive, [[1], [-1]]),
        ]
    ),
    (pg.ARRAY(sa.Integer(), dimensions=2, as_tuple=True), [[[1, 2], [3, 4]]]),
]

RAW = """
    ROW(1,'a')::pair ROW(ROW(1,'a'),ARRAY[ROW(2,'b')::pair])::nested ARRAY[ROW(1,'a')::pair] ROW(1,'x',NULL)
    '{happy,sad}'::mood[] '1y2mon3d'::interval 'infinity'::timestamptz '-infinity'::date 'NaN'::numeric 1.10
    '$5.00'::money 'pg_class'::regclass 'int4'::regtype '1'::xid '(0,1)'::tid '0/16B3748'::pg_lsn B'101'
    'a'::"char" '[2:3]={1,2}'::int[] '{"a":1}'::json '{"a":1}'::jsonb '$.a'::jsonpath '12:00+02'::timetz
    '{[1,2),[5,6)}'::int4multirange 'empty'::int4range '2020-01-01T00:00+05:30'::timestamptz 'x'::bpchar NULL
"""


async def columns(note: Notes, engine: AsyncEngine) -> None:
    """A value goes into a column, comes back by RETURNING, by SELECT and as text, and is compared in WHERE."""
    for kind, values in TYPES:
        table = sa.Table("t", sa.MetaData(), sa.Column("id", sa.Integer, primary_key=True), sa.Column("v", kind))
        async with engine.begin() as connection:
            await connection.execute(sa.text("DROP TABLE IF EXISTS t"))
            await connection.run_sync(table.create)
        for number, value in enumerate(values):
            await note.attempt(f"{kind!r}, value {number}", there_and_back, engine, table, value)
            await note.attempt("literal", scalar, engine, sa.select(sa.literal(value, kind)))
        await note.attempt("many", many, engine, table, [{"v": value} for value in values[:2]])


async def there_and_back(engine: AsyncEngine, table: sa.Table, value: Any) -> list[Any]:
    async with engine.begin() as connection:
        returned = (await connection.execute(table.insert().values(v=value).returning(table.c.v))).scalar_one()
        newest = sa.select(table.c.v).order_by(table.c.id.desc()).limit(1)
        read = (await connection.execute(newest)).scalar_one()
        untyped = (await connection.execute(sa.text("SELECT v, v::text FROM t ORDER BY id DESC LIMIT 1"))).one()
        return [returned, read, untyped]


async def scalar(engine: AsyncEngine, query: Any, *args: Any) -> Any:
    async with engine.connect() as connection:
        return await connection.scalar(query, *args)


async def many(engine: AsyncEngine, table: sa.Table, rows: list[dict[str, Any]]) -> list[Any]:
    async with engine.begin() as connection:
        count = (await connection.execute(table.insert(), rows)).rowcount
        returned = (await connection.execute(table.insert().returning(table.c.v), rows)).scalars().all()
        found = await connection.execute(sa.select(table.c.id).where(sa.cast(table.c.v, sa.Text).is_not(None)))
        return [count, returned, len(found.all())]


async def raw(note: Notes, engine: AsyncEngine) -> None:
    """What text() selects, with its description; parameters whose types the server infers."""
    for literal in RAW.split():
        async with engine.connect() as connection:
            result = await connection.execute(sa.text(f"SELECT {literal}".replace(":", "\\:")))
            (column, *_), *_ = result.cursor.description
            note(literal, column, result.all())
    for query, value in [
        ("SELECT :x + 1", 5),
        ("SELECT :x || 'x'", "y"),
        ("SELECT CAST(:x AS pair)", (1, "a")),
        ("SELECT CAST(:x AS pair[])", [(1, "a"), None]),
        ("SELECT 1 WHERE 1 = ANY(:x)", [1, 2]),
        ("SELECT CAST(:x AS jsonb)", '{"a": 1}'),
        ("SELECT CAST(:x AS jsonb)", {"a": 1}),
        ("SELECT :x = current_date", "2020-01-01"),
        ("SELECT coalesce(:x, 5)", None),
    ]:
        await note.attempt(f"{query} {value!r}", scalar, engine, sa.text(query), {"x": value})


async def operators(note: Notes, engine: AsyncEngine) -> None:
    """Operators and functions of jsonb and of arrays."""
    table = sa.Table("ops", sa.MetaData(), sa.Column("b", pg.JSONB), sa.Column("a", pg.ARRAY(sa.Integer)))
    b, a = table.c.b, table.c.a
    async with engine.begin() as connection:
        await connection.run_sync(table.create)
        await connection.execute(
            table.insert().values(b={"x": {"y": [1, 2]}, "k": 1, "f": 1.5, "n": None}, a=[1, 2, 3])
        )
        for name, expression in {
            "index": b["x"]["y"],
            "path": b[("x", "y", "0")],
            "text": b["x"].astext,
            "integer": b["k"].as_integer(),
            "float": b["f"].as_float(),
            "has key": b.has_key("k"),
            "has all": b.has_all(pg.array(["k", "x"])),
            "contains": b.contains({"k": 1}),
            "path exists": b.path_exists("$.x.y"),
            "without a key": b - "k",
            "concatenated": b.concat({"new": 1}),
            "null": b["n"],
            "element": a[1],
            "slice": a[1:2],
            "any": a.any(2),
            "overlap": a.overlap([4, 3]),
            "appended": a.op("||")(pg.array([5])),
            "array()": pg.array([a[1], 5]),
            "unnest": sa.func.unnest(a),
            "in": sa.literal(2).in_([1, 2]),
            "aggregate": sa.select(sa.func.array_agg(a)).scalar_subquery(),
        }.items():
            note(name, (await connection.execute(sa.select(expression).select_from(table))).all())


async def codecs(note: Notes, dsn: str) -> None:
    """JSON by functions of the program's, addresses as text, and codecs that are set on connect."""
    engine = create_async_engine(
        dsn,
        json_serializer=lambda value: json.dumps(value, sort_keys=True),
        json_deserializer=lambda text: {"wrapped": json.loads(text)},
        native_inet_types=False,
    )

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: Any, record: Any) -> None:
        note("on connect", isinstance(connection.driver_connection, noting.asyncpg.Connection))
        connection.run_async(
            lambda driver: driver.set_type_codec(
                "mood", schema="public", encoder=str.lower, decoder=lambda value: f"mood: {value}"
            )
        )
        connection.run_async(
            lambda driver: driver.set_type_codec(
                "pair", schema="public", encoder=list, decoder=lambda value: {"pair": value}, format="tuple"
            )
        )

    for literal in ("'[1]'::jsonb", "'[1]'::json", "ARRAY['[1]'::jsonb]", "'10.0.0.1'::inet", "'{10.0.0.0/8}'::cidr[]",
                    "'happy'::mood", "'{sad}'::mood[]", "ROW(1,'a')::pair", "ARRAY[ROW(1,'a')::pair]"):  # fmt: skip
        await note.attempt(literal, scalar, engine, sa.text(f"SELECT {literal}".replace(":", "\\:")))
    await note.attempt("encoded", scalar, engine, sa.text("SELECT CAST(:x AS mood)"), {"x": "HAPPY"})
    await note.attempt("encoded", scalar, engine, sa.text("SELECT CAST(:x AS pair)"), {"x": (1, "b")})
    await note.attempt("encoded", scalar, engine, sa.select(sa.cast({"b": 1, "a": [None]}, pg.JSONB)))
    await engine.dispose()


async def program(note: Notes, dsn: str) -> None:
    dsn = noting.url(dsn)
    engine = create_async_engine(dsn)
    async with engine.begin() as connection:
        for kind in (
            "TYPE mood AS ENUM ('happy', 'sad')",
            "DOMAIN positive AS int CHECK (VALUE > 0)",
            "TYPE pair AS (x int, y text)",
            "TYPE nested AS (p pair, q pair[])",
        ):
            await connection.execute(sa.text(f"CREATE {kind}"))
    await columns(note, engine)
    await raw(note, engine)
    await operators(note, engine)
    await engine.dispose()
    await codecs(note, dsn)


if __name__ == "__main__":
    noting.main(program)
