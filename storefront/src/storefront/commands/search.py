"""`storefront search`: find products by name and brand."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import headrace
from storefront.console import exit_on_broken_pipe, log_to_stderr, print_json, stdout
from storefront.database import open_reader
from storefront.errors import ExitStatus
from storefront.options import DATA_DIR, DataDirOption, DsnOption, JsonOption, VerboseOption, run_on_server
from storefront.searching import LIMIT, parse_words
from storefront.searching import search as search_products

app = typer.Typer()


@app.command()
def search(
    words: Annotated[
        list[str], typer.Argument(metavar="TEXT...", help="Words of a product's name or of its brand's name.")
    ],
    limit: Annotated[int, typer.Option(min=1, help="The largest number of products to show.")] = LIMIT,
    json: JsonOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Find products by words of their name and of their brand's name, the best first.

    Exit status 0: something was found.
    Exit status 1: nothing was found.
    """
    log_to_stderr(verbose=verbose)
    text = " ".join(words)
    parse_words(text)

    async def work(target: str) -> list[headrace.Record]:
        async with open_reader(target) as executor:
            return await search_products(executor, text, limit=limit)

    found = run_on_server(dsn, data_dir, work)
    with exit_on_broken_pipe():
        if json:
            print_json({"products": [dict(record) for record in found]})
        elif found:
            stdout().print(_table(found))
    if not found:
        typer.echo("storefront: no product matches", err=True)
        raise typer.Exit(ExitStatus.FAILED)


def _table(found: list[headrace.Record]) -> Table:
    title = "Nothing matches exactly. Similar products:" if found[0]["similar"] else None
    table = Table(title=title, title_justify="left")
    for heading, is_number in (("product", True), ("name", False), ("brand", False), ("SKUs", True)):
        table.add_column(heading, justify="right" if is_number else "left", no_wrap=is_number)
    for record in found:
        # Names may contain what looks like rich's markup.
        table.add_row(
            str(record["product_id"]),
            Text(record["product_name"]),
            Text(record["brand_name"]),
            f"{record['skus']:,}",
        )
    return table
