"""What a run counts, and what it finds."""

from __future__ import annotations

import traceback
from collections import Counter
from dataclasses import dataclass, field

SHOWN = 40
"""The most findings that are kept; of all others there is a count."""


class Finding(AssertionError):
    """Something that must never be."""


class Crossed(Finding):
    """A reply that is not its caller's."""


@dataclass
class Figures:
    """Counts of what was done, and the findings."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def count(self, what: str, number: int = 1) -> None:
        """Count something."""
        self.counts[what] += number

    def find(self, kind: str, text: str) -> None:
        """Note a finding; `kind` is what it is counted under: lost, crossed, doubled, error, leak, hang ..."""
        self.counts[f"found {kind}"] += 1
        if len(self.findings) < SHOWN:
            self.findings.append(f"{kind}: {text}")

    def find_error(self, where: str, error: BaseException) -> None:
        """Note an error that nothing excuses, with its traceback."""
        kind = "crossed" if isinstance(error, Crossed) else "finding" if isinstance(error, Finding) else "error"
        self.find(kind, f"{where}\n{''.join(traceback.format_exception(error))}")

    def found(self, kind: str) -> int:
        """Return how many findings there are of a kind."""
        return self.counts[f"found {kind}"]
