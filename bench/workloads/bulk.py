"""Rows written and read in bulk: executemany, insert_records, and COPY in both directions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

from bench.data import SCHEMA, SKUS, rows_of
from bench.peers.peer import Peer, PeerConnection, Table, Unsupported
from bench.workloads.workload import AtLeast, Job, Open, Scale, Workload, expect

ITEM_COLUMNS = ("id", "code", "name", "weight", "available", "due", "made_at")
ITEM_TYPES = ("int4", "int8", "text", "float8", "bool", "date", "timestamptz")
ITEM = Table(SCHEMA, "item", ITEM_COLUMNS, ITEM_TYPES)
ITEM_FULL = Table(SCHEMA, "item_full", ITEM_COLUMNS, ITEM_TYPES)

SKU_COLUMNS = ("sku_id", "product_id", "product_size_id", "product_color_id")
SKU = Table(SCHEMA, "sku", SKU_COLUMNS, ("int4",) * 4)
SKU_COPY = Table(SCHEMA, "sku_copy", SKU_COLUMNS, ("int4",) * 4)

MakeRows = Callable[[int], list[tuple[Any, ...]]]
Write = Callable[[PeerConnection, list[tuple[Any, ...]]], Awaitable[None]]


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    rows = scale.bulk_rows

    def workload(name: str, title: str, opened: Open, batch: int | None, times: float = 1.0) -> Workload:
        return Workload(name, title, "rows/s", "bulk", opened, batch=batch, requirement=AtLeast(times))

    return [
        workload("executemany", f"executemany, {rows:,} rows of 7", _executemany(rows), rows),
        workload(
            "insert-records",
            f"insert_records (others: executemany), {rows:,} rows of 7",
            _write(ITEM, item_rows, rows, lambda connection, items: connection.insert(ITEM, items)),
            rows,
            2.2,
        ),
        workload(
            "insert-records-returning",
            f"the same with RETURNING (others: fetchmany), {rows:,} rows of 7",
            _write(ITEM, item_rows, rows, _insert_returning),
            rows,
            2.0,
        ),
        workload(
            "copy-in-items",
            f"copy_records_to_table, {rows:,} rows of 7",
            _copy_in(ITEM, item_rows, rows),
            rows,
        ),
        workload("copy-in-skus", f"copy_records_to_table, {rows:,} SKUs", _copy_in(SKU_COPY, sku_rows, rows), rows),
        workload(
            "copy-in-items-columns",
            f"copy_arrow_to_table (adbc: ingest, others: rows), {rows:,} rows of 7",
            _copy_in_columns(ITEM, item_rows, rows),
            rows,
        ),
        workload(
            "copy-in-skus-columns",
            f"copy_arrow_to_table (adbc: ingest, others: rows), {rows:,} SKUs",
            _copy_in_columns(SKU_COPY, sku_rows, rows),
            rows,
        ),
        workload("copy-out-items", f"copy_from_table, {SKUS:,} rows of 7", _copy_out(ITEM_FULL), None),
        workload("copy-out-skus", f"copy_from_table, {SKUS:,} SKUs", _copy_out(SKU), None),
    ]


def item_rows(count: int) -> list[tuple[Any, ...]]:
    """Return rows of the seven-column table."""
    day, moment = date(2025, 1, 1), datetime(2025, 1, 1, tzinfo=UTC)
    return [
        (
            i,
            i * 10_000_000_000,
            f"item number {i}",
            i / 7,
            i % 2 == 0,
            day + timedelta(i % 1000),
            moment + timedelta(0, i),
        )
        for i in range(count)
    ]


def sku_rows(count: int) -> list[tuple[Any, ...]]:
    """Return rows of the SKU table."""
    return [(i, i % 1000 + 1, i % 3 + 1, i % 2 + 1) for i in range(count)]


def _write(table: Table, make: MakeRows, count: int, write: Write) -> Open:
    """Return the opener of a workload that writes rows into an empty table. An operation is one row."""

    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        rows = make(count)
        async with peer.connection(dsn) as connection:

            async def run(n: int) -> object:
                await write(connection, rows[:n])
                return n

            async def check(written: Any) -> None:
                found = rows_of(dsn, table.qualified)
                expect(found == written, f"{written} rows are in the table, not {found}")

            yield Job(run=run, check=check, reset=lambda: connection.execute(f"TRUNCATE {table.qualified}"))

    return opened


def _executemany(count: int) -> Open:
    return _write(ITEM, item_rows, count, lambda connection, rows: connection.executemany(ITEM.insert, rows))


async def _insert_returning(connection: PeerConnection, rows: list[tuple[Any, ...]]) -> None:
    found = await connection.insert_returning(ITEM, rows)
    expect(len(found) == len(rows) and found[-1][0] == rows[-1][0], "a row comes back for each, in their order")


def _copy_in(table: Table, make: MakeRows, count: int) -> Open:
    return _write(table, make, count, lambda connection, rows: connection.copy_in(table, rows))


def _copy_in_columns(table: Table, make: MakeRows, count: int) -> Open:
    """Return the opener of a COPY of columns in Arrow's layout. A driver that takes none copies the same rows."""

    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        columns = as_columns(table, make(count))

        async def write(connection: Any, rows: list[tuple[Any, ...]]) -> None:
            copy = getattr(connection, "copy_in_columns", None)
            if copy is None:
                await connection.copy_in(table, rows)
            else:
                await copy(table, rows, columns[: len(rows)])

        async with _write(table, make, count, write)(peer, dsn) as job:
            yield job

    return opened


def as_columns(table: Table, rows: list[tuple[Any, ...]]) -> Any:
    """Return the rows of a table as a pyarrow.Table. Raises Unsupported without pyarrow."""
    try:
        import pyarrow
    except ImportError:
        raise Unsupported("pyarrow is not installed") from None
    types = {
        "int4": pyarrow.int32(),
        "int8": pyarrow.int64(),
        "text": pyarrow.string(),
        "float8": pyarrow.float64(),
        "bool": pyarrow.bool_(),
        "date": pyarrow.date32(),
        "timestamptz": pyarrow.timestamp("us", "UTC"),
    }
    columns = [
        pyarrow.array(list(column), types[name])
        for column, name in zip(zip(*rows, strict=True), table.types, strict=True)
    ]
    return pyarrow.table(columns, names=list(table.columns))


def _copy_out(table: Table) -> Open:
    @asynccontextmanager
    async def opened(peer: Peer, dsn: str) -> AsyncIterator[Job]:
        async with peer.connection(dsn) as connection:

            async def run(n: int) -> object:
                for _ in range(n - 1):
                    await connection.copy_out(table)
                return await connection.copy_out(table)

            async def check(size: Any) -> None:
                expect(size > SKUS * len(table.columns) * 5, f"the whole table comes, not {size} bytes")

            yield Job(run=run, check=check, units=SKUS)

    return opened
