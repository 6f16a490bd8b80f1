"""copy_arrow_to_table: every Arrow type into the types of PostgreSQL that take it, as the server prints the values."""

from __future__ import annotations

import datetime
import random
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

import headrace
from headrace._core.arrow.tsvector import binary_tsvector

D = Decimal
UTC = datetime.UTC
DAY = datetime.date(2024, 2, 29)
AT = datetime.datetime(2024, 2, 29, 13, 14, 15, 123456)
AT_UTC = AT.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Case:
    """Values of an Arrow type, a type of PostgreSQL, and the texts that the server prints for them there."""

    type: str
    array: Any
    texts: list[str | None]

    def __str__(self) -> str:
        return f"{self.array.type}-{self.type}"


def case(type: str, array: Any, *texts: str | None) -> Case:
    return Case(type, array, list(texts))


def of(arrow: pa.DataType, *values: Any) -> Any:
    return pa.array(list(values), arrow)


UUID = uuid.UUID("12345678-1234-5678-1234-567812345678")
BIG = "123456789012345678901234567890123456"

INTEGERS = [
    case("int2", of(pa.int8(), -128, 127, None), "-128", "127", None),
    case("int2", of(pa.uint8(), 0, 255), "0", "255"),
    case("int2", of(pa.int16(), -32768, 32767), "-32768", "32767"),
    case("int2", of(pa.int64(), -32768, 32767), "-32768", "32767"),
    case("int4", of(pa.uint16(), 65535), "65535"),
    case("int4", of(pa.int32(), -(2**31), 2**31 - 1, None), "-2147483648", "2147483647", None),
    case("int4", of(pa.uint64(), 2**31 - 1), "2147483647"),
    case("int8", of(pa.uint32(), 2**32 - 1), "4294967295"),
    case("int8", of(pa.int64(), -(2**63), 2**63 - 1), str(-(2**63)), str(2**63 - 1)),
    case("int8", of(pa.uint64(), 2**63 - 1), str(2**63 - 1)),
    case("oid", of(pa.int64(), 0, 2**32 - 1), "0", "4294967295"),
    case("oid", of(pa.uint32(), 1), "1"),
    case("xid8", of(pa.uint64(), 2**64 - 1), str(2**64 - 1)),
    case("pg_lsn", of(pa.uint64(), 2**32 + 255), "1/FF"),
    case("regtype", of(pa.uint32(), 23), "integer"),
    case("numeric", of(pa.int64(), -(2**63), 0, 10000, 12345678), str(-(2**63)), "0", "10000", "12345678"),
    case("numeric", of(pa.uint64(), 2**64 - 1), str(2**64 - 1)),
    case("float8", of(pa.int64(), 2**53, -1), "9.007199254740992e+15", "-1"),
    case("float4", of(pa.int32(), 2**24), "1.6777216e+07"),
    # DuckDB's HUGEINT, which its sums have.
    case("int8", of(pa.decimal128(38, 0), D(2**63 - 1), D(-(2**63)), None), str(2**63 - 1), str(-(2**63)), None),
    case("int4", of(pa.decimal256(76, 0), D(-5)), "-5"),
]

DECIMALS = [
    case("numeric", of(pa.decimal32(9, 2), D("1234567.89"), D("-0.01"), None), "1234567.89", "-0.01", None),
    case("numeric", of(pa.decimal64(18, 3), D("0.000"), D("100000.5")), "0.000", "100000.500"),
    case("numeric", of(pa.decimal128(38, 2), D(f"-{BIG}.78")), f"-{BIG}.78"),
    case("numeric", of(pa.decimal128(38, 38), D("0." + "9" * 38)), "0." + "9" * 38),
    case("numeric", of(pa.decimal256(76, 1), D("9" * 75 + ".9")), "9" * 75 + ".9"),
    case("numeric", of(pa.decimal256(76, 75), D("-9." + "9" * 75)), "-9." + "9" * 75),
    case("numeric", of(pa.decimal128(5, -3), D("12345000"), D("-1000")), "12345000", "-1000"),
    case("numeric(4,1)", of(pa.decimal128(10, 3), D("999.949")), "999.9"),
    case("float8", of(pa.decimal128(20, 3), D("0.1"), D("123456789.125")), "0.1", "123456789.125"),
    case("float4", of(pa.decimal128(20, -1), D("50")), "50"),
]

FLOATS = [
    case("float8", of(pa.float64(), 0.1, float("inf"), float("nan"), None), "0.1", "Infinity", "NaN", None),
    case("float8", of(pa.float32(), 0.5, -1.25), "0.5", "-1.25"),
    case("float4", of(pa.float64(), 0.1), "0.1"),
    case(
        "float4",
        of(pa.float16(), 1.5, -2.0, 6.103515625e-05, 5.960464477539063e-08),
        "1.5",
        "-2",
        "6.1035156e-05",
        "5.9604645e-08",
    ),
    case("float8", of(pa.float16(), float("inf"), float("-inf"), 65504.0), "Infinity", "-Infinity", "65504"),
    case("numeric", of(pa.float64(), 0.1, 1e300, -0.0, float("nan")), "0.1", "1" + "0" * 300, "0", "NaN"),
    case("numeric", of(pa.float32(), 0.1, 16777216.0), "0.1", "16777216"),
]

TEXTS = [
    *(
        case(
            type,
            of(arrow, "x", "", "ünïcödé, and more than 12 bytes", None),
            "x",
            "",
            "ünïcödé, and more than 12 bytes",
            None,
        )
        for type in ("text", "varchar")
        for arrow in (pa.string(), pa.large_string(), pa.string_view())
    ),
    case("char(3)", of(pa.string(), "a"), "a"),
    case("name", of(pa.string(), "abc"), "abc"),
    case("json", of(pa.string(), '{"a": 1}'), '{"a": 1}'),
    case("jsonb", of(pa.string_view(), '{"a":1}', None), '{"a": 1}', None),
    case("jsonb", of(pa.large_string(), "[]"), "[]"),
    case("jsonpath", of(pa.string(), "$.a"), '$."a"'),
    case("uuid", of(pa.string(), str(UUID), UUID.hex), str(UUID), str(UUID)),
    case("numeric", of(pa.string(), "1.50", "NaN", "1e3"), "1.50", "NaN", "1000"),
    case("int4", of(pa.string(), "12", " -3"), "12", "-3"),
    case("float8", of(pa.string(), "1.5"), "1.5"),
    case("bool", of(pa.string(), "t", "false"), "true", "false"),
    case("date", of(pa.string(), "2024-02-29", "infinity"), "2024-02-29", "infinity"),
    case("timestamptz", of(pa.string(), "2024-02-29 12:00:00+02"), "2024-02-29 10:00:00+00"),
    case("timetz", of(pa.string(), "12:30:00+02"), "12:30:00+02"),
    case("interval", of(pa.string(), "1 year 2 mons 3 days 04:05:06"), "1 year 2 mons 3 days 04:05:06"),
    case("inet", of(pa.string(), "10.0.0.1/24", "::1/128"), "10.0.0.1/24", "::1/128"),
    case("cidr", of(pa.string(), "10.0.0.0/24"), "10.0.0.0/24"),
    case("macaddr", of(pa.string(), "08:00:2b:01:02:03"), "08:00:2b:01:02:03"),
    case("varbit", of(pa.string(), "10110"), "10110"),
    case("point", of(pa.string(), "(1,2.5)"), "(1,2.5)"),
    case("polygon", of(pa.string(), "((0,0),(1,1))"), "((0,0),(1,1))"),
    case('"char"', of(pa.string(), "x"), "x"),
    case("int2vector", of(pa.string(), "1 2"), "1 2"),
]

BYTES = [
    *(
        case(
            "bytea",
            of(arrow, b"\x00\xff", b"", b"thirteen bytes", None),
            r"\x00ff",
            r"\x",
            r"\x" + b"thirteen bytes".hex(),
            None,
        )
        for arrow in (pa.binary(), pa.large_binary(), pa.binary_view())
    ),
    case("bytea", of(pa.binary(2), b"ab", None), r"\x6162", None),
    case("uuid", of(pa.binary(16), UUID.bytes, None), str(UUID), None),
    case("uuid", of(pa.uuid(), UUID.bytes), str(UUID)),
    case("uuid", of(pa.binary(), UUID.bytes), str(UUID)),
    case("uuid", of(pa.binary_view(), UUID.bytes), str(UUID)),
]

TIMES = [
    case("date", of(pa.date32(), DAY, datetime.date(1, 1, 1), None), "2024-02-29", "0001-01-01", None),
    case(
        "date",
        pa.array([-(2**31) + 2**31 - 719893 - 1000, 2147483647 - 3000000], pa.int32()).cast(pa.date32()),
        "0005-04-06 BC",
        "5873366-10-21",
    ),
    case("date", of(pa.date64(), DAY), "2024-02-29"),
    case("timestamp", of(pa.date32(), DAY), "2024-02-29 00:00:00"),
    case("timestamp", of(pa.date64(), DAY), "2024-02-29 00:00:00"),
    case("timestamp", of(pa.timestamp("s"), AT.replace(microsecond=0), None), "2024-02-29 13:14:15", None),
    case("timestamp", of(pa.timestamp("ms"), AT.replace(microsecond=123000)), "2024-02-29 13:14:15.123"),
    case(
        "timestamp",
        of(pa.timestamp("us"), AT, datetime.datetime(1, 1, 1)),
        "2024-02-29 13:14:15.123456",
        "0001-01-01 00:00:00",
    ),
    case("timestamp", of(pa.timestamp("ns"), AT), "2024-02-29 13:14:15.123456"),
    case("timestamptz", of(pa.timestamp("us", "UTC"), AT_UTC), "2024-02-29 13:14:15.123456+00"),
    case("timestamptz", of(pa.timestamp("ns", "Europe/Paris"), AT_UTC), "2024-02-29 13:14:15.123456+00"),
    case(
        "timestamptz", of(pa.timestamp("s", "+02:00"), AT.replace(tzinfo=UTC, microsecond=0)), "2024-02-29 13:14:15+00"
    ),
    case("time", of(pa.time32("s"), datetime.time(1, 2, 3)), "01:02:03"),
    case("time", of(pa.time32("ms"), datetime.time(1, 2, 3, 4000)), "01:02:03.004"),
    case("time", of(pa.time64("us"), datetime.time(23, 59, 59, 999999), None), "23:59:59.999999", None),
    case("time", of(pa.time64("ns"), datetime.time(1, 2, 3, 4)), "01:02:03.000004"),
    case("time", pa.array([86400], pa.int32()).cast(pa.time32("s")), "24:00:00"),
    case("interval", of(pa.duration("s"), 90061, None), "25:01:01", None),
    case("interval", of(pa.duration("ms"), -1500), "-00:00:01.5"),
    case("interval", of(pa.duration("us"), 1), "00:00:00.000001"),
    case("interval", of(pa.duration("ns"), 1000), "00:00:00.000001"),
    case(
        "interval",
        of(pa.month_day_nano_interval(), (14, -3, 5_000_000_000), None),
        "1 year 2 mons -3 days +00:00:05",
        None,
    ),
]

OTHERS = [
    case("bool", of(pa.bool_(), True, False, None), "true", "false", None),
    case("bool", pa.ExtensionArray.from_storage(pa.bool8(), of(pa.int8(), 1, 0, None)), "true", "false", None),
    case("json", pa.ExtensionArray.from_storage(pa.json_(), of(pa.string(), "[1]")), "[1]"),
    case("jsonb", pa.ExtensionArray.from_storage(pa.json_(), of(pa.string(), "[1]")), "[1]"),
    case("text", of(pa.null(), None, None), None, None),
    case("int4[]", of(pa.null(), None), None),
    case("text", of(pa.string(), "a", "b", "a", None).dictionary_encode(), "a", "b", "a", None),
    case("int8", of(pa.int64(), 5, 5, None).dictionary_encode(), "5", "5", None),
    case(
        "text",
        pa.DictionaryArray.from_arrays(of(pa.uint8(), 1, 0, None), of(pa.large_string(), None, "b")),
        "b",
        None,
        None,
    ),
    case(
        "text",
        pa.RunEndEncodedArray.from_arrays(of(pa.int32(), 2, 3, 5), of(pa.string(), "a", None, "c")),
        "a",
        "a",
        None,
        "c",
        "c",
    ),
    case("int4", pa.RunEndEncodedArray.from_arrays(of(pa.int16(), 1, 4), of(pa.int32(), 7, 8)), "7", "8", "8", "8"),
    case("int4", pa.RunEndEncodedArray.from_arrays(of(pa.int64(), 3), of(pa.int32(), 7)).slice(1), "7", "7"),
]

INT_LISTS = ([1, 2, None], [], None, [3])
LISTS = [
    *(
        case("int4[]", of(arrow(pa.int32()), *INT_LISTS), "{1,2,NULL}", "{}", None, "{3}")
        for arrow in (pa.list_, pa.large_list, pa.list_view, pa.large_list_view)
    ),
    case("int8[]", of(pa.list_(pa.int32(), 2), [1, 2], None, [3, None]), "{1,2}", None, "{3,NULL}"),
    case("text[]", of(pa.list_(pa.string()), ["a b", 'c"', "NULL"]), '{"a b","c\\"","NULL"}'),
    case(
        "float8[]",
        of(pa.list_(pa.list_(pa.float64())), [[1.0, 2.0], [3.0, None]], [[]], []),
        "{{1,2},{3,NULL}}",
        "{}",
        "{}",
    ),
    case("int4[]", of(pa.large_list(pa.list_(pa.int32(), 2)), [[1, 2], [3, 4], [5, 6]]), "{{1,2},{3,4},{5,6}}"),
    case("int2[]", of(pa.list_(pa.list_(pa.list_(pa.int16()))), [[[1], [2]], [[3], [4]]]), "{{{1},{2}},{{3},{4}}}"),
    case(
        "timestamptz[]",
        of(pa.list_(pa.timestamp("us", "UTC")), [AT_UTC]),
        '{"2024-02-29 13:14:15.123456+00"}',
    ),
    case("numeric[]", of(pa.list_(pa.decimal128(9, 2)), [D("1.50"), None]), "{1.50,NULL}"),
    case("uuid[]", of(pa.list_(pa.string()), [str(UUID)]), f"{{{UUID}}}"),
    case(
        "text[]", pa.ListArray.from_arrays(of(pa.int32(), 0, 2), of(pa.string(), "a", "a").dictionary_encode()), "{a,a}"
    ),
    case("inet[]", of(pa.string(), '{10.0.0.1,NULL,"::1"}', None), "{10.0.0.1,NULL,::1}", None),
    case("text[]", of(pa.string_view(), '{"a b",c}'), '{"a b",c}'),
    case("timetz[]", of(pa.string(), "{{12:00:00+02},{13:00:00+02}}"), "{{12:00:00+02},{13:00:00+02}}"),
    case("int4range", of(pa.string(), "[1,5)", "empty", "(,3]"), "[1,5)", "empty", "(,4)"),
    case("int4multirange", of(pa.large_string(), "{[1,2),[5,9)}"), "{[1,2),[5,9)}"),
    case("int2vector", of(pa.list_(pa.int16()), [1, 2]), "1 2"),
]

MADE = [
    case("mood", of(pa.string(), "fine", "bad", None), "fine", "bad", None),
    case("mood", of(pa.string(), "fine", "bad").dictionary_encode(), "fine", "bad"),
    case("mood[]", of(pa.list_(pa.string()), ["fine", None]), "{fine,NULL}"),
    case("small", of(pa.int64(), 5), "5"),
    case("small[]", of(pa.list_(pa.int8()), [5, None]), "{5,NULL}"),
    case("ints", of(pa.list_(pa.int32()), [1, 2]), "{1,2}"),
    case("ints[]", of(pa.list_(pa.list_(pa.int32())), [[1, 2], [3], None]), '{"{1,2}","{3}",NULL}'),
    case(
        "pair",
        of(pa.struct({"m": pa.string(), "n": pa.int32()}), {"n": 1, "m": "bad"}, {"n": None, "m": None}, None),
        "(1,bad)",
        "(,)",
        None,
    ),
    case("pair", of(pa.struct({"n": pa.int32()}), {"n": 1}), "(1,)"),
    case(
        "pair[]",
        of(pa.list_(pa.struct({"n": pa.int32(), "m": pa.string()})), [{"n": 1, "m": "bad"}, None]),
        '{"(1,bad)",NULL}',
    ),
    case(
        "wide",
        of(pa.struct({"p": pa.struct({"n": pa.int8()}), "ns": pa.list_(pa.int64())}), {"p": {"n": 2}, "ns": [1, 2]}),
        '("(2,)","{1,2}")',
    ),
]

BOUNDS = {"lower": pa.int32(), "upper": pa.int32()}
RANGE = pa.struct({**BOUNDS, "lower_inc": pa.bool_(), "upper_inc": pa.bool_(), "empty": pa.bool_()})


def bounds(
    lower: int | None, upper: int | None, lower_inc: bool = True, upper_inc: bool = False, empty: bool = False
) -> Any:
    return {"lower": lower, "upper": upper, "lower_inc": lower_inc, "upper_inc": upper_inc, "empty": empty}


RANGES = [
    case("int4range", of(pa.struct(BOUNDS), {"lower": 1, "upper": 5}, None), "[1,5)", None),
    case(
        "int4range",
        of(
            RANGE,
            bounds(1, 5, False, True),
            bounds(None, 5),
            bounds(1, None),
            bounds(None, None),
            bounds(None, None, empty=True),
        ),
        "[2,6)",
        "(,5)",
        "[1,)",
        "(,)",
        "empty",
    ),
    case(
        "numrange",
        of(
            pa.struct({"lower": pa.decimal128(5, 1), "upper": pa.float64(), "upper_inc": pa.bool_()}),
            {"lower": D("1.5"), "upper": 2.5, "upper_inc": True},
        ),
        "[1.5,2.5]",
    ),
    case(
        "tstzrange",
        of(
            pa.struct({"lower": pa.timestamp("us", "UTC"), "upper": pa.timestamp("us", "UTC")}),
            {"lower": AT_UTC, "upper": None},
        ),
        '["2024-02-29 13:14:15.123456+00",)',
    ),
    case("int4range[]", of(pa.list_(RANGE), [bounds(1, 2), None]), '{"[1,2)",NULL}'),
    case(
        "floatrange",
        of(pa.struct({"lower": pa.float64(), "upper": pa.float64()}), {"lower": 0.5, "upper": 1.5}),
        "[0.5,1.5)",
    ),
    case("int4multirange", of(pa.list_(RANGE), [bounds(1, 2), bounds(5, 9)], [], None), "{[1,2),[5,9)}", "{}", None),
]

TEXT_FORMS_OF_PARTS = [
    case("pair", of(pa.string(), "(3,bad)", "(,fine)", None), "(3,bad)", "(,fine)", None),
    case("wide", of(pa.large_string(), '("(3,bad)","{1,NULL}")'), '("(3,bad)","{1,NULL}")'),
    case("mood[]", of(pa.string_view(), "{bad,NULL,fine}", "{}"), "{bad,NULL,fine}", "{}"),
    case("pair[]", of(pa.string(), '{"(1,fine)"}'), '{"(1,fine)"}'),
    case("floatrange", of(pa.string(), "[0.5,1.5)", "empty"), "[0.5,1.5)", "empty"),
    case("ints", of(pa.string(), "{1,2}"), "{1,2}"),
    case("wide", of(pa.struct({"p": pa.string()}), {"p": "(3,bad)"}), '("(3,bad)",)'),
]

VECTORS_OF_LEXEMES = [
    case(
        "tsvector",
        of(pa.string(), "'fat':2B,4 'rat':3", "a fat cat", "", None),
        "'fat':2B,4 'rat':3",
        "'a' 'cat' 'fat'",
        "",
        None,
    ),
    case("tsvector", of(pa.string(), "b:1 a:3,2A,3B b:1C"), "'a':2A,3B 'b':1C"),
    case("tsvector", of(pa.string_view(), r"'it''s' 'a\\b' größe:1"), r"'a\\b' 'größe':1 'it''s'"),
    case("tsvector[]", of(pa.list_(pa.string()), ["a:1", None]), """{'a':1,NULL}"""),
]

CASES = [*INTEGERS, *DECIMALS, *FLOATS, *TEXTS, *BYTES, *TIMES, *OTHERS, *LISTS, *MADE, *RANGES]


@pytest.fixture
async def conn(conn: headrace.Connection) -> AsyncIterator[headrace.Connection]:
    """A connection to a database with types of its own."""
    await conn.execute(
        """SET timezone = 'UTC';
        CREATE TYPE mood AS ENUM ('fine', 'bad'); CREATE DOMAIN small AS int CHECK (VALUE < 10);
        CREATE DOMAIN ints AS int[]; CREATE TYPE pair AS (n small, m mood); CREATE TYPE wide AS (p pair, ns int8[]);
        CREATE TYPE floatrange AS RANGE (subtype = float8)"""
    )
    yield conn
    await conn.execute("DROP TYPE wide, pair, small, ints, mood, floatrange CASCADE")


@pytest.mark.parametrize(
    "group",
    ["INTEGERS", "DECIMALS", "FLOATS", "TEXTS", "BYTES", "TIMES", "OTHERS", "LISTS", "MADE", "RANGES",
     "TEXT_FORMS_OF_PARTS", "VECTORS_OF_LEXEMES"],
)  # fmt: skip
async def test_values_arrive_as_the_server_prints_them(conn: headrace.Connection, group: str) -> None:
    wrong: list[tuple[str, Any, Any]] = []
    for each in globals()[group]:
        await conn.execute(f"CREATE TEMP TABLE t (n int GENERATED ALWAYS AS IDENTITY, c {each.type})")
        # Alone, and as a slice of a chunk between others.
        tripled = pa.chunked_array([each.array, pa.concat_arrays([each.array] * 3)])
        count = len(each.texts)
        for data in (each.array, tripled, tripled.slice(count + 1, max(count - 1, 0))):
            table = pa.table({"c": data})
            expected = each.texts * 4 if data is tripled else each.texts if data is each.array else each.texts[1:]
            try:
                assert await conn.copy_arrow_to_table("t", table) == f"COPY {len(data)}"
            except headrace.PostgresError as error:
                wrong.append((str(each), str(error), expected))
            printed = [row[0] for row in await conn.fetch("SELECT c::text FROM t ORDER BY n")]
            if printed != expected:
                wrong.append((str(each), printed, expected))
            await conn.execute("TRUNCATE t")
        await conn.execute("DROP TABLE t")
    assert not wrong


async def test_a_codec_that_the_program_has_set_plays_no_part_in_text_forms(conn: headrace.Connection) -> None:
    await conn.set_type_codec("mood", encoder=lambda value: "no mood", decoder=lambda value: "?")
    await conn.execute("CREATE TEMP TABLE t (c mood[])")
    assert await conn.copy_arrow_to_table("t", pa.table({"c": ["{bad,fine}"]})) == "COPY 1"
    assert await conn.fetchval("SELECT c::text FROM t") == "{bad,fine}"


async def test_the_text_of_a_tsvector_is_read_as_the_server_reads_it(conn: headrace.Connection) -> None:
    """The server sends what it has read, or NULL for an error."""
    await conn.execute(
        """CREATE FUNCTION pg_temp.read(given text) RETURNS bytea LANGUAGE plpgsql AS $$
        BEGIN RETURN tsvectorsend(given::tsvector); EXCEPTION WHEN others THEN RETURN NULL; END $$"""
    )
    some = random.Random(1)
    pieces = ["a", "b", "ab", "é", "'", "''", "\\", ":", ":1", ":2", ",3", ":99999", "A", "b:4C", "*", "D", " ",
              "\t", "\n", ":0", ",", "'a b'", "'a':1"]  # fmt: skip
    texts = ["".join(some.choices(pieces, k=some.randrange(1, 9))) for _ in range(3000)]
    # Of the last position with several weights the server keeps any.
    texts = [text for text in texts if text.count("99999") < 2]
    texts += [
        "a:" + ",".join(map(str, range(1, 300))),
        "x" * 2046,
        "x" * 2047,
        "'" + "y" * 2048 + "'",
        "a:16384,5,20000",
    ]
    expected = await conn.fetchval(
        "SELECT array_agg(pg_temp.read(t) ORDER BY n) FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)", texts
    )
    wrong = []
    read = 0
    for text, sent in zip(texts, expected, strict=True):
        try:
            made = binary_tsvector(text)
        except ValueError:
            made = None
        read += made is not None
        if made != sent:
            wrong.append((text[:50], made, sent))
    assert not wrong
    assert 500 < read < len(texts) - 500


@pytest.mark.parametrize("lists", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), 3)])
@pytest.mark.parametrize("type", ["vector", "halfvec"])
async def test_vectors_of_pgvector(conn: headrace.Connection, type: str, lists: pa.DataType) -> None:
    if not await conn.fetchval("SELECT true FROM pg_available_extensions WHERE name = 'vector'"):
        pytest.skip("the server has no pgvector")
    await conn.execute(
        f"CREATE EXTENSION IF NOT EXISTS vector; CREATE TEMP TABLE t (n int GENERATED ALWAYS AS IDENTITY, c {type})"
    )
    data = pa.table({"c": pa.array([[1.0, -2.5, 0.0], None, [3.0, 0.5, 100.0]], lists)})
    assert await conn.copy_arrow_to_table("t", data) == "COPY 3"
    assert [row[0] for row in await conn.fetch("SELECT c::text FROM t ORDER BY n")] == [
        "[1,-2.5,0]",
        None,
        "[3,0.5,100]",
    ]
    for values, message in (([1.0, None, 2.0], "element 1 is NULL"), ([], "1 to 32767 dimensions, got 0")):
        if values or pa.types.is_large_list(lists):
            with pytest.raises(headrace.ArgumentError, match=f"row 1, column 'c': .*{message}"):
                await conn.copy_arrow_to_table("t", pa.table({"c": pa.array([values], lists)}))
    if lists.value_type == pa.float64():
        with pytest.raises(headrace.ArgumentError, match="row 1, column 'c': .*(out of float4 range|too large)"):
            await conn.copy_arrow_to_table("t", pa.table({"c": pa.array([[1e300]], lists)}))
    with pytest.raises(headrace.ArgumentError, match="cast it to a list of float32"):
        await conn.copy_arrow_to_table("t", pa.table({"c": [[1, 2]]}))


async def test_types_of_extensions(conn: headrace.Connection, server: Any) -> None:
    available = {row[0] for row in await conn.fetch("SELECT name FROM pg_available_extensions")}
    if not {"citext", "ltree", "hstore", "cube"} <= available:
        pytest.skip("the server has no extensions")
    await conn.execute("CREATE EXTENSION citext; CREATE EXTENSION ltree; CREATE EXTENSION hstore")
    await conn.execute("CREATE TEMP TABLE h (n int GENERATED ALWAYS AS IDENTITY, h hstore)")
    maps = pa.array([[("a", "1"), ("b", None)], [], None], pa.map_(pa.string(), pa.large_string()))
    assert await conn.copy_arrow_to_table("h", pa.table({"h": maps})) == "COPY 3"
    assert [row[0] for row in await conn.fetch("SELECT h::text FROM h ORDER BY n")] == ['"a"=>"1", "b"=>NULL', "", None]
    with pytest.raises(headrace.ArgumentError, match="make it a map of strings to strings"):
        await conn.copy_arrow_to_table("h", pa.table({"h": ["a=>1"]}))
    numbers = pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int32()))
    with pytest.raises(headrace.ArgumentError, match="int32 for text: cast it to string"):
        await conn.copy_arrow_to_table("h", pa.table({"h": numbers}))
    await conn.execute("CREATE TEMP TABLE t (a citext, b ltree, c citext[])")
    data = pa.table({"a": ["X"], "b": ["top.a"], "c": [["Y", None]]})
    assert await conn.copy_arrow_to_table("t", data) == "COPY 1"
    assert tuple(await conn.fetchrow("SELECT a::text, b::text, c::text FROM t") or ()) == ("X", "top.a", "{Y,NULL}")
