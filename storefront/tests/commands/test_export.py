"""`storefront export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


def test_export_writes_csv_to_standard_output_or_a_file(run: Callable[..., Result], dsn: str, tmp_path: Path) -> None:
    printed = run("export", dsn=dsn)
    assert len(printed.stdout.splitlines()) == 1_001
    result = run("export", "--output", "all.csv", "--prefetch", "7", dsn=dsn)
    assert result.stdout == "exported 1,000 rows to all.csv\n"
    assert (tmp_path / "all.csv").read_text() == printed.stdout
    part = run("export", "--skip", "500", "--take", "100", dsn=dsn).stdout.splitlines()
    assert part[1:] == printed.stdout.splitlines()[501:601]


def test_an_export_that_fails_leaves_the_file_as_it_was(
    run: Callable[..., Result], dsn: str, bare: str, tmp_path: Path
) -> None:
    run("export", "--output", "all.csv", "--take", "5", dsn=dsn)
    before = (tmp_path / "all.csv").read_text()
    assert run("export", "--output", "all.csv", dsn=bare).exit_code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["all.csv"]
    assert (tmp_path / "all.csv").read_text() == before


def test_a_prefetch_below_one_is_refused(fails: Callable[..., None]) -> None:
    fails("export", "--prefetch", "0", status=2, message="prefetch")
