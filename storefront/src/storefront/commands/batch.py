"""`storefront batch`: answer a partner's file of product ids."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

import headrace
from storefront import catalogue
from storefront.batch import WINDOW, ProductBatch, answer
from storefront.checkpoint import Checkpoint, Tally
from storefront.console import exit_on_broken_pipe, log_to, stderr
from storefront.database import POOL_SIZE
from storefront.errors import ExitStatus, StorefrontError, UsageError, reason
from storefront.options import DATA_DIR, DataDirOption, DsnOption, VerboseOption, run_on_server
from storefront.orders import Order
from storefront.rows import open_binary, output_file

app = typer.Typer()


@app.command()
def batch(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Product ids, one per line.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The CSV file to write; standard output by default.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted batch into --output.")] = False,
    window: Annotated[int, typer.Option(min=1, help="The number of lines looked up at once.")] = WINDOW,
    pool_size: Annotated[int, typer.Option(min=1, help="The number of connections.")] = POOL_SIZE,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Answer a partner's file of product ids: every SKU of each, in the partner's order.

    Unknown, malformed and repeated ids are reported on stderr by line.

    Exit status 0: every product was found.
    Exit status 3: the batch is complete, but some products were not found.
    Exit status 1: the batch was interrupted; continue it with --resume.
    """
    log_to(stderr(), verbose=verbose)
    if resume and output is None:
        raise UsageError("--resume requires --output: a batch into standard output cannot be resumed")
    if not file.exists() or file.is_dir():
        raise UsageError(f"cannot read {file}: {'is a directory' if file.is_dir() else 'no such file'}")

    def report(line: int, problem: str) -> None:
        print(f"{file}:{line}: {problem}", file=sys.stderr)

    async def work(target: str) -> Tally:
        async with headrace.create_pool(target, min_size=1, max_size=pool_size) as pool:
            if output is not None:
                return await ProductBatch(file, output, resume, window).run(pool, report)
            with open_binary(file, "rb") as source, output_file(None) as rows:
                rows.write(catalogue.COLUMNS)
                return await answer(pool, Order(source), rows, report=report, tally=Tally(), window=window)

    with exit_on_broken_pipe():
        try:
            tally = run_on_server(dsn, data_dir, work)
        except (headrace.PostgresError, headrace.InterfaceError, OSError) as error:
            if output is not None and Checkpoint.path_for(output).exists() and not isinstance(error, BrokenPipeError):
                why = reason(error) if isinstance(error, headrace.PostgresError) else str(error)
                raise StorefrontError(f"the batch was interrupted, continue it with --resume: {why}") from error
            raise
    print(_summary(file, tally), file=sys.stderr)
    if not tally.all_found:
        raise typer.Exit(ExitStatus.NOT_ALL_FOUND)


def _summary(file: Path, tally: Tally) -> str:
    counts = {
        "without SKUs": tally.without_skus,
        "repeated": tally.repeated,
        "unknown": tally.unknown,
        "malformed": tally.malformed,
    }
    rest = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    return f"{file}: {tally.lines:,} lines, {tally.products:,} products with {tally.skus:,} SKUs{rest}"
