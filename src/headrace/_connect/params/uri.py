"""Parses a connection URI: postgresql://user:password@host:port,host:port/dbname?option=value.

Source: PostgreSQL documentation, "Connection URIs", and RFC 3986 for percent-encoding. As in libpq, user and password
end at the first `@`, a plus sign is not a space, and several hosts are separated by commas. Errors show no part of the
URI that may be the password: if that contains an unescaped `/` or `@`, part of it is parsed as the host, the port or
the database.
"""

from __future__ import annotations

import re
from typing import Final

from headrace._connect.params.options import OPTIONS, canonical, is_secret, unknown_option
from headrace.exceptions import ClientConfigurationError

SCHEMES: Final = ("postgresql://", "postgres://")

BLANKS: Final = " \t\n\v\f\r"
"""isspace() of the C locale: str.isspace() would also split at a no-break space inside a password."""

_ESCAPE: Final = re.compile(rb"%(..)?", re.DOTALL)
_ENCODE_HINT: Final = (
    'In a URI, "@", "/", "?", "%", ":" and spaces inside user and password must be percent-encoded:'
    " urllib.parse.quote(password, safe='') does it."
)


def parse_uri(uri: str) -> tuple[dict[str, str], bool]:
    """Return the values by name, and whether ports were given next to the hosts.

    Raises ClientConfigurationError for malformed URIs and unknown options.
    """
    values: dict[str, str] = {}
    rest = uri[next(len(scheme) for scheme in SCHEMES if uri.startswith(scheme)) :]

    # User and password end at the first "@", if there is one before the first "/".
    before_slash = rest.partition("/")[0]
    if "@" in before_slash:
        identity, _, rest = rest.partition("@")
        user, _, password = identity.partition(":")
        if user:
            values["user"] = _decode(user, "user")
        if password:
            values["password"] = _decode(password, "password")

    hosts, ports, rest = _authority(rest)
    for name, parts in (("host", hosts), ("port", ports)):
        if joined := ",".join(parts):
            values[name] = _decode(joined, name)
    authority_ports = any(ports)
    _refuse_stray_at(hosts, rest)

    if rest.startswith("/"):
        dbname, question, query = rest[1:].partition("?")
        if dbname:
            values["dbname"] = _decode(dbname, "dbname")
    else:
        _, question, query = rest.partition("?")
    if question:
        authority_ports = _query(query, values) and authority_ports
    return values, authority_ports


def _authority(text: str) -> tuple[list[str], list[str], str]:
    """Split `host:port,[v6]:port/...` into hosts, ports ("" if none is given) and the rest."""
    hosts: list[str] = []
    ports: list[str] = []
    while True:
        if text.startswith("["):
            host, bracket, text = text[1:].partition("]")
            if not bracket:
                raise ClientConfigurationError('the DSN has no "]" for the "[" of an IPv6 address', hint=_ENCODE_HINT)
            if not host:
                raise ClientConfigurationError('the DSN has an empty IPv6 address, "[]"')
            if text and text[0] not in ":/?,":
                raise ClientConfigurationError(
                    'the DSN is malformed after the "]" of an IPv6 address, expected ":", "/", "?" or ","',
                    hint=_ENCODE_HINT,
                )
        else:
            host, text = _until(text, ":/?,")
        hosts.append(host)
        port = ""
        if text.startswith(":"):
            port, text = _until(text[1:], "/?,")
        ports.append(port)
        if not text.startswith(","):
            return hosts, ports, text
        text = text[1:]


def _until(text: str, ends: str) -> tuple[str, str]:
    at = next((i for i, character in enumerate(text) if character in ends), len(text))
    return text[:at], text[at:]


def _refuse_stray_at(hosts: list[str], rest: str) -> None:
    """Refuse an `@` that can only be part of a password that was not percent-encoded.

    libpq would connect to a host or database named like half of the password.
    """
    in_host = any("@" in host[1:] for host in hosts)
    in_database = rest.startswith("/") and "@" in rest.partition("?")[0]
    if in_host or in_database:
        raise ClientConfigurationError(
            'the DSN has one "@" too many: user and password end at the first one before any "/"',
            hint=_ENCODE_HINT,
        )


def _query(query: str, values: dict[str, str]) -> bool:
    """Parse `option=value&option=value` into `values`; return whether it did not set host and port."""
    untouched = True
    previous: str | None = None
    # Text before an "@" in the query may be part of a password that was split.
    stray_at = "@" in query
    while query:
        parameter, _, query = query.partition("&")
        name, separator, value = parameter.partition("=")
        if not separator:
            raise ClientConfigurationError(
                'the query of the DSN has a parameter without "=" (not shown: it may be part of the password)',
                hint=_ENCODE_HINT,
            )
        if "=" in value:
            raise ClientConfigurationError(
                f'the query of the DSN has a second "=" in {_shown(name)}',
                hint='Write "=" inside a value as %3D.',
            )
        name = _decode(name, "query")
        value = _decode(value, name if name in OPTIONS else "query")
        if (name, value) == ("ssl", "true"):
            # The name of the option in JDBC (PostgreSQL documentation, "Connection URIs").
            name, value = "sslmode", "require"
        name, value = canonical(name, value)
        if name not in OPTIONS:
            raise unknown_option(name, "DSN", hidden=stray_at or is_secret(previous))
        values[name] = value
        previous = name
        untouched = untouched and name not in ("host", "port")
    return untouched


def _shown(name: str) -> str:
    return f'the parameter "{name}"' if name in OPTIONS else "one of its parameters"


def _decode(text: str, part: str) -> str:
    """Undo percent-encoding. White space around the text is dropped, and an error inside.

    libpq does so for spaces alone. So does this for a secret, which keeps line breaks and tabs.
    """
    blanks = " " if is_secret(part) else BLANKS
    text = text.strip(blanks)
    if not set(blanks).isdisjoint(text):
        blank = "a space" if " " in text else "white space"
        raise ClientConfigurationError(f"the {part} in the DSN contains {blank}", hint="Write a space as %20.")
    encoded = text.encode("utf-8", "surrogateescape")
    decoded = _ESCAPE.sub(lambda escape: _byte(escape, part), encoded)
    return decoded.decode("utf-8", "surrogateescape")


def _byte(escape: re.Match[bytes], part: str) -> bytes:
    digits = escape[1] or b""
    if len(digits) != 2 or not all(digit in b"0123456789abcdefABCDEF" for digit in digits):
        raise ClientConfigurationError(
            f'the {part} in the DSN has a "%" without two hexadecimal digits after it',
            hint="Write % itself as %25.",
        )
    if digits == b"00":
        raise ClientConfigurationError(f"the {part} in the DSN contains %00, a NUL, which no parameter can contain")
    return bytes([int(digits, 16)])
