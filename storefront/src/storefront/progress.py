"""Show the progress of a load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from storefront import loading


@contextmanager
def loading_progress(console: Console) -> Iterator[loading.Progress]:
    """Yield a `progress` function for loading.load. It shows a bar for each table while the `with` block runs."""
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
        # The bars start with the first report, so a load that is refused shows none.
        progress.start()
        if table not in tasks:
            tasks[table] = progress.add_task(table, total=total)
        progress.update(tasks[table], completed=done)

    try:
        yield show
    finally:
        if tasks:
            progress.stop()
