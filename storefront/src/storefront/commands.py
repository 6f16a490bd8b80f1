"""The commands: what each takes, which function of the package does it, and how its outcome is shown."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import headrace
import storefront
from storefront import batch as batches
from storefront import benchmark, brands, catalogue, figures, loading, stream, tour
from storefront.checkpoint import Checkpoint, Tally
from storefront.cli import (
    DATA_DIR,
    FAILED,
    NOT_ALL_FOUND,
    DataDirOption,
    DsnOption,
    VerboseOption,
    app,
    log_to,
    run,
)
from storefront.database import create_database, open_connection
from storefront.errors import StorefrontError, UnknownProductError, UsageError, reason
from storefront.orders import Order
from storefront.progress import loading_progress
from storefront.rows import RowWriter, open_binary, output_file
from storefront.sample import DEFAULT_SEED, Sample, read_words
from storefront.schema import create_schema, headline

brands_app = typer.Typer(help="Add brands, all or none.", no_args_is_help=True)
app.add_typer(brands_app, name="brands")


def _stdout() -> Console:
    return Console(highlight=False)


def _stderr() -> Console:
    return Console(stderr=True, highlight=False)


def _product_id(text: str) -> int:
    try:
        return catalogue.parse_product_id(text)
    except UsageError as error:
        raise typer.BadParameter(str(error)) from error


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected whole numbers and commas, such as 1,2,4,6") from None


@contextmanager
def _quiet_pipe() -> Iterator[None]:
    """End without a word when whoever reads our output has read enough, as in `storefront export | head`."""
    try:
        yield
    except BrokenPipeError:
        # The interpreter flushes standard output once more at its end, which would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(FAILED) from None


@app.command()
def init(dsn: DsnOption = None, data_dir: DataDirOption = DATA_DIR, verbose: VerboseOption = False) -> None:
    """Create the database and its five tables; doing it twice is harmless."""
    log_to(_stderr(), verbose=verbose)

    def report(statement: str, status: str) -> None:
        typer.echo(f"{status:<16} {headline(statement, 100)}")

    async def work(target: str) -> None:
        if status := await create_database(target):
            typer.echo(status)
        async with open_connection(target) as connection:
            await create_schema(connection, report)

    run(dsn, data_dir, work, make=True)


@app.command()
def load(
    brand_count: Annotated[int, typer.Option("--brands", help="How many brands.")] = 100,
    product_count: Annotated[int, typer.Option("--products", help="How many products.")] = 1_000,
    sku_count: Annotated[int, typer.Option("--skus", help="How many stock keeping units.")] = 100_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same rows.")] = DEFAULT_SEED,
    words: Annotated[
        Path | None,
        typer.Option(help="A word list of your own, one word a line.", show_default="1,000 English words"),
    ] = None,
    method: Annotated[loading.Method, typer.Option(help="How the rows travel.")] = loading.Method.COPY,
    replace: Annotated[bool, typer.Option("--replace", help="Remove the rows that are there first.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Load random sample data: all of it or nothing."""
    log_to(_stderr(), verbose=verbose)
    sample = Sample(brand_count, product_count, sku_count, seed, read_words(words))

    async def work(target: str) -> loading.Loaded:
        async with open_connection(target) as connection:
            with loading_progress(_stderr()) as progress:
                return await loading.load(connection, sample, method=method, replace=replace, progress=progress)

    loaded = run(dsn, data_dir, work)
    typer.echo(f"loaded {loaded} by {method.value}, seed {seed}, in one transaction")


@app.command()
def lookup(
    ids: Annotated[list[int], typer.Argument(metavar="ID...", parser=_product_id, help="Ids of products.")],
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV, for other programs, in place of tables.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Show the SKUs of products, with size and colour by name; all at once, on one connection."""
    log_to(_stderr(), verbose=verbose)

    async def work(target: str) -> list[list[headrace.Record] | BaseException]:
        async with open_connection(target) as connection:
            look_ups = (catalogue.look_up(connection, product_id) for product_id in ids)
            return await asyncio.gather(*look_ups, return_exceptions=True)

    unknown = []
    writer = RowWriter(sys.stdout.buffer)
    with _quiet_pipe():
        if csv:
            writer.write(catalogue.COLUMNS)
        for found in run(dsn, data_dir, work):
            if isinstance(found, UnknownProductError):
                unknown.append(found)
            elif isinstance(found, BaseException):
                raise found
            elif csv:
                for record in found:
                    writer.write(record)
            else:
                _stdout().print(_product_table(found))
        sys.stdout.flush()
        writer.flush()
    if unknown:
        raise StorefrontError("; ".join(map(str, unknown)))


def _product_table(records: list[headrace.Record]) -> Table:
    product = records[0]
    skus = [record for record in records if record["sku_id"] is not None]
    title = f"product {product['product_id']} of brand {product['brand_id']}: {product['product_name']}"
    table = Table(title=title, title_justify="left", caption=f"{len(skus):,} SKUs", caption_justify="left")
    table.add_column("SKU", justify="right")
    table.add_column("colour")
    table.add_column("size")
    for sku in skus:
        table.add_row(str(sku["sku_id"]), sku["product_color_name"], sku["product_size_name"])
    return table


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Product ids, one a line.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Where the SKUs go, as CSV; else stdout.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where a batch into --output was cut off.")] = False,
    window: Annotated[int, typer.Option(min=1, help="Lines looked up at once.")] = batches.WINDOW,
    pool_size: Annotated[int, typer.Option(min=1, help="Connections.")] = benchmark.POOL_SIZE,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Answer a partner's file of product ids: every SKU of each, in the partner's order.

    Ids that are unknown, malformed or repeated are reported on stderr by their line. Exit status 0: every
    product was found; 3: the batch is complete, but some were not; 1: the batch was cut off, and --resume
    goes on with it.
    """
    log_to(_stderr(), verbose=verbose)
    if resume and output is None:
        raise UsageError("--resume takes --output: what went to standard output cannot be taken up again")
    if not file.exists() or file.is_dir():
        raise UsageError(f"cannot read {file}: {'is a directory' if file.is_dir() else 'no such file'}")

    def report(line: int, problem: str) -> None:
        print(f"{file}:{line}: {problem}", file=sys.stderr)

    async def work(target: str) -> Tally:
        async with headrace.create_pool(target, min_size=1, max_size=pool_size) as pool:
            if output is not None:
                return await batches.ProductBatch(file, output, resume, window).run(pool, report)
            with open_binary(file, "rb") as source, output_file(None) as rows:
                rows.write(catalogue.COLUMNS)
                return await batches.answer(pool, Order(source), rows, report=report, tally=Tally(), window=window)

    with _quiet_pipe():
        try:
            tally = run(dsn, data_dir, work)
        except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
            if output is not None and Checkpoint.path_for(output).exists() and not isinstance(error, BrokenPipeError):
                why = reason(error) if isinstance(error, headrace.PostgresError) else str(error)
                raise StorefrontError(f"the batch was cut off, --resume goes on with it: {why}") from error
            raise
    print(_summary(file, tally), file=sys.stderr)
    if not tally.all_found:
        raise typer.Exit(NOT_ALL_FOUND)


def _summary(file: Path, tally: Tally) -> str:
    counts = {
        "without SKUs": tally.without_skus,
        "repeated": tally.repeated,
        "unknown": tally.unknown,
        "malformed": tally.malformed,
    }
    rest = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    return f"{file}: {tally.lines:,} lines, {tally.products:,} products with {tally.skus:,} SKUs{rest}"


@brands_app.command("add")
def add(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Names of new brands.")],
    by_hand: Annotated[
        bool, typer.Option("--by-hand", help="Call the transaction's start, commit and rollback by hand.")
    ] = False,
    roll_back: Annotated[
        bool, typer.Option("--roll-back", help="With --by-hand: take it all back at the end.")
    ] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Add brands in one transaction: a name that exists rolls all of them back."""
    log_to(_stderr(), verbose=verbose)
    if roll_back and not by_hand:
        raise UsageError("--roll-back goes with --by-hand")
    if not all(name.strip() for name in names):
        raise UsageError("a brand's name is empty")

    async def work(target: str) -> list[int]:
        async with open_connection(target) as connection:
            if by_hand:
                return await brands.add_brands_by_hand(connection, names, keep=not roll_back)
            return await brands.add_brands(connection, names)

    try:
        ids = run(dsn, data_dir, work)
    except headrace.IntegrityConstraintViolationError as error:
        raise StorefrontError(f"rolled back, none of the {len(names)} brands was added: {reason(error)}") from error
    for brand_id, name in zip(ids, names, strict=True):
        typer.echo(f"{'rolled back' if roll_back else 'added'}: brand {brand_id}, {name}")


@brands_app.command("add-with-color")
def add_with_color(
    name: Annotated[str, typer.Argument(help="The name of a new brand.")],
    color_id: Annotated[int, typer.Argument(min=1, max=catalogue.MAX_ID, help="The id of a new colour.")],
    color_name: Annotated[str, typer.Argument(help="The name of the colour.")],
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Add a brand, and a colour inside a savepoint: where its id is taken, the brand is kept without it."""
    log_to(_stderr(), verbose=verbose)
    if not name.strip() or not color_name.strip():
        raise UsageError("a name is empty")

    async def work(target: str) -> brands.BrandWithColor:
        async with open_connection(target) as connection:
            return await brands.add_brand_with_color(connection, name, color_id, color_name)

    try:
        outcome = run(dsn, data_dir, work)
    except headrace.IntegrityConstraintViolationError as error:
        raise StorefrontError(f"rolled back, nothing was added: {reason(error)}") from error
    typer.echo(f"added: brand {outcome.brand_id}, {name}")
    if outcome.color_error is None:
        typer.echo(f"added: colour {color_id}, {color_name}")


@app.command("export")
def export_catalogue(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Where the rows go; else stdout.")] = None,
    prefetch: Annotated[int, typer.Option(min=1, help="Rows asked of the server at a time.")] = stream.PREFETCH,
    skip: Annotated[int, typer.Option(min=0, help="Leave out the first rows.")] = 0,
    take: Annotated[int | None, typer.Option(min=0, help="Stop after so many rows.")] = None,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Stream the whole catalogue through a cursor, as CSV, without ever holding it in memory."""
    log_to(_stderr(), verbose=verbose)

    async def work(target: str) -> int:
        async with open_connection(target) as connection:
            with output_file(output) as rows:
                return await stream.export(connection, rows, prefetch=prefetch, skip=skip, limit=take)

    with _quiet_pipe():
        count = run(dsn, data_dir, work)
    if output is not None:
        typer.echo(f"exported {count:,} rows to {output}")


@app.command()
def bench(
    look_ups: Annotated[
        int, typer.Option("--look-ups", "-n", min=1, help="How many, for each way.")
    ] = benchmark.LOOK_UPS,
    query: Annotated[
        list[benchmark.BenchmarkQuery] | None,
        typer.Option(
            help="What a look-up is: the four-way join, or a product by its key. Can be given twice.",
            show_default="both",
        ),
    ] = None,
    pool_sizes: Annotated[
        str, typer.Option(metavar="N,N,...", help="Sizes of the pool to compare, such as 1,2,4,6,8,16.")
    ] = str(benchmark.POOL_SIZE),
    rounds: Annotated[int, typer.Option(min=1, help="The median of so many rounds counts.")] = 3,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Measure the join without the index on sku.product_id as well.")
    ] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON.")] = None,
    picture: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the figures: .png, .svg or .pdf.")] = None,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Measure look-ups: one after another, at once with a pool, on ONE connection, by pool methods."""
    log_to(_stderr(), verbose=verbose)
    for path in (json, picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write {path}: its directory does not exist")
    if picture is not None:
        figures.require_matplotlib()
    sizes = _sizes(pool_sizes)
    plans = [
        benchmark.Plan(one, look_ups, sizes, rounds, without_index=no_index and one is benchmark.BenchmarkQuery.JOIN)
        for one in query or benchmark.BenchmarkQuery
    ]
    console = _stdout()

    async def work(target: str) -> tuple[list[benchmark.Measurement], str]:
        measurements: list[benchmark.Measurement] = []
        async with open_connection(target) as connection:
            server: str = await connection.fetchval("SELECT version()")
        for plan in plans:
            measured = await benchmark.bench(target, plan)
            for table in figures.tables(measured):
                console.print(table, "")
            measurements += measured
        return measurements, server

    measurements, server = run(dsn, data_dir, work)
    if json is not None:
        figures.write_json(measurements, json, server=server)
    if picture is not None:
        figures.draw(measurements, picture)


@app.command("demo")
def show_demo(
    short: Annotated[bool, typer.Option("--short", help="A tenth of the data and of the look-ups.")] = False,
    replace: Annotated[bool, typer.Option("--replace", help="Load the sample data anew where there is data.")] = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
) -> None:
    """Show it all once, on a real server: schema, data, transactions, a cursor, 10,000 look-ups four ways."""
    console = _stdout()
    log_to(console, verbose=True, indent=3)
    where = "the server of --dsn" if dsn else f"an embedded PostgreSQL in {data_dir}"
    console.print(f"[bold]The storefront[/bold] on headrace {headrace.__version__} and {where}")

    async def work(target: str) -> list[benchmark.Measurement]:
        return await tour.demo(target, console, short=short, replace=replace)

    run(dsn, data_dir, work, make=True)
    if dsn is None:
        console.print(f"\nThe server is stopped; its data stays in {data_dir}. Go on with `storefront lookup 5`.")


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"storefront {storefront.__version__}, headrace {headrace.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print the versions and exit."),
    ] = False,
) -> None:
    """An online shop's product catalogue on headrace: pipelined look-ups against PostgreSQL."""
