"""The report: what a run did, what it found, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.soak.accounts import KEPT, Sample, slope
from tests.soak.figures import Figures
from tests.soak.options import Options

FOUND = ("lost", "crossed", "doubled", "undead", "torn", "swallowed", "hang", "left behind", "leak")
"""Kinds of findings that are named even where there are none."""


@dataclass(frozen=True)
class Report:
    """What came of a run."""

    options: Options
    server: str
    figures: Figures
    samples: Sequence[Sample]
    seconds: float

    @property
    def findings(self) -> list[str]:
        """What must not be; empty where all is well."""
        return self.figures.findings

    def command(self) -> str:
        """Return the command that makes the same decisions again."""
        options = self.options
        length = f"--epochs {len(self.samples)}" if options.seconds is None else f"--seconds {options.seconds:g}"
        return (
            f"python -m tests.soak --pg {self.server.removeprefix('pg')} --seed {options.seed}"
            f" --actors {options.actors} --turns {options.turns} {length}"
        )

    def text(self) -> str:
        """Return all of it, for people to read."""
        counts = self.figures.counts
        lines = [f"{self.server}: {len(self.samples)} epochs in {self.seconds:.0f} s", ""]
        lines += [f"  {name:36}{number:>12,}" for name, number in sorted(counts.items()) if not _is_found(name)]
        lines += ["", *(f"  {'found ' + kind:36}{counts['found ' + kind]:>12,}" for kind in FOUND)]
        lines += [
            f"  {name:36}{counts[name]:>12,}" for name in sorted(counts) if _is_found(name) and name[6:] not in FOUND
        ]
        lines += ["", *self._levels(), "", f"repeat: {self.command()}"]
        lines += [f"\n--- {finding}" for finding in self.findings]
        return "\n".join(lines)

    def _levels(self) -> list[str]:
        """Return how far things stayed level, from one quiet moment to the next, after the first third."""
        settled = self.samples[len(self.samples) // 3 :]
        if not settled:
            return []
        first, last = settled[0], settled[-1]
        resident = slope([(each.queries, each.resident) for each in settled])
        blocks = slope([(each.queries, each.blocks) for each in settled])
        return [
            f"  resident memory   {first.resident / 2**20:.1f} MiB -> {last.resident / 2**20:.1f} MiB,"
            f" slope {resident:+.2f} bytes a query",
            f"  blocks allocated  {first.blocks:,} -> {last.blocks:,}, slope {blocks:+.4f} blocks a query",
            f"  descriptors       {first.descriptors} -> {last.descriptors}"
            f" (of which connections {first.connections} -> {last.connections})",
            f"  tasks             {first.tasks} -> {last.tasks}",
            f"  driver's objects  {_number(first):,} -> {_number(last):,}",
        ]


def _number(sample: Sample) -> int:
    return sum(number for name, number in sample.objects.items() if name not in KEPT)


def _is_found(name: str) -> bool:
    return name.startswith("found ")
