"""Standard output, standard error and the log."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

from typer.testing import Result


def test_verbose_logs_the_start_and_end_of_each_step(run: Callable[..., Result], dsn: str) -> None:
    result = run("lookup", "1", "--verbose", dsn=dsn)
    assert "look_up starts, with a Connection, 1" in result.stderr
    assert "look_up finished in" in result.stderr


def test_a_reader_may_close_the_output_early(program: Callable[..., subprocess.Popen[str]], dsn: str) -> None:
    process = program("export", "--prefetch", "1000", dsn=dsn)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(30) == 1
    assert process.stderr.read() == ""
