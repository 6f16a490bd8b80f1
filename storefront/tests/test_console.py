"""Standard output, standard error and the log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

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


def test_a_name_that_the_terminal_cannot_show_is_no_error(run: Callable[..., Result], dsn: str) -> None:
    run("brands", "add", "Größe", dsn=dsn)
    listed = subprocess.run(
        [sys.executable, "-m", "storefront", "brands", "list"],
        env={**os.environ, "STOREFRONT_DSN": dsn, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert rb"Gr\xf6\xdfe" in listed.stdout
    assert listed.stderr == b""


def test_json_has_the_name_of_a_file_that_is_no_text(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    order = os.fsdecode(b"order-\xff.txt")
    (tmp_path / order).write_text("1\n")
    assert json.loads(run("batch", order, "-o", "skus.csv", "--json", dsn=dsn).stdout)["file"] == order
