"""Reads the environment: PG* variables, the user's name and home directory.

Source: PostgreSQL documentation, "Environment Variables". An empty variable counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from headrace._connect import platform
from headrace._connect.params.options import OPTIONS, STARTUP_VARIABLES
from headrace.exceptions import ClientConfigurationError

_OPTIONS: Final = {option.variable: option.name for option in OPTIONS.values() if option.variable}
"""Environment variables -> the names of their options."""

SMALL: Final = 200
"""So many variables can be looked through in less time than the options can be asked for one by one."""


def variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the options that the environment sets: name -> variable and value."""
    # Asking os.environ for a variable that is not set costs several times as much as a step of a pass over all of them.
    present = _OPTIONS.keys() & environ.keys() if len(environ) < SMALL else _OPTIONS.keys()
    found = {
        name: (variable, value)
        for variable, name in _OPTIONS.items()
        if variable in present and (value := environ.get(variable))
    }
    if "sslmode" not in found and environ.get("PGREQUIRESSL", "").startswith("1"):
        # This variable is older than PGSSLMODE; libpq still reads it.
        found["sslmode"] = ("PGREQUIRESSL", "require")
    return found


def startup_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the session settings in the environment (PGDATESTYLE, PGTZ, PGGEQO)."""
    return {
        setting: environ[variable]
        for variable, setting in STARTUP_VARIABLES.items()
        if environ.get(variable) and environ[variable].lower() != "default"
    }


def system_user() -> str:
    """Return the operating system's name for the user."""
    name = platform.user_name()
    if name is None:
        raise ClientConfigurationError(
            "user is not given, and the operating system has no name for the user of this process",
            hint="Give user=..., name it in the DSN or set PGUSER.",
        )
    return name
