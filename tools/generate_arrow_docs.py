"""Write the table of types into docs/arrow.md, from the types that the driver knows.

    python tools/generate_arrow_docs.py            write the file
    python tools/generate_arrow_docs.py --check    exit with 1 if the file is out of date

headrace must be compiled.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "arrow.md"

sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import headrace._core.codecs.builtin  # noqa: E402, F401  registers the codecs
from headrace._core.arrow.schema import Field, field_of  # noqa: E402
from headrace._core.codecs.base import builtin_codecs  # noqa: E402
from headrace._core.codecs.introspection import TypeInfo  # noqa: E402
from tools.generated import conclude, parser, with_parts  # noqa: E402

NOTES = {
    "char": "one byte; nothing for 0, and an escape such as `\\377` above ASCII",
    "date": "infinity is out of range",
    "time": "`24:00:00` is out of range",
    "timestamp": "infinity, and times after 294247-01-10, are out of range",
    "timestamptz": "as `timestamp`",
    "interval": "months, days and nanoseconds; a time part beyond 292 years, and infinity, are out of range",
    "json": "the text, in the extension type `arrow.json`",
    "jsonb": "the text, in the extension type `arrow.json`",
    "uuid": "in the extension type `arrow.uuid`",
}
"""Notes on single types."""

MADE = (
    ("numeric(p, s)", "decimal128(p, s)", "of up to 38 digits; NaN and infinity are out of range"),
    ("numeric(p, s)", "decimal256(p, s)", "of up to 76 digits; NaN and infinity are out of range"),
    ("numeric", "utf8", "or a decimal by `decimal=(p, s)`; also `numeric(p, s)` of more digits or of a negative scale"),
)

MOOD, PAIR = 1_000_001, 1_000_002


def known() -> dict[str, Field]:
    """Return the fields of the types with fixed OIDs that are not made of others, by name."""
    return {
        codec.name: field_of("c", oid, -1, lambda _: None, None)
        for oid, codec in builtin_codecs().items()
        if codec.kind == "scalar" and codec.name != "numeric"
    }


def info(oid: int, name: str, kind: str, **fields: object) -> TypeInfo:
    """Return the description of a type of a database."""
    empty = TypeInfo(oid, name, "public", kind, 0, ",", 0, 0, 0, (), (), True, "")
    return empty._replace(**fields)  # type: ignore[arg-type]


def scalar_table() -> str:
    """Return the table of the types that are not made of others."""
    lines = ["| PostgreSQL | Arrow | notes |", "| --- | --- | --- |"]
    families: dict[tuple[str, str], list[str]] = {}
    for name, field in known().items():
        if field.wire:
            families.setdefault((field.arrow_name, NOTES.get(name, "")), []).append(name)
    for (arrow, notes), names in families.items():
        lines.append(f"| {', '.join(f'`{name}`' for name in names)} | `{arrow}` | {notes} |")
    lines += [f"| `{name}` | `{arrow}` | {notes} |" for name, arrow, notes in MADE]
    return "\n".join([*lines, ""])


def made_table() -> str:
    """Return the table of types that are made of others."""
    types = {
        MOOD: info(MOOD, "mood", "e"),
        PAIR: info(PAIR, "pair", "c", attribute_names=("a", "b"), attribute_types=(23, 25)),
    }

    def arrow(oid: int) -> str:
        return field_of("c", oid, -1, types.get, None).arrow_name

    rows = (
        ("an array, such as `int4[]`", arrow(1007), "of one dimension; lower bounds have no place in a list"),
        ("an enumerated type", arrow(MOOD), "the labels in the order of the type"),
        ("a composite type, such as `(a int4, b text)`", arrow(PAIR), ""),
        ("a range, such as `int4range`", arrow(3904), "a bound is NULL if there is none"),
        ("a multirange, such as `int4multirange`", "list of the range's struct", ""),
        ("a domain", "the type of what it is based on", ""),
    )
    lines = ["| PostgreSQL | Arrow | notes |", "| --- | --- | --- |"]
    for name, shown, notes in rows:
        lines.append(f"| {name} | {f'`{shown}`' if '<' in shown else shown} | {notes} |")
    return "\n".join([*lines, ""])


def text_list() -> str:
    """Return the paragraph about types without a form of their own."""
    return ", ".join(f"`{name}`" for name, field in known().items() if not field.wire) + ".\n"


PARTS: dict[str, Callable[[], str]] = {"types": scalar_table, "made of others": made_table, "text": text_list}
"""The generated part at each pair of marks."""


def render(present: str) -> str:
    """Return the page with new generated parts; exit if a mark is missing."""
    return with_parts(TARGET, present, PARTS)


def main() -> int:
    check: bool = parser("Write the table of docs/arrow.md.").parse_args().check
    return conclude(TARGET, render(TARGET.read_text(encoding="utf-8")), check=check, tool=__file__)


if __name__ == "__main__":
    sys.exit(main())
