"""`storefront demo`: show everything once."""

from __future__ import annotations

from typing import Annotated

import typer

import headrace
from storefront import hints, tour
from storefront.benchmark import Measurement
from storefront.console import log_to, stdout
from storefront.options import DATA_DIR, DataDirOption, DsnOption, EphemeralOption, default_data_dir, run_on_server

app = typer.Typer()


@app.command()
def demo(
    short: Annotated[bool, typer.Option("--short", help="Use a tenth of the data and of the look-ups.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace existing data with the sample data.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    ephemeral: EphemeralOption = False,
) -> None:
    """Show it all once, on a real server: schema, data, transactions, a cursor, and 10,000 look-ups in each way."""
    console = stdout()
    log_to(console, verbose=True, indent=3)
    directory = data_dir or default_data_dir()
    if dsn:
        where = "the server of --dsn"
    elif ephemeral:
        where = "an embedded PostgreSQL in a temporary directory"
    else:
        where = f"an embedded PostgreSQL in {directory}"
    console.print(f"[bold]The storefront[/bold] on headrace {headrace.__version__} and {where}")

    async def work(target: str) -> list[Measurement]:
        return await tour.demo(target, console, short=short, replace=replace)

    run_on_server(dsn, data_dir, work, create=True, ephemeral=ephemeral)
    console.print()
    if dsn:
        console.print(f"Go on with {hints.suggest('lookup', '5')}.", soft_wrap=True, markup=False)
    elif ephemeral:
        console.print("The server is stopped, and its data are removed. To keep a catalogue to go on with:")
        console.print(f"{hints.suggest('demo')}", soft_wrap=True, markup=False)
    else:
        console.print(f"The server is stopped. Its data stay in {directory}.", soft_wrap=True, markup=False)
        console.print(f"Go on with {hints.suggest('lookup', '5')}.", soft_wrap=True, markup=False)
