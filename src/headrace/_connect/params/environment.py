"""Reads the environment: PG* variables, the user's name and home directory.

Source: PostgreSQL documentation, "Environment Variables". An empty variable counts as not set.
"""

from __future__ import annotations

from collections.abc import Mapping

from headrace._connect import platform
from headrace._connect.params.options import OPTIONS, STARTUP_VARIABLES
from headrace.exceptions import ClientConfigurationError


def variables(environ: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Return the options that the environment sets: name -> variable and value."""
    found = {
        option.name: (option.variable, environ[option.variable])
        for option in OPTIONS.values()
        if option.variable and environ.get(option.variable)
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
