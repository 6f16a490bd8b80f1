"""The ledger: what was written, as far as the writers know, against what the table holds.

Each entry is a token that was written once. An entry stands as

- acknowledged: the call returned, or the COMMIT around it did: it is in the table exactly once;
- refused: the server said no, or it was rolled back, or never committed: it is not in the table;
- unknown: the call was cancelled or lost while the server may have been at work: at most once.

Entries of one batch go together, whatever is known about them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tests.soak.figures import Figures

TABLE = "CREATE TABLE ledger (token text NOT NULL, amount int NOT NULL DEFAULT 1)"

CONTENTS = "SELECT token, count(*) FROM ledger GROUP BY token"


class Standing(Enum):
    """What is known about an entry."""

    UNKNOWN = "unknown"
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


@dataclass
class Ledger:
    """All entries since the last balance."""

    figures: Figures
    _entries: dict[str, Standing] = field(default_factory=dict)
    _batches: list[Sequence[str]] = field(default_factory=list)

    def write(self, tokens: Sequence[str]) -> Sequence[str]:
        """Enter what is about to be written, as one batch; returns it."""
        self._entries.update(dict.fromkeys(tokens, Standing.UNKNOWN))
        if len(tokens) > 1:
            self._batches.append(tokens)
        return tokens

    def acknowledge(self, tokens: Iterable[str]) -> None:
        """What was written is there to stay."""
        for token in tokens:
            self._entries[token] = Standing.ACKNOWLEDGED

    def refuse(self, tokens: Iterable[str]) -> None:
        """What was to be written was not, or was rolled back."""
        for token in tokens:
            self._entries[token] = Standing.REFUSED

    def balance(self, rows: Iterable[tuple[str, int]]) -> None:
        """Compare with what the table holds, note what differs, and begin anew with an empty table."""
        held = dict(rows)
        figures = self.figures
        for token, standing in self._entries.items():
            count = held.get(token, 0)
            if count > 1:
                figures.find("doubled", f"the {standing.value} entry {token} stands in the table {count} times")
            elif standing is Standing.ACKNOWLEDGED and count == 0:
                figures.find("lost", f"the entry {token} was acknowledged and is not in the table")
            elif standing is Standing.REFUSED and count:
                figures.find("undead", f"the entry {token} was refused or rolled back and is in the table")
        for token in held.keys() - self._entries.keys():
            figures.find("undead", f"the entry {token} in the table was never written, or long ago")
        for batch in self._batches:
            if len({held.get(token, 0) for token in batch}) > 1:
                figures.find("torn", f"of the batch {batch[0]} to {batch[-1]} only a part is in the table")
        for standing, number in Counter(self._entries.values()).items():
            figures.count(f"writes {standing.value}", number)
        self._entries.clear()
        self._batches.clear()
