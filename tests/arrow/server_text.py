"""Arrow's values as the server prints the same values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pyarrow

from headrace._core.arrow.schema import Field

DAY = 86_400_000_000
VECTORS = ("int2vector", "oidvector")


def texts(field: Field, column: pyarrow.ChunkedArray) -> list[str | None]:
    """Return the text of each value of a column."""
    return [text for chunk in column.chunks for text in _texts(field, _storage(chunk))]


def _storage(array: pyarrow.Array) -> pyarrow.Array:
    return array.storage if isinstance(array, pyarrow.ExtensionArray) else array


def _texts(field: Field, array: pyarrow.Array) -> list[str | None]:
    if field.kind in ("array", "multirange"):
        items = _texts(field.children[0], _storage(array.values))
        offsets = array.offsets.to_pylist()
        shown = _multirange if field.kind == "multirange" else _vector if field.type_name in VECTORS else _array
        return [
            shown(items[offsets[i] : offsets[i + 1]], _delimiter(field)) if array[i].is_valid else None
            for i in range(len(array))
        ]
    if field.kind in ("composite", "range"):
        parts = [
            _texts(child, _storage(array.field(i))) for i, child in enumerate(field.children)
        ]  # fmt: skip
        rows = list(zip(*parts, strict=True)) if parts else [()] * len(array)
        shown_row = _composite if field.kind == "composite" else _range
        return [shown_row(row) if array[i].is_valid else None for i, row in enumerate(rows)]
    if field.kind in ("date", "time", "timestamp"):
        # Python's types end with the year 9999.
        array = array.cast(pyarrow.int32() if field.kind == "date" else pyarrow.int64())
    return [None if value is None else _text(field, value) for value in array.to_pylist()]


def _text(field: Field, value: Any) -> str:
    if field.kind == "bool":
        return "t" if value else "f"
    if field.kind == "bytes":
        return f"\\x{value.hex()}"
    if field.format in ("f", "g"):
        return "NaN" if value != value else str(value).replace("inf", "Infinity")
    if field.kind == "date":
        return _dated(value, "")
    if field.kind == "timestamp":
        days, rest = divmod(value, DAY)
        return _dated(days, f" {_time(rest)}{'+00' if field.format.endswith('UTC') else ''}")
    if field.kind == "time":
        return _time(value)
    if field.kind == "interval":
        return _interval(*value)
    if field.kind == "uuid":
        text = value.hex()
        return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
    if isinstance(value, Decimal):
        return f"{value:f}"
    return str(value)


def _dated(days: int, time: str) -> str:
    # Days from 0000-03-01, in eras of 400 years: http://howardhinnant.github.io/date_algorithms.html
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1460 + day // 36_524 - day // 146_096) // 365
    of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    of_month = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    year += era * 400 + (month <= 2)
    return f"{year if year > 0 else 1 - year:04}-{month:02}-{of_month:02}{time}{'' if year > 0 else ' BC'}"


def _time(microseconds: int) -> str:
    seconds, fraction = divmod(microseconds, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def _interval(months: int, days: int, nanoseconds: int) -> str:
    from headrace._core.codecs.calendar import interval_form

    assert nanoseconds % 1000 == 0
    return interval_form(months, days, nanoseconds // 1000)


def _delimiter(field: Field) -> str:
    return ";" if field.children[0].type_name == "box" else ","


def _array(items: Sequence[str | None], delimiter: str) -> str:
    def quoted(item: str | None) -> str:
        if item is None:
            return "NULL"
        if item == "" or item.upper() == "NULL" or re.search(rf'[{{}}"\\{delimiter}\t\n\v\f\r ]', item):
            escaped = re.sub(r'(["\\])', r"\\\1", item)
            return f'"{escaped}"'
        return item

    return "{" + delimiter.join(map(quoted, items)) + "}"


def _vector(items: Sequence[str | None], delimiter: str) -> str:
    return " ".join(item for item in items if item is not None)


def _multirange(items: Sequence[str | None], delimiter: str) -> str:
    return "{" + ",".join(item for item in items if item is not None) + "}"


def _quoted(item: str | None, special: str) -> str:
    if item is None:
        return ""
    if item == "" or re.search(rf'[{re.escape(special)}"\\,\t\n\v\f\r ]', item):
        doubled = re.sub(r'(["\\])', r"\1\1", item)
        return f'"{doubled}"'
    return item


def _composite(values: Sequence[str | None]) -> str:
    return "(" + ",".join(_quoted(value, "()") for value in values) + ")"


def _range(values: Sequence[str | None]) -> str:
    lower, upper, lower_inc, upper_inc, empty = values
    if empty == "t":
        return "empty"
    start, end = "[" if lower_inc == "t" else "(", "]" if upper_inc == "t" else ")"
    return f"{start}{_quoted(lower, '()[]')},{_quoted(upper, '()[]')}{end}"
