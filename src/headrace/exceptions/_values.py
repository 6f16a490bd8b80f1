"""The values of a program in the texts of errors: cut short, because logs keep the texts."""

from __future__ import annotations

from reprlib import Repr
from typing import Final

LONGEST: Final = 60
"""The most characters of a value that an error shows."""

_repr = Repr()
_repr.maxlevel = 4
_repr.maxtuple = _repr.maxlist = _repr.maxarray = _repr.maxdict = LONGEST // 2
_repr.maxset = _repr.maxfrozenset = _repr.maxdeque = LONGEST // 2
_repr.maxstring = _repr.maxother = _repr.maxlong = 10 * LONGEST


def shown(value: object) -> str:
    """Return the start of a value's repr, at most 60 characters. It never raises, and reads no more than it needs.

    A text may be personal data, and a list may have a million elements.
    """
    try:
        text = repr(value[:LONGEST]) if isinstance(value, (str, bytes, bytearray)) else _repr.repr(value)
        # A subclass may return anything.
        cut = len(text) > LONGEST or (isinstance(value, (str, bytes, bytearray)) and len(value) > LONGEST)
    except Exception:
        return f"<{type(value).__name__}>"
    return text[: LONGEST - 3] + "..." if cut else text
