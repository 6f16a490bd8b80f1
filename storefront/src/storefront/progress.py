"""Show progress on a terminal: how much is done, how fast it goes, and how long it will take. A pipe gets nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeRemainingColumn
from rich.text import Text

from storefront import loading


class _CountColumn(ProgressColumn):
    """The number of items done, and of all items if it is known."""

    def render(self, task: Task) -> Text:
        """Return the text for a task."""
        done, count = task.fields["done"], task.fields["count"]
        of = f" of {count:,}" if count is not None else ""
        return Text(f"{done:,}{of} {task.fields['unit']}")


class _RateColumn(ProgressColumn):
    """The number of items per second."""

    def render(self, task: Task) -> Text:
        """Return the text for a task."""
        elapsed = task.finished_time if task.finished else task.elapsed
        return Text(f"{task.fields['done'] / elapsed:,.0f}/s" if elapsed else "")


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("   {task.description:<8}"),
        BarColumn(20),
        _CountColumn(),
        _RateColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        console=console,
    )


@contextmanager
def loading_progress(console: Console, *, quiet: bool = False) -> Iterator[loading.Progress]:
    """Yield a `progress` function for loading.load. It shows a bar for each table while the `with` block runs.

    It shows nothing if `quiet` is set or the console is not a terminal.
    """
    if quiet or not console.is_terminal:
        yield lambda table, done, total: None
        return
    progress = _bars(console)
    tasks: dict[str, TaskID] = {}

    def show(table: str, done: int, total: int) -> None:
        # The bars start with the first report, so a load that is refused shows none.
        progress.start()
        if table not in tasks:
            tasks[table] = progress.add_task(table, total=total, done=0, count=total, unit="rows")
        progress.update(tasks[table], completed=done, done=done)

    try:
        yield show
    finally:
        if tasks:
            progress.stop()


Report = Callable[[int, float | None], None]
"""A function that is called with the number of items done, and the part of the work that is done, if it is known."""


@contextmanager
def progress_bar(console: Console, description: str, unit: str, *, quiet: bool = False) -> Iterator[Report]:
    """Yield a function that shows the items done in one bar while the `with` block runs.

    It shows nothing if `quiet` is set or the console is not a terminal. Without the part of the work that is done it
    shows no time left.
    """
    if quiet or not console.is_terminal:
        yield lambda done, part: None
        return
    with _bars(console) as progress:
        task = progress.add_task(description, total=None, done=0, count=None, unit=unit)

        def show(done: int, part: float | None) -> None:
            progress.update(task, done=done, completed=part or 0, total=None if part is None else 1.0)

        yield show
