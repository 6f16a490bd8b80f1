"""The exceptions that PEP 249 demands, and which of them stands for an error of headrace.

SQLAlchemy wraps these in its own classes of the same names. The error of headrace is their cause, and their attribute
`driver_exception`.
"""

from __future__ import annotations

from typing import Any, Final

from headrace import exceptions

try:
    from sqlalchemy.exc import EmulatedDBAPIException
except ImportError:  # SQLAlchemy 2.0

    class EmulatedDBAPIException(Exception):  # type: ignore[no-redef]
        """An exception of a driver that has no PEP 249 interface of its own."""

        def __init__(self, message: str, driver_exception: BaseException | None = None) -> None:
            super().__init__(message)
            self.driver_exception = driver_exception


class Warning(EmulatedDBAPIException):
    """Demanded by PEP 249; it is not raised."""


class Error(EmulatedDBAPIException):
    """The base of the errors."""

    def __init__(self, message: str, error: Exception | None = None) -> None:
        super().__init__(message, error)
        self._error = error
        self.sqlstate: str | None = getattr(error, "sqlstate", None)
        self.pgcode = self.sqlstate
        self.detail: str | None = getattr(error, "detail", None)

    def __getattr__(self, name: str) -> Any:
        """The fields of the server's error: hint, constraint_name, table_name and the like."""
        error = self.__dict__.get("_error")
        if error is None or name.startswith("__"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
        return getattr(error, name)


class InterfaceError(Error):
    """The interface was used in a wrong way."""


class DatabaseError(Error):
    """An error of the server that is none of the following."""


class DataError(DatabaseError):
    """A value is out of range or malformed (SQLSTATE class 22), or not of the type of its parameter."""


class OperationalError(DatabaseError):
    """The server, the connection or another transaction is the reason, not the statement."""


class IntegrityError(DatabaseError):
    """A constraint is violated (class 23)."""


class InternalError(DatabaseError):
    """The server has failed (class XX)."""


class ProgrammingError(DatabaseError):
    """The statement is wrong, or not allowed (class 42)."""


class NotSupportedError(DatabaseError):
    """The server does not support it (class 0A)."""


BY_CLASS: Final[dict[str, type[Error]]] = {
    "08": OperationalError,
    "0A": NotSupportedError,
    "0B": OperationalError,
    "21": ProgrammingError,
    "22": DataError,
    "23": IntegrityError,
    "24": InternalError,
    "25": InternalError,
    "26": ProgrammingError,
    "28": OperationalError,
    "2B": InternalError,
    "2D": InternalError,
    "34": OperationalError,
    "3B": InternalError,
    "3D": OperationalError,
    "3F": ProgrammingError,
    "40": OperationalError,
    "42": ProgrammingError,
    "44": ProgrammingError,
    "53": OperationalError,
    "54": OperationalError,
    "55": OperationalError,
    "57": OperationalError,
    "58": OperationalError,
    "F0": InternalError,
    "XX": InternalError,
}
"""The class of a SQLSTATE (PostgreSQL documentation, "PostgreSQL Error Codes") -> the exception."""


def cause_of(error: BaseException) -> BaseException:
    """Return the error of headrace that an exception stands for, or the exception itself if it stands for none."""
    return getattr(error, "_error", None) or error


def class_for(error: BaseException) -> type[Error] | None:
    """Return the exception that stands for an error of headrace; None for an error that is raised as it is."""
    if isinstance(error, exceptions.PostgresError):
        return BY_CLASS.get((error.sqlstate or "")[:2], DatabaseError)
    if isinstance(error, exceptions.DataError):
        return DataError
    if isinstance(error, exceptions.InterfaceError):
        return InterfaceError
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return OperationalError
    return None


def translated(error: Exception) -> Exception:
    """Return the exception to raise from an error of headrace, or the error itself."""
    if isinstance(error, Error):
        return error
    cls = class_for(error)
    return error if cls is None else cls(str(error), error)
