"""`storefront init`: create the database and its tables."""

from __future__ import annotations

import typer

from storefront.console import log_to, stderr
from storefront.database import create_database, open_connection
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server
from storefront.schema import create_schema, status_line

app = typer.Typer()


@app.command()
def init(dsn: DsnOption = None, data_dir: DataDirOption = DATA_DIR, verbose: VerboseOption = False) -> None:
    """Create the database and its five tables. Running it twice is harmless."""
    log_to(stderr(), verbose=verbose)

    def report(statement: str, status: str) -> None:
        typer.echo(status_line(statement, status, 100))

    async def work(target: str) -> None:
        if status := await create_database(target):
            typer.echo(status)
        async with open_connection(target) as connection:
            await create_schema(connection, report)

    run_on_server(dsn, data_dir, work, create=True)
