"""`storefront bench`: measure look-ups."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from storefront import benchmark, figures
from storefront.console import log_to_stderr, print_json, stderr, stdout
from storefront.database import POOL_SIZE, open_connection
from storefront.errors import UsageError
from storefront.options import DATA_DIR, DataDirOption, DsnOption, QuietOption, VerboseOption, run_on_server
from storefront.peers import find_peers
from storefront.spread import Spread, spread

app = typer.Typer()


def _sizes(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"{text!r}: expected whole numbers and commas, such as 1,2,4,6") from None


@app.command()
def bench(
    look_ups: Annotated[
        int, typer.Option("--look-ups", "-n", min=1, help="The number of look-ups for each way.")
    ] = benchmark.LOOK_UPS,
    query: Annotated[
        list[benchmark.BenchmarkQuery] | None,
        typer.Option(
            help="The look-up to measure: the four-way join, or a product by its key. May be given twice.",
            show_default="both",
        ),
    ] = None,
    pool_sizes: Annotated[
        str, typer.Option(metavar="N,N,...", help="The pool sizes to compare, such as 1,2,4,6,8,16.")
    ] = str(POOL_SIZE),
    rounds: Annotated[
        int, typer.Option(min=1, help="The number of rounds; the median of their times is reported.")
    ] = 3,
    no_index: Annotated[
        bool, typer.Option("--no-index", help="Also measure the join without the index on sku.product_id.")
    ] = False,
    peers: Annotated[
        bool,
        typer.Option("--peers", help="Also measure asyncpg and psycopg in the same rounds, if they are installed."),
    ] = False,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures as JSON; - for standard output.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the figures into a .png, .svg or .pdf file.")
    ] = None,
    quiet: QuietOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Measure look-ups: one after another, at once with a pool or ONE connection, by a single call, and grouped.

    If --dsn names several hosts, the ways are measured at the primary, and then the look-ups of one server, two, more.
    """
    log_to_stderr(verbose=verbose)
    is_document = json is not None and str(json) == "-"
    for path in (None if is_document else json, picture):
        if path is not None and not path.absolute().parent.is_dir():
            raise UsageError(f"cannot write {path}: its directory does not exist")
        if path is not None and path.is_dir():
            raise UsageError(f"cannot write {path}: it is a directory")
    if picture is not None:
        figures.check_picture(picture)
    sizes = _sizes(pool_sizes)
    found, left_out = find_peers() if peers else ([], [])
    plans = [
        benchmark.Plan(
            one,
            look_ups,
            sizes,
            rounds,
            without_index=no_index and one is benchmark.BenchmarkQuery.JOIN,
            peers=found,
        )
        for one in query or benchmark.BenchmarkQuery
    ]
    for line in left_out:
        print(f"storefront: {line}", file=sys.stderr)
    # The JSON document is alone on standard output.
    console = stderr() if is_document else stdout()

    async def work(target: str) -> tuple[list[benchmark.Measurement], list[Spread], figures.Environment]:
        measurements: list[benchmark.Measurement] = []
        measured_hosts: list[Spread] = []
        async with open_connection(target) as connection:
            server: str = await connection.fetchval("SELECT version()")
        facts = figures.environment(server=server, peers={peer.name: peer.version for peer in found})
        for plan in plans:
            measured = await benchmark.bench(target, plan)
            if not quiet:
                for table in figures.tables(measured):
                    console.print(table, "")
            measurements += measured
        for plan in plans:
            measured_hosts += await spread(target, plan)
        if not quiet:
            for table in figures.spread_tables(measured_hosts):
                console.print(table, "")
            if measured_hosts:
                console.print(figures.SHARED, highlight=False)
            for line in facts.lines:
                console.print(line, highlight=False, markup=False)
        return measurements, measured_hosts, facts

    measurements, measured_hosts, facts = run_on_server(dsn, data_dir, work)
    if is_document:
        print_json(figures.document(measurements, facts, measured_hosts))
    elif json is not None:
        figures.write_json(measurements, json, facts, measured_hosts)
    if picture is not None:
        figures.draw(measurements, picture, facts)
