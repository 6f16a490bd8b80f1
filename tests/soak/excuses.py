"""Which errors are excused, by what was done to a route."""

from __future__ import annotations

from headrace import InterfaceError, PostgresError
from headrace.exceptions import (
    AdminShutdownError,
    CannotConnectNowError,
    ConnectionDoesNotExistError,
    InFailedSQLTransactionError,
    QueryCanceledError,
)

CLOSED = ("connection is closed", "connection was closed", "connection has been released")
"""What the messages say where a connection is used after its end: an earlier call has told why."""


def is_loss(error: BaseException) -> bool:
    """Return whether an error says that the connection was lost, or could not be made."""
    if isinstance(error, InterfaceError):
        return any(text in str(error) for text in CLOSED)
    return isinstance(error, ConnectionDoesNotExistError | AdminShutdownError | CannotConnectNowError | OSError) and (
        not isinstance(error, TimeoutError)
    )


def is_overdue(error: BaseException) -> bool:
    """Return whether a connection was given up because a CancelRequest had no effect in time: the link is slow."""
    return isinstance(error, ConnectionDoesNotExistError) and "CancelRequest within" in str(error)


def is_cancellation(error: BaseException) -> bool:
    """Return whether an error says that the server cancelled the query, nobody knows why.

    In a transaction it may have been the query before.
    """
    reason = error.__cause__ if isinstance(error, InFailedSQLTransactionError) else error
    return isinstance(reason, QueryCanceledError)


def is_refusal(error: BaseException) -> bool:
    """Return whether the server said no, so that nothing was done, and the connection lives on."""
    return isinstance(error, PostgresError) and not isinstance(
        error, ConnectionDoesNotExistError | AdminShutdownError | CannotConnectNowError
    )
