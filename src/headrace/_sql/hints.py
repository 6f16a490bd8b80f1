"""Hints for the most frequent mistake with parameters: passing a list where `IN` takes one value.

`IN ($1)` compares with one value; for a list use `= ANY($1)`, with one parameter of an array type
(PostgreSQL documentation, "Row and Array Comparisons"). The hints depend on the text alone. It is split by the lexer,
so that a string or a comment that looks like SQL does not mislead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Final

from headrace._sql.lexer import Kind, Token, tokens
from headrace.exceptions import PostgresError

__all__ = ["argument_hint", "server_error", "syntax_hint"]

_LONGEST: Final = 65_536
"""Queries longer than this, in characters, get no hint, so that a hint does not delay the event loop."""

_QUANTIFIERS: Final = frozenset(("ANY", "SOME", "ALL"))
_QUERIES: Final = frozenset(("SELECT", "VALUES", "WITH", "TABLE"))


def _significant(query: str) -> list[Token]:
    skipped = (Kind.SPACE, Kind.COMMENT)
    return [token for token in tokens(query) if token.kind not in skipped]


def _keyword(found: Sequence[Token], at: int) -> str:
    """Return the bare word at an index in upper case; "" for any other token."""
    if 0 <= at < len(found) and found[at].kind is Kind.WORD:
        return found[at].text.upper()
    return ""


def _array_form(found: Sequence[Token], at: int, parameter: str) -> tuple[str, str]:
    """Return the operator at an IN, and its replacement."""
    if _keyword(found, at - 1) == "NOT":
        return "NOT IN", f"<> ALL({parameter})"
    return "IN", f"= ANY({parameter})"


def _hint_at(found: Sequence[Token], at: int) -> str | None:
    """Return the hint for a syntax error at a token."""
    before = _keyword(found, at - 1)
    if found[at].kind is Kind.PARAMETER:
        parameter = found[at].text
        if before == "IN":
            mistake, replacement = _array_form(found, at - 1, parameter)
            return f'Use "{replacement}" instead of "{mistake} {parameter}", and pass the values as one list.'
        if before in _QUANTIFIERS:
            return f'Put the parameter in parentheses: "{before}({parameter})".'
    elif before == "IN" and _keyword(found, at) in _QUANTIFIERS:
        inner = found[at + 2 : at + 3]
        if inner and inner[0].kind is Kind.PARAMETER:
            mistake, replacement = _array_form(found, at - 1, inner[0].text)
            return f'Use "{replacement}", without "{mistake}".'
    return None


def server_error(fields: Mapping[str, str], query: str | None) -> PostgresError:
    """Return the exception for an ErrorResponse, with the driver's own hint if the server gives none."""
    error = PostgresError.new(fields, query)
    if error.hint is None and query is not None:
        error.hint = syntax_hint(fields, query)
    return error


def syntax_hint(fields: Mapping[str, str], query: str) -> str | None:
    """Return a hint for a syntax error at `IN $1`, `NOT IN $1`, `= ANY $1` or `IN ANY($1)`, or None.

    `fields` are the fields of the ErrorResponse, by code. P is the position of the error, in characters of the query
    from 1. Without P, which some poolers drop, the first matching position in the query is taken.
    """
    if fields.get("C") != "42601" or "q" in fields or len(query) > _LONGEST:
        return None
    found = _significant(query)
    position = fields.get("P", "")
    if position.isascii() and position.isdecimal() and len(position) < 10:
        start = int(position) - 1
        candidates = [at for at, token in enumerate(found) if token.start == start]
    else:
        candidates = list(range(len(found)))
    hints = (_hint_at(found, at) for at in candidates)
    return next((hint for hint in hints if hint is not None), None)


def argument_hint(query: str, index: int, pg_type: str, value: object) -> str | None:
    """Return a hint if a list, tuple, set or the like was passed for a parameter in `IN (...)`, or None.

    `index` is the number of the parameter in the query (1 for $1), `pg_type` the name of its type, and `value` the
    argument that could not be encoded as that type.
    """
    if not isinstance(value, Sequence | Set) or isinstance(value, str | bytes | bytearray | memoryview):
        return None
    if pg_type.endswith("[]") or pg_type.startswith("_") or len(query) > _LONGEST:
        return None
    parameter = f"${index}"
    found = _significant(query)
    # For each open parenthesis: the index of its IN, or None for other parentheses and IN (SELECT ...).
    lists: list[int | None] = []
    for at, token in enumerate(found):
        if token.text == "(":
            is_list = _keyword(found, at - 1) == "IN" and _keyword(found, at + 1) not in _QUERIES
            lists.append(at - 1 if is_list else None)
        elif token.text == ")":
            del lists[-1:]
        elif token.kind is Kind.PARAMETER and token.text == parameter and lists and lists[-1] is not None:
            mistake, replacement = _array_form(found, lists[-1], parameter)
            return (
                f'Use "{replacement}" instead of "{mistake} ({parameter})" to pass a {type(value).__name__}: '
                f"{parameter} is then one parameter of type {pg_type}[]."
            )
    return None
