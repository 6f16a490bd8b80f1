"""The role of a server, by what it reports, and whether it suits `target_session_attrs`.

Source: PostgreSQL documentation, `target_session_attrs` in "Parameter Key Words" (libpq-paramkeywords), and
`in_hot_standby` in "Preset Options".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

STANDBY: Final = "in_hot_standby"
READ_ONLY: Final = "default_transaction_read_only"


def reports_role(parameters: Mapping[str, str]) -> bool:
    """Return whether a server reports its role. It does since PostgreSQL 14, but some poolers do not pass it on."""
    return STANDBY in parameters and READ_ONLY in parameters


def role(parameters: Mapping[str, str]) -> str:
    """Return 'primary', 'standby', or 'read-only' for a primary whose transactions are read-only by default."""
    if parameters.get(STANDBY) == "on":
        return "standby"
    return "read-only" if parameters.get(READ_ONLY) == "on" else "primary"


def suits(wanted: str, parameters: Mapping[str, str]) -> bool:
    """Return whether a server is of the kind wanted. With 'prefer-standby' every server is."""
    found = role(parameters)
    return {
        "read-write": found == "primary",
        "read-only": found != "primary",
        "primary": found != "standby",
        "standby": found == "standby",
    }.get(wanted, True)


def mismatch(wanted: str, parameters: Mapping[str, str]) -> str | None:
    """Return how a server differs from the kind wanted; None if it does not."""
    if suits(wanted, parameters):
        return None
    return f"{STANDBY} is {parameters.get(STANDBY)}, {READ_ONLY} is {parameters.get(READ_ONLY)}"
