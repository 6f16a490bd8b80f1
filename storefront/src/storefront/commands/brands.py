"""`storefront brands`: add brands."""

from __future__ import annotations

from typing import Annotated

import typer

import headrace
from storefront import brands
from storefront.catalogue import MAX_ID
from storefront.console import log_to, stderr
from storefront.database import open_connection
from storefront.errors import StorefrontError, UsageError, reason
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server

app = typer.Typer(name="brands", help="Add brands, all or none.", no_args_is_help=True)


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
    log_to(stderr(), verbose=verbose)
    if roll_back and not by_hand:
        raise UsageError("--roll-back requires --by-hand")
    if not all(name.strip() for name in names):
        raise UsageError("a brand's name is empty")

    async def work(target: str) -> list[int]:
        async with open_connection(target) as connection:
            if by_hand:
                return await brands.add_brands_by_hand(connection, names, keep=not roll_back)
            return await brands.add_brands(connection, names)

    try:
        ids = run_on_server(dsn, data_dir, work)
    except headrace.IntegrityConstraintViolationError as error:
        raise StorefrontError(f"rolled back, none of the {len(names)} brands was added: {reason(error)}") from error
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
    log_to(stderr(), verbose=verbose)
    if not name.strip() or not color_name.strip():
        raise UsageError("a name is empty")

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
