"""Write the tables of connection options into docs/connecting.md, from the driver's own table of them.

    python tools/generate_connecting_docs.py            write the file
    python tools/generate_connecting_docs.py --check    exit with 1 if the file is out of date

Only the text between two marks in docs/connecting.md is generated, from headrace._connect.params.options.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "connecting.md"

sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from headrace._connect.params.options import OPTIONS, STARTUP_VARIABLES, Option  # noqa: E402
from tools.generated import conclude, parser, with_parts  # noqa: E402

SECTIONS = {
    "host": "Hosts and addresses",
    "user": "User and database",
    "options": "Settings of the session",
    "sslmode": "TLS",
    "require_auth": "Authentication",
    "min_protocol_version": "Protocol",
}
"""The first option of each section of the table. The order is that of OPTIONS."""

NOT_SHOWN_AS_CHOICES = {"replication", "sslcompression", "gsslib"}
"""Options that only accept values that ask for nothing."""


def sections() -> Iterator[tuple[str, list[Option]]]:
    """Yield the title and the options of each section; exit if SECTIONS no longer fits OPTIONS."""
    options = list(OPTIONS.values())
    starts = [index for index, option in enumerate(options) if option.name in SECTIONS]
    if [options[index].name for index in starts] != list(SECTIONS) or starts[0] != 0:
        sys.exit("SECTIONS in tools/generate_connecting_docs.py no longer fits the order of OPTIONS")
    for start, end in zip(starts, [*starts[1:], len(options)], strict=True):
        yield SECTIONS[options[start].name], options[start:end]


def cell(text: str) -> str:
    """Return a text in the form of a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def row(option: Option) -> str:
    """Return the table row of an option."""
    name = f"`{option.name}`"
    if option.keyword is not None:
        name += f"<br>keyword `{option.keyword}`"
    meaning = option.meaning
    if option.choices and option.name not in NOT_SHOWN_AS_CHOICES:
        shown = ", ".join(f"`{choice}`" for choice in option.choices if choice)
        meaning += f" One of {shown}."
    if option.note:
        meaning += f" {option.note}"
    variable = f"`{option.variable}`" if option.variable else ""
    default = f"`{option.default}`" if option.default else ""
    return f"| {name} | {variable} | {default} | {cell(meaning)} |"


def option_tables() -> str:
    """Return a table of options for each section."""
    lines: list[str] = []
    for title, options in sections():
        lines += [f"### {title}", "", "| option | variable | default | meaning |", "| --- | --- | --- | --- |"]
        lines += [*map(row, options), ""]
    return "\n".join(lines)


def variable_table() -> str:
    """Return the table of the variables that become session settings."""
    lines = ["| variable | setting |", "| --- | --- |"]
    lines += [f"| `{variable}` | `{setting}` |" for variable, setting in STARTUP_VARIABLES.items()]
    return "\n".join([*lines, ""])


def difference_list() -> str:
    """Return the list of options that differ from libpq."""
    titles = {
        "narrower": "Narrower than in libpq",
        "refused": "Refused unless they ask for nothing",
        "own": "headrace's own",
    }
    lines: list[str] = []
    for status, title in titles.items():
        names = [f"`{option.name}`" for option in OPTIONS.values() if option.status == status]
        lines += [f"- {title}: {', '.join(names)}."]
    return "\n".join([*lines, ""])


PARTS: dict[str, Callable[[], str]] = {
    "options": option_tables,
    "variables": variable_table,
    "differences": difference_list,
}
"""The generated part at each pair of marks."""


def render(present: str) -> str:
    """Return the page with new generated parts; exit if a mark is missing."""
    return with_parts(TARGET, present, PARTS)


def main() -> int:
    check: bool = parser("Write the tables of docs/connecting.md.").parse_args().check
    return conclude(TARGET, render(TARGET.read_text(encoding="utf-8")), check=check, tool=__file__)


if __name__ == "__main__":
    sys.exit(main())
