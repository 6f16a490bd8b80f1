"""Common parts of the tools that generate files: marks within a page, and `--check`."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHOWN_LINES = 40


def parser(description: str) -> argparse.ArgumentParser:
    """Return the parser of a tool's command line, with `--check`."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--check", action="store_true", help="write nothing; exit with 1 if the file is out of date")
    return made


def with_parts(target: Path, present: str, parts: Mapping[str, Callable[[], str]]) -> str:
    """Return a page with new text between its pairs of marks; exit if a mark is missing."""
    for name, part in parts.items():
        begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->\n"
        if present.count(begin) != 1 or present.count(end) != 1:
            sys.exit(f"{target.relative_to(ROOT)}: expected one {begin.strip()} and one {end.strip()}")
        before, _, rest = present.partition(begin)
        _, _, after = rest.partition(end)
        present = f"{before}{begin}\n{part()}\n{end}{after}"
    return present


def conclude(target: Path, wanted: str, *, check: bool, tool: str) -> int:
    """Write the file, or with `check` show how it differs; return the exit status."""
    present = target.read_text(encoding="utf-8") if target.exists() else ""
    shown = target.relative_to(ROOT)
    if not check:
        target.write_text(wanted, encoding="utf-8")
        print(f"wrote {shown}")
        return 0
    if present == wanted:
        return 0
    diff = difflib.unified_diff(present.splitlines(), wanted.splitlines(), str(shown), "generated", lineterm="")
    print(*list(diff)[:SHOWN_LINES], sep="\n")
    print(f"{shown} is out of date: run python {Path(tool).resolve().relative_to(ROOT)}", file=sys.stderr)
    return 1
