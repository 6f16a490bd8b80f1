"""Write the tables of types into docs/types.md, from the registry of codecs and the descriptions here.

    python tools/generate_types_docs.py            write the file
    python tools/generate_types_docs.py --check    exit with 1 if the file is out of date

The registry provides the built-in types, the Python types of their values, and whether they are sent as text. The
descriptions here add what else an encoder accepts, and notes. A type that is in only one of them is an error. headrace
must be compiled.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "types.md"

sys.path[:0] = [str(ROOT), str(ROOT / "src")]

import headrace._core.codecs.builtin  # noqa: E402, F401  registers the codecs
from headrace._core.codecs.base import Codec, builtin_codecs  # noqa: E402
from headrace._core.codecs.container_oids import RANGES  # noqa: E402
from headrace._core.codecs.type_names import ALIASES  # noqa: E402
from tools.generated import conclude, parser, with_parts  # noqa: E402


class Family(NamedTuple):
    """Types that are alike in every column of the table."""

    types: str
    """Their names in pg_type, separated by spaces."""

    accepted: str
    """Other types that are accepted as a parameter, besides the type of decoded values."""

    notes: str = ""


SECTIONS: dict[str, tuple[Family, ...]] = {
    "Numbers": (
        Family("bool", "numpy's `bool`", "`int` is refused, including 0 and 1"),
        Family(
            "int2 int4 int8",
            "objects with `__index__`, such as numpy's integers; whole numbers of other types: `2.0`, `Decimal(2)`",
            "out of range, or with a fraction: refused",
        ),
        Family(
            "float8", "objects with `__float__`: `int`, `Decimal`, numpy's floats", "NaN, infinities and -0.0 are kept"
        ),
        Family("float4", "as for `float8`", "rounded to single precision; refused if the result would be infinite"),
        Family(
            "numeric",
            "`int`, `float` by its exact value, a number in a `str`",
            "every digit is kept, zeros at the end too: [numeric](#numeric)",
        ),
        Family("money", "", "as the server prints it: [money](#money)"),
    ),
    "Text and bytes": (
        Family("text varchar", "", "no NUL, no lone surrogates: PostgreSQL's text has none"),
        Family("bpchar", "", "the type behind `char(n)`; padded with spaces"),
        Family("name", "", "at most 63 bytes in UTF-8"),
        Family("refcursor", "", "the name of a portal"),
        Family("cstring unknown", "", "pseudo-types, met in results of functions of the system"),
        Family("bytea", "`bytearray`, `memoryview`, any buffer", "`str` is refused: encode it"),
        Family(
            "char", 'a `str` of one ASCII character, `""` for the byte 0', 'one byte; the type that SQL writes `"char"`'
        ),
        Family("bit varbit", "`bytes`, of which all bits count", "`str` is refused: write `BitString(text)`"),
    ),
    "Documents": (
        Family("json jsonb", "", "the text, or an object with `json=True`: [json](#json)"),
        Family("jsonpath", ""),
        Family("xml", "", "the text is Unicode, whatever encoding the document declares"),
        Family("tsvector tsquery", "", "as the server prints them"),
    ),
    "Dates and times": (
        Family("date", "`datetime.datetime`, of which the date is taken", "[infinities](#infinities), [years](#years)"),
        Family("time", "", "naive; `24:00:00` does not fit: [years](#years)"),
        Family("timetz", "", "with a tzinfo whose offset does not depend on the date, of less than 16 hours"),
        Family("timestamp", "`datetime.date`, at midnight", "naive: [time zones](#time-zones)"),
        Family(
            "timestamptz",
            "`datetime.date`, at midnight, local time",
            "comes in UTC; naive is local time: [time zones](#time-zones)",
        ),
        Family("interval", "", "has no months: [intervals](#intervals)"),
    ),
    "Networks and identifiers": (
        Family("uuid", "its text in a `str`"),
        Family(
            "inet",
            "the networks of `ipaddress`; text of any of them",
            "an interface if the prefix is shorter than the address; scope ids are refused",
        ),
        Family("cidr", "`IPv4Address`, `IPv6Address`; text", "bits to the right of the network are refused"),
        Family("macaddr", "in any of the server's notations", "comes as `08:00:2b:01:02:03`"),
        Family("macaddr8", "a `macaddr`, which becomes one of 8 bytes", "comes as `08:00:2b:ff:fe:01:02:03`"),
    ),
    "Geometry": (
        Family("point", "two numbers", "all of these are made of `float`; NaN and infinities are kept"),
        Family("line", "three numbers A, B, C"),
        Family("lseg", "two points"),
        Family("box", "two points", "comes with the upper right corner first, whichever two were sent"),
        Family("path", "a tuple of points, which is closed; a list, which is open", "at least one point"),
        Family("polygon", "a list or tuple of points", "at least one point"),
        Family("circle", "a point and a number"),
    ),
    "System types": (
        Family("oid xid cid", "as for `int4`", "0 to 4294967295"),
        Family("xid8 oid8 pg_lsn", "as for `int8`", "0 to 2<sup>64</sup> - 1"),
        Family("tid", "a list", "block and offset"),
        Family("pg_snapshot txid_snapshot", "a list", "xmin, xmax, and the transactions in progress between them"),
        Family("int2vector oidvector", "a tuple", "at least one number, no NULL"),
        Family(
            "regproc regprocedure regoper regoperator regclass regtype regrole regnamespace regconfig regdictionary"
            " regcollation regdatabase",
            "an OID in digits",
            "the name, which depends on the search path; cast to `oid` for the number",
        ),
        Family("aclitem", "", "`reader=r/owner`"),
        Family(
            "gtsvector pg_node_tree pg_ndistinct pg_dependencies pg_mcv_list pg_brin_bloom_summary"
            " pg_brin_minmax_multi_summary",
            "",
            "the server prints these and takes none",
        ),
        Family("void", "", "the result of a function that returns nothing"),
    ),
}

WITH_VALUES = {"void", "record"}
"""Pseudo-types that have values of their own."""


def registered() -> dict[str, Codec]:
    """Return the codecs of the types that have values and are not composed of other types, by name."""
    return {
        codec.name: codec
        for codec in builtin_codecs().values()
        if codec.kind == "scalar" or codec.name in ("void", "int2vector", "oidvector")
    }


def pseudo_types() -> list[str]:
    """Return the names of the pseudo-types that stand for values of other types."""
    return sorted(c.name for c in builtin_codecs().values() if c.kind == "pseudo" and c.name not in WITH_VALUES)


def check_complete() -> None:
    """Exit if the registry and the descriptions do not have the same types."""
    described = [name for families in SECTIONS.values() for family in families for name in family.types.split()]
    known = registered()
    wrong = [f"{name}: no description in SECTIONS" for name in sorted(set(known) - set(described))]
    wrong += [f"{name}: no codec is registered" for name in sorted(set(described) - set(known))]
    wrong += [f"{name}: described twice" for name in sorted(set(described)) if described.count(name) > 1]
    if wrong:
        sys.exit("\n".join(["docs/types.md cannot be written, see tools/generate_types_docs.py", *wrong]))


def cell(text: str) -> str:
    """Return a text in the form of a table cell."""
    return " ".join(text.split()).replace("|", "\\|")


def sql_names() -> dict[str, list[str]]:
    """Return the names of types in SQL that differ from the name in pg_type."""
    names: dict[str, list[str]] = {}
    for alias, name in ALIASES.items():
        names.setdefault(name, []).append(alias)
    return names


def shown_type(name: str, aliases: dict[str, list[str]]) -> str:
    """Return a type's names, such as "`int4` (`integer`)"."""
    others = [other for other in aliases.get(name, []) if other not in ("float", "int", "decimal")]
    return f"`{name}`" + (f" ({', '.join(f'`{other}`' for other in others)})" if others else "")


def python_type(family: Family) -> str:
    """Return the Python classes of the values; exit if the types of a family differ."""
    codecs = registered()
    found = {codecs[name].python for name in family.types.split()}
    if len(found) > 1:
        sys.exit(f"{family.types}: these come as {' and '.join(sorted(found))}, so they cannot share a line")
    python = found.pop().replace("headrace.", "")
    classes = [python] if "[" in python else re.split(", | or ", python)
    return ", ".join(f"`{each}`" for each in classes)


def row(family: Family, aliases: dict[str, list[str]]) -> str:
    """Return the table row of a family."""
    codecs = registered()
    names = "<br>".join(shown_type(name, aliases) for name in family.types.split())
    travels = {codecs[name].format for name in family.types.split()}
    if len(travels) > 1:
        sys.exit(f"{family.types}: some of these travel as text and some do not, so they cannot share a line")
    notes = "; ".join(filter(None, (family.notes, "travels as text" if travels == {0} else "")))
    return f"| {names} | {python_type(family)} | {cell(family.accepted)} | {cell(notes)} |"


def scalar_tables() -> str:
    """Return a table for each section."""
    check_complete()
    aliases = sql_names()
    lines: list[str] = []
    for title, families in SECTIONS.items():
        lines += [
            f"### {title}",
            "",
            "| PostgreSQL | Python | also taken as a parameter | notes |",
            "| --- | --- | --- | --- |",
        ]
        lines += [row(family, aliases) for family in families]
        lines.append("")
    return "\n".join(lines)


def range_table() -> str:
    """Return the table of the built-in ranges."""
    codecs = builtin_codecs()
    lines = ["| range | of | Python | multirange |", "| --- | --- | --- | --- |"]
    for oid, name, subtype, _, multirange in RANGES:
        python = codecs[oid].python.replace("headrace.", "")
        lines.append(f"| `{name}` | `{codecs[subtype].name}` | `{python}` | `{multirange}` |")
    return "\n".join([*lines, ""])


def listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def pseudo_list() -> str:
    """Return the paragraph about pseudo-types."""
    return f"{listed(pseudo_types())}.\n"


PARTS: dict[str, Callable[[], str]] = {
    "types": scalar_tables,
    "ranges": range_table,
    "pseudo-types": pseudo_list,
}
"""The generated part at each pair of marks."""


def render(present: str) -> str:
    """Return the page with new generated parts; exit if a mark is missing."""
    return with_parts(TARGET, present, PARTS)


def main() -> int:
    check: bool = parser("Write the tables of docs/types.md.").parse_args().check
    return conclude(TARGET, render(TARGET.read_text(encoding="utf-8")), check=check, tool=__file__)


if __name__ == "__main__":
    sys.exit(main())
