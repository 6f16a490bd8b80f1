"""Fault 32: the soak, as much of it as fits; `python -m tests.soak` runs it for as long as wanted.

What it checks is told in tests/soak.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.soak.actor import BY_NAME, ROUTES
from tests.soak.decision import Decision, decide, source
from tests.soak.figures import Figures
from tests.soak.ledger import Ledger
from tests.soak.options import Options
from tests.soak.run import soak

if TYPE_CHECKING:
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=32)


@pytest.mark.slow
async def test_soak(server: Cluster, database: str) -> None:
    options = Options(random.randrange(1_000_000), actors=100, turns=8, epochs=3)
    report = await soak(server, database, options, print)
    assert not report.findings, report.text()
    print(report.text())
    counts = report.figures.counts
    for what in ("queries", "cancellations", "time-outs", "kills", "links broken", "transactions", "copies", "cursors"):
        assert counts[what], f"the soak has had no {what}: {report.text()}"


def test_the_same_seed_makes_the_same_decisions() -> None:
    def decisions(seed: int) -> list[Decision]:
        return [decide(source(seed, actor, turn), BY_NAME, ROUTES) for actor in range(20) for turn in range(20)]

    assert decisions(1) == decisions(1)
    assert decisions(1) != decisions(2)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("kept", 1), ("one", 1), ("other", 1)], []),
        ([("one", 1), ("other", 1)], ["lost"]),
        ([("kept", 2)], ["doubled"]),
        ([("kept", 1), ("undone", 1)], ["undead"]),
        ([("kept", 1), ("maybe", 1)], []),
        ([("kept", 1), ("maybe", 2)], ["doubled"]),
        ([("kept", 1), ("one", 1)], ["torn"]),
        ([("kept", 1), ("nobody's", 1)], ["undead"]),
    ],
)
def test_the_ledger_knows_what_must_be_in_the_table(rows: list[tuple[str, int]], found: list[str]) -> None:
    figures = Figures()
    ledger = Ledger(figures)
    for token in ("kept", "undone", "maybe"):
        ledger.write([token])
    ledger.write(["one", "other"])
    ledger.acknowledge(["kept"])
    ledger.refuse(["undone"])
    ledger.balance(rows)
    assert [finding.partition(":")[0] for finding in figures.findings] == found
    ledger.balance([])
    assert len(figures.findings) == len(found), "a balance begins anew"
