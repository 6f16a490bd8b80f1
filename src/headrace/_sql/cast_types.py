"""The types of a query's parameters, as far as its text shows them.

`$1::int` and `CAST($1 AS int)` make a parameter an int4. A query whose parameters all show their types in this way can
be prepared and executed in one flight. Only types of pg_catalog are recognised. If anything is in doubt, the text shows
nothing, and the server is asked.

Source: PostgreSQL documentation, "Type Casts" (sql-syntax-type-casts) and "Data Types" (datatype);
src/backend/parser/gram.y, Typename.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

from headrace._sql.lexer import scan

__all__ = ["CastTypes", "cast_types"]


class CastTypes(NamedTuple):
    """The types of the parameters of a text, from $1 on."""

    names: tuple[str, ...]
    """Their names in pg_type; those of arrays end with "[]"."""

    may_differ: bool
    """A type of another schema may have one of these names, and come first in the session's search_path."""


# These words of the grammar mean types of pg_catalog, whatever the search_path is.
_KEYWORDS: Final = {
    "bigint": "int8",
    "bit": "bit",
    "boolean": "bool",
    "char": "bpchar",
    "character": "bpchar",
    "dec": "numeric",
    "decimal": "numeric",
    "float": "float8",
    "int": "int4",
    "integer": "int4",
    "interval": "interval",
    "nchar": "bpchar",
    "numeric": "numeric",
    "real": "float4",
    "smallint": "int2",
    "time": "time",
    "timestamp": "timestamp",
    "varchar": "varchar",
}
_VARYING: Final = {"bit": "varbit", "char": "varchar", "character": "varchar", "nchar": "varchar"}
_WITH_TIME_ZONE: Final = {"time": "timetz", "timestamp": "timestamptz"}

# These are names like any other, which are looked up in the search_path.
_NAMES: Final = frozenset(
    """
    bool bpchar bytea cidr date daterange float4 float8 inet int2 int4 int4range int8 int8range json jsonb macaddr
    macaddr8 name numrange oid text timestamptz timetz tsrange tstzrange uuid varbit
    """.split()
)
# Behind `pg_catalog.` only names of pg_type are names of types.
_IN_CATALOGUE: Final = _NAMES | frozenset(_KEYWORDS.values())

_LONGEST: Final = 16_384
"""Characters of the longest text that is read. Reading a longer one could take as long as a round trip."""

_CACHED_TEXTS: Final = 1024

_Words = list[tuple[str, str]]


def cast_types(sql: str) -> CastTypes | None:
    """Return the types of a text's parameters if each of them shows one, the same in all places; else None.

    A text without parameters shows the types of all of them. The answers for the last 1,024 texts are cached.
    """
    return _read(sql) if len(sql) <= _LONGEST else None


@lru_cache(_CACHED_TEXTS)
def _read(sql: str) -> CastTypes | None:
    if "$" not in sql:
        return CastTypes((), False)
    found = _types(sql, True)
    if "\\" in sql and found is not None and found != _types(sql, False):
        # The two values of standard_conforming_strings lead to different constants.
        return None
    return found


def _types(sql: str, conforming: bool) -> CastTypes | None:
    words: _Words = [
        (name, _folded(sql[start:end]) if name == "WORD" else sql[start:end])
        for name, start, end in scan(sql, conforming)
        if name != "SPACE" and name != "COMMENT"
    ]
    types: dict[int, str] = {}
    may_differ = False
    for at, (name, text) in enumerate(words):
        if name == "UNTERMINATED" or name == "OTHER":
            return None
        if name != "PARAMETER":
            continue
        shown = _cast_at(words, at)
        if shown is None or len(text) > 6:
            return None
        number, (type_name, is_a_name) = int(text[1:]), shown
        if types.setdefault(number, type_name) != type_name:
            return None
        may_differ = may_differ or is_a_name
    if sorted(types) != list(range(1, len(types) + 1)):
        return None
    return CastTypes(tuple(types[number] for number in sorted(types)), may_differ)


def _cast_at(words: _Words, at: int) -> tuple[str, bool] | None:
    """Return the type that the parameter at a place is cast to, and whether it is looked up in the search_path."""
    if _text(words, at + 1) == "::":
        found = _type_at(words, at + 2)
        return None if found is None else found[:2]
    if at >= 2 and words[at - 2] == ("WORD", "cast") and words[at - 1][1] == "(" and _text(words, at + 1) == "as":
        found = _type_at(words, at + 2)
        return None if found is None or _text(words, found[2]) != ")" else found[:2]
    return None


def _type_at(words: _Words, at: int) -> tuple[str, bool, int] | None:
    """Return the name of the type at a place, whether it is looked up in the search_path, and the place behind it."""
    word = _word(words, at)
    qualified = word == "pg_catalog" and _text(words, at + 1) == "."
    if qualified:
        at += 2
        name = word = _word(words, at)
        if name not in _IN_CATALOGUE:
            return None
    elif word in _KEYWORDS:
        name = _KEYWORDS[word]
    elif word == "double" and _word(words, at + 1) == "precision":
        name = "float8"
        at += 1
    elif word in _NAMES:
        name = word
    else:
        return None
    is_a_name = not qualified and word in _NAMES
    at += 1
    if not qualified and word in _VARYING and _word(words, at) == "varying":
        name = _VARYING[word]
        at += 1
    if _text(words, at) == "(":
        behind = _behind_modifier(words, at)
        if behind is None or word == "float":
            return None
        at = behind
    if not qualified and word in _WITH_TIME_ZONE and _word(words, at) in ("with", "without"):
        if (_word(words, at + 1), _word(words, at + 2)) != ("time", "zone"):
            return None
        name = _WITH_TIME_ZONE[word] if _word(words, at) == "with" else name
        at += 3
    if word == "interval" and _word(words, at) in ("year", "month", "day", "hour", "minute", "second"):
        return None
    if _word(words, at) == "array":
        name += "[]"
        at += 1
        if _text(words, at) == "[":
            behind = _behind_brackets(words, at)
            return None if behind is None else (name, is_a_name, behind)
    elif _text(words, at) == "[":
        name += "[]"
        while _text(words, at) == "[":
            behind = _behind_brackets(words, at)
            if behind is None:
                return None
            at = behind
    return None if _text(words, at) in (".", "(", "[") else (name, is_a_name, at)


def _behind_modifier(words: _Words, at: int) -> int | None:
    """Return the place behind a modifier such as (10, 2); None if it is something else."""
    at += 1
    while at < len(words) and (words[at][0] == "NUMBER" or words[at][1] in (",", "-")):
        at += 1
    return at + 1 if _text(words, at) == ")" else None


def _behind_brackets(words: _Words, at: int) -> int | None:
    """Return the place behind [] or [3]; None if it is something else."""
    at += 2 if at + 1 < len(words) and words[at + 1][0] == "NUMBER" else 1
    return at + 1 if _text(words, at) == "]" else None


def _word(words: _Words, at: int) -> str:
    return words[at][1] if at < len(words) and words[at][0] == "WORD" else ""


def _text(words: _Words, at: int) -> str:
    return words[at][1] if at < len(words) and words[at][0] not in ("QUOTED", "STRING") else ""


def _folded(word: str) -> str:
    # Python would fold the Kelvin sign to a k; the server folds ASCII alone.
    return word.lower() if word.isascii() else word
