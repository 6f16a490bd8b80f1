"""Why the hosts of a connection string could not be used: a few words for each."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.exceptions import (
    ConnectionDoesNotExistError,
    InterfaceError,
    PostgresError,
    ProtocolError,
    TargetServerAttributeNotMatched,
)

if TYPE_CHECKING:
    from headrace._connect.params.resolve import Address

_NOT_FOUND: Final = {
    "primary": "no primary among",
    "read-write": "no server that takes writes among",
    "read-only": "no server that is read-only among",
    "standby": "no standby among",
}

_SQLSTATES: Final = {
    "57P01": "shutting down",
    "57P02": "shutting down",
    "57P03": "not ready",
    "53300": "too many connections",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """An attempt at an address that has failed."""

    address: Address
    where: str
    """The address, with the socket address if the host has another name."""
    error: Exception
    state: str
    """The state of the host, in a few words."""


def state_of(error: Exception) -> str:
    """Return the state of a host in a few words, by the error of an attempt."""
    if isinstance(error, TargetServerAttributeNotMatched):
        return error.role or "of another kind"
    if isinstance(error, ConnectionDoesNotExistError):
        return "closed the connection"
    if isinstance(error, PostgresError):
        return _SQLSTATES.get(error.sqlstate or "", f"SQLSTATE {error.sqlstate}")
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, TimeoutError) and error.errno is None:
        return str(error).partition(" (")[0] or "no answer"
    if isinstance(error, socket.gaierror):
        return "unknown host"
    if isinstance(error, ssl.SSLError):
        return "TLS failed"
    if isinstance(error, OSError):
        return os.strerror(error.errno).lower() if error.errno else type(error).__name__
    if isinstance(error, ProtocolError):
        return "no PostgreSQL"
    if isinstance(error, InterfaceError):
        return "not trusted"
    return type(error).__name__


def no_server(wanted: str, addresses: Sequence[Address], failures: Iterable[Failure]) -> str:
    """Return the text that no server of the kind wanted was found, with the state of each host."""
    found = list(failures)
    states = []
    for address in dict.fromkeys(addresses):
        own = [failure for failure in found if failure.address == address]
        states += [f"{failure.where} ({failure.state})" for failure in own] or [f"{address} (not tried)"]
    return f"{_NOT_FOUND.get(wanted, 'no server among')} {', '.join(states)}"
