"""Arguments that do not fit their parameters: too many, too few, or of another type.

PostgreSQL decides what type a parameter has; a value is encoded as that type. `$1::text::date` makes the parameter a
text, which the server then reads as a date.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
import uuid
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, Final, NamedTuple

from headrace._sql.core_functions import KEYWORDS
from headrace._sql.hints import lists, placeholders, statements
from headrace._sql.hints.tokens import in_conditions, keyword, significant
from headrace._sql.lexer import Kind, Token

__all__ = ["Parameter", "argument_hint", "column_hint", "count_hint", "sql_type_name"]


class Parameter(NamedTuple):
    """A parameter that an argument does not fit, or a column that COPY writes."""

    number: int
    """1 for $1; 0 for a column."""
    type_name: str
    """The name of the type, with [] for an array."""
    schema: str
    accepted: str
    """The Python types that are accepted."""


_SIMPLE: Final = re.compile(r"[a-z_][a-z0-9_]*")
_INTEGERS: Final = {"int2": 15, "int4": 31, "int8": 63}
_INTEGER_NAMES: Final = frozenset("smallint int integer bigint int2 int4 int8".split())
_WHOLE: Final = re.compile(r"\s*[+-]?[0-9]+\s*", re.ASCII)
_NUMBER: Final = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*", re.ASCII)
_TEXTS: Final = frozenset(("text", "varchar", "bpchar", "name", "citext"))
_TIMES: Final = frozenset(("date", "time", "timetz", "timestamp", "timestamptz", "interval"))
_TIME: Final = re.compile(r".*[0-9]|\s*(now|today|tomorrow|yesterday|epoch|[+-]?infinity|allballs)\s*\Z", re.I | re.S)
_TRUTHS: Final = frozenset("true false t f yes no y n on off 1 0".split())
_RANGES: Final = re.compile(r"\s*([\[(].*,.*[\])]|empty|\{.*\})\s*", re.S)
_SHAPES: Final = frozenset(("point", "lseg", "box", "path", "polygon", "line", "circle"))
_ENCODED: Final = "a value that its encoder takes"
"""The values that a codec of the program's own accepts, see custom_codec()."""
_COUNT: Final = "Pass one argument for each of $1, $2, ... in the query."


def sql_type_name(type_name: str, schema: str) -> str:
    """Return the name of a type as a cast takes it, quoted and with its schema if need be."""
    name, array, _ = type_name.partition("[]")
    if schema == "pg_catalog":
        # Without quotes these two mean one character and one bit.
        return f'"{name}"{array}' if name in ("char", "bit") else name + array
    return f"{_quoted(schema)}.{_quoted(name)}{array}"


def _quoted(name: str) -> str:
    if _SIMPLE.fullmatch(name) and name.upper() not in KEYWORDS:
        return name
    return '"{}"'.format(name.replace('"', '""'))


def argument_hint(query: str, parameter: Parameter, value: object) -> str:
    """Return the hint for an argument of a query that could not be encoded."""
    if parameter.accepted == _ENCODED:
        return column_hint(parameter, value)
    found = significant(query)
    name = f"${parameter.number}"
    if _is_list(value) and not _is_array(parameter):
        hint = lists.in_list(found, name, parameter.type_name, value)
        if hint is None and not _is_json(parameter):
            hint = _list_hint(found, name, value)
        if hint is not None:
            return hint
    if isinstance(value, int) and _bits(value) > _INTEGERS.get(parameter.type_name, sys.maxsize):
        return _too_big(found, name, parameter, int(value))
    if parameter.type_name in _TEXTS and (sql_type := _type_of(value)) is not None:
        return _for_text(found, name, value, sql_type)
    hint = column_hint(parameter, value)
    if isinstance(value, str) and parameter.schema and _server_reads(parameter, value):
        cast = sql_type_name(parameter.type_name, parameter.schema)
        return f"{hint[:-1]}, or have the server read the text: write {name}::text::{cast} in place of {name}."
    if isinstance(value, Mapping) and not _is_json(parameter) and "dict" not in parameter.accepted:
        return (
            f"{hint} For a query with names in place of {name}, use headrace.sql(): "
            'fetch(headrace.sql("... :name", **values)).'
        )
    return hint


def column_hint(parameter: Parameter, value: object) -> str:
    """Return the hint for a value that could not be encoded, whatever the query: what to pass instead."""
    kind, accepted = parameter.type_name, parameter.accepted
    if accepted == _ENCODED:
        # Nothing is known of it but that set_type_codec() has set it, whatever the type.
        return f"Pass {accepted}: set_type_codec() has set one for {kind}."
    if _is_json(parameter) and accepted == "str" and not isinstance(value, str):
        return f"Pass json.dumps(value), or connect with json=True, which makes values of {kind} Python objects."
    if kind in ("json[]", "jsonb[]") and _is_list(value):
        return "Pass [json.dumps(each) for each in value], or connect with json=True."
    if _is_array(parameter) and not _is_list(value):
        return f"Pass {accepted}: [value] for a single one."
    if isinstance(value, str) and kind == "bytea":
        return "Pass bytes: value.encode()."
    if isinstance(value, (bytes, bytearray)) and kind in _TEXTS:
        return "Pass str: value.decode()."
    if isinstance(value, str) and kind in _TEXTS:
        # It has a character that PostgreSQL's texts cannot hold: a NUL, or one half of a surrogate pair.
        half = 'value.encode("utf-8", "replace").decode()'
        return f"Pass str: {half}." if "\0" not in value else r'Pass str: value.replace("\0", "").'
    if isinstance(value, str) and kind in _INTEGERS and _WHOLE.fullmatch(value):
        return "Pass int: int(value)."
    if isinstance(value, str) and kind in ("date", "time", "timestamp", "timestamptz"):
        return _from_text(kind, accepted, value)
    if isinstance(value, dt.datetime) and kind == "timestamp" and value.tzinfo is not None:
        return (
            "Pass a datetime without a time zone: value.replace(tzinfo=None), after value.astimezone() to the zone "
            "that is meant; or make the column timestamptz."
        )
    if isinstance(value, dt.datetime) and kind == "time":
        return "Pass datetime.time: value.time()."
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _from_number(kind, accepted, value)
    if kind in _TEXTS and not isinstance(value, str):
        return "Pass str: json.dumps(value)." if isinstance(value, dict) else "Pass str: str(value)."
    return f"Pass {accepted}."


def _from_text(kind: str, accepted: str, value: str) -> str:
    classes = {"date": dt.date, "time": dt.time, "timestamp": dt.datetime, "timestamptz": dt.datetime}
    try:
        found: Any = classes[kind].fromisoformat(value)  # type: ignore[attr-defined]
    except ValueError:
        return f"Pass {accepted}."
    if kind == "timestamp" and found.tzinfo is not None:
        return f"Pass {accepted} without a time zone."
    return f"Pass {accepted}: {accepted}.fromisoformat(value)."


def _from_number(kind: str, accepted: str, value: float) -> str:
    if kind in _INTEGERS:
        return "Pass a whole number: round(value)." if isinstance(value, float) and value == value else "Pass int."
    if kind == "bool":
        return "Pass bool: bool(value)."
    if kind == "interval":
        return "Pass datetime.timedelta: datetime.timedelta(days=value) or seconds=value."
    if kind == "timestamptz":
        return "Pass datetime.datetime: datetime.datetime.fromtimestamp(value, datetime.timezone.utc) for a Unix time."
    if kind in _TEXTS:
        return "Pass str: str(value)."
    return f"Pass {accepted}."


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence | Set) and not isinstance(value, str | bytes | bytearray | memoryview)


def _is_array(parameter: Parameter) -> bool:
    name = parameter.type_name
    return name.endswith("[]") or name.startswith("_") or name in ("int2vector", "oidvector")


def _is_json(parameter: Parameter) -> bool:
    return parameter.type_name in ("json", "jsonb") and parameter.schema == "pg_catalog"


def _list_hint(found: Sequence[Token], name: str, value: Any) -> str | None:
    """Return the hint for a list where one value is expected."""
    alone = {token.text for token in found if token.kind is Kind.PARAMETER} == {name}
    if alone and isinstance(value, tuple) and len(value) == 1:
        return "Pass the arguments one by one, and not in a tuple: fetch(query, *values)."
    return lists.compared(found, name)


def _server_reads(parameter: Parameter, text: str) -> bool:
    """Return whether the server can read a text as a value of a type, as far as that can be seen."""
    kind = parameter.type_name
    if "\0" in text:
        return False
    if _is_array(parameter):
        return text.strip().startswith("{") and text.strip().endswith("}")
    if "range" in kind or kind in _SHAPES:
        return _RANGES.fullmatch(text) is not None
    if parameter.schema != "pg_catalog":
        return False
    if kind in _INTEGERS:
        return _WHOLE.fullmatch(text) is not None and int(text).bit_length() <= _INTEGERS[kind]
    if kind in ("float4", "float8", "numeric"):
        return _NUMBER.fullmatch(text) is not None
    if kind == "bool":
        return text.strip().lower() in _TRUTHS
    return kind in _TIMES and _TIME.match(text) is not None


def _bits(value: int) -> int:
    return (value if value >= 0 else ~value).bit_length()


def _too_big(found: Sequence[Token], name: str, parameter: Parameter, value: int) -> str:
    """Return the hint for an int out of the range of its type: the type that has room for it."""
    wider = next((each for each, bits in _INTEGERS.items() if _bits(value) <= bits), "numeric")
    places = [at for at, token in enumerate(found) if token.kind is Kind.PARAMETER and token.text == name]
    if len(places) == 1:
        at = places[0]
        after = [token.text for token in found[at + 1 : at + 3]]
        if after[:1] == ["::"] and after[-1].lower() in _INTEGER_NAMES:
            return f"The value fits {wider}. Write {name}::{wider} in place of {name}::{after[1]}."
        operators = ("=", "<>", "!=", "<", ">", "<=", ">=")
        if at and found[at - 1].text in operators and after[:1] != ["::"] and in_conditions(found)[at]:
            return f"The value fits {wider}. Write {name}::{wider} in place of {name}."
    return f"The value fits {wider}, and the parameter is {parameter.type_name}. A column for it has to be {wider}."


_SQL_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool"),
    (int, "int8"),
    (float, "float8"),
    (Decimal, "numeric"),
    (dt.datetime, "timestamptz"),
    (dt.date, "date"),
    (dt.time, "time"),
    (dt.timedelta, "interval"),
    (uuid.UUID, "uuid"),
)


def _type_of(value: object) -> str | None:
    """Return the SQL type that a Python value is usually meant as, or None."""
    if isinstance(value, int) and value.bit_length() > 63:
        return "numeric"
    return next((name for cls, name in _SQL_TYPES if isinstance(value, cls)), None)


def _for_text(found: Sequence[Token], name: str, value: object, sql_type: str) -> str:
    """Return the hint for a value that is no str, for a parameter that is a text.

    PostgreSQL takes a parameter for a text if nothing in the query shows its type.
    """
    for at, token in enumerate(found):
        if token.kind is Kind.PARAMETER and token.text == name:
            after = found[at + 1].text.upper() if at + 1 < len(found) else ""
            if keyword(found, at - 1) == "SELECT" and after in ("", ",", "AS", "FROM", ";"):
                return (
                    f"The query does not show the type of {name}. Write {name}::{sql_type} in place of {name}, "
                    "or pass str."
                )
            break
    return f"Pass str: str(value), or have the server write the text: {name}::{sql_type}::text in place of {name}."


def count_hint(query: str, expected: int, args: Sequence[object]) -> str:
    """Return the hint for a number of arguments that is not that of the query's parameters."""
    if not args:
        return _COUNT
    first = args[0]
    if len(args) == 1 and expected > 1 and isinstance(first, (list, tuple)) and len(first) == expected:
        return f"Pass the arguments one by one, and not in a {type(first).__name__}: fetch(query, *values)."
    if len(args) == 1 and isinstance(first, Mapping):
        return 'Parameters are numbered. For names use headrace.sql(): fetch(headrace.sql("... :name", **values)).'
    if expected:
        return _COUNT
    found = significant(query)
    for at in placeholders.quoted_parameters(found):
        hint = placeholders.quoted(found, at)
        if hint is not None:
            return hint
    if keyword(found, 0) == "DO":
        return (
            "DO takes no parameters. Have the server write the values into its text, by SELECT format() with %L for "
            "each value, and run the text that it returns."
        )
    if any(token.kind is Kind.PARAMETER for token in found):
        # The server does not look into a command that takes no parameters.
        hint = statements.in_text(query, found)
        if hint is not None:
            return hint
    hint = placeholders.foreign(found) or placeholders.at_sign(found)
    return hint or "Write $1, $2, ... in the query, in place of the values."
