"""The picture: the speed of each peer relative to asyncpg, with bars that start at 1."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from bench.measurement import LIMIT, Line, Report, Run
from bench.workloads.workload import AtLeast

COLOURS = {
    "headrace": "#1b7f79",
    "asyncpg": "#b8b8b8",
    "psycopg": "#e0a458",
    "psycopg-pipeline": "#c2703d",
    "psqlpy": "#8a6fae",
    "fastpg": "#b5763a",
    LIMIT: "#333333",
}
BAR = 0.8


def draw(report: Report, path: Path) -> None:
    """Draw one chart for each event loop into a file. Its suffix is the format (png, svg, pdf)."""
    runs = [(run, [line for line in run.lines if not line.workload.memory]) for run in report.runs]
    tallest = max(len(lines) for _, lines in runs)
    figure, axes = pyplot.subplots(
        1, len(runs), figsize=(11 * len(runs), 2 + 0.55 * tallest), squeeze=False, layout="constrained"
    )
    for axis, (run, lines) in zip(axes[0], runs, strict=True):
        _chart(axis, report, run, lines)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper center", ncols=len(COLOURS))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _chart(axis: Axes, report: Report, run: Run, lines: list[Line]) -> None:
    peers = [peer for peer in (*report.peers, LIMIT) if peer != "asyncpg"]
    height = BAR / len(peers)
    for number, peer in enumerate(peers):
        ratios = [line.ratio(peer, "asyncpg") for line in lines]
        bars = [(at, ratio.middle) for at, ratio in enumerate(ratios) if ratio is not None]
        axis.barh(
            [at + (number - (len(peers) - 1) / 2) * height for at, _ in bars],
            [value - 1 for _, value in bars],
            left=1,
            height=height,
            color=COLOURS.get(peer),
            label=peer,
        )
    for at, line in enumerate(lines):
        if isinstance(line.workload.requirement, AtLeast):
            position = [line.workload.requirement.times] * 2
            axis.plot(position, [at - 0.5, at + 0.5], color="red", linewidth=1, label=None if at else "required")
    axis.axvline(1, color=COLOURS["asyncpg"], linewidth=1.5)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axis.set_yticks(range(len(lines)), [line.workload.title for line in lines])
    axis.invert_yaxis()
    axis.set_ylim(len(lines) - 0.5, -0.5)
    axis.set_title(f"times as fast as asyncpg, event loop {run.loop}")
    axis.grid(axis="x", which="both", alpha=0.25)
