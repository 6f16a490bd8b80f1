"""Load sample data into the catalogue: all of it or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from itertools import islice

import headrace
from storefront.errors import CatalogueNotEmptyError
from storefront.sample import Sample
from storefront.schema import ONE_BY_ONE, advance_sequence, has_citus
from storefront.timing import timed
from storefront.wording import counted

CHUNK = 5_000
"""The number of rows between two reports of progress."""

Row = tuple[int | str, ...]
Progress = Callable[[str, int, int], None]
"""A function that is called with a table, the number of rows loaded so far, and the number of rows to load."""


class Method(StrEnum):
    """How rows are sent: as a COPY stream, or as the parameters of one prepared INSERT."""

    COPY = "copy"
    EXECUTEMANY = "executemany"


@dataclass(frozen=True)
class Loaded:
    """The number of rows of each kind that exist or were loaded."""

    brands: int
    products: int
    skus: int

    def __str__(self) -> str:
        return f"{counted(self.brands, 'brand')}, {counted(self.products, 'product')} and {counted(self.skus, 'SKU')}"


@timed
async def load(
    connection: headrace.Connection,
    sample: Sample,
    *,
    method: Method = Method.COPY,
    replace: bool = False,
    progress: Progress = lambda table, done, total: None,
) -> Loaded:
    """Load the sample in one transaction and return the number of rows loaded.

    With `replace`, the existing brands, products and SKUs are removed in the same transaction. Without it,
    CatalogueNotEmptyError is raised if there are any. An error or a cancellation leaves the catalogue unchanged.
    """
    tables: tuple[tuple[str, tuple[str, ...], Iterable[Row], int], ...] = (
        ("brand", ("brand_id", "brand_name"), sample.brands(), sample.brand_count),
        ("product", ("product_id", "product_name", "brand_id"), sample.products(), sample.product_count),
        (
            "sku",
            ("sku_id", "product_id", "product_size_id", "product_color_id"),
            sample.skus(),
            sample.sku_count,
        ),
    )
    async with connection.transaction():
        if await has_citus(connection):
            await connection.execute(ONE_BY_ONE)
            # A COPY of a distributed table would not see what the coordinator itself has just written.
            await connection.execute("SET LOCAL citus.enable_local_execution TO off")
        # Without the lock, two loads at once would both find the tables empty. The lock does not block readers.
        await connection.execute("LOCK TABLE brand, product, sku IN SHARE ROW EXCLUSIVE MODE")
        if replace:
            await connection.execute("TRUNCATE brand, product, sku")
        else:
            present = await count_rows(connection)
            if present != Loaded(0, 0, 0):
                raise CatalogueNotEmptyError(
                    f"the catalogue already holds {present}: nothing was loaded; --replace removes them first"
                )
        for table, columns, rows, total in tables:
            progress(table, 0, total)
            counted = _counted(rows, partial(progress, table), total)
            if method is Method.COPY:
                # One stream carries the whole table. The rows are generated while it runs.
                await connection.copy_records_to_table(table, records=counted, columns=columns)
            else:
                await _insert(connection, table, columns, counted)
            progress(table, total, total)
            await connection.execute(advance_sequence(table))
        # The planner has no statistics for the new rows until the tables are analyzed.
        await connection.execute("ANALYZE brand, product, sku")
    return Loaded(sample.brand_count, sample.product_count, sample.sku_count)


async def count_rows(connection: headrace.Connection) -> Loaded:
    """Count the rows of the catalogue."""
    counts = await connection.fetchrow(
        "SELECT (SELECT count(*) FROM brand), (SELECT count(*) FROM product), (SELECT count(*) FROM sku)"
    )
    assert counts is not None
    return Loaded(*counts)


async def _insert(connection: headrace.Connection, table: str, columns: tuple[str, ...], rows: Iterator[Row]) -> None:
    """Insert rows by executemany, one chunk at a time. Each chunk is one request in the caller's transaction."""
    parameters = ", ".join(f"${position}" for position in range(1, len(columns) + 1))
    statement = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({parameters})"
    while chunk := list(islice(rows, CHUNK)):
        await connection.executemany(statement, chunk)


def _counted(rows: Iterable[Row], report: Callable[[int, int], None], total: int) -> Iterator[Row]:
    """Yield the rows, and report their number after every chunk."""
    for number, row in enumerate(rows):
        if number and number % CHUNK == 0:
            report(number, total)
        yield row
