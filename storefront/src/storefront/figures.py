"""Show the results of a benchmark as tables, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path

from rich.table import Table

import headrace
from storefront.benchmark import Measurement
from storefront.errors import StorefrontError, UsageError


def tables(measurements: Sequence[Measurement]) -> Iterator[Table]:
    """Yield a table of 80 columns with rates and speed-ups for each query, with the index and without it."""
    for (query, indexed), group in groupby(
        measurements, key=lambda measurement: (measurement.query, measurement.indexed)
    ):
        rows = list(group)
        index = "" if indexed else ", without the index"
        result = Table(title=f"{rows[0].look_ups:,} look-ups of {query.subject}{index}", title_justify="left")
        result.add_column("how", no_wrap=True, min_width=24)
        for heading in ("connections", "seconds", "look-ups/s", "speed-up"):
            result.add_column(heading, justify="right", no_wrap=True)
        for row in rows:
            figures = (
                str(row.connections),
                f"{row.seconds:.2f}",
                f"{row.rate:,.0f}",
                f"{row.speed_up:.1f} x",
            )
            result.add_row(row.way.value, *figures)
        yield result


def document(measurements: Sequence[Measurement], *, server: str) -> dict[str, object]:
    """Return the measurements with the machine and the server, as a JSON document."""
    return {
        "machine": {
            "platform": platform.platform(),
            "processors": os.cpu_count(),
            "python": platform.python_version(),
        },
        "headrace": headrace.__version__,
        "server": server,
        "measurements": [
            {
                **asdict(measurement),
                "rate": measurement.rate,
                "way": measurement.way.value,
                "query": measurement.query.value,
            }
            for measurement in measurements
        ],
    }


def write_json(measurements: Sequence[Measurement], path: Path, *, server: str) -> None:
    """Write `document` to `path`. Raises UsageError if that fails."""
    try:
        path.write_text(json.dumps(document(measurements, server=server), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def require_matplotlib() -> None:
    """Raise StorefrontError if matplotlib is not installed, before anything is measured for a picture."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise StorefrontError("a picture needs matplotlib: pip install 'storefront[picture]'") from error


def draw(measurements: Sequence[Measurement], path: Path) -> None:
    """Draw the rates as bar charts, one per query, into `path`. Its suffix chooses the format: png, svg or pdf.

    Raises StorefrontError if matplotlib is not installed, and UsageError if the file cannot be written.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    charts = [list(group) for _, group in groupby(measurements, key=lambda measurement: measurement.query)]
    figure = Figure(figsize=(9, len(charts) + 0.5 * len(measurements)), layout="constrained")
    heights = [len(chart) for chart in charts]
    plots = figure.subplots(len(charts), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, chart in zip(plots, charts, strict=True):
        bars = axes.barh(
            [_label(measurement) for measurement in chart],
            [measurement.rate for measurement in chart],
            color=["#2f6f9f" if measurement.indexed else "#b5b5b5" for measurement in chart],
        )
        axes.bar_label(bars, [f" {measurement.rate:,.0f}/s, {measurement.speed_up:.1f} x" for measurement in chart])
        axes.invert_yaxis()
        axes.margins(x=0.25)
        axes.set_xlabel("look-ups per second")
        axes.set_title(f"{chart[0].look_ups:,} look-ups of {chart[0].query.subject}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    except ValueError as error:
        # matplotlib has no format for this suffix.
        raise UsageError(f"cannot write {path}: {error}") from error


def _label(measurement: Measurement) -> str:
    unit = "connection" if measurement.connections == 1 else "connections"
    index = "" if measurement.indexed else ", no index"
    return f"{measurement.way.value}\n{measurement.connections} {unit}{index}"
