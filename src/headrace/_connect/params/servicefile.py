"""Reads a connection service file: options under the name of a service.

Source: PostgreSQL documentation, "The Connection Service File". Errors show no values.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from headrace._connect.params.options import OPTIONS, canonical, is_secret, unknown_option
from headrace._connect.platform import home
from headrace.exceptions import ClientConfigurationError


def read_service(service: str, servicefile: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the options of a service, from the user's file or the system-wide one.

    `servicefile` is a file that was named by keyword argument, DSN or PGSERVICEFILE and must exist. Without it the
    files are ~/.pg_service.conf and pg_service.conf in PGSYSCONFDIR. The first that defines the service counts.

    Raises ClientConfigurationError if no file defines the service, a file cannot be read, or a line is malformed.
    """
    paths = []
    if servicefile is not None:
        paths.append(servicefile)
    elif directory := home(environ):
        paths.append(os.path.join(directory, ".pg_service.conf"))
    if directory := environ.get("PGSYSCONFDIR"):
        paths.append(os.path.join(directory, "pg_service.conf"))
    searched = []
    for path in paths:
        try:
            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                lines = file.read().split("\n")
        except FileNotFoundError:
            if path == servicefile:
                raise ClientConfigurationError(f"the service file {path!r} does not exist") from None
            continue
        except OSError as reason:
            raise ClientConfigurationError(f"the service file {path!r} cannot be read: {reason.strerror}") from None
        found = _section(lines, service, path)
        if found is not None:
            return found
        searched.append(path)
    raise ClientConfigurationError(
        f"no service file defines the service {service!r}",
        detail=f"Looked into: {', '.join(searched) or 'no file, as there is none'}.",
        hint=f"Add a section [{service}] to ~/.pg_service.conf, or name another file as servicefile.",
    )


def _section(lines: list[str], service: str, path: str) -> dict[str, str] | None:
    """Return the options between [service] and the next section; None if there is no such section."""
    values: dict[str, str] | None = None
    previous: str | None = None
    for number, line in enumerate(lines, 1):
        line = line.strip(" \t\r\v\f")
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            if values is not None:
                break
            if line.startswith(f"[{service}]"):
                values = {}
            continue
        if values is None:
            continue
        where = f"service file {path!r}, line {number}"
        name, separator, value = line.partition("=")
        if not separator:
            raise ClientConfigurationError(f"{where}: expected option=value, found no '=' (the line is not shown)")
        if name in ("service", "servicefile"):
            raise ClientConfigurationError(f"{where}: a service cannot refer to another one by {name!r}")
        if name != name.strip():
            raise ClientConfigurationError(f"{where}: there must be no space before the '=' of {name.strip()!r}")
        name, value = canonical(name, value)
        if name not in OPTIONS:
            raise unknown_option(name, where, hidden=is_secret(previous))
        # As in libpq, the first of two lines for one option counts.
        values.setdefault(name, value)
        previous = name
    return values
