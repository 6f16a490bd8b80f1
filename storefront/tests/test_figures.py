"""The figures of a benchmark as tables, JSON and a picture."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

import headrace
from storefront import BenchmarkQuery, Measurement, UsageError, Way, figures

MEASUREMENTS = [
    Measurement(BenchmarkQuery.JOIN, Way.ONE_AFTER_ANOTHER, 1, True, 10_000, 4.0, 1.0),
    Measurement(BenchmarkQuery.JOIN, Way.POOL_METHODS, 6, True, 10_000, 0.5, 8.0),
    Measurement(BenchmarkQuery.JOIN, Way.ONE_AFTER_ANOTHER, 1, False, 10_000, 5.0, 1.0),
    Measurement(BenchmarkQuery.KEY, Way.ONE_AFTER_ANOTHER, 1, True, 10_000, 1.0, 1.0),
]


def test_the_tables_show_rates_and_speed_ups_in_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    tables = list(figures.tables(MEASUREMENTS))
    for table in tables:
        console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert len(tables) == 3
    assert "10,000 look-ups of a product by primary key" in shown
    assert "a four-way join, without the index" in shown
    row = next(line for line in shown.splitlines() if "pool.fetchrow()" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "at once, pool.fetchrow()", "6", "0.50", "20,000", "8.0 x",
    ]  # fmt: skip


def test_json_holds_every_figure_the_machine_and_the_server(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    figures.write_json(MEASUREMENTS, path, server="PostgreSQL 18")
    document = json.loads(path.read_text())
    assert document["server"] == "PostgreSQL 18"
    assert document["headrace"] == headrace.__version__
    assert document["machine"]["processors"] >= 1
    assert document["measurements"][1] == {
        "query": "join",
        "way": "at once, pool.fetchrow()",
        "connections": 6,
        "indexed": True,
        "look_ups": 10_000,
        "seconds": 0.5,
        "speed_up": 8.0,
        "rate": 20_000.0,
    }


@pytest.mark.parametrize(("name", "magic"), [("figures.png", b"\x89PNG"), ("figures.svg", b"<?xml")])
def test_the_picture_is_in_the_format_of_its_name(tmp_path: Path, name: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    figures.draw(MEASUREMENTS, tmp_path / name)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_a_picture_or_json_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match=r"cannot write .*figures.xyz"):
        figures.draw(MEASUREMENTS, tmp_path / "figures.xyz")
    with pytest.raises(UsageError, match="No such file or directory"):
        figures.draw(MEASUREMENTS, tmp_path / "missing" / "figures.png")
    with pytest.raises(UsageError, match="No such file or directory"):
        figures.write_json(MEASUREMENTS, tmp_path / "missing" / "figures.json", server="")
