"""The results: samples, cells and rows of the table, ratios and verdicts. It does no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.workloads.workload import AtLeast, Below, Workload

SUBJECT = "headrace"
LIMIT = "limit"
DEFAULT_LOOP = "asyncio"
MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Sample:
    """One timed run: units done, wall and CPU seconds of the client, growth of its peak memory in bytes."""

    units: int
    seconds: float
    cpu_seconds: float | None = None
    peak_growth: int | None = None

    @property
    def rate(self) -> float:
        """Units per second."""
        return self.units / self.seconds


@dataclass
class Cell:
    """A peer's samples of one workload. ``missing``: why there are none. ``failed``: whether the driver failed."""

    samples: list[Sample] = field(default_factory=list)
    note: str = ""
    missing: str = ""
    failed: bool = False

    @property
    def rate(self) -> float | None:
        """The median rate, in units per second."""
        return median(sample.rate for sample in self.samples) if self.samples else None

    @property
    def megabytes(self) -> float | None:
        """The largest growth of the peak memory."""
        growths = [sample.peak_growth for sample in self.samples if sample.peak_growth is not None]
        return max(growths) / MEGABYTE if growths else None


@dataclass(frozen=True)
class Ratio:
    """How many times as fast: the median, lowest and highest ratio of the rounds."""

    middle: float
    low: float
    high: float


@dataclass
class Line:
    """A row of the table: a workload and its cells by peer name, including the limit."""

    workload: Workload
    cells: dict[str, Cell]

    def ratio(self, faster: str, slower: str) -> Ratio | None:
        """Return how many times as fast one peer is as another; None if either has no samples."""
        pair = self.cells.get(faster), self.cells.get(slower)
        if pair[0] is None or pair[1] is None:
            return None
        # Both ran in each round, one after the other, so a disturbance of the machine affected both.
        ratios = [a.rate / b.rate for a, b in zip(pair[0].samples, pair[1].samples, strict=False)]
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None

    def verdict(self) -> bool | None:
        """Return whether the requirement is met; None if there is none or it could not be measured."""
        match self.workload.requirement:
            case AtLeast(times, over):
                ratio = self.ratio(SUBJECT, over)
                return None if ratio is None else ratio.middle >= times
            case Below(limit):
                cell = self.cells.get(SUBJECT)
                return None if cell is None or cell.megabytes is None else cell.megabytes < limit
        return None


@dataclass
class Run:
    """All rows of one event loop."""

    loop: str
    lines: list[Line]


@dataclass
class Report:
    """A whole run: the machine, the method, the versions of the peers, and the rows of each event loop."""

    facts: dict[str, str]
    method: dict[str, str]
    versions: dict[str, str]
    peers: list[str]
    runs: list[Run]

    def missed(self) -> list[str]:
        """Return the workloads whose requirement is not met on the default loop, to which requirements apply."""
        lines = [line for run in self.runs if run.loop == DEFAULT_LOOP for line in run.lines]
        return [line.workload.name for line in lines if line.verdict() is False]

    def failures(self) -> list[tuple[str, str, str]]:
        """Return (peer, workload, reason) for every failure."""
        return [
            (peer, line.workload.name, cell.missing)
            for run in self.runs
            for line in run.lines
            for peer, cell in line.cells.items()
            if cell.failed
        ]

    def as_json(self) -> dict[str, Any]:
        """Return the report as JSON types: every sample, and the figures derived from them."""
        return {
            "facts": self.facts,
            "method": self.method,
            "versions": self.versions,
            "runs": [{"loop": run.loop, "workloads": [_line_json(line) for line in run.lines]} for run in self.runs],
        }


def _line_json(line: Line) -> dict[str, Any]:
    workload = line.workload
    return {
        "name": workload.name,
        "title": workload.title,
        "unit": workload.unit,
        "required": str(workload.requirement) if workload.requirement else None,
        "met": line.verdict(),
        "ratio_to_asyncpg": _ratio_json(line.ratio(SUBJECT, "asyncpg")),
        "ratio_to_limit": _ratio_json(line.ratio(SUBJECT, LIMIT)),
        "peers": {peer: _cell_json(cell) for peer, cell in line.cells.items()},
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    if not cell.samples:
        return {"missing": cell.missing, "failed": cell.failed}
    cpu = [sample.cpu_seconds / sample.units for sample in cell.samples if sample.cpu_seconds is not None]
    return {
        "rate": cell.rate,
        "client_cpu_microseconds_per_unit": median(cpu) * 1e6 if cpu else None,
        "peak_memory_growth_megabytes": cell.megabytes,
        "note": cell.note or None,
        "samples": [{"units": sample.units, "seconds": sample.seconds} for sample in cell.samples],
    }


def _ratio_json(ratio: Ratio | None) -> dict[str, float] | None:
    return None if ratio is None else {"median": ratio.middle, "low": ratio.low, "high": ratio.high}
