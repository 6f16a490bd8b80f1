"""From the fields of an ErrorResponse or NoticeResponse to an instance of the right class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ._base import BY_SQLSTATE, FIELDS, PostgresError, PostgresLogMessage, UnknownPostgresError
from ._derived import InvalidCachedStatementError
from ._hints import syntax_hint
from ._sqlstate import FeatureNotSupportedError

__all__ = ["new_error", "new_notice"]

_STALE_PLAN: Final = "cached plan must not change result type"


def _attributes(fields: Mapping[str, str]) -> dict[str, Any]:
    """Name the fields; unknown codes are left out, as the protocol asks of a frontend."""
    return {FIELDS[code]: value for code, value in fields.items() if code in FIELDS}


def _error_class(fields: Mapping[str, str]) -> type[PostgresError]:
    sqlstate = fields.get("C", "")
    for key in (sqlstate, f"{sqlstate[:2]}000"):
        cls = BY_SQLSTATE.get(key)
        # A function may RAISE EXCEPTION with the SQLSTATE of a warning; it stays an error.
        if cls is not None and issubclass(cls, PostgresError):
            break
    else:
        return UnknownPostgresError
    # The one 0A000 to be told apart comes from plancache.c; some poolers and servers send its text alone.
    stale = fields.get("R") == "RevalidateCachedQuery" or fields.get("M") == _STALE_PLAN
    return InvalidCachedStatementError if cls is FeatureNotSupportedError and stale else cls


def new_error(fields: Mapping[str, str], query: str | None = None) -> PostgresError:
    """Make the exception for an ErrorResponse.

    `fields` holds the fields by their one-letter codes, `query` the text that was answered so, where there
    is one. The class is that of the SQLSTATE; if there is none, that of the SQLSTATE's class (its first two
    characters); if there is none either, or no SQLSTATE at all, UnknownPostgresError. Never raises,
    whatever the server sent.
    """
    cls, message = _error_class(fields), fields.get("M", "")
    try:
        error = cls(message)
    except Exception:
        # A program's own class may want other arguments; that is no reason to lose what the server said.
        error = PostgresError(message)
    error.__dict__.update(_attributes(fields))
    if not (error.sqlstate and error.sqlstate.isascii() and error.sqlstate.isalnum()):
        error.sqlstate = None
    error.query = query
    if error.hint is None:
        if isinstance(error, InvalidCachedStatementError):
            error.hint = "The schema has changed since the statement was prepared. Run the transaction again."
        elif query is not None:
            error.hint = syntax_hint(fields, query)
    return error


def new_notice(fields: Mapping[str, str], query: str | None = None) -> PostgresLogMessage:
    """Make the message for a NoticeResponse; arguments as for `new_error`.

    The class is that of the warning with this SQLSTATE, PostgresWarning for other SQLSTATEs of class 01,
    and PostgresLogMessage for all else, also where a function raises a mere warning with the SQLSTATE of an
    error.
    """
    sqlstate = fields.get("C", "")
    notice = PostgresLogMessage()
    for key in (sqlstate, f"{sqlstate[:2]}000"):
        cls = BY_SQLSTATE.get(key)
        if cls is not None and issubclass(cls, PostgresLogMessage):
            notice = cls(fields.get("M", ""))
            break
    notice.__dict__.update(_attributes(fields), query=query)
    if not sqlstate:
        notice.__dict__.pop("sqlstate", None)
    return notice
