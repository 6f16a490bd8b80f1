"""The table in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from bench import figures
from bench.measurement import LIMIT, SUBJECT, Report, Run

MARKS = {True: "[green]✓[/green]", False: "[bold red]✗[/bold red]", None: ""}


def show(report: Report, console: Console) -> None:
    """Print a table for each event loop, then the footnotes."""
    for run in report.runs:
        console.print(_table(report, run))
        for number, note in enumerate(_notes(run), 1):
            console.print(f"  [dim]{number}[/dim] {note}", highlight=False)
    for name, text in (report.facts | report.method).items():
        console.print(f"  [dim]{name}[/dim] {text}", highlight=False)
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    console.print(f"  [dim]versions[/dim] {versions}", highlight=False)


def _table(report: Report, run: Run) -> Table:
    table = Table(title=f"event loop: {run.loop}", title_justify="left", pad_edge=False)
    table.add_column("workload")
    for peer in report.peers:
        table.add_column(peer, justify="right", style="bold" if peer == SUBJECT else "")
    for heading in ("limit", "vs asyncpg", "lowest-highest", "vs limit", "required"):
        table.add_column(heading, justify="right")
    table.add_column("")
    notes = _notes(run)
    group = None
    for line in run.lines:
        workload = line.workload
        if workload.group != group:
            group = workload.group
            table.add_section()
            table.add_row(f"[italic]{group}, {figures.unit(workload)}[/italic]")
        cells = []
        for peer in (*report.peers, LIMIT):
            found = line.cells.get(peer)
            note = found.note or found.missing if found else ""
            mark = f" [dim]{notes.index(f'{peer}: {note}') + 1}[/dim]" if note else ""
            cells.append(figures.cell(line, found) + mark)
        ratio = figures.to_asyncpg(line)
        table.add_row(
            f"  {workload.title}",
            *cells,
            figures.times(ratio),
            figures.spread(ratio),
            figures.times(line.ratio(SUBJECT, LIMIT)),
            str(workload.requirement or ""),
            MARKS[line.verdict()],
        )
    return table


def _notes(run: Run) -> list[str]:
    """Return the footnotes in the order of the table, each once."""
    found: dict[str, None] = {}
    for line in run.lines:
        for peer, cell in line.cells.items():
            if cell.note or cell.missing:
                found.setdefault(f"{peer}: {cell.note or cell.missing}")
    return list(found)
