"""Progress: on a terminal with rate and time left, in a pipe not at all."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from storefront.progress import loading_progress, progress_bar


def console(*, terminal: bool) -> tuple[Console, io.StringIO]:
    shown = io.StringIO()
    return Console(file=shown, force_terminal=terminal, width=100, color_system=None), shown


def test_a_terminal_shows_count_rate_and_time() -> None:
    terminal, shown = console(terminal=True)
    with progress_bar(terminal, "import", "lines") as report:
        report(1_500, 0.5)
        report(3_000, 0.75)
    assert re.search(r"import +━+ *3,000 lines [\d,]+/s \S+", re.sub("\x1b.*?[a-zA-Z]", "", shown.getvalue()))


def test_without_a_known_size_there_is_a_count_and_no_end() -> None:
    terminal, shown = console(terminal=True)
    with progress_bar(terminal, "import", "lines") as report:
        report(1_500, None)
    assert "1,500 lines" in shown.getvalue()


def test_a_load_has_a_bar_for_each_table() -> None:
    terminal, shown = console(terminal=True)
    with loading_progress(terminal) as report:
        report("brand", 0, 10)
        report("brand", 10, 10)
        report("sku", 5_000, 20_000)
    text = shown.getvalue()
    assert "10 of 10 rows" in text
    assert "5,000 of 20,000 rows" in text


@pytest.mark.parametrize(("terminal", "quiet"), [(False, False), (True, True)])
def test_a_pipe_and_a_quiet_command_show_nothing(terminal: bool, quiet: bool) -> None:
    pipe, shown = console(terminal=terminal)
    with progress_bar(pipe, "import", "lines", quiet=quiet) as report:
        report(1, 0.5)
    with loading_progress(pipe, quiet=quiet) as show:
        show("brand", 5, 10)
    assert shown.getvalue() == ""
