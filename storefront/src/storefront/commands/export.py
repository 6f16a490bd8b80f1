"""`storefront export`: stream the catalogue as CSV, NDJSON or Parquet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from storefront import formats, stream
from storefront.catalogue import MAX_ID, MAX_WHOLE_NUMBER
from storefront.console import exit_on_broken_pipe, log_to_stderr
from storefront.database import leased, open_reader
from storefront.formats import Format
from storefront.options import DATA_DIR, DataDirOption, DsnOption, QuietOption, VerboseOption, run_on_server
from storefront.rows import output_file
from storefront.wording import counted

app = typer.Typer()


@app.command()
def export(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; - or none is standard output.")
    ] = None,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="The format of the output. By default its name says so, or else it is CSV."),
    ] = None,
    prefetch: Annotated[
        int | None,
        typer.Option(
            min=1, max=MAX_ID, help="Read records through a cursor, this number at a time; by default COPY is used."
        ),
    ] = None,
    since: Annotated[
        int,
        typer.Option(
            metavar="SKU_ID", min=0, max=MAX_ID, help="Only SKUs with a greater id, such as those added later."
        ),
    ] = 0,
    skip: Annotated[
        int, typer.Option(min=0, max=MAX_WHOLE_NUMBER, help="The number of rows to leave out at the beginning.")
    ] = 0,
    take: Annotated[
        int | None, typer.Option(min=0, max=MAX_WHOLE_NUMBER, help="Stop after this number of rows.")
    ] = None,
    quiet: QuietOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Stream the whole catalogue, without ever holding it in memory.

    The output is CSV, NDJSON or Parquet, compressed if its name ends in .gz or .zst.
    """
    log_to_stderr(verbose=verbose)
    path = None if output is None or output == Path("-") else output
    chosen, compression = formats.output_type(path, output_format)

    async def work(target: str) -> int:
        async with open_reader(target) as executor, leased(executor) as connection:
            with output_file(path, chosen, compression, stream.COLUMNS) as rows:
                return await stream.export(connection, rows, prefetch=prefetch, skip=skip, limit=take, since=since)

    with exit_on_broken_pipe():
        count = run_on_server(dsn, data_dir, work)
    if path is not None and not quiet:
        typer.echo(f"exported {counted(count, 'SKU')} to {path}")
