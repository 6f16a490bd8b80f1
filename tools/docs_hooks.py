"""Hooks of MkDocs: CHANGELOG.md becomes a page, and a page that would fetch anything from elsewhere is an error."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent

FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc="?https?:|<link\b[^>]*\brel="?(?:stylesheet|icon)[^>]*"?https?:"""
)
"""Elements that a browser fetches from another site."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page. Its links to docs/ are links to pages beside it."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "changelog.md", content=re.sub(r"\]\(docs/", "](", text)))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Check a finished page. Raises PluginError if reading it would need another site."""
    found = FETCHED.search(output)
    if found is not None:
        raise PluginError(f"{page.file.src_uri} would be fetched from elsewhere: {output[found.start() :][:120]}")
    return output
