"""Formats figures, for the terminal and the documentation."""

from __future__ import annotations

from bench.measurement import SUBJECT, Cell, Line, Ratio
from bench.workloads.workload import Workload

NONE = "-"


def rate(value: float) -> str:
    """Return a rate in three digits: 9,120; 86.3 k; 3.11 M."""
    if value >= 999_500:
        return _three_digits(value / 1e6) + " M"
    if value >= 9_995:
        return _three_digits(value / 1e3) + " k"
    return f"{value:,.0f}"


def cell(line: Line, found: Cell | None) -> str:
    """Return a cell of the table: a rate, megabytes, or the mark for a missing figure."""
    if found is None or not found.samples:
        return "error" if found is not None and found.failed else NONE
    if line.workload.memory:
        return NONE if found.megabytes is None else f"{found.megabytes:.1f} MB"
    assert found.rate is not None
    return rate(found.rate)


def unit(workload: Workload) -> str:
    """Return the unit of a row's cells."""
    return "MB" if workload.memory else workload.unit


def times(ratio: Ratio | None) -> str:
    """Return a ratio: 7.42x."""
    return NONE if ratio is None else f"{ratio.middle:.2f}x"


def spread(ratio: Ratio | None) -> str:
    """Return the lowest and highest ratio of the rounds: 7.10-7.60."""
    return "" if ratio is None else f"{ratio.low:.2f}-{ratio.high:.2f}"


def to_asyncpg(line: Line) -> Ratio | None:
    """Return the ratio to asyncpg; None if the row is not about speed."""
    return None if line.workload.memory else line.ratio(SUBJECT, "asyncpg")


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
