"""Result sets: many rows per query, on one connection."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.data import SCHEMA, SKUS
from bench.peers.peer import Peer
from bench.workloads.workload import AtLeast, Job, Open, Scale, Workload, expect

PG_TYPE = """
    SELECT typname, typnamespace, typowner, typlen, typbyval, typcategory, typispreferred, typisdefined,
           typdelim, typrelid, typelem, typarray
    FROM pg_catalog.pg_type WHERE typtypmod = $1 AND typisdefined = $2
"""


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject; none depends on the scale."""

    def workload(
        name: str, title: str, sql: str, *args: object, rows: int | None = None, times: float = 1.0
    ) -> Workload:
        return Workload(
            name,
            title,
            "rows/s",
            "many rows a query",
            fetch(sql, args, rows=rows),
            requirement=AtLeast(times),
        )

    return [
        workload("fetch-ints", "1,000 ints", "SELECT generate_series(1, 1000)", rows=1000),
        workload("fetch-pg-type", "pg_type, 12 columns", PG_TYPE, -1, True),
        workload("fetch-bytea", "100 x 1 kB of bytea", f"SELECT content FROM {SCHEMA}.blob", rows=100),
        workload("fetch-arrays", "100 arrays of 100 ints", f"SELECT numbers FROM {SCHEMA}.int_array", rows=100),
        workload("fetch-skus", f"{SKUS:,} SKUs, 4 ints", f"SELECT * FROM {SCHEMA}.sku", rows=SKUS),
        workload(
            "fetch-mixed",
            "1,000 mixed rows, 10 columns",
            f"SELECT * FROM {SCHEMA}.mixed",
            rows=1000,
            times=1.3,
        ),
    ]


def fetch(sql: str, args: tuple[object, ...], *, rows: int | None, values: int = 1) -> Open:
    """Return the opener of a workload whose operation is one fetch.

    rows: the expected number, None for any number. values: the units that a row counts for.
    """

    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.connection(dsn) as connection:
            expected = rows if rows is not None else len(await connection.fetch(sql, *args))

            async def run(count: int) -> object:
                for _ in range(count - 1):
                    await connection.fetch(sql, *args)
                return await connection.fetch(sql, *args)

            async def check(result: Any) -> None:
                expect(len(result) == expected > 0, f"{expected} rows come, not {len(result)}")
                expect(result[0][0] is not None, "the first value is no NULL")

            yield Job(run=run, check=check, units=expected * values)

    return opened
