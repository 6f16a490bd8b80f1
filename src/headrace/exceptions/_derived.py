"""The driver's own errors that derive from the classes of SQLSTATEs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from ._base import REFINED, ClientConfigurationError, InterfaceError, PostgresError
from ._sqlstate import (
    CharacterNotInRepertoireError,
    ConnectionDoesNotExistError,
    DataError,
    FeatureNotSupportedError,
    InvalidPasswordError,
)

__all__ = [
    "ArgumentError",
    "InvalidCachedStatementError",
    "MissingPasswordError",
    "NulCharacterError",
    "UnrepresentableValueError",
]


class InvalidCachedStatementError(FeatureNotSupportedError):
    """The columns or types of a prepared statement's result have changed since it was prepared.

    `str()` of it contains two texts that programs search for: asyncpg's, and the server's, which is `message`.
    """

    hint = "The schema has changed since the statement was prepared. Run the transaction again."

    def __str__(self) -> str:
        text = super().__str__()
        return text if _INVALID_STATEMENT in text else f"{_INVALID_STATEMENT}: {text}" if text else _INVALID_STATEMENT


_INVALID_STATEMENT: Final = "cached statement plan is invalid due to a database schema or configuration change"
_STALE_PLAN: Final = "cached plan must not change result type"


def _stale_plan(fields: Mapping[str, str]) -> type[PostgresError] | None:
    """Return the class for the 0A000 of plancache.c, None for others. Some poolers and servers send only its text."""
    stale = fields.get("R") == "RevalidateCachedQuery" or fields.get("M") == _STALE_PLAN
    return InvalidCachedStatementError if stale else None


REFINED["0A000"] = _stale_plan


class ArgumentError(DataError, InterfaceError, ValueError):
    """A query argument cannot be encoded. Nothing of the query was sent.

    Programs may catch it as DataError, which is the server's error for bad values (class 22), as InterfaceError or as
    ValueError. `safe_to_retry` is False, because the same argument would fail again.
    """


class NulCharacterError(ArgumentError, CharacterNotInRepertoireError):
    """A text argument contains a NUL character, which PostgreSQL's texts cannot contain.

    It has the SQLSTATE of the server's error for this.
    """


class MissingPasswordError(InvalidPasswordError, ClientConfigurationError):
    """The server asks for a password, and none is given.

    Programs may catch it as InvalidPasswordError, because the server does not let the user in, or as
    ClientConfigurationError. It has the SQLSTATE of the server's error for a wrong password.
    """


class UnrepresentableValueError(DataError, InterfaceError, ValueError, OverflowError):
    """The server sent a value that the Python type cannot represent, such as a date before the year 1.

    Only its query fails. `column_name`, `schema_name` and `data_type_name` identify the value, and the message shows
    its text form.
    """


_ENDING_CLASSES: dict[type, Any] = {}


def _ending_class(cls: type[PostgresError]) -> Any:
    """Return the class that derives from both `cls` and ConnectionDoesNotExistError. It is created once.

    It is named like `cls`, so that logs and tracebacks show the server's error.
    """

    def reduce(self: PostgresError) -> tuple[Any, ...]:
        return _unpickled, (cls, self.args), self.__dict__

    if cls not in _ENDING_CLASSES:
        members = {"__doc__": cls.__doc__, "__module__": cls.__module__, "__reduce__": reduce}
        _ENDING_CLASSES[cls] = type(cls.__name__, (cls, ConnectionDoesNotExistError), members)
    return _ENDING_CLASSES[cls]


def _unpickled(cls: type[PostgresError], args: tuple[object, ...]) -> PostgresError:
    """Recreate an error that is both `cls` and ConnectionDoesNotExistError."""
    error = cls(*args)
    error.__class__ = _ending_class(cls)
    return error


def ending_error(error: PostgresError) -> PostgresError:
    """Make a server's error that ended the connection a ConnectionDoesNotExistError too; return it.

    Programs can catch it as the server's error, such as AdminShutdownError, or as the loss of the connection. The
    SQLSTATE is the server's.
    """
    cls = type(error)
    if isinstance(error, ConnectionDoesNotExistError):
        return error
    error.__dict__.setdefault("sqlstate", error.sqlstate)
    # A program's own class may have another layout, or forbid subclasses. Its error is then raised unchanged.
    with suppress(TypeError):
        is_base = issubclass(ConnectionDoesNotExistError, cls)
        error.__class__ = ConnectionDoesNotExistError if is_base else _ending_class(cls)
    return error


def is_safe_to_retry(error: BaseException) -> bool:
    """Return whether the call that raised `error` can be made again without doing its work twice.

    It is True if the error says so (`error.safe_to_retry`): the server provably never started the request, or the
    request only reads, or no connection could be made (OSError). It is False for every other exception. For instance,
    after the TimeoutError of a query it is unknown whether the server executes it. The result is about the one call
    that raised the error. Inside a transaction block it is False, because the whole block has to be repeated.
    """
    return getattr(error, "safe_to_retry", False) is True
