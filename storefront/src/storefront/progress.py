"""Show how far a load has come."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from storefront import loading


@contextmanager
def loading_progress(console: Console) -> Iterator[loading.Progress]:
    """Yield what loading.load takes as `progress`: a bar for each table, while the `with` block runs."""
    bars = (
        TextColumn("   {task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
    )
    progress = Progress(*bars, console=console)
    tasks: dict[str, TaskID] = {}

    def show(table: str, done: int, total: int) -> None:
        # Not before the first report: a load that is refused leaves no trace on the screen.
        progress.start()
        if table not in tasks:
            tasks[table] = progress.add_task(table, total=total)
        progress.update(tasks[table], completed=done)

    try:
        yield show
    finally:
        if tasks:
            progress.stop()
