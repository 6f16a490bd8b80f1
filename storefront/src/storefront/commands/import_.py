"""`storefront import`: import a catalogue from CSV, NDJSON or Parquet."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from storefront.catalogue_file import CatalogueFile, RefusedLine, parse_file_type
from storefront.console import log_to_stderr, print_json, stderr
from storefront.database import open_connection
from storefront.errors import ExitStatus, UsageError
from storefront.importing import ImportReport, import_catalogue
from storefront.options import (
    DATA_DIR,
    DataDirOption,
    DsnOption,
    JsonOption,
    QuietOption,
    VerboseOption,
    run_on_server,
)
from storefront.progress import progress_bar
from storefront.rows import naming, same_file
from storefront.wording import counted

app = typer.Typer()

SHOWN = 10
"""The number of refused lines that are shown on stderr."""


@app.command("import")
def import_(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="A .csv, .ndjson or .parquet, also .gz or .zst; - for standard input."),
    ],
    file_format: Annotated[
        str | None,
        typer.Option("--format", metavar="FORMAT", help="The format if the name does not tell it, such as csv.gz."),
    ] = None,
    encoding: Annotated[str, typer.Option(help="The encoding of CSV or NDJSON, such as latin-1.")] = "utf-8",
    refused: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the refused lines with their reasons to this CSV file.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Import nothing if a line is refused.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and change nothing.")] = False,
    json: JsonOption = False,
    quiet: QuietOption = False,
    dsn: DsnOption = None,
    data_dir: DataDirOption = DATA_DIR,
    verbose: VerboseOption = False,
) -> None:
    """Import a catalogue: add what is new and change what has changed, in one transaction.

    The columns are brand_name, product_name, color and size, and optionally brand_id, product_id and sku_id.

    Exit status 0: every line was imported.
    Exit status 3: the import is complete, but some lines were refused.
    """
    log_to_stderr(verbose=verbose)
    path = None if str(file) == "-" else file
    file_type = None if file_format is None else parse_file_type(file_format)
    if refused == Path("-"):
        raise UsageError("--refused requires the name of a file, got -")
    if refused is not None and path is not None and same_file(refused, path):
        raise UsageError(f"the refused lines would overwrite {refused}, which is the input")

    with CatalogueFile(path, file_type, encoding=encoding) as lines:

        async def work(target: str) -> ImportReport:
            async with open_connection(target) as connection:
                with (
                    _refusals(lines.name, refused, quiet=quiet) as refuse,
                    progress_bar(stderr(), "import", "lines", quiet=quiet) as show,
                ):
                    return await import_catalogue(
                        connection,
                        lines,
                        refuse=refuse,
                        progress=lambda done: show(done, lines.fraction),
                        strict=strict,
                        dry_run=dry_run,
                    )

        report = run_on_server(dsn, data_dir, work)
    if json:
        ignored = {"ignored_columns": lines.ignored_columns, "dry_run": dry_run}
        print_json({**asdict(report), **ignored})
    elif not quiet:
        for line in _summary(lines, report, dry_run=dry_run):
            typer.echo(line)
    if report.refused:
        raise typer.Exit(ExitStatus.NOT_ALL_FOUND)


@contextmanager
def _refusals(name: str, path: Path | None, *, quiet: bool) -> Iterator[Callable[[RefusedLine], None]]:
    """Yield a function that reports a refused line: in the file `path`, or the first few on stderr."""
    if path is None:
        count = 0

        def show(refused: RefusedLine) -> None:
            nonlocal count
            count += 1
            if count <= SHOWN:
                print(f"{name}:{refused.line}: {refused.reason}", file=sys.stderr)

        yield show
        if count > SHOWN:
            print(f"{name}: {count - SHOWN:,} more lines were refused; --refused FILE lists all", file=sys.stderr)
        return
    try:
        # Each line is written at once, so that an error comes before the import is committed.
        file = path.open("w", encoding="utf-8", errors="backslashreplace", newline="", buffering=1)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    with naming(path), file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("line", "reason", "text"))
        yield writer.writerow


def _summary(lines: CatalogueFile, report: ImportReport, *, dry_run: bool) -> Iterator[str]:
    """Yield the lines that tell what has been done."""
    title = "checked, and nothing was changed" if dry_run else "imported"
    yield f"{title}: {lines.name}, {counted(report.lines, 'line')}, {report.refused:,} refused"
    yield (
        f"added: {counted(report.brands_added, 'brand')}, {counted(report.products_added, 'product')}, "
        f"{counted(report.skus_added, 'SKU')}, {counted(report.colors_added, 'colour')}, "
        f"{counted(report.sizes_added, 'size')}"
    )
    yield (
        f"changed: {counted(report.products_changed, 'product')}, {counted(report.skus_changed, 'SKU')}; "
        f"unchanged: {counted(report.skus_unchanged, 'SKU')}"
    )
    for what, names, count in (
        ("colours", report.new_colors, report.colors_added),
        ("sizes", report.new_sizes, report.sizes_added),
    ):
        if names:
            yield f"new {what}: {', '.join(names)}{', ...' if count > len(names) else ''}"
    if lines.ignored_columns:
        yield f"ignored columns: {', '.join(lines.ignored_columns)}"
