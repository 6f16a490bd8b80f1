"""Parameters as other drivers and languages write them, and parameters inside quotes, where they are text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from headrace._sql.hints.tokens import Refused, is_operand, keyword, touch
from headrace._sql.lexer import Kind, Token

_NUMBERED: Final = "Parameters are written $1, $2, ... and their values passed in this order: fetch(query, value)."
_NAMED: Final = (
    "Parameters are written $1, $2, ...; for names use headrace.sql(): "
    'fetch(headrace.sql("... :{name}", {name}=value)).'
)
_PERCENT: Final = "Put a pattern into quotes, and join it with a parameter by ||: LIKE '%' || $1 || '%'."
_IN_QUOTES: Final = re.compile(r"\$[1-9][0-9]*")
_INTERVAL: Final = re.compile(r"'\s*(\$[1-9][0-9]*)(\s+[A-Za-z]+\s*')")
_LITERAL_TYPES: Final = frozenset("DATE TIME TIMETZ TIMESTAMP TIMESTAMPTZ INTERVAL".split())
_ASSIGNED: Final = re.compile(r"[=<>]\?$")


def _named(name: str) -> str:
    return _NAMED.format(name=name) if name.isidentifier() else _NUMBERED


def syntax(refused: Refused) -> str | None:
    """Return a hint for a syntax error at `:id`, `%s`, `%(id)s`, `?`, `{}`, `$id` or `%$1%`, or None."""
    found, at = refused.found, refused.at
    if at is None:
        return None
    if is_question_mark(found, at - 1):
        return _NUMBERED
    if at == len(found):
        return None
    token = found[at]
    if token.text == ":" and touch(found, at) and keyword(found, at + 1) and not is_operand(found, at - 1):
        return _named(found[at + 1].text)
    if token.text == "%":
        return _percent(found, at)
    if token.text in ("{", "$") and touch(found, at):
        name = found[at + 1].text
        return _named(name) if found[at + 1].kind is Kind.WORD else _NUMBERED
    return None


def _percent(found: Sequence[Token], at: int) -> str | None:
    """Return the hint for a % at which the server has refused the query."""
    after = found[at + 1] if touch(found, at) else None
    if keyword(found, at - 1) in ("LIKE", "ILIKE") and keyword(found, at + 1) and after is not None:
        end = "%" if found[at + 2 : at + 3] and found[at + 2].text == "%" else ""
        if after.text not in ("s", "d") or end:
            return f"Put the pattern into quotes: '%{after.text}{end}'."
    if after is None or (is_operand(found, at - 1) and found[at - 1].kind is not Kind.PARAMETER):
        return None
    if after.text in ("s", "d"):
        return _NUMBERED
    if after.text == "(" and keyword(found, at + 2) and found[at + 3 : at + 4] and found[at + 3].text == ")":
        return _named(found[at + 2].text)
    if after.kind is Kind.PARAMETER or found[at - 1].kind is Kind.PARAMETER:
        return _PERCENT
    return None


def is_question_mark(found: Sequence[Token], at: int) -> bool:
    """Return whether the token at an index is a `?` that stands for a value, and no operator of jsonb or a point."""
    if not 0 <= at < len(found) or found[at].kind is not Kind.OPERATOR:
        return False
    text = found[at].text
    return (text == "?" and not is_operand(found, at - 1)) or _ASSIGNED.search(text) is not None


def operator(refused: Refused) -> str | None:
    """Return a hint for `? + 1`, for which the server looks for an operator with one operand, or None."""
    found, at = refused.found, refused.at
    return _NUMBERED if at is not None and is_question_mark(found, at) else None


def constant(refused: Refused) -> str | None:
    """Return a hint for a constant with `$1` inside, such as interval '$1 days', that the server cannot read."""
    at = refused.at
    if at is None or at == len(refused.found):
        return None
    found = refused.found
    # The server names the type before the constant, or the constant.
    for index in (at, at + 1):
        if index < len(found) and found[index].kind is Kind.STRING:
            return quoted(found, index)
    return None


def quoted_parameters(found: Sequence[Token]) -> Iterator[int]:
    """Yield the indexes of the constants that have `$1` or the like inside."""
    for at, token in enumerate(found):
        if token.kind is Kind.STRING and token.text.startswith("'") and _IN_QUOTES.search(token.text):
            yield at


def quoted(found: Sequence[Token], at: int) -> str | None:
    """Return a hint for the constant at an index if it has `$1` inside, or None."""
    text = found[at].text
    inside = _IN_QUOTES.search(text)
    if inside is None or not text.startswith("'") or len(text) > 200:
        return None
    before = keyword(found, at - 1)
    interval = _INTERVAL.fullmatch(text)
    if text == f"'{inside[0]}'":
        write = f"{inside[0]}::{before.lower()}" if before in _LITERAL_TYPES else inside[0]
    elif interval is not None and before == "INTERVAL":
        write = f"{interval[1]} * interval '1{interval[2]}"
    elif before in _LITERAL_TYPES:
        return None
    else:
        parts = _IN_QUOTES.split(text[1:-1])
        names = _IN_QUOTES.findall(text)
        pieces = [f"'{parts[0]}'"] if parts[0] else []
        for name, part in zip(names, parts[1:], strict=True):
            pieces += [name, f"'{part}'"] if part else [name]
        write = " || ".join(pieces)
    whole = f"{before.lower()} {text}" if before in _LITERAL_TYPES else text
    return f"Inside quotes {inside[0]} is text. Write {write} in place of {whole}."


def at_sign(found: Sequence[Token]) -> str | None:
    """Return a hint for a query without parameters that has `@id`, which is an operator and a column, or None."""
    for at, token in enumerate(found):
        if token.text == "@" and touch(found, at) and keyword(found, at + 1) and not is_operand(found, at - 1):
            return _named(found[at + 1].text)
    return None


def foreign(found: Sequence[Token]) -> str | None:
    """Return a hint for a query without parameters that has another driver's placeholder in a constant, or None."""
    for token in found:
        if token.kind is Kind.STRING and token.text in ("'%s'", "'?'", "'{}'"):
            return f"Inside quotes it is text. Write $1 in place of {token.text}."
    return None
