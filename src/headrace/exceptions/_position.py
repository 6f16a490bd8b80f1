"""The place in a query that an error of the server is about, as psql shows it: the line, and a caret below it.

Source: reportErrorPosition() in src/interfaces/libpq/fe-protocol3.c.
"""

from __future__ import annotations

import unicodedata
from typing import Final

WIDTH: Final = 60
"""The most columns of a line that are shown."""

RIGHT_OF_PLACE: Final = 10
"""So many columns to the right of the place are shown, if the line is that long."""


def marked_line(query: str, position: str | None) -> str | None:
    """Return "LINE 1: SELECT 1 FORM x", a line break, and a caret below the place; None without a place.

    `position` is the field of the ErrorResponse: the number of a character from 1. Only the part of a long line around
    the place is shown.
    """
    place = position_of(position)
    if place is None or place > len(query):
        return None
    # As on the server, each of \r, \n and \r\n ends a line.
    before = query[:place]
    number = 1 + before.count("\n") + before.count("\r") - before.count("\r\n")
    start = max(before.rfind("\n"), before.rfind("\r")) + 1
    end = min((at for at in (query.find("\n", place), query.find("\r", place)) if at >= 0), default=len(query))
    # Only this much can be shown, and a line may be very long.
    left = max(start, place - 2 * WIDTH)
    right = min(end, place + 2 * WIDTH)
    line, at = query[left:right].replace("\t", " "), place - left
    first, last = _visible_part(line, at)
    prefix = f"LINE {number}: {'...' if first or left > start else ''}"
    suffix = "..." if last < len(line) or right < end else ""
    blanks = " " * (len(prefix) + _columns(line[first:at]))
    return f"{prefix}{line[first:last]}{suffix}\n{blanks}^"


def position_of(position: str | None) -> int | None:
    """Return the index of a character, from the field of an ErrorResponse; None if it is no position."""
    if position is None or not (position.isascii() and position.isdecimal()) or len(position) > 9:
        return None
    return int(position) - 1 if int(position) else None


def _visible_part(line: str, at: int) -> tuple[int, int]:
    """Return the start and the end of the part of a line that is shown: the right end is cut first, then the left."""
    first, last = 0, len(line)
    if _columns(line) <= WIDTH:
        return first, last
    enough = WIDTH if _columns(line[:at]) + RIGHT_OF_PLACE <= WIDTH else _columns(line[:at]) + RIGHT_OF_PLACE
    while _columns(line[:last]) > enough:
        last -= 1
    while _columns(line[first:last]) > WIDTH:
        first += 1
    return first, last


def _columns(text: str) -> int:
    """Return the columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(each) else 2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text
    )
