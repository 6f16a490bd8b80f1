"""Errors of connecting that may be temporary."""

from __future__ import annotations

import ssl
from typing import Final

from headrace.exceptions._base import PostgresError, TargetServerAttributeNotMatched
from headrace.exceptions._sqlstate import ConnectionDoesNotExistError

_TRANSIENT: Final = frozenset({"57P01", "57P02", "57P03", "57P05"})
"""The server is shutting down or not ready yet ("PostgreSQL Error Codes")."""

_TRANSIENT_CLASSES: Final = ("08", "53")
"""Connection exceptions and insufficient resources, including too many connections."""


def is_transient(error: BaseException) -> bool:
    """Return whether the same attempt to connect may succeed later: no server, or one that is not ready or is full.

    Errors that do not go away by themselves are a login or a database that the server refuses (SQLSTATE classes 28 and
    3D, 42501), a wrong certificate or configuration, and an error of the program's own callback.
    """
    if isinstance(error, PostgresError) and error.sqlstate is not None:
        if not isinstance(error, ConnectionDoesNotExistError):
            return error.sqlstate in _TRANSIENT or error.sqlstate[:2] in _TRANSIENT_CLASSES
        return True
    if isinstance(error, ssl.SSLCertVerificationError):
        return False
    return isinstance(error, (OSError, ConnectionDoesNotExistError, TargetServerAttributeNotMatched))
