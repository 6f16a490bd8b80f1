"""The figures of a benchmark as tables, JSON and a picture."""

from __future__ import annotations

import io
import json
import platform
from datetime import date
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
WITH_PEER = [
    *MEASUREMENTS[:2],
    Measurement(BenchmarkQuery.JOIN, Way.ONE_AFTER_ANOTHER, 1, True, 10_000, 5.0, 1.0, "asyncpg"),
    Measurement(BenchmarkQuery.JOIN, Way.ONE_CONNECTION, 1, True, 10_000, None, None, "asyncpg", "InterfaceError"),
]
FACTS = figures.Environment(
    date="2026-05-17",
    platform="Linux-6.1",
    processor="Some Processor 9",
    processors=2,
    python="3.13.1",
    drivers={"headrace": "0.1.0", "asyncpg": "0.31.0"},
    server="PostgreSQL 18.1 on x86_64, compiled by gcc",
)


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


def test_the_rows_of_several_drivers_have_headings_in_eighty_columns() -> None:
    console = Console(file=io.StringIO(), width=80)
    for table in figures.tables(WITH_PEER):
        console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if line[0] == "│"]
    assert rows == [
        ["headrace", "", "", "", ""],
        ["one after another", "1", "4.00", "2,500", "1.0 x"],
        ["at once, pool.fetchrow()", "6", "0.50", "20,000", "8.0 x"],
        ["asyncpg", "", "", "", ""],
        ["one after another", "1", "5.00", "2,000", "1.0 x"],
        ["at once, ONE connection:", "1", "-", "-", "-"],
        ["raises InterfaceError", "", "", "", ""],
    ]


def test_the_facts_are_the_date_the_machine_python_the_drivers_and_the_server() -> None:
    assert FACTS.lines == (
        "2026-05-17, Some Processor 9, 2 processors, Linux-6.1",
        "Python 3.13.1, headrace 0.1.0, asyncpg 0.31.0, PostgreSQL 18.1",
    )
    here = figures.environment(server="PostgreSQL 18", peers={"asyncpg": "0.31.0"})
    assert here.drivers == {"headrace": headrace.__version__, "asyncpg": "0.31.0"}
    assert here.python == platform.python_version()
    assert here.processors >= 1
    assert here.processor
    assert date.fromisoformat(here.date).isoformat() == here.date


def test_json_holds_every_figure_and_the_facts(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    figures.write_json([*MEASUREMENTS, *WITH_PEER], path, FACTS)
    document = json.loads(path.read_text())
    assert {name: value for name, value in document.items() if name != "measurements"} == {
        "date": "2026-05-17",
        "machine": {
            "platform": "Linux-6.1",
            "processor": "Some Processor 9",
            "processors": 2,
            "python": "3.13.1",
        },
        "drivers": {"headrace": "0.1.0", "asyncpg": "0.31.0"},
        "server": "PostgreSQL 18.1 on x86_64, compiled by gcc",
    }
    assert document["measurements"][1] == {
        "driver": "headrace",
        "query": "join",
        "way": "at once, pool.fetchrow()",
        "connections": 6,
        "indexed": True,
        "look_ups": 10_000,
        "seconds": 0.5,
        "speed_up": 8.0,
        "rate": 20_000.0,
        "error": None,
    }
    assert document["measurements"][-1] == {
        "driver": "asyncpg",
        "query": "join",
        "way": "at once, ONE connection",
        "connections": 1,
        "indexed": True,
        "look_ups": 10_000,
        "seconds": None,
        "speed_up": None,
        "rate": None,
        "error": "InterfaceError",
    }


@pytest.mark.parametrize(("name", "magic"), [("figures.png", b"\x89PNG"), ("figures.svg", b"<?xml")])
def test_the_picture_is_in_the_format_of_its_name(tmp_path: Path, name: str, magic: bytes) -> None:
    pytest.importorskip("matplotlib")
    figures.draw(MEASUREMENTS, tmp_path / name, FACTS)
    assert (tmp_path / name).read_bytes().startswith(magic)


def test_the_picture_shows_the_drivers_an_error_and_the_facts(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures.draw(WITH_PEER, tmp_path / "figures.svg", FACTS)
    drawn = (tmp_path / "figures.svg").read_text()
    # matplotlib draws letters as outlines, and has the text beside them in a comment.
    for text in (
        "headrace: at once, pool.fetchrow()",
        "asyncpg: at once, ONE connection",
        "raises InterfaceError",
        *FACTS.lines,
    ):
        assert text in drawn


def test_a_picture_or_json_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with pytest.raises(UsageError, match=r"cannot write .*figures.xyz"):
        figures.draw(MEASUREMENTS, tmp_path / "figures.xyz", FACTS)
    with pytest.raises(UsageError, match="No such file or directory"):
        figures.draw(MEASUREMENTS, tmp_path / "missing" / "figures.png", FACTS)
    with pytest.raises(UsageError, match="No such file or directory"):
        figures.write_json(MEASUREMENTS, tmp_path / "missing" / "figures.json", FACTS)
