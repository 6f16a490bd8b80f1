"""Values, there and back: what one driver takes the other takes, and what comes back is equal and of the same type.

Wrong values are refused by both as a DataError, with the words that programs look for in its message. Where headrace
takes more, or is stricter on purpose (docs/from-asyncpg.md), it is left out.
"""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import enum
import fractions
import ipaddress
import types
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

import headrace
from tests.compat.test_both_drivers import Run, check_both
from tests.servers import Cluster

D = decimal.Decimal
INF, NAN = float("inf"), float("nan")
EAST = dt.timezone(dt.timedelta(hours=2, minutes=30))
Named = collections.namedtuple("Named", "x y")


class Number(enum.IntEnum):
    """An enum whose members are numbers."""

    ONE = 1


class Word(enum.StrEnum):
    """An enum whose members are texts."""

    HAPPY = "happy"


class Indexed:
    """A number to those who ask for an index."""

    def __index__(self) -> int:
        return 5


class Sized:
    """An iterable with a length, and nothing else."""

    def __len__(self) -> int:
        return 2

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))


class Endless:
    """An iterable without a length."""

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))


SETUP = """
    CREATE TYPE mood AS ENUM ('happy', 'x'); CREATE TYPE pair AS (x int, y text);
    CREATE TYPE nested AS (a int, p pair, ps pair[]); CREATE DOMAIN positive AS int CHECK (VALUE > 0);
    CREATE DOMAIN short AS varchar(3); CREATE DOMAIN list AS int[]; CREATE DOMAIN boxed AS pair;
    CREATE TYPE floatrange AS RANGE (subtype = float8, multirange_type_name = floatmultirange);
"""

TAKEN: dict[str, Iterable[Any]] = {
    "int2": [32767, -32768, True, 1.0, D(2), Indexed(), Number.ONE, fractions.Fraction(2)],
    "int4": [2**31 - 1, -(2**31)],
    "int8": [2**63 - 1, -(2**63)],
    "oid": [2**32 - 1],
    "xid8": [2**64 - 1],
    "bool": [True, False, None],
    "float4": [1, 0.1, D("1.1"), INF, -INF, 1e-50, -0.0, 16777217],
    "float8": [1, D("1.1"), 2**53 + 1, fractions.Fraction(1, 3), 1e-320],
    "numeric": ["NaN", "-Infinity", INF, D("1.10"), D("-0.000"), D("1E-100"), D("0.00001"), " 1 ", "1_000", 0.1, True],
    "numeric(5,2)": [D("1.005"), D("99999")],
    "money": ["$12.50", "x"],
    "text": ["", "\x01", Word.HAPPY],
    "varchar(2)": ["a", "abc", "ab "],
    "char(3)": ["a"],
    "name": ["x" * 63],
    '"char"': [b"a", b"\xff"],
    "bytea": [b"", bytearray(b"x"), memoryview(b"x")],
    "xml": ["<a/>", "<a"],
    "json": ["{}", "x"],
    "jsonb": ["[1]", "x"],
    "jsonpath": ["$.a", "x y"],
    "tsvector": ["a:1 b"],
    "tsquery": ["a & b", "a &"],
    "date": [dt.date.min, dt.date.max, dt.datetime(2020, 1, 1, 23, tzinfo=EAST)],
    "time": [dt.time.max],
    "timetz": [dt.time(1, tzinfo=EAST), dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=-15, minutes=-59)))],
    "timestamp": [dt.datetime.max, dt.datetime.min, dt.date.max, dt.date.min, dt.date(2020, 1, 1)],
    "timestamptz": [
        *(dt.datetime.max, dt.datetime.min, dt.date.max, dt.date.min),
        dt.datetime(2020, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    ],
    "interval": [dt.timedelta(-1), dt.timedelta(microseconds=-1), dt.timedelta.max, dt.timedelta(hours=25)],
    "inet": ["::1/64", ipaddress.ip_interface("10.0.0.1/8"), ipaddress.ip_network("10.0.0.0/8")],
    "cidr": ["10.0.0.1", ipaddress.ip_network("::/0"), ipaddress.ip_address("::1")],
    "macaddr8": ["08:00:2b:01:02:03"],
    "point": [(1, 2), [1.5, D(2)], (INF, NAN), Named(1, 2)],
    "line": [(1, 2, 3)],
    "lseg": [[[1, 2], [3, 4]]],
    "box": [((1, 4), (3, 2))],
    "path": [((1, 2), (3, 4)), [(1, 2)], {(1, 2)}],
    "polygon": [((1, 2), (3, 4))],
    "tid": [(1, 2), [1, 2], (2**32 - 1, 65535)],
    "pg_snapshot": [(10, 20, (10, 14))],
    "int4range": [(1,), [1, 5], (None, None), (5, 1), ()],
    "daterange": [(dt.date(2020, 1, 1), dt.date(2020, 1, 2))],
    "int4multirange": [[(1, 2), (2, 3)], ((5, 6), (1, 2)), [()], []],
    "floatrange": [(1.5, 2)],
    "floatmultirange": [[(1.5, 2)]],
    "int4[]": [(1,), {1}, frozenset([1]), Sized(), range(3), collections.deque([1]), {1: 2}.keys(), [[]], [[None, 1]]],
    "text[]": [["a,b", "{}", "NULL", "", None], [["a"], ["b"]]],
    "point[]": [[(1, 2), (3, 4)], [[(1, 2)], [(3, 4)]]],
    "mood": ["happy", Word.HAPPY, "angry"],
    "mood[]": [["happy", None]],
    "pair": [(1, "x"), [1, "x"], {"x": 1}, {}, Named(1, "x"), types.MappingProxyType({"y": "q"})],
    "pair[]": [[(1, "x"), None], [[(1, "x")], [(2, "y")]], [{"x": 1}]],
    "nested": [(1, (2, "x"), [(3, "y")]), {"p": {"x": 1}}],
    "positive": [1, -1],
    "short": ["abcdef"],
    "list": [[1, 2], [[1, 2]]],
    "boxed": [(1, "x")],
    "regclass": ["pg_class", "nope", "1259"],
    "regtype": ["int4"],
    "refcursor": ["a"],
    "void": [],
}
"""Type -> values that asyncpg passes on; some of them the server refuses."""

INTEGER = "cannot be interpreted as an integer"
REFUSED: dict[str, Iterable[tuple[Any, str]]] = {
    "int2": [("1", INTEGER), ([1], INTEGER), (32768, "value out of int16 range"), (NAN, "cannot convert float NaN")],
    "int4": [
        ("1", f"'str' object {INTEGER}"),
        (b"1", f"'bytes' object {INTEGER}"),
        (2**31, "value out of int32 range"),
    ],
    "int8": [("1", INTEGER), (2**63, "value out of int64 range"), (2**70, "value out of int64 range")],
    "oid": [("1", "an integer is required"), (-1, "value out of uint32 range")],
    "xid8": [("1", "an integer is required"), (2**64, "value out of uint64 range")],
    "bool": [(1, "a boolean is required (got type int)"), ("t", "a boolean is required (got type str)")],
    "float4": [("1.5", "must be real number, not str"), (1e39, "value out of float32 range")],
    "float8": [("1.5", "must be real number, not str"), (10**400, "int too large to convert to float")],
    "numeric": [
        (fractions.Fraction(1, 3), "conversion from Fraction to Decimal is not supported"),
        (b"1", "conversion from bytes to Decimal is not supported"),
        (D("1E-16384"), "cannot encode Decimal value into numeric: exponent is too small"),
    ],
    "text": [(1, "expected str, got int"), ("\ud800", "surrogates not allowed")],
    "bytea": [("a", "a bytes-like object is required, not 'str'"), (1, "a bytes-like object is required, not 'int'")],
    "varbit": [("101", "a bytes-like object is required, not 'str'")],
    "json": [({}, "expected str, got dict")],
    "date": [("2020-01-01", "'str' object has no attribute 'toordinal'")],
    "time": [("01:02", "'str' object has no attribute 'hour'")],
    "timetz": [("01:02", "'str' object has no attribute 'tzinfo'")],
    "timestamp": [
        ("2020-01-01", "expected a datetime.date or datetime.datetime instance, got 'str'"),
        (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "can't subtract offset-naive and offset-aware datetimes"),
    ],
    "timestamptz": [(1, "expected a datetime.date or datetime.datetime instance, got 'int'")],
    "interval": [("1 day", "'str' object has no attribute 'days'")],
    "uuid": [("x", "invalid UUID 'x'")],
    "inet": [("10.0.0.1/33", "does not appear to be an IPv4 or IPv6 interface")],
    "cidr": [("10.0.0.1/8", "10.0.0.1/8 has host bits set")],
    "tid": [
        ("(1,2)", "list or tuple expected (got type <class 'str'>)"),
        ((1,), "invalid number of elements in tid tuple, expecting 2"),
        ((-1, 2), "tuple id block value out of uint32 range"),
        ((1, 65536), "tuple id offset value out of uint16 range"),
    ],
    "int4range": [
        ("[1,5)", "list, tuple or Range object expected (got type <class 'str'>)"),
        ((1, 2, 3), "expected 0, 1 or 2 elements in range (got 3)"),
        (("a", 1), INTEGER),
    ],
    "int4multirange": [
        (5, "expected a sequence (got type 'int')"),
        ([5], "list, tuple or Range object expected (got type <class 'int'>)"),
        ([None], "list, tuple or Range object expected (got type <class 'NoneType'>)"),
    ],
    "int4[]": [
        ("ab", "a sized iterable container expected (got type 'str')"),
        ({1: 2}, "a sized iterable container expected (got type 'dict')"),
        (Endless(), "a sized iterable container expected (got type 'Endless')"),
        (iter([1]), "a sized iterable container expected (got type 'list_iterator')"),
        ([[1], [2, 3]], "non-homogeneous array"),
        ([1, [2]], "non-homogeneous array"),
        (["a"], "invalid array element at index 0: "),
        ([2**40], "value out of int32 range"),
        ([[[[[[[1]]]]]]], "number of array dimensions (7) exceed the maximum expected (6)"),
    ],
    "text[]": [(["a", 1], "invalid array element at index 1: expected str, got int")],
    "mood": [(1, "expected str, got int")],
    "pair": [({"z": 1}, "'z' is not a valid element of composite type pair"), (("a", "b"), INTEGER), (5, "")],
    "nested": [((1, 5, None), "")],
    "positive": [("x", INTEGER)],
    "regclass": [(1259, "expected str, got int")],
}

LITERALS = """
    'NaN'::numeric|'Infinity'::numeric|0.00::numeric|12345678.9::numeric|1e-100::numeric|'a'::"char"|''::"char"
    'infinity'::date|'-infinity'::date|'9999-12-31'::date|'-infinity'::timestamp|'infinity'::timestamptz
    '9999-12-31 23:59:59.999999'::timestamp|'2020-01-01 12:00:00+02'::timestamptz|'01:02:03.5-08'::timetz
    '1 year 2 mon 3 days 04:05:06.789'::interval|'-1 year -2 mon +3 days -04:05:06.789'::interval|'-13 mons'::interval
    '10.0.0.1/8'::inet|'10.0.0.0/8'::cidr|'08:00:2b:01:02:03:04:05'::macaddr8|'[0:1][2:3]={{1,2},{3,4}}'::int[]
    '{a,"b c",NULL,"NULL",""}'::text[]|ARRAY[B'10']|ARRAY['a'::tsvector]|ARRAY['1'::money]|ARRAY['pg_class'::regclass]
    ROW()|ROW(ROW(1,2),ARRAY[3],NULL)|ARRAY[ROW(1,'a')]|ROW('<a/>'::xml,'{}'::jsonb,'$.a'::jsonpath,'1'::unknown)
    (1,'x')::pair|ROW(1,(2,'y')::pair,ARRAY[(3,'z')::pair])::nested|(1,'x')::boxed|ARRAY['happy'::mood]|'{{1}}'::list
    'empty'::int4range|'(,)'::int4range|'[1.5,2.5]'::numrange|'[2020-01-01,infinity]'::daterange|'{[,]}'::int4multirange
    ARRAY['{[1,2)}'::int4multirange]|'FFFFFFFF/0'::xid|'0/16B3748'::pg_lsn|'10:20:10,14'::pg_snapshot|'1 2'::int2vector
    pg_sleep(0)|pg_notify('a','b')|'now()'::regprocedure|'english'::regconfig|repeat('1',17)::varbit|'(inf,nan)'::point
"""


async def taken(run: Run) -> None:
    """Every value of TAKEN, and literals of all types."""
    await run.connection.execute(SETUP)
    for kind, values in TAKEN.items():
        for value in values:
            await run.attempt(run.connection.fetchval, f"SELECT $1::{kind}", value)
    for literal in " | ".join(LITERALS.splitlines()).split("|"):
        if literal.strip():
            await run.attempt(run.connection.fetchval, f"SELECT {literal}")
    bits, span = run.driver.BitString, run.driver.Range
    for kind, value in (
        ("bit(3)", bits("101")),
        ("varbit", b"\xa0"),
        ("varbit", bits()),
        ("int4range", span(1, 5, upper_inc=True)),
        ("int4range", span(empty=True)),
        ("int4range", span(5, 1)),
        ("int4multirange", [span(1, 2), span()]),
        ("int4range[]", [span(1, 2)]),
        ("path", run.driver.Path((1, 2), is_closed=True)),
        ("box", run.driver.Box((1, 2), (3, 4))),
    ):
        await run.attempt(run.connection.fetchval, f"SELECT $1::{kind}", value)


async def test_what_asyncpg_takes_is_taken(server: Cluster, tmp_path: Path) -> None:
    await check_both(taken, server, tmp_path)


@pytest.mark.parametrize("driver", [asyncpg, headrace])
async def test_what_asyncpg_refuses_is_refused_in_its_words(driver: Any, server: Cluster) -> None:
    with server.database() as name:
        connection = await driver.connect(server.dsn(name))
        try:
            await connection.execute(SETUP)
            for kind, values in REFUSED.items():
                for value, words in values:
                    with pytest.raises(driver.DataError) as caught:
                        await connection.fetchval(f"SELECT $1::{kind}", value)
                    message = str(caught.value)
                    assert message.startswith("invalid input for query argument $1: "), kind
                    assert words in message, (kind, value)
            with pytest.raises(driver.CharacterNotInRepertoireError) as caught:
                await connection.fetchval("SELECT $1::text[]", ["a\0"])
            assert caught.value.sqlstate == "22021"
            for args in ((), (1, 2)):
                with pytest.raises(driver.InterfaceError, match="the server expects 1 argument for this query"):
                    await connection.fetchval("SELECT $1::int", *args)
            words = "query argument \\$1: input of anonymous composite types is not supported"
            with pytest.raises(driver.UnsupportedClientFeatureError, match=words):
                await connection.fetchval("SELECT $1::record", (1, 2))
        finally:
            await connection.close()
