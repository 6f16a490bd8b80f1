"""Decoding and encoding: two workloads for every family of types.

Decoding fetches 1,000 rows of a table with the family's types. Encoding sends arrays of 1,000 values as arguments of a
query that returns one number, so that the server's work is small and the same for all drivers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from bench.data import SCHEMA
from bench.peers.peer import Peer
from bench.workloads.rows import fetch
from bench.workloads.workload import AtLeast, Job, Open, Scale, Workload, expect

COUNT = 1_000

Arguments = Callable[[Peer], list[tuple[str, list[Any]]]]


@dataclass(frozen=True)
class Family:
    """A family of types.

    columns: what to decode, SQL over the row number g. arguments: what to encode, each a type and an array's
    values.
    """

    name: str
    title: str
    columns: tuple[str, ...]
    arguments: Arguments

    @property
    def table(self) -> str:
        return f"family_{self.name}"

    @property
    def rows(self) -> str:
        columns = ", ".join(f"{expression} AS c{n}" for n, expression in enumerate(self.columns))
        return f"SELECT {columns} FROM generate_series(1, {COUNT}) AS g"


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject; none depends on the scale."""
    found = []
    for family in FAMILIES:
        sql = f"SELECT * FROM {SCHEMA}.{family.table}"
        decode = fetch(sql, (), rows=COUNT, values=len(family.columns))
        found.append(_workload("decode", family, decode))
    found += [_workload("encode", family, _encode(family)) for family in FAMILIES]
    return found


def tables() -> dict[str, str]:
    """Return the queries that fill the tables of the families, by table name."""
    return {family.table: family.rows for family in FAMILIES}


def _workload(direction: str, family: Family, opened: Open) -> Workload:
    title = f"{direction} {family.title}"
    return Workload(f"{direction}-{family.name}", title, "values/s", direction, opened, requirement=AtLeast(1.0))


def _encode(family: Family) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        pairs = family.arguments(peer)
        sizes = [f"cardinality(${n}::{name}[])" for n, (name, _) in enumerate(pairs, 1)]
        sql = f"SELECT {' + '.join(sizes)}"
        arguments = [values for _, values in pairs]
        async with peer.connection(dsn) as connection:

            async def run(count: int) -> object:
                for _ in range(count - 1):
                    await connection.fetch(sql, *arguments)
                return await connection.fetch(sql, *arguments)

            async def check(result: Any) -> None:
                expect(result[0][0] == units, f"{units} values arrive, not {result[0][0]}")

            units = sum(_leaves(values) for values in arguments)
            yield Job(run=run, check=check, units=units)

    return opened


def _leaves(values: Any) -> int:
    return sum(map(_leaves, values)) if isinstance(values, list) else 1


def _each(make: Callable[[int], Any], count: int = COUNT) -> list[Any]:
    return [make(g) for g in range(1, count + 1)]


DAY = date(2025, 1, 1)
MOMENT = datetime(2025, 1, 1)
MOMENT_UTC = datetime(2025, 1, 1, tzinfo=UTC)
DOCUMENT = '{{"id": {0}, "name": "product {0}", "tags": ["a", "b"], "price": 1.5}}'
DOCUMENT_SQL = "jsonb_build_object('id', g, 'name', 'product ' || g, 'tags', jsonb_build_array('a', 'b'), 'price', 1.5)"

FAMILIES = (
    Family(
        "ints",
        "int2, int4, int8",
        ("g::int2", "g * 1000", "g * 10000000000"),
        lambda peer: [
            ("int2", _each(lambda g: g)),
            ("int4", _each(lambda g: g * 1000)),
            ("int8", _each(lambda g: g * 10_000_000_000)),
        ],
    ),
    Family(
        "floats",
        "float4, float8",
        ("(g / 7.0)::float4", "(g / 7.0)::float8"),
        lambda peer: [("float4", _each(lambda g: g / 8)), ("float8", _each(lambda g: g / 7))],
    ),
    Family(
        "numeric",
        "numeric",
        ("(g * 1.25)::numeric(12, 2)", "g * 123456789.123456789::numeric"),
        lambda peer: [
            ("numeric", _each(lambda g: Decimal(g * 125).scaleb(-2))),
            ("numeric", _each(lambda g: Decimal("123456789.123456789") * g)),
        ],
    ),
    Family(
        "text",
        "text, varchar",
        ("'product ' || g", "repeat('ünïcödé ', 8)::varchar"),
        lambda peer: [
            ("text", _each(lambda g: f"product {g}")),
            ("varchar", _each(lambda g: "ünïcödé " * 8)),
        ],
    ),
    Family(
        "bytea",
        "bytea",
        ("decode(md5(g::text), 'hex')", "decode(repeat(md5(g::text), 16), 'hex')"),
        lambda peer: [
            ("bytea", _each(lambda g: g.to_bytes(16, "big"))),
            ("bytea", _each(lambda g: g.to_bytes(4, "big") * 64)),
        ],
    ),
    Family(
        "json",
        "json, jsonb",
        (f"{DOCUMENT_SQL}::json", DOCUMENT_SQL),
        lambda peer: [(name, _each(lambda g: peer.json(DOCUMENT.format(g)))) for name in ("json", "jsonb")],
    ),
    Family(
        "uuid",
        "uuid",
        ("md5(g::text)::uuid",),
        lambda peer: [("uuid", _each(lambda g: UUID(int=g * 0x1234_5678_9ABC_DEF0_1234_5678)))],
    ),
    Family(
        "datetime",
        "date, time, timestamp, timestamptz",
        (
            "date '2025-01-01' + g",
            "time '00:00' + g * interval '1 minute 1 microsecond'",
            "timestamp '2025-01-01' + g * interval '1 hour 1 microsecond'",
            "timestamptz '2025-01-01' + g * interval '1 hour 1 microsecond'",
        ),
        lambda peer: [
            ("date", _each(lambda g: DAY + timedelta(g))),
            ("time", _each(lambda g: time(g % 24, g % 60, g % 60, g))),
            ("timestamp", _each(lambda g: MOMENT + timedelta(hours=g, microseconds=g))),
            ("timestamptz", _each(lambda g: MOMENT_UTC + timedelta(hours=g, microseconds=g))),
        ],
    ),
    Family(
        "interval",
        "interval",
        ("g * interval '1 day'", "g * interval '1 hour 1 microsecond'"),
        lambda peer: [("interval", _each(lambda g: timedelta(days=g, hours=g % 24, microseconds=g)))],
    ),
    Family(
        "arrays",
        "int4[], text[], float8[]",
        (
            "array_fill(g, ARRAY[10])",
            "array_fill('item ' || g, ARRAY[10])",
            "array_fill(g / 7.0::float8, ARRAY[2, 5])",
        ),
        lambda peer: [
            ("int4", _each(lambda g: [g * 1000] * 10)),
            ("text", _each(lambda g: [f"item {g}"] * 10)),
            ("float8", _each(lambda g: [[g / 7] * 5, [g / 3] * 5])),
        ],
    ),
    Family(
        "inet",
        "inet, cidr",
        ("inet '10.0.0.0' + g", "inet '2001:db8::' + g", "(inet '10.0.0.0' + 256 * g)::cidr"),
        lambda peer: [
            ("inet", _each(lambda g: ip_address(0x0A000000 + g))),
            ("inet", _each(lambda g: ip_address((0x20010DB8 << 96) + g))),
        ],
    ),
    Family(
        "ranges",
        "int4range, tstzrange",
        (
            "int4range(g, g * 2 + 1)",
            "tstzrange(timestamptz '2025-01-01', timestamptz '2025-01-01' + g * interval '1 h')",
        ),
        lambda peer: [
            ("int4range", _each(lambda g: peer.range(g, g * 2 + 1))),
            ("tstzrange", _each(lambda g: peer.range(MOMENT_UTC, MOMENT_UTC + timedelta(hours=g)))),
        ],
    ),
    Family(
        "short",
        "bool, oid, name, timetz",
        ("g % 2 = 0", "g::oid", "('column_' || g)::name", "timetz '00:00+05:30' + g * interval '1 minute'"),
        lambda peer: [
            ("bool", _each(lambda g: g % 2 == 0)),
            ("oid", _each(lambda g: g)),
            ("name", _each(lambda g: f"column_{g}")),
            ("timetz", _each(lambda g: time(g % 24, g % 60, tzinfo=UTC))),
        ],
    ),
    Family(
        "geometry",
        "point, box, circle",
        ("point(g, g / 7.0)", "box(point(g, g), point(0, 1))", "circle(point(g, g), 5)"),
        lambda peer: [
            ("point", _each(lambda g: (g, g / 7))),
            ("circle", _each(lambda g: ((g, g), 5))),
        ],
    ),
    Family(
        "made",
        "enums, domains, composites",
        ("'medium'::mood", "g::amount", "row(g, 'brand ' || g)::brand"),
        lambda peer: [
            (f"{SCHEMA}.mood", _each(lambda g: "medium")),
            (f"{SCHEMA}.amount", _each(lambda g: g)),
            (f"{SCHEMA}.brand", _each(lambda g: (g, f"brand {g}"))),
        ],
    ),
)
