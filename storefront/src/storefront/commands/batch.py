"""`storefront batch`: answer a partner's file of product ids."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

import headrace
from storefront import catalogue, formats, hints
from storefront.batch import WINDOW, ProductBatch, Strategy, answer, run_on_hosts
from storefront.checkpoint import Tally
from storefront.console import exit_on_broken_pipe, log_to_stderr, print_json, stderr
from storefront.database import POOL_SIZE, open_database
from storefront.errors import (
    DamagedInputError,
    ExitStatus,
    LastingError,
    StorefrontError,
    UsageError,
    is_lasting,
    reason,
)
from storefront.formats import Compression, FileType, Format
from storefront.options import (
    DATA_DIR,
    DataDirOption,
    DsnOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    run_on_server,
)
from storefront.orders import InputFormat, open_order
from storefront.progress import Report as Progress
from storefront.progress import progress_bar
from storefront.reports import Problem, ProblemKind, Report, ReportFile
from storefront.rows import output_file, same_file
from storefront.wording import counted

app = typer.Typer()

SHOWN = 10
"""The number of problems that are shown on stderr. A report has all of them."""


@app.command()
def batch(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Product ids: one per line, CSV or NDJSON. - is standard input.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write; - or none is standard output.")
    ] = None,
    input_format: Annotated[
        InputFormat, typer.Option(help="How FILE is written. By default its name or its first line says so.")
    ] = InputFormat.AUTO,
    output_format: Annotated[
        Format | None,
        typer.Option("--format", help="The format of the output. By default its name says so, or else it is CSV."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted batch into --output.")] = False,
    strategy: Annotated[
        Strategy, typer.Option(help="Look ids up in a query for each, many in a query, or by a temporary table.")
    ] = Strategy.AUTO,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Report every problem in this file, as text, CSV or NDJSON by its name."),
    ] = None,
    window: Annotated[int, typer.Option(min=1, help="The number of lines looked up at once by queries.")] = WINDOW,
    pool_size: Annotated[int, typer.Option(min=1, help="The number of connections.")] = POOL_SIZE,
    json: JsonOption = False,
    quiet: QuietOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Answer a partner's file of product ids: every SKU of each, in the partner's order.

    The output is CSV, NDJSON or Parquet, compressed if its name ends in .gz or .zst. The first unknown and malformed
    ids are reported on stderr, and all are counted. --report FILE has every one, and repeated ids too.

    Exit status 0: every product was found.
    Exit status 3: the batch is complete, but some products were not found.
    Exit status 1: the batch was interrupted; continue it with --resume.
    Exit status 2: a repetition would fail in the same way until something is mended, as a damaged FILE.
    """
    log_to_stderr(verbose=verbose)
    source = None if file == Path("-") else file
    target = None if output is None or output == Path("-") else output
    chosen, compression = formats.output_type(target, output_format)
    if resume and target is None:
        raise UsageError("--resume requires --output: a batch into standard output cannot be resumed")
    if resume and source is None:
        raise UsageError("--resume requires a FILE: standard input cannot be read again from the middle")
    if json and target is None:
        raise UsageError("--json requires --output: standard output has the SKUs")
    if source is not None:
        try:
            is_directory = stat.S_ISDIR(source.stat().st_mode)
        except OSError as error:
            raise UsageError(f"cannot read {source}: {error.strerror}") from error
        if is_directory:
            raise UsageError(f"cannot read {source}: {os.strerror(errno.EISDIR)}")
    if report == Path("-"):
        raise UsageError("--report requires the name of a file, got -")
    if report is not None and any(path is not None and same_file(report, path) for path in (source, target)):
        raise UsageError(f"the report would overwrite {report}, which is the input or the output")
    name = "standard input" if source is None else str(file)
    problems = _Problems(name, None if report or quiet else SHOWN)
    job = None
    if source is not None and target is not None and (resume or (_is_regular(source) and _is_regular(target))):
        job = ProductBatch(
            source,
            target,
            resume,
            window,
            strategy=strategy,
            input_format=input_format,
            output_format=output_format,
            report_path=report,
        )

    async def work(dsn: str) -> Tally:
        async with open_database(dsn, size=pool_size) as database:
            await database.catch_up()
            if job is not None:
                with progress_bar(stderr(), "batch", "lines", quiet=quiet) as progress:
                    job.progress = _progress(job.input_path, progress)
                    return await run_on_hosts(job, database, problems)
            pool = database.primary if strategy is Strategy.TABLE else database.reads
            with ExitStack() as stack:
                order = stack.enter_context(open_order(source, input_format))
                if order.is_empty:
                    raise UsageError(f"{name} is empty: expected product ids")
                rows = stack.enter_context(output_file(target, chosen, compression, catalogue.COLUMNS))
                tell: Report = problems
                if report is not None:
                    report_file = ReportFile(report, name)
                    stack.callback(report_file.close)
                    tell = report_file
                return await answer(
                    pool, order, rows.write, rows.encoder, report=tell, window=window, strategy=strategy
                )

    with exit_on_broken_pipe():
        try:
            tally = run_on_server(dsn, data_dir, work)
        except KeyboardInterrupt as interrupt:
            problems.close()
            if job is not None and os.path.exists(job.checkpoint_path):
                raise type(interrupt)(f"continue it with {_resuming(job, pool_size)}") from interrupt
            raise
        except (
            headrace.PostgresError,
            headrace.InterfaceError,
            headrace.InternalClientError,
            StorefrontError,
            OSError,
        ) as error:
            problems.close()
            begun = job is not None and os.path.exists(job.checkpoint_path)
            in_vain = isinstance(error, (UsageError, BrokenPipeError)) and not isinstance(error, DamagedInputError)
            if job is None or not begun or in_vain:
                if is_lasting(error):
                    raise LastingError from error
                raise
            why = reason(error) if isinstance(error, headrace.PostgresError) else str(error)
            how = f"continue it with {_resuming(job, pool_size)}"
            if is_lasting(error):
                raise UsageError(f"the batch was interrupted: {why}: mend that, then {how}") from error
            raise StorefrontError(f"the batch was interrupted: {why}: {how}") from error
    problems.close()
    if json:
        print_json({"file": str(file), "output": str(output), **asdict(tally)})
    elif not quiet:
        print(_summary(name, tally), file=sys.stderr)
    if not tally.all_found:
        raise typer.Exit(ExitStatus.NOT_ALL_FOUND)


def _is_regular(path: Path) -> bool:
    return not os.path.exists(path) or stat.S_ISREG(path.stat().st_mode)


def _resuming(job: ProductBatch, pool_size: int) -> str:
    """Return the command line that continues a batch."""
    arguments = ["batch", str(job.input_path), "--output", str(job.output_path), "--resume"]
    options: tuple[tuple[str, object, object], ...] = (
        ("--input-format", job.input_format.value, InputFormat.AUTO.value),
        ("--format", job.output_format and job.output_format.value, None),
        ("--strategy", job.strategy.value, Strategy.AUTO.value),
        ("--report", job.report_path, None),
        ("--window", job.window, WINDOW),
        ("--pool-size", pool_size, POOL_SIZE),
    )
    for name, value, usual in options:
        if value != usual:
            arguments += [name, str(value)]
    return hints.suggest(*arguments)


def _progress(path: Path, progress: Progress) -> Callable[[Tally, int], None]:
    """Return a function for ProductBatch.progress. The part that is done is known of a file that is not compressed."""
    plain = FileType.of(path).compression is Compression.NONE
    size = os.path.getsize(path) if plain and path.exists() else 0
    return lambda tally, end: progress(tally.lines, min(1.0, end / size) if size else None)


class _Problems:
    """Shows the first problems on stderr, and how many there are besides. `most` is None if none is shown."""

    def __init__(self, file: str, most: int | None) -> None:
        self._file = file
        self._most = most
        self._count = 0

    def __call__(self, problem: Problem) -> None:
        if self._most is None or problem.kind is ProblemKind.REPEATED:
            return
        self._count += 1
        if self._count <= self._most:
            text = f"{self._file}:{problem.line}: {problem.text}"
            print(text.encode(errors="backslashreplace").decode(), file=sys.stderr)

    def close(self) -> None:
        """Show how many problems were not shown."""
        if self._most is not None and self._count > self._most:
            print(f"{self._file}: {self._count - self._most:,} more; --report FILE has them all", file=sys.stderr)


def _summary(file: str, tally: Tally) -> str:
    counts = {
        "without SKUs": tally.without_skus,
        "unknown": tally.unknown,
        "malformed": tally.malformed,
        "repeated": tally.repeated,
    }
    rest = "".join(f", {count:,} {what}" for what, count in counts.items() if count)
    found = f"{counted(tally.products, 'product')} with {counted(tally.skus, 'SKU')}"
    return f"{file}: {counted(tally.lines, 'line')}, {found}{rest}"
