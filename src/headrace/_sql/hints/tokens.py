"""A query as the hints see it: its tokens without white space and comments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from headrace._sql.lexer import Kind, Token, tokens

LONGEST: Final = 8_192
"""Queries longer than this, in characters, get no hint, so that a hint does not delay the event loop."""

_SKIPPED: Final = (Kind.SPACE, Kind.COMMENT)
_CLAUSES: Final = frozenset(
    "SELECT FROM WHERE ON HAVING SET VALUES LIMIT OFFSET FETCH ORDER GROUP RETURNING USING WHEN THEN ELSE".split()
)
_CONDITIONS: Final = frozenset(("WHERE", "ON", "HAVING", "WHEN"))
_OPERANDS: Final = (Kind.QUOTED, Kind.STRING, Kind.NUMBER, Kind.PARAMETER)
_NO_OPERAND: Final = frozenset(
    "SELECT FROM WHERE ON HAVING SET VALUES LIMIT OFFSET BY RETURNING USING WHEN THEN ELSE AND OR NOT IN LIKE ILIKE "
    "BETWEEN IS AS DISTINCT".split()
)
"""Words after which an operand is expected, so that an operator there has none on its left."""


def significant(query: str) -> list[Token]:
    """Return the tokens of a query that count; none of a query that is too long."""
    if len(query) > LONGEST:
        return []
    return [token for token in tokens(query) if token.kind not in _SKIPPED]


def keyword(found: Sequence[Token], at: int) -> str:
    """Return the bare word at an index in upper case; "" for any other token."""
    if 0 <= at < len(found) and found[at].kind is Kind.WORD:
        return found[at].text.upper()
    return ""


def in_conditions(found: Sequence[Token]) -> list[bool]:
    """Return for each token whether it is in a condition, such as that of WHERE, where `=` does not assign."""
    clauses = [""]
    inside = []
    for at, token in enumerate(found):
        inside.append(clauses[-1] in _CONDITIONS)
        if token.text == "(":
            clauses.append(clauses[-1])
        elif token.text == ")":
            if len(clauses) > 1:
                clauses.pop()
        elif (word := keyword(found, at)) in _CLAUSES:
            clauses[-1] = word
    return inside


def is_operand(found: Sequence[Token], at: int) -> bool:
    """Return whether the token at an index ends an operand, so that an operator behind it has one on its left."""
    if not 0 <= at < len(found):
        return False
    token = found[at]
    if token.kind is Kind.WORD:
        return token.text.upper() not in _NO_OPERAND
    return token.kind in _OPERANDS or token.text in (")", "]")


def touch(found: Sequence[Token], at: int) -> bool:
    """Return whether nothing is between the token at an index and the next one."""
    return at + 1 < len(found) and found[at].start + len(found[at].text) == found[at + 1].start


class Refused:
    """A query that the server has refused, and the fields of its ErrorResponse by code."""

    def __init__(self, fields: Mapping[str, str], query: str) -> None:
        self.fields = fields
        self.query = query

    @cached_property
    def found(self) -> list[Token]:
        """The tokens of the query that count."""
        return significant(self.query)

    @cached_property
    def at(self) -> int | None:
        """The index of the token that the server names; the number of tokens for the end; None if it names none."""
        position = self.fields.get("P", "")
        if not (position.isascii() and position.isdecimal() and len(position) < 10) or not self.found:
            return None
        start = int(position) - 1
        for index, token in enumerate(self.found):
            if token.start <= start < token.start + len(token.text):
                return index
        return len(self.found) if start >= self.found[-1].start else None

    @cached_property
    def command(self) -> str:
        """The first word of the query, in upper case."""
        return keyword(self.found, 0)
