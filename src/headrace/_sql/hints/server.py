"""The exception for an ErrorResponse, with the driver's hint if the server gives none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from headrace._sql.hints import lists, names, placeholders, statements
from headrace._sql.hints.tokens import LONGEST, Refused
from headrace.exceptions import PostgresError

__all__ = ["server_error"]

_HINTS: Final[dict[str, tuple[Callable[[Refused], str | None], ...]]] = {
    "22007": (placeholders.constant,),
    "22P02": (placeholders.constant,),
    "25001": (statements.in_block,),
    "25P02": (statements.after_failure,),
    "42601": (lists.syntax, placeholders.syntax, statements.syntax, statements.several, names.syntax),
    "42703": (names.column,),
    "42883": (placeholders.operator,),
    "42P01": (names.table, names.copied),
    "42P02": (statements.missing,),
    "42P08": (statements.inconsistent,),
    "42P18": (statements.undetermined,),
}
"""SQLSTATE -> the functions that know a mistake behind it, in the order in which they are asked."""

_MORE_CERTAIN: Final = frozenset(("42883",))
"""For these the server has a hint whatever the cause. The driver's is better if there is one."""


def server_error(fields: Mapping[str, str], query: str | None) -> PostgresError:
    """Return the exception for an ErrorResponse. `query` is the text that caused it."""
    error = PostgresError.new(fields, query)
    if query is None or len(query) > LONGEST or (error.hint is not None and error.sqlstate not in _MORE_CERTAIN):
        return error
    # An error in a query inside a function is not about the text that was sent.
    if "q" not in fields:
        refused = Refused(fields, query)
        for find in _HINTS.get(fields.get("C", ""), ()):
            hint = find(refused)
            if hint is not None:
                error.hint = hint
                break
    return error
