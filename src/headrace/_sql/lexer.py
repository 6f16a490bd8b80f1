"""Split SQL text into tokens.

The rules are the server's own (PostgreSQL documentation, "Lexical Structure"; src/backend/parser/scan.l), for all
supported versions at once. If versions differ, as for `1_000`, the difference moves no boundary that matters here.

The lexer never raises and takes linear time for any text, and the tokens always join to the text again. An
unterminated constant, quoted identifier or comment becomes a last token of kind UNTERMINATED.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Final, NamedTuple

__all__ = ["Kind", "Token", "highest_parameter", "scan", "tokens"]


class Kind(Enum):
    """The kind of a token."""

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
    """A piece of SQL text and its start, in characters from 0."""

    kind: Kind
    text: str
    start: int


# Patterns. Each can match a text in one way only, which keeps a failing match linear.

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

# Between the parts of a constant that continues on another line ('foo' newline 'bar'). The kind of the first part
# holds for all of them, so E'foo' newline 'it\'s' must be one token.
_NEXT_LINE = rf"(?:[ \t\f\v]|--[^\n\r]*(?![^\n\r]))*[\n\r](?:{_SPACE}|--[^\n\r]*[\n\r])*"


def _constant(prefix: str, body: str) -> str:
    return rf"{prefix}'{body}(?:{_NEXT_LINE}'{body})*(?!{_NEXT_LINE}')"


_STANDARD = r"[^']*(?:''[^']*)*'(?!')"
_ESCAPED = r"[^'\\]*(?:(?:\\[\s\S]|'')[^'\\]*)*'(?!')"
_BITS = r"[^']*'"


@cache  # compiled on first use, which saves some 10 ms for each at import
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
    """Return the end of the block comment at `start`, or -1 if it is unterminated. Comments nest."""
    depth = 0
    for edge in _COMMENT_EDGE.finditer(sql, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end()
    return -1


def _jump(sql: str, name: str, start: int, end: int) -> tuple[str, int]:
    """Return the kind and the end of the token that begins with `sql[start:end]`; -1 if it is unterminated."""
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
            assert name is not None  # the last group matches any character
            start, end = found.span()
            if name in _BEGUN:
                name, end = _jump(sql, name, start, end)
                if end < 0:
                    yield "UNTERMINATED", start, length
                    return
                yield name, start, end
                break
            if name == "OPERATOR" and end - start > 1 and sql[end - 1] in "+-":
                # An operator ends in + or - only if it has certain other characters: `=-1` is `=`, `-`, `1`.
                operator = found[0]
                if _OPERATOR_SIGNS.isdisjoint(operator):
                    first = start + max(1, len(operator.rstrip("+-")))
                    yield name, start, first
                    for sign in range(first, end):
                        yield name, sign, sign + 1
                    continue
            yield name, start, end


def tokens(sql: str, *, standard_conforming_strings: bool = True) -> Iterator[Token]:
    """Split SQL text into tokens, including white space and comments, which join to the text again.

    `standard_conforming_strings` is the session's setting; if it is off, a backslash in a plain '...' escapes.
    """
    for name, start, end in scan(sql, standard_conforming_strings):
        yield Token(Kind[name], sql[start:end], start)


def highest_parameter(sql: str) -> int:
    """Return the highest parameter number in a text; 0 if it has no parameters.

    Numbers of more than nine digits are ignored, because no server accepts them.
    """
    numbers = (token.text[1:] for token in tokens(sql) if token.kind is Kind.PARAMETER)
    return max((int(number) for number in numbers if len(number) < 10), default=0)
