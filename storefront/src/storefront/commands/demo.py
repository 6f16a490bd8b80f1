"""`storefront demo`: show everything once."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

import headrace
from storefront import benchmark, hints, service, timing
from storefront.console import log_by, print_indented, stdout
from storefront.options import DATA_DIR, DataDirOption, DsnOption, EphemeralOption, default_data_dir, run_on_server
from storefront.service_tour import visit_service
from storefront.tour import Tour

app = typer.Typer()

ADDRESS: Final = "http://127.0.0.1:8000"
"""The address of `storefront serve` without options."""


@app.command()
def demo(
    short: Annotated[bool, typer.Option("--short", help="Use a tenth of the data and of the look-ups.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Replace existing data with the sample data.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    ephemeral: EphemeralOption = False,
) -> None:
    """Show it all once, on a real server: schema, data, transactions, a cursor, look-ups in each way, the service."""
    console = stdout()
    log_by(_Steps(console), logging.INFO)
    directory = data_dir or default_data_dir()
    if dsn:
        where = "the server of --dsn"
    elif ephemeral:
        where = "an embedded PostgreSQL in a temporary directory"
    else:
        where = f"an embedded PostgreSQL in {directory}"
    console.print(f"[bold]The storefront[/bold] on headrace {headrace.__version__}")
    console.print(f"with {where}", soft_wrap=True, markup=False)

    async def work(target: str) -> None:
        tour = Tour(target, console, short=short, replace=replace)
        await tour.run()
        await visit_service(tour)

    run_on_server(dsn, data_dir, work, create=True, ephemeral=ephemeral)
    console.print()
    for line in farewell(dsn, directory, ephemeral=ephemeral, can_serve=service.missing_library() is None):
        console.print(line, soft_wrap=True, markup=False)


class _Steps(logging.Handler):
    """Prints warnings, and how long each step took. Of look-ups the tables tell that."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, or leave it out."""
        if record.levelno < logging.WARNING and (
            record.msg != timing.FINISHED or benchmark.run_way.__name__ in (record.args or ())
        ):
            return
        print_indented(self._console, record.getMessage(), "dim")


def farewell(dsn: str | None, directory: Path, *, ephemeral: bool, can_serve: bool) -> list[str]:
    """Return the last lines: what is left of the server, and the commands to go on with."""
    if ephemeral and not dsn:
        then = f", and to serve it on {ADDRESS}" if can_serve else " to go on with"
        return [
            "The server is stopped, and its data are removed.",
            f"To keep a catalogue{then}:",
            hints.suggest("demo"),
            *([hints.suggest("serve")] if can_serve else []),
        ]
    lines = [] if dsn else [f"The server is stopped. Its data stay in {directory}."]
    lines.append(f"Go on with {hints.suggest('lookup', '5')}.")
    if can_serve:
        lines.append(f"Give a partner a key by {hints.suggest('partners', 'add', 'Aurora')}.")
        lines.append(f"Serve the catalogue on {ADDRESS} by {hints.suggest('serve')}.")
    return lines
