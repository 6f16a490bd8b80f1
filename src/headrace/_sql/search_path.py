"""The effect of a text on the session's search_path, as far as its words show.

Source: PostgreSQL documentation, SET ("SCHEMA"), RESET, DISCARD, and set_config() (functions-admin-set).
"""

from __future__ import annotations

import re

from headrace._sql.classify import classify

__all__ = ["may_reset_search_path", "may_set_search_path", "may_undo_search_path"]

_SET_SCHEMA = re.compile(r"\bset\s+(?:session\s+|local\s+)?schema\b").search

_MAY_UNDO = re.compile(r"\b(?:commit|end|rollback|abort|prepare)\b", re.IGNORECASE).search
_UNDOING = frozenset(("COMMIT", "END", "ROLLBACK", "ABORT", "PREPARE"))
_MAY_RESET = re.compile(r"\b(?:reset|discard)\b", re.IGNORECASE).search
_RESETTING = frozenset(("RESET", "DISCARD"))


def may_set_search_path(sql: str) -> bool:
    """Return whether a text names search_path, or calls a function that sets any setting.

    A function of the program may set it unseen. A text that only reads it counts too.
    """
    lower = sql.lower()
    return "search_path" in lower or "set_config" in lower or ("schema" in lower and _SET_SCHEMA(lower) is not None)


def may_undo_search_path(sql: str) -> bool:
    """Return whether a text ends a transaction or a part of it, which undoes SET LOCAL or a rolled-back SET."""
    return _MAY_UNDO(sql) is not None and not _UNDOING.isdisjoint(classify(sql).keywords)


def may_reset_search_path(sql: str) -> bool:
    """Return whether a text returns settings to the session's defaults."""
    return _MAY_RESET(sql) is not None and not _RESETTING.isdisjoint(classify(sql).keywords)
