"""Random tables of every type, by copy_arrow_to_table and by copy_records_to_table: the server prints the same."""

from __future__ import annotations

import datetime
import json
import random
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import headrace

UTC = datetime.UTC
Make = Callable[[random.Random], Any]


def integer(bits: int) -> Make:
    return lambda chance: chance.choice([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, chance.randrange(-1000, 1000)])


def text(chance: random.Random) -> str:
    return "".join(chance.choices("aä€\U0001f600 \\\"',{}()\n", k=chance.choice([0, 1, 5, 12, 13, 40])))


def decimal(precision: int, scale: int) -> Make:
    def make(chance: random.Random) -> Decimal:
        digits = chance.randrange(10 ** chance.randrange(1, precision + 1)) * chance.choice([1, -1])
        return Decimal((digits < 0, tuple(map(int, str(abs(digits)))), -scale))

    return make


def moment(zone: Any) -> Make:
    first = datetime.datetime(1, 1, 2, tzinfo=zone)
    return lambda chance: first + datetime.timedelta(chance.randrange(3_600_000), microseconds=chance.randrange(10**11))


def day(chance: random.Random) -> datetime.date:
    return datetime.date(1, 1, 2) + datetime.timedelta(chance.randrange(3_600_000))


def time(chance: random.Random) -> datetime.time:
    return datetime.time(chance.randrange(24), chance.randrange(60), chance.randrange(60), chance.randrange(10**6))


def number(chance: random.Random) -> float:
    return chance.choice([0.0, 1e300, 5e-324, float("inf"), chance.random(), chance.uniform(-1e9, 1e9)])


def single(chance: random.Random) -> float:
    return chance.choice([0.0, 0.5, -1.25, float("-inf"), 16777216.0])


def listed(make: Make) -> Make:
    return lambda chance: [None if chance.random() < 0.2 else make(chance) for _ in range(chance.randrange(5))]


def nested(make: Make) -> Make:
    def lists(chance: random.Random) -> list[Any]:
        width = chance.randrange(1, 4)
        return [[make(chance) for _ in range(width)] for _ in range(chance.randrange(1, 4))]

    return lists


def same(value: Any) -> Any:
    return value


def as_uuid(value: uuid.UUID) -> bytes:
    return value.bytes


def as_range(value: headrace.Range[int]) -> dict[str, Any]:
    return {
        "lower": value.lower,
        "upper": value.upper,
        "lower_inc": value.lower_inc,
        "upper_inc": value.upper_inc,
        "empty": value.isempty,
    }


def a_range(chance: random.Random) -> headrace.Range[int]:
    lower, upper = chance.choice([None, chance.randrange(100)]), chance.choice([None, chance.randrange(100, 200)])
    if chance.random() < 0.2:
        return headrace.Range(empty=True)
    return headrace.Range(
        lower,
        upper,
        lower_inc=lower is not None and chance.random() < 0.5,
        upper_inc=upper is not None and chance.random() < 0.5,
    )


RANGE = pa.struct(
    {"lower": pa.int64(), "upper": pa.int32(), "lower_inc": pa.bool_(), "upper_inc": pa.bool_(), "empty": pa.bool_()}
)

COLUMNS: list[tuple[str, pa.DataType, Make, Callable[[Any], Any]]] = [
    ("int2", pa.int16(), integer(16), same),
    ("int4", pa.int32(), integer(32), same),
    ("int4", pa.int64(), integer(32), same),
    ("int8", pa.int64(), integer(64), same),
    ("numeric", pa.int64(), integer(64), same),
    ("oid", pa.uint32(), lambda chance: chance.randrange(2**32), same),
    ("xid8", pa.uint64(), lambda chance: chance.randrange(2**64), same),
    ("bool", pa.bool_(), lambda chance: chance.random() < 0.5, same),
    ("float8", pa.float64(), number, same),
    ("float4", pa.float32(), single, same),
    ("float8", pa.float16(), lambda chance: chance.choice([0.5, -2.0, 65504.0]), same),
    *[
        ("numeric", kind(precision, scale), decimal(precision, scale), same)
        for kind, precision, scale in (
            (pa.decimal32, 9, 4),
            (pa.decimal64, 18, 1),
            (pa.decimal128, 38, 0),
            (pa.decimal128, 38, 2),
            (pa.decimal128, 38, 37),
            (pa.decimal256, 76, 5),
            (pa.decimal256, 76, 76),
        )
    ],
    *[("text", arrow, text, same) for arrow in (pa.string(), pa.large_string(), pa.string_view())],
    *[
        ("bytea", arrow, lambda chance: chance.randbytes(chance.choice([0, 3, 12, 13, 50])), same)
        for arrow in (pa.binary(), pa.large_binary(), pa.binary_view())
    ],
    ("bytea", pa.binary(5), lambda chance: chance.randbytes(5), same),
    ("uuid", pa.binary(16), lambda chance: uuid.UUID(bytes=chance.randbytes(16)), as_uuid),
    ("uuid", pa.string(), lambda chance: uuid.UUID(bytes=chance.randbytes(16)), str),
    ("jsonb", pa.string(), lambda chance: json.dumps([text(chance)]), same),
    ("date", pa.date32(), day, same),
    ("time", pa.time64("us"), time, same),
    ("timestamp", pa.timestamp("us"), moment(None), same),
    ("timestamptz", pa.timestamp("us", "UTC"), moment(UTC), same),
    ("text[]", pa.list_(pa.string()), listed(text), same),
    ("text[]", pa.large_list(pa.string_view()), listed(text), same),
    ("int8[]", pa.list_view(pa.int64()), listed(integer(64)), same),
    ("int4[]", pa.list_(pa.list_(pa.int32())), nested(integer(32)), same),
    ("numeric[]", pa.list_(pa.decimal128(38, 3)), listed(decimal(38, 3)), same),
    ("int4range", RANGE, a_range, as_range),
    (
        "int4range[]",
        pa.list_(RANGE),
        lambda chance: [a_range(chance)],
        lambda value: [as_range(each) for each in value],
    ),
]


def chunked(chance: random.Random, values: list[Any], arrow: pa.DataType) -> Any:
    """Return the values in chunks, each a slice of a longer array, some of them dictionaries or runs."""
    chunks = []
    while values:
        size = chance.randrange(len(values) + 1)
        some, values = values[:size], values[size:]
        before = chance.randrange(20)
        array = pa.array([None] * before + some + [None], arrow)
        chunks.append(array.slice(before, size))
    return pa.chunked_array(chunks, arrow)


def encoded(chance: random.Random, column: Any) -> Any:
    if chance.random() < 0.3 and column.type in (pa.string(), pa.int64(), pa.date32()):
        return column.dictionary_encode()
    return column


@pytest.mark.parametrize("seed", range(6))
async def test_tables(conn: headrace.Connection, seed: int) -> None:
    chance = random.Random(seed)
    count = chance.choice([1, 9, 200])
    columns = chance.sample(COLUMNS, len(COLUMNS))
    values = [[None if chance.random() < 0.15 else make(chance) for _ in range(count)] for _, _, make, _ in columns]
    data = pa.table(
        {
            f"c{at}": encoded(chance, chunked(chance, [None if v is None else convert(v) for v in values[at]], arrow))
            for at, (_, arrow, _, convert) in enumerate(columns)
        }
    )
    definition = ", ".join(f"c{at} {type}" for at, (type, *_) in enumerate(columns))
    await conn.execute(f"CREATE TEMP TABLE by_columns ({definition}); CREATE TEMP TABLE by_rows ({definition})")
    assert await conn.copy_arrow_to_table("by_columns", data) == f"COPY {count}"
    assert await conn.copy_records_to_table("by_rows", records=list(zip(*values, strict=True))) == f"COPY {count}"
    printed = ", ".join(f"c{at}::text" for at in range(len(columns)))
    by_columns = await conn.fetch(f"SELECT {printed} FROM by_columns")
    by_rows = await conn.fetch(f"SELECT {printed} FROM by_rows")
    for at, (type, arrow, *_) in enumerate(columns):
        assert [row[at] for row in by_columns] == [row[at] for row in by_rows], f"{arrow} in {type}"
