"""The table in docs/pool.md of how statements run in shared methods: each example runs as the table says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace._sql.classify import Traits, classify

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "pool.md"

OUTCOMES: dict[str, Callable[[Traits], bool]] = {
    "shared, also behind others": lambda traits: traits.plain_read and not traits.session_state,
    "shared": lambda traits: not (traits.plain_read or traits.session_state or traits.copy) and traits.statements == 1,
    "leased": lambda traits: traits.session_state and not (traits.not_resettable or traits.runs_code),
    "compared": lambda traits: traits.session_state and traits.runs_code and not traits.not_resettable,
    "replaced": lambda traits: traits.session_state and traits.not_resettable and not traits.needs_own_session,
    "together": lambda traits: traits.statements > 1 and not traits.session_state,
    "refused": lambda traits: traits.needs_own_session or traits.copy is not None,
}


def examples() -> list[tuple[str, str]]:
    """Return the examples of the table, each with its outcome."""
    text = DOCUMENT.read_text()
    section = text[text.index("### Statements that are not shared") : text.index("### After a lease")]
    found = []
    for statements, outcome in re.findall(r"^\| (`.*?) \| \*\*(.*?)\*\*", section, re.MULTILINE):
        found += [(statement, outcome) for statement in re.findall(r"`([^`]+)`", statements)]
    return found


@pytest.mark.parametrize(("statement", "outcome"), examples())
def test_an_example_runs_as_the_table_says(statement: str, outcome: str) -> None:
    traits = classify(statement)
    assert OUTCOMES[outcome](traits), traits


def test_the_table_has_an_example_of_each_outcome() -> None:
    assert {outcome for _, outcome in examples()} == set(OUTCOMES)
