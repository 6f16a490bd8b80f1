"""`storefront export`: stream the catalogue as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storefront import stream
from storefront.console import exit_on_broken_pipe, log_to, stderr
from storefront.database import open_connection
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server
from storefront.rows import output_file

app = typer.Typer()


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The CSV file to write; standard output by default.")
    ] = None,
    prefetch: Annotated[
        int | None,
        typer.Option(min=1, help="Read records through a cursor, this number at a time; by default COPY is used."),
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="The number of rows to leave out at the beginning.")] = 0,
    take: Annotated[int | None, typer.Option(min=0, help="Stop after this number of rows.")] = None,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Stream the whole catalogue as CSV, without ever holding it in memory."""
    log_to(stderr(), verbose=verbose)

    async def work(target: str) -> int:
        async with open_connection(target) as connection:
            with output_file(output) as rows:
                return await stream.export(connection, rows, prefetch=prefetch, skip=skip, limit=take)

    with exit_on_broken_pipe():
        count = run_on_server(dsn, data_dir, work)
    if output is not None:
        typer.echo(f"exported {count:,} rows to {output}")
