"""`storefront demo`: show everything once."""

from __future__ import annotations

from typing import Annotated

import typer

import headrace
from storefront import tour
from storefront.benchmark import Measurement
from storefront.console import log_to, stdout
from storefront.options import DATA_DIR, DataDirOption, DsnOption, run_on_server

app = typer.Typer()


@app.command()
def demo(
    short: Annotated[bool, typer.Option("--short", help="Use a tenth of the data and of the look-ups.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace existing data with the sample data.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Show it all once, on a real server: schema, data, transactions, a cursor, and 10,000 look-ups in each way."""
    console = stdout()
    log_to(console, verbose=True, indent=3)
    where = "the server of --dsn" if dsn else f"an embedded PostgreSQL in {data_dir}"
    console.print(f"[bold]The storefront[/bold] on headrace {headrace.__version__} and {where}")

    async def work(target: str) -> list[Measurement]:
        return await tour.demo(target, console, short=short, replace=replace)

    run_on_server(dsn, data_dir, work, create=True)
    if dsn is None:
        console.print(f"\nThe server is stopped; its data stays in {data_dir}. Go on with `storefront lookup 5`.")
