"""`storefront brands`: list, add, rename and remove brands."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import headrace
from storefront import brands
from storefront.catalogue import MAX_ID
from storefront.catalogue_file import mistake_in_name
from storefront.console import exit_on_broken_pipe, log_to_stderr, print_json, stdout
from storefront.database import open_connection, open_reader
from storefront.errors import StorefrontError, UsageError, reason
from storefront.options import DATA_DIR, DataDirOption, DsnOption, JsonOption, VerboseOption, run_on_server
from storefront.wording import counted

app = typer.Typer(name="brands", help="List, add, rename and remove brands.", no_args_is_help=True)


@app.command("list")
def list_(
    json: JsonOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """List all brands by name, with the number of their products."""
    log_to_stderr(verbose=verbose)

    async def work(target: str) -> list[headrace.Record]:
        async with open_reader(target) as executor:
            return await brands.list_brands(executor)

    found = run_on_server(dsn, data_dir, work)
    with exit_on_broken_pipe():
        if json:
            print_json({"brands": [dict(record) for record in found]})
            return
        table = Table(caption=counted(len(found), "brand"), caption_justify="left")
        table.add_column("brand", justify="right")
        table.add_column("name")
        table.add_column("products", justify="right")
        for record in found:
            table.add_row(str(record["brand_id"]), Text(record["brand_name"]), f"{record['products']:,}")
        stdout().print(table)


@app.command()
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="The names of the new brands.")],
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Call start, commit and rollback of the transaction by hand.")
    ] = False,
    roll_back: Annotated[bool, typer.Option("--roll-back", help="With --by-hand: roll back at the end.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Add brands in one transaction. A name that already exists rolls all of them back."""
    log_to_stderr(verbose=verbose)
    if roll_back and not by_hand:
        raise UsageError("--roll-back requires --by-hand")
    names = [_checked(name) for name in names]

    async def work(target: str) -> list[int]:
        async with open_connection(target) as connection:
            if by_hand:
                return await brands.add_brands_by_hand(connection, names, keep=not roll_back)
            return await brands.add_brands(connection, names)

    try:
        ids = run_on_server(dsn, data_dir, work)
    except headrace.IntegrityConstraintViolationError as error:
        nothing = "the brand was not" if len(names) == 1 else f"none of the {len(names):,} brands was"
        raise StorefrontError(f"rolled back, {nothing} added: {reason(error)}") from error
    for brand_id, name in zip(ids, names, strict=True):
        typer.echo(f"{'rolled back' if roll_back else 'added'}: brand {brand_id}, {name}")


@app.command("add-with-color")
def add_with_color(
    name: Annotated[str, typer.Argument(help="The name of the new brand.")],
    color_id: Annotated[int, typer.Argument(min=1, max=MAX_ID, help="The id of the new colour.")],
    color_name: Annotated[str, typer.Argument(help="The name of the new colour.")],
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Add a brand, and a colour inside a savepoint. If the colour's id is taken, the brand is added without it."""
    log_to_stderr(verbose=verbose)
    name, color_name = _checked(name), _checked(color_name, "a colour's")

    async def work(target: str) -> brands.BrandWithColor:
        async with open_connection(target) as connection:
            return await brands.add_brand_with_color(connection, name, color_id, color_name)

    try:
        outcome = run_on_server(dsn, data_dir, work)
    except headrace.IntegrityConstraintViolationError as error:
        raise StorefrontError(f"rolled back, nothing was added: {reason(error)}") from error
    typer.echo(f"added: brand {outcome.brand_id}, {name}")
    if outcome.color_error is None:
        typer.echo(f"added: colour {color_id}, {color_name}")


@app.command()
def rename(
    name: Annotated[str, typer.Argument(help="The name of the brand.")],
    new_name: Annotated[str, typer.Argument(help="Its new name.")],
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Rename a brand. Its products stay with it."""
    log_to_stderr(verbose=verbose)
    new_name = _checked(new_name)

    async def work(target: str) -> int:
        async with open_connection(target) as connection:
            return await brands.rename_brand(connection, name, new_name)

    brand_id = run_on_server(dsn, data_dir, work)
    typer.echo(f"renamed: brand {brand_id}, {name}, is now {new_name}")


@app.command()
def remove(
    name: Annotated[str, typer.Argument(help="The name of the brand.")],
    move_products_to: Annotated[
        str | None, typer.Option(metavar="BRAND", help="Give the products of the brand to this one first.")
    ] = None,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Remove a brand. A brand that has products is refused, unless they are given to another one."""
    log_to_stderr(verbose=verbose)
    if name == move_products_to:
        raise UsageError("--move-products-to names the brand that is to be removed")

    async def work(target: str) -> int:
        async with open_connection(target) as connection:
            return await brands.remove_brand(connection, name, move_products_to=move_products_to)

    moved = run_on_server(dsn, data_dir, work)
    given = f"; {counted(moved, 'product is', 'products are')} now of {move_products_to}" if moved else ""
    typer.echo(f"removed: {name}{given}")


def _checked(name: str, whose: str = "a brand's") -> str:
    """Return a name without spaces around it. The rules are those of an import."""
    name = name.strip()
    if mistake := mistake_in_name(name) if name else "is empty":
        raise UsageError(f"{whose} name {mistake}")
    return name
