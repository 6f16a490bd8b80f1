"""`storefront load`: load random sample data."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from storefront import loading
from storefront.console import log_to_stderr, print_json, stderr
from storefront.database import open_connection
from storefront.options import (
    DATA_DIR,
    DataDirOption,
    DsnOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    run_on_server,
)
from storefront.progress import loading_progress
from storefront.sample import DEFAULT_SEED, Sample, read_words

app = typer.Typer()


@app.command()
def load(
    brand_count: Annotated[int, typer.Option("--brands", help="The number of brands.")] = 100,
    product_count: Annotated[int, typer.Option("--products", help="The number of products.")] = 1_000,
    sku_count: Annotated[int, typer.Option("--skus", help="The number of stock keeping units.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = DEFAULT_SEED,
    words: Annotated[
        Path | None,
        typer.Option(help="A word list of your own, one word per line.", show_default="1,000 English words"),
    ] = None,
    method: Annotated[loading.Method, typer.Option(help="How the rows are sent.")] = loading.Method.COPY,
    replace: Annotated[bool, typer.Option("--replace", help="Remove the existing rows first.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Load random sample data in one transaction: all of it or nothing."""
    log_to_stderr(verbose=verbose)
    sample = Sample(brand_count, product_count, sku_count, seed, read_words(words))

    async def work(target: str) -> loading.Loaded:
        async with open_connection(target) as connection:
            with loading_progress(stderr(), quiet=quiet) as progress:
                return await loading.load(connection, sample, method=method, replace=replace, progress=progress)

    loaded = run_on_server(dsn, data_dir, work)
    if json:
        print_json({**asdict(loaded), "method": method.value, "seed": seed})
    elif not quiet:
        typer.echo(f"loaded {loaded} by {method.value}, seed {seed}, in one transaction")
