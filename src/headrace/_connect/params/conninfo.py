"""Parses a DSN: chooses the form, and parses the keyword/value form.

Source: PostgreSQL documentation, "Connection Strings", "Keyword/Value Connection Strings". Errors show no values,
because any word of a malformed DSN may be part of the password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from headrace._connect.params.options import OPTIONS, canonical, is_secret, unknown_option
from headrace._connect.params.uri import BLANKS, SCHEMES, parse_uri
from headrace.exceptions import ClientConfigurationError

_BLANK: Final = frozenset(BLANKS)

_SCHEME: Final = re.compile(r"(?:jdbc:)?[A-Za-z0-9]+(\+[A-Za-z0-9]+)?://")


@dataclass(frozen=True, slots=True)
class Dsn:
    """The values in a DSN, by option name, as text."""

    values: dict[str, str]
    authority_ports: bool = False
    """True if the ports were given next to the hosts of a URI, so that they only apply to those hosts."""

    def __repr__(self) -> str:
        return f"<Dsn {', '.join(self.values)}>"


def parse_dsn(dsn: str) -> Dsn:
    """Parse a DSN in either form. White space around it is ignored: a file usually ends in a line break.

    Raises ClientConfigurationError if it is malformed or names an unknown option.
    """
    if "\0" in dsn:
        raise ClientConfigurationError("the DSN contains a NUL character, which no connection parameter can contain")
    # In the other form a backslash may escape a space at the end. Its words are separated by blanks anyway.
    stripped = dsn.strip(BLANKS)
    if stripped.startswith(SCHEMES):
        values, authority_ports = parse_uri(stripped)
        return Dsn(values, authority_ports)
    if scheme := _SCHEME.match(stripped):
        raise ClientConfigurationError(
            'invalid DSN: scheme is expected to be either "postgresql" or "postgres", '
            f"got {scheme[0].removesuffix('://')!r}",
            hint=f'Drop the "{scheme[1]}" that names a driver.' if scheme[1] else None,
        )
    return Dsn(parse_conninfo(dsn))


def parse_conninfo(conninfo: str) -> dict[str, str]:
    """Parse `host=localhost dbname='my db'`; return the last value of each name.

    Blanks separate words, quotes enclose a value with blanks, and a backslash escapes the next character, inside quotes
    and outside.
    """
    values: dict[str, str] = {}
    previous: str | None = None
    at, end = 0, len(conninfo)
    while True:
        at = _skip_blanks(conninfo, at)
        if at >= end:
            return values
        start = at
        while at < end and conninfo[at] != "=" and conninfo[at] not in _BLANK:
            at += 1
        name = conninfo[start:at]
        at = _skip_blanks(conninfo, at)
        if at >= end or conninfo[at] != "=":
            raise ClientConfigurationError(
                f'the DSN has no "=" after its word at character {start + 1} (words are not shown: one may be'
                " part of the password)",
                hint='A DSN is either "postgresql://user@host/database" or "host=... dbname=...";'
                " a value with spaces needs quotes: password='two words'.",
            )
        value, at = _value(conninfo, _skip_blanks(conninfo, at + 1))
        name, value = canonical(name, value)
        if name not in OPTIONS:
            raise unknown_option(name, "DSN", hidden=is_secret(previous))
        values[name] = value
        previous = name


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at] in _BLANK:
        at += 1
    return at


def _value(text: str, at: int) -> tuple[str, int]:
    """Return the value that starts at `at`, without quotes and escapes, and the position after it."""
    quoted = text.startswith("'", at)
    start = at
    if quoted:
        at += 1
    characters: list[str] = []
    while at < len(text):
        character = text[at]
        if quoted and character == "'":
            return "".join(characters), at + 1
        if not quoted and character in _BLANK:
            return "".join(characters), at
        if character == "\\":
            # A lone backslash at the end is ignored.
            at += 1
            character = text[at : at + 1]
        characters.append(character)
        at += 1
    if quoted:
        raise ClientConfigurationError(f"the DSN has no closing quote for the one at character {start + 1}")
    return "".join(characters), at
