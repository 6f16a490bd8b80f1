"""Errors of the driver's own that derive from the classes of SQLSTATEs."""

from __future__ import annotations

from ._base import InterfaceError
from ._sqlstate import CharacterNotInRepertoireError, DataError, FeatureNotSupportedError

__all__ = ["ArgumentError", "InvalidCachedStatementError", "NulCharacterError", "UnrepresentableValueError"]


class InvalidCachedStatementError(FeatureNotSupportedError):
    """The result of a prepared statement has other columns or types than when the statement was prepared."""


class ArgumentError(DataError, InterfaceError, ValueError):
    """A query argument cannot be encoded; nothing of its query has been sent.

    Programs may catch it as DataError, which is also what the server raises for bad values (class 22), as
    InterfaceError or as ValueError. `safe_to_retry` is False all the same: the same argument fails again.
    """


class NulCharacterError(ArgumentError, CharacterNotInRepertoireError):
    """A text among the arguments has a NUL character, which PostgreSQL's texts do not.

    It has the SQLSTATE that the server would have refused it with.
    """


class UnrepresentableValueError(DataError, InterfaceError, ValueError, OverflowError):
    """The server has sent a value that the Python type for it does not hold, such as a date before the year 1.

    Its query fails and nothing else. `column_name`, `schema_name` and `data_type_name` say where it is, and the message
    shows it as the server prints it.
    """
