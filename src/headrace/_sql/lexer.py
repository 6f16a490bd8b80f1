"""Cut SQL text into tokens.

The rules are the server's own (PostgreSQL documentation, "Lexical Structure"; src/backend/parser/scan.l), for all
supported versions at once. If versions differ, as for `1_000`, the difference moves no boundary that matters here.

No text makes the lexer raise or run for more than linear time, and the tokens always join to the text again. A
constant, quoted identifier or comment that never ends becomes a last token of kind UNTERMINATED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Final, NamedTuple

__all__ = ["Kind", "Token", "highest_parameter", "scan", "tokens"]


class Kind(Enum):
    """What a token is."""

    SPACE = "white space"
    COMMENT = "comment"
    WORD = "keyword or identifier"
    QUOTED = "quoted identifier"
    STRING = "string or bit string constant"
    NUMBER = "numeric constant"
    PARAMETER = "parameter"
    OPERATOR = "operator"
    PUNCTUATION = "punctuation"
    OTHER = "a character that begins nothing in SQL"
    UNTERMINATED = "a constant, quoted identifier or comment that never ends"


class Token(NamedTuple):
    """A piece of SQL text and where it starts, in characters from 0."""

    kind: Kind
    text: str
    start: int


# Patterns. Each is written so that it can match in one way only, which keeps a failing match linear.

_SPACE = r"[ \t\n\r\f\v]"
_LETTER = r"[A-Za-z_\u0080-\U0010ffff]"
_WORD = rf"{_LETTER}[A-Za-z0-9_$\u0080-\U0010ffff]*"
_TAG = rf"{_LETTER}[A-Za-z0-9_\u0080-\U0010ffff]*"
_DIGITS = r"[0-9](?:_?[0-9])*"
_NUMBER = (
    r"0[xX](?:_?[0-9A-Fa-f])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+"
    rf"|(?:{_DIGITS}(?:\.(?!\.)(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?"
)
_OPERATOR = r"::|:=|(?:(?!--|/\*)[~!@#^&|`?+\-*/%<>=])+"
_IDENTIFIER = r'(?:[uU]&)?"[^"]*(?:""[^"]*)*"(?!")'

# Between the parts of a constant that goes on in another line ('foo' newline 'bar'). Escapes stay as they
# were in the first part, so E'foo' newline 'it\'s' must be one token.
_NEXT_LINE = rf"(?:[ \t\f\v]|--[^\n\r]*(?![^\n\r]))*[\n\r](?:{_SPACE}|--[^\n\r]*[\n\r])*"


def _constant(prefix: str, body: str) -> str:
    return rf"{prefix}'{body}(?:{_NEXT_LINE}'{body})*(?!{_NEXT_LINE}')"


_STANDARD = r"[^']*(?:''[^']*)*'(?!')"
_ESCAPED = r"[^'\\]*(?:(?:\\[\s\S]|'')[^'\\]*)*'(?!')"
_BITS = r"[^']*'"


@cache  # compiled when first used, which spares the import some 10 ms for each
def _pattern(conforming: bool) -> re.Pattern[str]:
    """Compile the lexer for one meaning of '...' and N'...' (standard_conforming_strings on or off)."""
    plain = _STANDARD if conforming else _ESCAPED
    constants = (
        _constant("[eE]", _ESCAPED),
        _constant("[bBxX]", _BITS),
        _constant("[uU]&", _STANDARD),
        _constant("[nN]?", plain),
    )
    groups = {
        "SPACE": rf"{_SPACE}+",
        "WORD": rf"(?![eEbBxXnN]'|[uU]&['\"]){_WORD}",
        "COMMENT": r"--[^\n\r]*",
        "BLOCK": r"/\*",
        "STRING": "|".join(constants),
        "QUOTED": _IDENTIFIER,
        "UNTERMINATED": "(?:[eEbBxXnN]|[uU]&)?'|(?:[uU]&)?\"",
        "PARAMETER": r"\$[0-9]+",
        "DOLLAR": rf"\$(?:{_TAG})?\$",
        "NUMBER": _NUMBER,
        "OPERATOR": _OPERATOR,
        "PUNCTUATION": r"\.\.|[()\[\],;:.]",
        "OTHER": r"[\s\S]",
    }
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in groups.items()))


_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_OPERATOR_SIGNS: Final = frozenset("~!@#^&|`?%")
_BEGUN: Final = frozenset(("BLOCK", "DOLLAR", "UNTERMINATED"))


def _comment_end(sql: str, start: int) -> int:
    """Find where the block comment at `start` ends; they nest. -1 if it never does."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


def _jump(sql: str, name: str, start: int, end: int) -> tuple[str, int]:
    """Say what the token beginning with `sql[start:end]` is and where it ends; -1 if it never does."""
    if name == "BLOCK":
        return "COMMENT", _comment_end(sql, start)
    if name == "DOLLAR":
        tag = sql[start:end]
        close = sql.find(tag, end)
        return "STRING", close + len(tag) if close >= 0 else -1
    return name, -1


def scan(sql: str, conforming: bool) -> Iterator[tuple[str, int, int]]:
    """Yield the name of the kind, the start and the end of every token."""
    finditer = _pattern(conforming).finditer
    end, length = 0, len(sql)
    while end < length:
        for found in finditer(sql, end):
            name = found.lastgroup
            assert name is not None  # the last group takes any character
            start, end = found.span()
            if name in _BEGUN:
                name, end = _jump(sql, name, start, end)
                if end < 0:
                    yield "UNTERMINATED", start, length
                    return
                yield name, start, end
                break
            if name == "OPERATOR" and end - start > 1 and sql[end - 1] in "+-":
                # An operator ends in + or - only if certain other signs are in it: `=-1` is `=`, `-`, `1`.
                operator = found[0]
                if _OPERATOR_SIGNS.isdisjoint(operator):
                    first = start + max(1, len(operator.rstrip("+-")))
                    yield name, start, first
                    for sign in range(first, end):
                        yield name, sign, sign + 1
                    continue
            yield name, start, end


def tokens(sql: str, *, standard_conforming_strings: bool = True) -> Iterator[Token]:
    """Cut SQL text into tokens, white space and comments included: joined they are the text.

    `standard_conforming_strings` is the session's setting; off, a backslash in a plain '...' escapes.
    """
    for name, start, end in scan(sql, standard_conforming_strings):
        yield Token(Kind[name], sql[start:end], start)


def highest_parameter(sql: str) -> int:
    """Return the highest number of a parameter of a text, 0 where it has none.

    A number of more than nine digits is passed over: no server takes it.
    """
    numbers = (token.text[1:] for token in tokens(sql) if token.kind is Kind.PARAMETER)
    return max((int(number) for number in numbers if len(number) < 10), default=0)
