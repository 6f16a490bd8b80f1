"""`storefront lookup`: show the SKUs of products."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer
from rich.table import Table

import headrace
from storefront import catalogue
from storefront.console import exit_on_broken_pipe, log_to_stderr, print_json, stdout
from storefront.database import open_reader
from storefront.errors import StorefrontError, UnknownProductError, UsageError
from storefront.options import DATA_DIR, DataDirOption, DsnOption, JsonOption, VerboseOption, run_on_server
from storefront.rows import RowWriter
from storefront.wording import counted

app = typer.Typer()


def _product_id(text: str) -> int:
    try:
        return catalogue.parse_product_id(text)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error


@app.command()
def lookup(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", parser=_product_id, help="Ids of products.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV for other programs instead of tables.")] = False,
    json: JsonOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Show the SKUs of products, with size and colour by name. All look-ups run at once on one connection."""
    log_to_stderr(verbose=verbose)
    if csv and json:
        raise UsageError("--csv and --json contradict each other")

    async def work(target: str) -> list[list[headrace.Record] | BaseException]:
        async with open_reader(target) as executor:
            look_ups = (catalogue.look_up(executor, product_id) for product_id in ids)
            return await asyncio.gather(*look_ups, return_exceptions=True)

    unknown: list[UnknownProductError] = []
    products: list[dict[str, object]] = []
    writer = RowWriter(sys.stdout.buffer)
    with exit_on_broken_pipe():
        if csv:
            writer.write(catalogue.COLUMNS)
        for found in run_on_server(dsn, data_dir, work):
            if isinstance(found, UnknownProductError):
                unknown.append(found)
            elif isinstance(found, BaseException):
                raise found
            elif json:
                products.append(_product(found))
            elif csv:
                for record in found:
                    writer.write(record)
            else:
                stdout().print(_product_table(found))
        if json:
            print_json({"products": products, "unknown": [error.product_id for error in unknown]})
        sys.stdout.flush()
        writer.flush()
    if unknown:
        raise StorefrontError("; ".join(map(str, unknown)))


def _product(records: list[headrace.Record]) -> dict[str, object]:
    """Return a product with its SKUs, as --json shows it."""
    columns = {"sku_id": "sku_id", "color": "product_color_name", "size": "product_size_name"}
    skus = [
        {name: record[column] for name, column in columns.items()} for record in records if record["sku_id"] is not None
    ]
    return {**{name: records[0][name] for name in ("product_id", "product_name", "brand_id")}, "skus": skus}


def _product_table(records: list[headrace.Record]) -> Table:
    product = records[0]
    skus = [record for record in records if record["sku_id"] is not None]
    title = f"product {product['product_id']} of brand {product['brand_id']}: {product['product_name']}"
    table = Table(title=title, title_justify="left", caption=counted(len(skus), "SKU"), caption_justify="left")
    table.add_column("SKU", justify="right")
    table.add_column("colour")
    table.add_column("size")
    for sku in skus:
        table.add_row(str(sku["sku_id"]), sku["product_color_name"], sku["product_size_name"])
    return table
