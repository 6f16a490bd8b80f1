"""Servers that speak PostgreSQL's protocol but are not PostgreSQL, and what they lack.

Each identifies itself by a parameter that it reports at the start (ParameterStatus).

Sources: the SQL references of Amazon Redshift, CockroachDB and CrateDB; PostgreSQL documentation, DISCARD, for the
statements of a reset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final


@dataclass(frozen=True)
class ServerKind:
    """Which of the driver's own statements a server supports."""

    name: str
    advisory_locks: bool = True
    """True if it has pg_advisory_unlock_all()."""
    close_all: bool = True
    """True if it has CLOSE ALL."""
    notifications: bool = True
    """True if it has LISTEN and UNLISTEN."""
    reset_all: bool = True
    """True if it has RESET ALL."""
    tells_state: bool = True
    """True if it reports what has changed in a session: the sources in pg_settings, pg_prepared_statements and
    pg_my_temp_schema()."""
    tells_identity: bool = True
    """True if it reports which server it is: pg_control_system() and pg_postmaster_start_time()."""

    @cached_property
    def reset_query(self) -> str:
        """The statements that reset a session to its initial state; '' if there are none.

        Each ends in a semicolon, because a subclass of Connection may append another one.
        """
        statements = (
            (self.advisory_locks, "SELECT pg_advisory_unlock_all();"),
            (self.close_all, "CLOSE ALL;"),
            (self.notifications, "UNLISTEN *;"),
            (self.reset_all, "RESET ALL;"),
        )
        return "\n".join(statement for has, statement in statements if has)


POSTGRESQL: Final = ServerKind("PostgreSQL")

OTHERS: Final = {
    "padb_revision": ServerKind(
        "Amazon Redshift",
        advisory_locks=False,
        close_all=False,
        notifications=False,
        tells_state=False,
        tells_identity=False,
    ),
    "crdb_version": ServerKind(
        "CockroachDB",
        advisory_locks=False,
        close_all=False,
        notifications=False,
        reset_all=False,
        tells_state=False,
        tells_identity=False,
    ),
    "crate_version": ServerKind(
        "CrateDB",
        advisory_locks=False,
        close_all=False,
        notifications=False,
        reset_all=False,
        tells_state=False,
        tells_identity=False,
    ),
}
"""Other servers by the parameter that identifies each."""


def server_kind(parameters: Mapping[str, str]) -> ServerKind:
    """Return the kind of a server, by the parameters that it has reported."""
    for parameter, kind in OTHERS.items():
        if parameter in parameters:
            return kind
    return POSTGRESQL
