"""The table of Arrow types is what the driver does."""

from __future__ import annotations

from headrace._core.codecs.base import builtin_codecs
from tools import generate_arrow_docs as tool


def test_every_type_of_the_registry_is_on_the_page() -> None:
    page = tool.render(tool.TARGET.read_text(encoding="utf-8"))
    for codec in builtin_codecs().values():
        if codec.kind == "scalar":
            assert f"`{codec.name}`" in page


def test_the_page_is_what_the_tool_writes() -> None:
    present = tool.TARGET.read_text(encoding="utf-8")
    assert tool.render(present) == present
