"""Finds a password in a passfile: lines of host:port:database:user:password.

Source: PostgreSQL documentation, "The Password File". A field `*` matches anything; a backslash escapes a colon or a
backslash; the password ends at the next unescaped colon.
"""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Sequence

from headrace._connect.params.secret import Secret, hides_locals
from headrace._connect.platform import READ_FLAGS, open_to_others
from headrace.exceptions import InterfaceWarning


@hides_locals
def find_password(path: str, hosts: Sequence[str], port: int, database: str, user: str) -> Secret | None:
    """Return the password of the first matching line; None if there is none.

    `hosts` are the names of the server: one of them must match. A file that does not exist is ignored. A file that is
    not a plain file, cannot be read, or is accessible to others than its owner is ignored with an InterfaceWarning.
    """
    try:
        # Only fstat returns the kind of file.
        descriptor = os.open(path, READ_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as reason:
        _warn(path, f"cannot be read: {reason.strerror}", None)
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        _warn(path, "is not a plain file", None)
        return None
    with open(descriptor, "rb") as file:
        if open_to_others(status):
            _warn(
                path,
                f"can be used by others than its owner (mode {stat.S_IMODE(status.st_mode):04o})",
                f"chmod 600 {path}",
            )
            return None
        wanted = tuple(_encoded(text) for text in (str(port), database, user))
        for line in file:
            line = line.rstrip(b"\r\n")
            if line.startswith(b"#"):
                continue
            for host in hosts:
                password = _match(line, (_encoded(host), *wanted))
                if password is not None:
                    return Secret(password.decode("utf-8", "surrogateescape")) if password else None
    return None


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _warn(path: str, reason: str, hint: str | None) -> None:
    warnings.warn(InterfaceWarning(f"the passfile {path!r} is ignored: it {reason}", hint=hint), stacklevel=4)


def _match(line: bytes, wanted: tuple[bytes, ...]) -> bytes | None:
    """Return the password of a line if its fields match."""
    for field in wanted:
        rest = _after(line, field)
        if rest is None:
            return None
        line = rest
    return _password(line)


def _after(line: bytes, field: bytes) -> bytes | None:
    """Return the text after a field and its colon; None if the line has another field.

    As in libpq, a colon inside the field need not be escaped if the wanted value has one at the same position, so an
    IPv6 address may be written unescaped.
    """
    if line.startswith(b"*:"):
        return line[2:]
    at = 0
    for expected in field:
        if line[at : at + 1] == b"\\":
            at += 1
        if at >= len(line) or line[at] != expected:
            return None
        at += 1
    return line[at + 1 :] if line[at : at + 1] == b":" else None


def _password(text: bytes) -> bytes:
    """Return the text up to the first unescaped colon, without its backslashes."""
    password = bytearray()
    at = 0
    while at < len(text) and text[at] != ord(":"):
        if text[at] == ord("\\") and at + 1 < len(text):
            at += 1
        password.append(text[at])
        at += 1
    return bytes(password)
