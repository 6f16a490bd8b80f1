"""`storefront bench`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from storefront.benchmark import Way


def test_bench_shows_tables_and_writes_the_figures(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    result = run("bench", "-n", "50", "--rounds", "1", "--pool-sizes", "1,2", "--no-index", "--json", "f.json", dsn=dsn)
    assert result.exit_code == 0
    assert result.stdout.count("50 look-ups of") == 3
    measured = json.loads((tmp_path / "f.json").read_text())["measurements"]
    assert len(measured) == 3 * (2 + 2 * 6)
    assert {row["indexed"] for row in measured if row["query"] == "key"} == {True}


def test_bench_prints_one_json_document_on_standard_output(run: Callable[..., Result], dsn: str) -> None:
    args = ("bench", "-n", "5", "--rounds", "1", "--query", "key", "--json", "-")
    result = run(*args, dsn=dsn)
    assert len(json.loads(result.stdout)["measurements"]) == len(Way)
    assert "5 look-ups of" in result.stderr
    assert run(*args, "--quiet", dsn=dsn).stderr == ""


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["bench", "--pool-sizes", "1,x"], "'1,x': expected whole numbers and commas"),
        (["bench", "--pool-sizes", "0"], "pool sizes must be whole numbers of at least 1"),
        (["bench", "--json", "missing/figures.json"], "its directory does not exist"),
    ],
)
def test_bad_usage_is_refused(fails: Callable[..., None], args: list[str], message: str) -> None:
    fails(*args, status=2, message=message)
