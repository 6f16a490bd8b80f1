"""`storefront init`: create the database and its tables."""

from __future__ import annotations

import typer

from storefront.console import log_to, stderr
from storefront.database import create_database, open_connection
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server
from storefront.schema import create_schema, headline
from storefront.service_schema import create_service_tables

app = typer.Typer()


@app.command()
def init(dsn: DsnOption = None, data_dir: DataDirOption = DATA_DIR, verbose: VerboseOption = False) -> None:
    """Create the database and its tables. Running it twice is harmless."""
    log_to(stderr(), verbose=verbose)

    def report(statement: str, status: str) -> None:
        typer.echo(f"{status:<16} {headline(statement, 100)}")

    async def work(target: str) -> None:
        if status := await create_database(target):
            typer.echo(status)
        async with open_connection(target) as connection:
            await create_schema(connection, report)
            await create_service_tables(connection, report)

    run_on_server(dsn, data_dir, work, create=True)
