"""What a person would write in SQL for a Python value: the text forms of PostgreSQL's types, made by hand.

This is the other opinion in the tests of round trips. None of it is the driver's, and none of it is what the server
prints; the server reads it with the types' own input functions. Sources: "Data Types" in the PostgreSQL documentation,
arrays-io, rowtypes-io, rangetypes-io.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from headrace import BitString, Box, Circle, Line, LineSegment, Path, Point, Range

Literal = Callable[[Any], str]


def boolean(value: bool) -> str:
    return "yes" if value else "no"


def number(value: Decimal) -> str:
    """numeric: it has one NaN, without a sign or a payload."""
    return "NaN" if value.is_nan() else str(value)


def hexadecimal(value: bytes) -> str:
    return "\\x" + value.hex()


def byte(value: bytes) -> str:
    """ "char": a letter, or a backslash and three octal digits; nothing at all is the byte 0."""
    return "" if value == b"\0" else f"\\{value[0]:03o}" if value[0] >= 0x80 else value.decode()


def date(value: dt.date) -> str:
    if value == dt.date.max:
        return "infinity"
    return "-infinity" if value == dt.date.min else value.isoformat()


def timestamp(value: dt.datetime) -> str:
    """timestamp and timestamptz: with the offset that a value has."""
    if value.replace(tzinfo=None) == dt.datetime.max:
        return "infinity"
    return "-infinity" if value.replace(tzinfo=None) == dt.datetime.min else value.isoformat()


def interval(value: dt.timedelta) -> str:
    return f"{value.days} days {value.seconds} seconds {value.microseconds} microseconds"


def bits(value: BitString) -> str:
    return "".join(map(str, value))


def point(value: Point) -> str:
    return f"({value.x!r}, {value.y!r})"


def line(value: Line) -> str:
    return f"{{{value.A!r}, {value.B!r}, {value.C!r}}}"


def segment(value: LineSegment) -> str:
    return f"[{point(value.p1)}, {point(value.p2)}]"


def box(value: Box) -> str:
    return f"{point(value.high)}, {point(value.low)}"


def path(value: Path) -> str:
    points = ", ".join(map(point, value))
    return f"({points})" if value.is_closed else f"[{points}]"


def circle(value: Circle) -> str:
    return f"<{point(value.center)}, {value.radius!r}>"


def place(value: tuple[int, int]) -> str:
    """tid."""
    return f"({value[0]},{value[1]})"


def log_position(value: int) -> str:
    """pg_lsn: two halves in hexadecimal."""
    return f"{value >> 32:x}/{value & 0xFFFFFFFF:x}"


def snapshot(value: tuple[int, int, tuple[int, ...]]) -> str:
    xmin, xmax, running = value
    return f"{xmin}:{xmax}:{','.join(map(str, running))}"


def vector(value: Iterable[int]) -> str:
    """int2vector and oidvector."""
    return " ".join(map(str, value))


def hstore(value: Mapping[str, str | None]) -> str:
    return ", ".join(f"{quoted(name)} => {'NULL' if item is None else quoted(item)}" for name, item in value.items())


# Types made of other types. Everything is quoted, whether it has to be or not.


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def array_of(element: Literal, delimiter: str = ",", *, nests: bool = True) -> Literal:
    """Arrays: lists, nested for several dimensions where `nests`. None is NULL."""

    def literal(value: list[Any]) -> str:
        return "{" + delimiter.join(map(item, value)) + "}"

    def item(value: Any) -> str:
        if value is None:
            return "NULL"
        return literal(value) if nests and type(value) is list else quoted(element(value))

    return literal


def range_of(subtype: Literal) -> Literal:
    def literal(value: Range[Any]) -> str:
        if value.isempty:
            return "empty"
        lower = "" if value.lower is None else quoted(subtype(value.lower))
        upper = "" if value.upper is None else quoted(subtype(value.upper))
        return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"

    return literal


def multirange_of(subtype: Literal) -> Literal:
    def literal(value: Iterable[Range[Any]]) -> str:
        return "{" + ", ".join(map(range_of(subtype), value)) + "}"

    return literal


def row_of(*columns: Literal) -> Literal:
    def literal(value: Iterable[Any]) -> str:
        items = zip(columns, value, strict=True)
        return "(" + ",".join("" if item is None else quoted(column(item)) for column, item in items) + ")"

    return literal
