"""Read a page of the service for tests, and check that it is written as every page must be."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
SVG_LEAVES = frozenset("circle line path polyline rect".split())
"""Elements that have no end, and those of SVG that are closed in themselves."""

INLINE = frozenset("a b code em i path circle small span strong svg time".split())
"""Elements around whose text nothing is inserted."""

Attributes = dict[str, str]


class Page(HTMLParser):
    """The elements of a page and its text. Raises AssertionError if elements are not nested properly."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.elements: list[tuple[str, Attributes]] = []
        self.pieces: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        self.close()
        assert self._open == [], f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(set(names)) == len(names), f"an attribute of <{tag}> is there twice: {names}"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._separate(tag)
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_LEAVES, f"<{tag}/> is not closed in HTML"
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> without a beginning"
        assert self._open.pop() == tag, f"</{tag}> is out of place"
        self._separate(tag)

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    def _separate(self, tag: str) -> None:
        if tag not in INLINE:
            self.pieces.append(" ")

    @property
    def text(self) -> str:
        """The text of the page, with single spaces."""
        return re.sub(r"\s+", " ", "".join(self.pieces)).strip()

    def all(self, tag: str, **attributes: str) -> list[Attributes]:
        """Return the attributes of all elements of a tag that have these attributes. `class_` stands for `class`."""
        wanted = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
        return [found for each, found in self.elements if each == tag and wanted.items() <= found.items()]

    def links(self) -> list[str]:
        """Return the addresses that the page links to."""
        return [found["href"] for found in self.all("a")]

    def field(self, name: str) -> str:
        """Return the value of the first input of a name."""
        return self.all("input", name=name)[0]["value"]


def check_page(source: str) -> Page:
    """Return a page after checking what every page must have, and must not have."""
    assert source.startswith("<!doctype html>\n")
    page = Page(source)
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("title")) == 1
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1
    assert page.all("meta", name="viewport")

    # The first thing that the Tab key reaches leads past the navigation.
    first = next(found for tag, found in page.elements if tag in ("a", "button", "input"))
    assert first["href"] == "#main"
    assert page.all("main")[0]["id"] == "main"

    ids = [found["id"] for _, found in page.elements if "id" in found]
    assert len(set(ids)) == len(ids), f"an id is there twice: {ids}"
    named = {found["for"] for found in page.all("label")}
    assert named <= set(ids)
    for tag in ("input", "textarea", "select", "progress"):
        for found in page.all(tag):
            assert found.get("type") == "hidden" or found.get("id") in named, f"<{tag}> without a label: {found}"
    for _, found in page.elements:
        for name in ("aria-describedby", "aria-labelledby"):
            assert set(found.get(name, "").split()) <= set(ids)
    for found in page.all("th"):
        assert found.get("scope") in ("col", "row", "rowgroup"), f"a heading of a table without scope: {found}"
    for found in page.all("button"):
        assert found["type"] == "submit"
    for found in page.all("svg"):
        assert found.get("aria-hidden") == "true" or found.get("aria-label")
    for found in page.all("form", method="post"):
        assert found["action"].startswith("/")
    assert len(page.all("form", method="post")) == len(page.all("input", name="token"))

    # The content security policy would refuse these.
    assert page.all("style") == []
    for tag, found in page.elements:
        assert not [name for name in found if name.startswith("on") or name == "style"], (tag, found)
    for found in page.all("script"):
        assert found["src"].startswith("/static/")
    for tag, found in page.elements:
        for name in ("src", "href", "action"):
            assert not re.match(r"(?i)\s*([a-z][a-z0-9+.-]*:|//)", found.get(name, "")), (tag, found)
    return page
