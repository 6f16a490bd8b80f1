"""The session's interface: session.pyx lists it, and the driver and the transport use nothing else."""

from __future__ import annotations

import re
from pathlib import Path

HEADRACE = Path(__file__).parents[3] / "src" / "headrace"
PIPELINE = HEADRACE / "_core" / "pipeline"
LOOKED_INTO = {"cancellation", "commands", "sent", "statements", "work"}
"""Members that are objects with interfaces of their own."""


def written_down() -> set[str]:
    """The members in the list that the module's docstring gives."""
    text = (PIPELINE / "session.pyx").read_text().split('"""')[1].partition("Interface.")[2]
    columns = [line[4:45] for line in text.splitlines() if line.startswith("    ")]
    return {name for column in columns for name in re.findall(r"\b(?<!\()([a-z]\w*)(?!\w*\))", column)}


def used() -> set[tuple[str, str]]:
    """Each member of a session that _io uses, and the member of that member, or "" for none."""
    pattern = re.compile(r"\bsession\.(\w+)(?:\.(\w+))?")
    sources = [path.read_text() for path in (HEADRACE / "_io").glob("*.pyx")]
    lines = [line for text in sources for line in text.splitlines() if "import " not in line]
    return {match.groups("") for line in lines for match in pattern.finditer(line)}  # type: ignore[misc]


def test_the_driver_and_the_transport_use_what_is_written_down_and_nothing_else() -> None:
    assert {member for member, _ in used()} == written_down()


def test_they_do_not_reach_through_the_session() -> None:
    assert {member for member, inner in used() if inner} <= LOOKED_INTO


def test_every_member_written_down_exists() -> None:
    text = (PIPELINE / "session.pyx").read_text().split('"""', 2)[2] + (PIPELINE / "session.pxd").read_text()
    assert {name for name in written_down() if not re.search(rf"\b{name}\b *(?:\(|#|$)", text, re.MULTILINE)} == set()
