"""The text form of a tsvector, read into its binary form.

The text is a list of lexemes, each with its positions and their weights: `'fat':2B,4 'rat':3`. The server has the same
rules in tsvector_parser.c and tsvector.c; it would sort the lexemes of a binary value, but not merge equal ones.

Source: PostgreSQL documentation, "Text Search Types" (datatype-textsearch).
"""

from __future__ import annotations

import re
import struct
from typing import Final

__all__ = ["binary_tsvector"]

MOST_BYTES: Final = 2046
"""The bytes of a lexeme (below MAXSTRLEN)."""

MOST_POSITIONS: Final = 256
"""The positions of a lexeme that are kept (MAXNUMPOS)."""

LAST_POSITION: Final = 16383
"""The largest position; larger ones become it (MAXENTRYPOS)."""

WEIGHTS: Final = {"": 0, "C": 1, "B": 2, "A": 3, "*": 3}

_SPACE: Final = re.compile(r"[ \t\n\r\f\v]*")
_QUOTED: Final = re.compile(r"'((?:[^'\\]|''|\\.)+)'", re.DOTALL)
_PLAIN: Final = re.compile(r"(?:[^ \t\n\r\f\v'\\]|\\.)(?:[^ \t\n\r\f\v:\\]|\\.)*", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED_OR_DOUBLED: Final = re.compile(r"\\(.)|''", re.DOTALL)
# The server passes over a D, and over digits behind a weight.
_POSITION: Final = re.compile(r"([0-9]+)[0-9Dd]*([ABCabc*]?)[0-9]*(,|(?![^ \t\n\r\f\v]))")


def binary_tsvector(text: str) -> bytes:
    """Return the binary form, as tsvectorsend() has it; raises ValueError for a text that is none."""
    lexemes: dict[bytes, dict[int, int]] = {}
    at = _space(text, 0)
    while at < len(text):
        lexeme, at = _lexeme(text, at)
        if len(lexeme) > MOST_BYTES:
            raise ValueError(f"a lexeme has {len(lexeme)} bytes, and at most {MOST_BYTES} are possible")
        positions = lexemes.setdefault(lexeme, {})
        if text.startswith(":", at):
            at = _positions(text, at + 1, positions)
        at = _space(text, at)
    made = [struct.pack("!i", len(lexemes))]
    for lexeme in sorted(lexemes):
        # The position that stands for all larger ones is the last.
        kept = sorted(lexemes[lexeme].items())[:MOST_POSITIONS]
        words = [weight << 14 | position for position, weight in kept]
        made.append(lexeme + struct.pack(f"!xH{len(words)}H", len(words), *words))
    return b"".join(made)


def _space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    assert found
    return found.end()


def _lexeme(text: str, at: int) -> tuple[bytes, int]:
    """Read a lexeme; return it and the place behind it."""
    if text[at] == "'":
        found = _QUOTED.match(text, at)
        lexeme = found and _ESCAPED_OR_DOUBLED.sub(lambda escape: escape[1] or "'", found[1])
    else:
        found = _PLAIN.match(text, at)
        lexeme = found and _ESCAPED.sub(r"\1", found[0])
    if not found or not lexeme:
        raise ValueError(f"a lexeme is expected at character {at + 1}")
    if text[at] != "'" and any(character.isspace() for character in found[0] if not character.isascii()):
        # It depends on the server's locale whether it ends the lexeme.
        raise ValueError(f"the lexeme at character {at + 1} has a space that is not ASCII: put it into quotes")
    return lexeme.encode(), found.end()


def _positions(text: str, at: int, positions: dict[int, int]) -> int:
    """Read positions behind a colon; of a position that comes twice the larger weight counts.

    The server does the same, but of the last position it keeps any of the weights.
    """
    while True:
        found = _POSITION.match(text, at)
        position = min(int(found[1][:9]), LAST_POSITION) if found else 0
        if not found or not position:
            raise ValueError(f"a position from 1 on is expected at character {at + 1}")
        positions[position] = max(positions.get(position, 0), WEIGHTS[found[2].upper()])
        at = found.end()
        if not found[3]:
            return at
