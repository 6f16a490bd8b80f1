"""Reads the environment: PG* variables, the user's name and home directory.

Source: PostgreSQL documentation, "Environment Variables". An empty variable counts as not set.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

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


def home(environ: Mapping[str, str]) -> str | None:
    """Return the user's home directory; None if the system knows none."""
    if environ.get("HOME"):
        return environ["HOME"]
    try:
        return pwd.getpwuid(os.geteuid()).pw_dir or None
    except KeyError:
        return None


def system_user() -> str:
    """Return the operating system's name for the effective user, as libpq and psql do."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise ClientConfigurationError(
            f"user is not given, and the operating system has no name for user ID {os.geteuid()}",
            hint="Give user=..., name it in the DSN or set PGUSER.",
        ) from None
