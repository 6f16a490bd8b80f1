"""Lists for which a query has room for one value: `IN ($1)`, `= $1`, and all arguments in one list.

`IN ($1)` compares with one value; for a list use `= ANY($1)`, with one parameter of an array type
(PostgreSQL documentation, "Row and Array Comparisons").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headrace._sql.hints.tokens import Refused, in_conditions, keyword
from headrace._sql.lexer import Kind, Token

_QUANTIFIERS: Final = frozenset(("ANY", "SOME", "ALL"))
_QUERIES: Final = frozenset(("SELECT", "VALUES", "WITH", "TABLE"))


def _array_form(found: Sequence[Token], at: int, parameter: str) -> tuple[str, str]:
    """Return the operator at an IN, and its replacement."""
    if keyword(found, at - 1) == "NOT":
        return "NOT IN", f"<> ALL({parameter})"
    return "IN", f"= ANY({parameter})"


def _hint_at(found: Sequence[Token], at: int) -> str | None:
    """Return the hint for a syntax error at a token."""
    before = keyword(found, at - 1)
    if found[at].kind is Kind.PARAMETER:
        parameter = found[at].text
        if before == "IN":
            mistake, replacement = _array_form(found, at - 1, parameter)
            return f'Use "{replacement}" instead of "{mistake} {parameter}", and pass the values as one list.'
        if before in _QUANTIFIERS:
            return f'Put the parameter in parentheses: "{before}({parameter})".'
    elif before == "IN" and keyword(found, at) in _QUANTIFIERS:
        inner = found[at + 2 : at + 3]
        if inner and inner[0].kind is Kind.PARAMETER:
            mistake, replacement = _array_form(found, at - 1, inner[0].text)
            return f'Use "{replacement}", without "{mistake}".'
    return None


def syntax(refused: Refused) -> str | None:
    """Return a hint for a syntax error at `IN $1`, `NOT IN $1`, `= ANY $1` or `IN ANY($1)`, or None.

    Without a position, which some poolers drop, the first matching place in the query is taken.
    """
    found, at = refused.found, refused.at
    if at is None:
        candidates = range(0 if "P" in refused.fields else len(found))
    else:
        candidates = range(at, min(at + 1, len(found)))
    return next((hint for each in candidates if (hint := _hint_at(found, each)) is not None), None)


def in_list(found: Sequence[Token], parameter: str, pg_type: str, value: object) -> str | None:
    """Return a hint if a list was passed for a parameter in `IN (...)`, or None."""
    # For each open parenthesis: the index of its IN, or None for other parentheses and IN (SELECT ...).
    lists: list[int | None] = []
    for at, token in enumerate(found):
        if token.text == "(":
            is_list = keyword(found, at - 1) == "IN" and keyword(found, at + 1) not in _QUERIES
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


def compared(found: Sequence[Token], parameter: str) -> str | None:
    """Return a hint if a list was passed for a parameter that a condition compares with `=` or `<>`, or None."""
    inside = in_conditions(found)
    for at, token in enumerate(found):
        if token.kind is Kind.PARAMETER and token.text == parameter and inside[at]:
            operator = found[at - 1].text
            if operator == "=":
                return f'Pass one value, or use "= ANY({parameter})" to find any value of the list.'
            if operator in ("<>", "!="):
                return f'Pass one value, or use "<> ALL({parameter})" to leave out all values of the list.'
    return None
