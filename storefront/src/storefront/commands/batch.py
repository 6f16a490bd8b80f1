"""`storefront batch`: answer a partner's file of product ids."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, TextIO

import typer

import headrace
from storefront import catalogue
from storefront.batch import WINDOW, ProductBatch, Report, Strategy, answer
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
    strategy: Annotated[
        Strategy, typer.Option(help="Look ids up in a query for each, or many in a query.")
    ] = Strategy.AUTO,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Report lines in this file instead of on stderr, and repeated ids too."),
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="The number of lines looked up at once.")] = WINDOW,
    pool_size: Annotated[int, typer.Option(min=1, help="The number of connections.")] = POOL_SIZE,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Answer a partner's file of product ids: every SKU of each, in the partner's order.

    Unknown and malformed ids are reported on stderr by line, and repeated ids are counted. --report FILE has them all.

    Exit status 0: every product was found.
    Exit status 3: the batch is complete, but some products were not found.
    Exit status 1: the batch was interrupted; continue it with --resume.
    """
    log_to(stderr(), verbose=verbose)
    if resume and output is None:
        raise UsageError("--resume requires --output: a batch into standard output cannot be resumed")
    if not file.exists() or file.is_dir():
        raise UsageError(f"cannot read {file}: {'is a directory' if file.is_dir() else 'no such file'}")

    if report is not None and report.resolve() in (file.resolve(), output and output.resolve()):
        raise UsageError(f"the report would overwrite {report}, which is the input or the output")
    repeated = report is not None

    async def work(target: str) -> Tally:
        async with headrace.create_pool(target, min_size=1, max_size=pool_size) as pool:
            continued = resume and output is not None and Checkpoint.path_for(output).exists()
            with _reporter(file, report, append=continued) as tell:
                if output is not None:
                    job = ProductBatch(file, output, resume, window, strategy=strategy, report_repeated=repeated)
                    return await job.run(pool, tell)
                with open_binary(file, "rb") as source, output_file(None) as rows:
                    rows.write(catalogue.COLUMNS)
                    return await answer(
                        pool,
                        Order(source),
                        rows,
                        report=tell,
                        tally=Tally(),
                        window=window,
                        strategy=strategy,
                        report_repeated=repeated,
                    )

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


@contextmanager
def _reporter(file: Path, path: Path | None, *, append: bool) -> Iterator[Report]:
    """Yield a function that reports a line of `file` in the file `path`, or on stderr if `path` is None.

    Each report is passed to the operating system at once, so that a killed batch has lost none before its checkpoint.
    """
    with ExitStack() as stack:
        stream: TextIO = sys.stderr
        if path is not None:
            try:
                stream = stack.enter_context(open(path, "a" if append else "w", buffering=1, encoding="utf-8"))
            except OSError as error:
                raise UsageError(f"cannot write {path}: {error.strerror}") from error

        def report(line: int, problem: str) -> None:
            print(f"{file}:{line}: {problem}", file=stream)

        yield report


def _summary(file: Path, tally: Tally) -> str:
    counts = {
        "without SKUs": tally.without_skus,
        "repeated": tally.repeated,
        "unknown": tally.unknown,
        "malformed": tally.malformed,
    }
    rest = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    return f"{file}: {tally.lines:,} lines, {tally.products:,} products with {tally.skus:,} SKUs{rest}"
