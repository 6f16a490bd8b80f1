"""Check the language of docstrings, comments and pages: no sentence begins as a riddle, no retired word is used.

A sentence that begins with "What", "Whether", "Where" or "Who" hides its subject, unless it is a question. The words in
RETIRED were once used here for things that have a standard name. The check prints one line for each finding and exits
with status 1 if there are any.
"""

from __future__ import annotations

import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
PROSE: Final = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "SECURITY.md",
    "docs/*.md",
    "storefront/README.md",
    "tests/README.md",
)
CODE: Final = ("src/**/*.py", "src/**/*.pyx", "src/**/*.pxd", "storefront/src/**/*.py", "tools/*.py", "bench/**/*.py")

RIDDLE: Final = re.compile(
    r"(?:^|(?<=[.:!?] ))((?:What|Whatever|Whether|Where|Who)\b(?:[^.?!`]|`[^`]*`|\.(?=\w))*[.?!]?)"
)
RETIRED: Final = re.compile(
    r"\b(?:revival|outbox|arrivals|pristine|sign of life|signs of life|stand in line|stands in line|standing in line|"
    r"sees? off|outworn|condemn(?:s|ed)?|whoever|whatsoever|unsaid)\b",
    re.IGNORECASE,
)
"""Words that have a standard name: see the glossary of docs/design.md."""


def texts_of_code(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the docstrings and comments of Python or Cython source, each with its line."""
    # Cython's tokens are Python's. The lines of one comment make one text.
    block: list[str] = []
    begun = 0
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT and token.line.lstrip().startswith("#"):
                if not block:
                    begun = token.start[0]
                block.append(token.string.lstrip("#: ").rstrip())
                continue
            if token.type in (tokenize.NL, tokenize.INDENT, tokenize.DEDENT):
                continue
            if block:
                yield begun, " ".join(block)
                block = []
            if token.type == tokenize.STRING and token.string.startswith(('"""', "'''")):
                yield token.start[0], token.string.strip("\"'")


def texts_of_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the paragraphs of a page in Markdown, without its code blocks."""
    line = 1
    text = re.sub(r"```.*?```", lambda found: "\n" * found[0].count("\n"), path.read_text(), flags=re.DOTALL)
    for paragraph in text.split("\n\n"):
        yield line, re.sub(r"(?m)^[-*>#| \d.]+", "", paragraph)
        line += paragraph.count("\n") + 2


def complaints(text: str) -> Iterator[str]:
    """Yield the complaints about one text."""
    for paragraph in re.split(r"\n\s*\n", text):
        flat = " ".join(paragraph.split())
        for found in RIDDLE.finditer(flat):
            if not found[1].endswith("?"):
                yield f"the sentence hides its subject: {found[1][:60]!r}"
        for found in RETIRED.finditer(flat):
            yield f"{found[0]!r} has a standard name"


def check(root: Path) -> Iterator[str]:
    """Yield a line for each complaint about the tree."""
    for patterns, texts in ((CODE, texts_of_code), (PROSE, texts_of_prose)):
        for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
            for line, text in texts(path):
                for complaint in complaints(text):
                    yield f"{path.relative_to(root)}:{line}: {complaint}"


def main() -> int:
    """Check the tree; return the exit status."""
    found = list(check(ROOT))
    print("\n".join(found) or "language: no sentence hides its subject, no retired word")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
