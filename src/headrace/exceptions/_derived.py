"""Errors of the driver's own that derive from the classes of SQLSTATEs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from ._base import REFINED, InterfaceError, PostgresError
from ._sqlstate import (
    CharacterNotInRepertoireError,
    ConnectionDoesNotExistError,
    DataError,
    FeatureNotSupportedError,
)

__all__ = [
    "ArgumentError",
    "InvalidCachedStatementError",
    "NulCharacterError",
    "UnrepresentableValueError",
]


class InvalidCachedStatementError(FeatureNotSupportedError):
    """The result of a prepared statement has other columns or types than when the statement was prepared."""

    hint = "The schema has changed since the statement was prepared. Run the transaction again."


_STALE_PLAN: Final = "cached plan must not change result type"


def _stale_plan(fields: Mapping[str, str]) -> type[PostgresError] | None:
    """Tell the one 0A000 that comes from plancache.c from the others; some poolers and servers send its text alone."""
    stale = fields.get("R") == "RevalidateCachedQuery" or fields.get("M") == _STALE_PLAN
    return InvalidCachedStatementError if stale else None


REFINED["0A000"] = _stale_plan


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


_ENDING_CLASSES: dict[type, Any] = {}


def _ending_class(cls: type[PostgresError]) -> Any:
    """Return the class, made once, that is both `cls` and ConnectionDoesNotExistError.

    It has the name of `cls`: logs and tracebacks name the error by what the server said.
    """

    def reduce(self: PostgresError) -> tuple[Any, ...]:
        return _unpickled, (cls, self.args), self.__dict__

    if cls not in _ENDING_CLASSES:
        members = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__reduce__": reduce}
        _ENDING_CLASSES[cls] = type(cls.__name__, (cls, ConnectionDoesNotExistError), members)
    return _ENDING_CLASSES[cls]


def _unpickled(cls: type[PostgresError], args: tuple[object, ...]) -> PostgresError:
    """Make an error that is both `cls` and ConnectionDoesNotExistError again."""
    error = cls(*args)
    error.__class__ = _ending_class(cls)
    return error


def ending_error(error: PostgresError) -> PostgresError:
    """Make a server's error that has ended the connection a ConnectionDoesNotExistError too; return it.

    Programs catch it as what the server said, such as AdminShutdownError, or as the loss of the connection. Its
    SQLSTATE stays the server's.
    """
    cls = type(error)
    if isinstance(error, ConnectionDoesNotExistError):
        return error
    error.__dict__.setdefault("sqlstate", error.sqlstate)
    # A program's own class may have another layout, or forbid subclasses. What the server said is still told.
    with suppress(TypeError):
        is_base = issubclass(ConnectionDoesNotExistError, cls)
        error.__class__ = ConnectionDoesNotExistError if is_base else _ending_class(cls)
    return error


def is_safe_to_retry(error: BaseException) -> bool:
    """Return whether the call that raised `error` can be made again without doing its work twice.

    True if the error says so (`error.safe_to_retry`): the server provably never started the request, or the request
    only reads, or no connection could be made (OSError). False for every other exception: the TimeoutError of a query,
    for instance, does not tell whether the server carries it out. It speaks of the one call that raised the error.
    Inside a transaction block it is False, because the whole block has to be repeated. Raises nothing.
    """
    return getattr(error, "safe_to_retry", False) is True
