"""``python -m bench.batch_memory``: the memory that the storefront takes for a batch of ten million ids.

Half of the ids are drawn from a catalogue of a million products with three SKUs each, so most of them come several
times. The other half are from the whole range of `integer`, and nearly all of them are unknown. Repeated and unknown
ids are lines of the report. `storefront batch` is a process of its own for each format of the output.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from bench.program import ProgramError, Run, run_storefront
from storefront import EmbeddedServer, create_database, create_schema, open_connection
from storefront.catalogue import MAX_ID
from storefront.errors import ExitStatus

FILL = """
INSERT INTO brand SELECT g, 'brand ' || g FROM generate_series(1, 100) AS g;
INSERT INTO product SELECT g, 'the name of a product has ten words as in number ' || g, 1 + g % 100
    FROM generate_series(1, {products}) AS g;
INSERT INTO sku SELECT g, 1 + (g - 1) / {skus_each}, 1 + g % 3, 1 + g % 2
    FROM generate_series(1, {products} * {skus_each}) AS g
"""

CHUNK = 100_000


class Output(StrEnum):
    """The format of the output."""

    CSV = "csv"
    NDJSON = "ndjson"
    PARQUET = "parquet"


def write_order(path: Path, ids: int, products: int) -> None:
    """Write an order of ids, one a line."""
    choice = Random(1)
    with path.open("w") as file:
        for start in range(0, ids, CHUNK):
            size = min(CHUNK, ids - start)
            chosen = [1 + int(choice.random() * (products if number % 2 else MAX_ID)) for number in range(size)]
            file.write("".join([f"{each}\n" for each in chosen]))


async def fill(dsn: str, products: int, skus_each: int) -> None:
    """Make the catalogue."""
    await create_database(dsn)
    async with open_connection(dsn) as connection:
        await create_schema(connection)
        await connection.execute(FILL.format(products=products, skus_each=skus_each))
        await connection.execute("VACUUM ANALYZE")


def show(title: str, runs: dict[Output, Run]) -> None:
    """Print the table."""
    table = Table(title=title)
    for heading in ("output", "peak memory", "seconds", "processor seconds"):
        table.add_column(heading, justify="left" if heading == "output" else "right")
    for output, run in runs.items():
        table.add_row(output, f"{run.peak / 1e6:.0f} MB", f"{run.seconds:.0f}", f"{run.processor:.0f}")
    Console().print(table)


def main(
    ids: Annotated[int, typer.Option(min=1, help="Lines of the order.")] = 10_000_000,
    products: Annotated[int, typer.Option(min=1, help="Products of the catalogue.")] = 1_000_000,
    skus_each: Annotated[int, typer.Option(min=1, help="SKUs of each product.")] = 3,
    output: Annotated[list[Output] | None, typer.Option(help="A format; may be given several times.")] = None,
) -> None:
    """Measure the memory of a large batch."""
    with tempfile.TemporaryDirectory() as name, EmbeddedServer(Path(name) / "server") as server:
        directory, dsn = Path(name), server.dsn("products")
        asyncio.run(fill(dsn, products, skus_each))
        order = directory / "order.txt"
        write_order(order, ids, products)
        runs: dict[Output, Run] = {}
        try:
            for each in output or Output:
                file, report = directory / f"skus.{each}", directory / "report.csv"
                runs[each] = run_storefront(
                    "batch", "--dsn", dsn, order, "--output", file, "--report", report, "--quiet",
                    statuses=(ExitStatus.DONE, ExitStatus.NOT_ALL_FOUND),
                )  # fmt: skip
                print(
                    f"{each}: {file.stat().st_size / 1e6:.0f} MB, report: {report.stat().st_size / 1e6:.0f} MB",
                    flush=True,
                )
                file.unlink()
                report.unlink()
        except ProgramError as error:
            sys.exit(f"bench.batch_memory: {error}")
    show(f"a batch of {ids:,} ids, a catalogue of {products:,} products", runs)


if __name__ == "__main__":
    typer.run(main)
