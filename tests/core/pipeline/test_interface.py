"""The session's interface: session.pyx lists it, and neither the package nor the tests use anything else."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

TESTS = Path(__file__).parents[2]
HEADRACE = TESTS.parent / "src" / "headrace"
PIPELINE = HEADRACE / "_core" / "pipeline"
TEXT = (PIPELINE / "session.pyx").read_text().split('"""')[1].partition("Interface.")[2]
MOST = 15
"""About a dozen."""
PIECES = {"cancellation", "commands", "sent", "statements", "work"}
"""Members that are objects with interfaces of their own."""


def written_down() -> set[str]:
    """The members in the list that the module's docstring gives."""
    columns = [line[4:38] for line in TEXT.splitlines() if line.startswith("    ")]
    return {name for column in columns for name in re.findall(r"\b(?<!\()([a-z]\w*)(?!\w*\))", column)}


def facts() -> set[str]:
    """The members that a connection and its pool use besides."""
    return set(re.findall(r"`(\w+)`", TEXT.partition("three facts besides")[2].partition("`events`")[0]))


def used(paths: Iterable[Path], session: str) -> set[tuple[str, str]]:
    """Each member of a `session` that is used, and the member of that member, or "" for none."""
    pattern = re.compile(session + r"\.(\w+)(?:\.(\w+))?")
    lines = [line for path in paths for line in path.read_text().splitlines() if "import " not in line]
    return {(match[1], match[2] or "") for line in lines for match in pattern.finditer(line)}


def by_io() -> set[tuple[str, str]]:
    return used((HEADRACE / "_io").glob("*.pyx"), r"\bsession")


def test_the_driver_and_the_transport_use_what_is_written_down_and_nothing_else() -> None:
    assert {member for member, _ in by_io()} == written_down()


def test_it_has_about_a_dozen_members() -> None:
    assert len(written_down()) <= MOST


def test_they_do_not_reach_through_the_session() -> None:
    assert {member for member, inner in by_io() if inner} <= PIECES


def test_a_connection_and_its_pool_use_three_facts_besides() -> None:
    paths = [
        path
        for path in HEADRACE.rglob("*.py*")
        if path.suffix in {".py", ".pyx"} and not {"_core", "_io", "cluster"} & set(path.parts)
    ]
    members = {member for member, _ in used(paths, r"\b_?driver\.session")}
    assert len(facts()) == 3
    assert facts() <= members <= written_down() | facts()


def test_the_tests_drive_the_same() -> None:
    """A session is called `session` in the tests of the pipeline, of the driver and of the fuzzer."""
    paths = [path for part in ("core/pipeline", "io", "fuzz") for path in (TESTS / part).rglob("*.py")]
    members = used([path for path in paths if path != Path(__file__)], r"\bsession")
    members |= used(TESTS.rglob("*.py"), r"\b_?driver\.session")
    assert {member for member, _ in members} <= written_down() | facts()


def test_every_member_written_down_exists() -> None:
    text = (PIPELINE / "session.pyx").read_text().split('"""', 2)[2] + (PIPELINE / "session.pxd").read_text()
    members = written_down() | facts()
    assert {name for name in members if not re.search(rf"\b{name}\b *(?:\(|#|$)", text, re.MULTILINE)} == set()
