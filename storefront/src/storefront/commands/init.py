"""`storefront init`: create the database and its tables."""

from __future__ import annotations

from typing import Annotated

import typer

from storefront.console import log_to_stderr, print_json
from storefront.database import create_database, open_connection
from storefront.options import (
    DATA_DIR,
    DataDirOption,
    DsnOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    run_on_server,
)
from storefront.schema import create_schema, headline, status_line
from storefront.service_schema import create_service_tables

app = typer.Typer()


@app.command()
def init(
    citus: Annotated[
        bool, typer.Option("--citus", help="Distribute products and SKUs over the workers of Citus.")
    ] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Create the database and its tables. Running it twice is harmless."""
    log_to_stderr(verbose=verbose)

    created = False
    statements: list[dict[str, str]] = []

    def report(statement: str, status: str) -> None:
        statements.append({"statement": headline(statement, 100), "status": status})
        if not json and not quiet:
            typer.echo(status_line(statement, status, 100))

    async def work(target: str) -> None:
        nonlocal created
        if status := await create_database(target):
            created = True
            if not json and not quiet:
                typer.echo(status)
        async with open_connection(target) as connection:
            await create_schema(connection, report, citus=citus)
            await create_service_tables(connection, report)

    run_on_server(dsn, data_dir, work, create=True)
    if json:
        print_json({"database_created": created, "statements": statements})
