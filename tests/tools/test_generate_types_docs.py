"""The table of types is complete, or the tool refuses to write it."""

from __future__ import annotations

import pytest

from tools import generate_types_docs as tool


def test_every_type_of_the_registry_is_in_the_table() -> None:
    table = tool.scalar_tables()
    for name in tool.registered():
        assert f"`{name}`" in table


def test_a_type_without_a_description_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sections = {title: families for title, families in tool.SECTIONS.items() if title != "Geometry"}
    monkeypatch.setattr(tool, "SECTIONS", sections)
    with pytest.raises(SystemExit, match="polygon: no description"):
        tool.scalar_tables()


def test_a_description_without_a_type_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tool, "SECTIONS", {**tool.SECTIONS, "New": (tool.Family("qubit", ""), tool.Family("bool", ""))})
    with pytest.raises(SystemExit) as error:
        tool.scalar_tables()
    assert "qubit: no codec is registered" in str(error.value)
    assert "bool: described twice" in str(error.value)


def test_types_that_differ_cannot_share_a_line() -> None:
    with pytest.raises(SystemExit, match="int4 text: these come as int and str"):
        tool.row(tool.Family("int4 text", ""), {})
    with pytest.raises(SystemExit, match="money text: some of these travel as text"):
        tool.row(tool.Family("money text", ""), {})


def test_the_page_is_what_the_tool_writes() -> None:
    present = tool.TARGET.read_text(encoding="utf-8")
    assert tool.render(present) == present
