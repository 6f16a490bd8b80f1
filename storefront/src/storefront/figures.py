"""Show the results of a benchmark as tables, as JSON and as a picture."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from rich.table import Table

import headrace
from storefront.benchmark import HEADRACE, Measurement
from storefront.errors import StorefrontError, UsageError
from storefront.spread import Spread

COLOURS = {HEADRACE: "#2f6f9f", "asyncpg": "#8a8a8a", "psycopg": "#c98a3c"}
"""The colour of a driver's bars. The bars of a table without the index are lighter."""

NO_FIGURE = "-"
"""The text in place of the figures of a way that a driver does not have."""


@dataclass(frozen=True)
class Environment:
    """The facts that figures depend on: the date, the machine, Python, the drivers and the server."""

    date: str
    platform: str
    processor: str
    processors: int
    python: str
    drivers: Mapping[str, str]
    server: str

    @property
    def lines(self) -> tuple[str, str]:
        """The facts as two lines of text."""
        unit = "processor" if self.processors == 1 else "processors"
        drivers = [f"{name} {version}" for name, version in self.drivers.items()]
        # A server tells its compiler, too, after "on".
        server = self.server.partition(" on ")[0]
        return (
            f"{self.date}, {self.processor}, {self.processors} {unit}, {self.platform}",
            ", ".join([f"Python {self.python}", *drivers, server]),
        )


def environment(*, server: str, peers: Mapping[str, str]) -> Environment:
    """Return the facts of this process. `server` is the server's version, `peers` the version of each other driver."""
    return Environment(
        date=datetime.now(UTC).date().isoformat(),
        platform=platform.platform(),
        processor=_processor(),
        processors=os.cpu_count() or 1,
        python=platform.python_version(),
        drivers={HEADRACE: headrace.__version__, **peers},
        server=server,
    )


def _processor() -> str:
    """Return the name of the processor. On Linux, Python knows its architecture only."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def tables(measurements: Sequence[Measurement]) -> Iterator[Table]:
    """Yield a table of 80 columns with rates and speed-ups for each query, with the index and without it.

    If there are several drivers, the rows of each have a heading.
    """
    for (query, indexed), group in groupby(
        measurements, key=lambda measurement: (measurement.query, measurement.indexed)
    ):
        rows = list(group)
        index = "" if indexed else ", without the index"
        result = Table(title=f"{rows[0].look_ups:,} look-ups of {query.subject}{index}", title_justify="left")
        result.add_column("how", no_wrap=True, min_width=24)
        for heading in ("connections", "seconds", "look-ups/s", "speed-up"):
            result.add_column(heading, justify="right", no_wrap=True)
        drivers = [(driver, list(ways)) for driver, ways in groupby(rows, key=lambda row: row.driver)]
        for driver, ways in drivers:
            if len(drivers) > 1:
                result.add_section()
                result.add_row(driver, style="bold")
            for row in ways:
                result.add_row(*_cells(row))
        yield result


def _cells(row: Measurement) -> tuple[str, ...]:
    if row.seconds is None or row.rate is None or row.speed_up is None:
        return f"{row.way.value}:\nraises {row.error}", str(row.connections), NO_FIGURE, NO_FIGURE, NO_FIGURE
    return (
        row.way.value,
        str(row.connections),
        f"{row.seconds:.2f}",
        f"{row.rate:,.0f}",
        f"{row.speed_up:.1f} x",
    )


def spread_tables(measured: Sequence[Spread]) -> Iterator[Table]:
    """Yield a table for each query, with a row for each number of servers that answer."""
    for query, group in groupby(measured, key=lambda each: each.query):
        rows = list(group)
        result = Table(
            title=f"{rows[0].look_ups:,} look-ups of {query.subject}, by the servers that answer", title_justify="left"
        )
        for heading in ("servers", "seconds", "look-ups/s", "look-ups of each server"):
            result.add_column(heading, justify="right" if heading in ("seconds", "look-ups/s") else "left")
        for row in rows:
            counts = "\n".join(f"{count:,} {host}" for host, count in row.counts.items())
            result.add_row(row.servers, f"{row.seconds:.2f}", f"{row.rate:,.0f}", counts)
        yield result


SHARED = "Servers on one machine share its processors, so more of them are no faster there."
"""The remark below the tables of `spread_tables`."""


def document(
    measurements: Sequence[Measurement], facts: Environment, measured: Sequence[Spread] = ()
) -> dict[str, object]:
    """Return the measurements and the facts that they depend on, as a JSON document."""
    return {
        "date": facts.date,
        "machine": {
            "platform": facts.platform,
            "processor": facts.processor,
            "processors": facts.processors,
            "python": facts.python,
        },
        "drivers": dict(facts.drivers),
        "server": facts.server,
        "measurements": [
            {
                **asdict(measurement),
                "rate": measurement.rate,
                "way": measurement.way.value,
                "query": measurement.query.value,
            }
            for measurement in measurements
        ],
        **(
            {"servers": [{**asdict(each), "rate": each.rate, "query": each.query.value} for each in measured]}
            if measured
            else {}
        ),
    }


def write_json(
    measurements: Sequence[Measurement], path: Path, facts: Environment, measured: Sequence[Spread] = ()
) -> None:
    """Write `document` to `path`. Raises UsageError if that fails."""
    try:
        path.write_text(json.dumps(document(measurements, facts, measured), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def check_picture(path: Path) -> None:
    """Raise UsageError if there is no format of this name, and StorefrontError if matplotlib is not installed.

    This is found before anything is measured for a picture.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise StorefrontError("a picture needs matplotlib: pip install 'storefront[picture]'") from error
    if path.suffix and path.suffix[1:].lower() not in Figure().canvas.get_supported_filetypes():
        raise UsageError(f"cannot write {path}: expected a name that ends in .png, .svg or .pdf")


def draw(measurements: Sequence[Measurement], path: Path, facts: Environment) -> None:
    """Draw the rates as bar charts, one per query, into `path`. Its suffix chooses the format: png, svg or pdf.

    The facts that the figures depend on are below the charts.
    Raises StorefrontError if matplotlib is not installed, and UsageError if the file cannot be written.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    charts = [list(group) for _, group in groupby(measurements, key=lambda measurement: measurement.query)]
    figure = Figure(figsize=(9, len(charts) + 0.5 * len(measurements)), layout="constrained")
    heights = [len(chart) for chart in charts]
    plots = figure.subplots(len(charts), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for axes, chart in zip(plots, charts, strict=True):
        bars = axes.barh(
            [_label(measurement) for measurement in chart],
            [measurement.rate or 0 for measurement in chart],
            color=[(COLOURS.get(each.driver, "#666666"), 1.0 if each.indexed else 0.4) for each in chart],
        )
        axes.bar_label(bars, [_bar_text(measurement) for measurement in chart])
        axes.invert_yaxis()
        axes.margins(x=0.25)
        axes.set_xlabel("look-ups per second")
        axes.set_title(f"{chart[0].look_ups:,} look-ups of {chart[0].query.subject}", loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel("\n".join(facts.lines), fontsize="x-small", x=0.01, ha="left")
    try:
        figure.savefig(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def _label(measurement: Measurement) -> str:
    unit = "connection" if measurement.connections == 1 else "connections"
    index = "" if measurement.indexed else ", no index"
    return f"{measurement.driver}: {measurement.way.value}\n{measurement.connections} {unit}{index}"


def _bar_text(measurement: Measurement) -> str:
    if measurement.rate is None or measurement.speed_up is None:
        return f" raises {measurement.error}"
    return f" {measurement.rate:,.0f}/s, {measurement.speed_up:.1f} x"
