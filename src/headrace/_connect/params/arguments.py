"""Reads the keyword arguments of connect(): most become the text that a DSN would contain."""

from __future__ import annotations

import difflib
import os
import ssl as ssl_module
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypedDict

from headrace._connect.params.options import MISTAKEN, OPTIONS, Option
from headrace._connect.params.secret import CallableSecret, SecretCallable
from headrace.exceptions import ClientConfigurationError
from headrace.exceptions._values import shown

Path = str | os.PathLike[str]


class ConnectArguments(TypedDict, total=False):
    """Keyword arguments of connect() about where, as whom and how to connect. None means not given."""

    host: str | Sequence[str] | None
    hostaddr: str | Sequence[str] | None
    port: int | str | Sequence[int | str] | None
    connect_timeout: float | str | None
    target_session_attrs: str | None
    load_balance_hosts: str | None
    keepalives: bool | int | str | None
    keepalives_idle: int | str | None
    keepalives_interval: int | str | None
    keepalives_count: int | str | None
    tcp_user_timeout: int | str | None
    user: str | None
    password: str | SecretCallable | None
    passfile: Path | None
    database: str | None
    dbname: str | None
    service: str | None
    servicefile: Path | None
    requirepeer: str | None
    options: str | None
    application_name: str | None
    fallback_application_name: str | None
    client_encoding: str | None
    replication: str | None
    server_settings: Mapping[str, str] | None
    ssl: ssl_module.SSLContext | bool | str | None
    direct_tls: bool | None
    sslmode: str | None
    sslnegotiation: str | None
    sslrootcert: Path | None
    sslcert: Path | None
    sslkey: Path | None
    sslpassword: str | None
    sslcertmode: str | None
    sslcrl: Path | None
    sslcrldir: Path | None
    sslsni: bool | int | str | None
    ssl_min_protocol_version: str | None
    ssl_max_protocol_version: str | None
    sslkeylogfile: Path | None
    sslcompression: bool | int | str | None
    require_auth: str | None
    channel_binding: str | None
    allow_cleartext_password: bool | int | str | None
    scram_client_key: str | None
    scram_server_key: str | None
    scram_min_iterations: int | str | None
    scram_max_iterations: int | str | None
    krbsrvname: str | None
    gsslib: str | None
    gssencmode: str | None
    gssdelegation: bool | int | str | None
    oauth_token: str | SecretCallable | None
    oauth_issuer: str | None
    oauth_client_id: str | None
    oauth_client_secret: str | None
    oauth_scope: str | None
    oauth_ca_file: str | None
    min_protocol_version: str | None
    max_protocol_version: str | None


@dataclass(slots=True)
class Keywords:
    """The values of the keyword arguments."""

    values: dict[str, str] = field(default_factory=dict)
    callables: dict[str, CallableSecret] = field(default_factory=dict)
    """Callables for password and oauth_token."""
    context: ssl_module.SSLContext | None = None
    direct_tls: bool = False
    server_settings: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<Keywords {', '.join(self.values)}>"


_CALLABLE: Final = ("password", "oauth_token")
_OTHER: Final = ("database", "ssl", "direct_tls", "server_settings")
_CONTEXT_DECIDES: Final = (
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "sslcertmode",
    "sslcrl",
    "sslcrldir",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "sslkeylogfile",
)


def read_arguments(arguments: Mapping[str, object]) -> Keywords:
    """Check the types of keyword arguments and turn them into texts.

    Raises TypeError for an unknown name, ClientConfigurationError for a value of the wrong type and for arguments that
    contradict each other.
    """
    keywords = Keywords()
    for name, value in arguments.items():
        if name not in OPTIONS and name not in _OTHER:
            raise _unexpected(name)
        if value is None or name in ("ssl", "direct_tls", "server_settings"):
            continue
        if name in _CALLABLE and callable(value):
            keywords.callables[name] = CallableSecret(name, value)
            continue
        option = OPTIONS["dbname" if name == "database" else name]
        if option.name in keywords.values:
            raise ClientConfigurationError("both database and dbname are given: they are the same argument")
        # As in libpq, and in asyncpg for hosts and ports, an empty value counts as not given.
        if text := _text(option, name, value):
            keywords.values[option.name] = text
    _read_ssl(arguments, keywords)
    _read_direct_tls(arguments.get("direct_tls"), keywords)
    if (settings := arguments.get("server_settings")) is not None:
        keywords.server_settings = _server_settings(settings)
    return keywords


_MEANT: Final = {
    **dict.fromkeys(("username", "login"), "user"),
    **dict.fromkeys(("passwd", "pwd"), "password"),
    **dict.fromkeys(("hostname", "server"), "host"),
    **dict.fromkeys(("db", "database_name", "db_name"), "database"),
    **dict.fromkeys(("uri", "url"), "dsn"),
}
"""Names that people write -> the argument of connect() that is meant."""


def _unexpected(name: str) -> TypeError:
    close = difflib.get_close_matches(name, [*OPTIONS, *_OTHER], n=1, cutoff=0.75)
    error = TypeError(f"connect() got an unexpected keyword argument {name!r}")
    if name in _MEANT:
        error.add_note(f"Did you mean {_MEANT[name]!r}?")
    elif name in MISTAKEN:
        error.add_note(MISTAKEN[name])
    elif close:
        error.add_note(f"Did you mean {close[0]!r}?")
    else:
        error.add_note(f"A setting of the session goes into server_settings={{{name!r}: ...}}.")
    return error


def _wrong(name: str, expected: str, value: object) -> ClientConfigurationError:
    return ClientConfigurationError(f"{name} must be {expected}, got {type(value).__name__}")


def _text(option: Option, name: str, value: object) -> str:
    """Return the text form of an argument."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, str):
        return value
    if option.kind == "path":
        if isinstance(value, os.PathLike):
            return os.fsdecode(value)
        raise _wrong(name, "a path", value)
    if option.kind == "list":
        if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
            return _joined(name, value)
        if name == "port" and isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise _wrong(
            name,
            "an int, str, or a sequence of them" if name == "port" else "a str or a sequence of str",
            value,
        )
    if option.kind == "boolean" or name == "sslcompression":
        if isinstance(value, int):
            return str(int(value))
        raise _wrong(name, "a bool", value)
    if option.kind in ("integer", "number"):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if whole or (option.kind == "number" and isinstance(value, float)):
            return repr(value)
        raise _wrong(name, "an int" if option.kind == "integer" else "an int or float", value)
    raise _wrong(name, "a str or a callable" if name in _CALLABLE else "a str", value)


def _joined(name: str, items: Sequence[object]) -> str:
    """Return a sequence as a comma-separated list, as in a DSN."""
    texts = []
    for item in items:
        if name == "port" and isinstance(item, int) and not isinstance(item, bool):
            item = str(item)
        if not isinstance(item, str):
            raise _wrong(f"each {name}", "an int or str" if name == "port" else "a str", item)
        if "," in item and len(items) > 1:
            raise ClientConfigurationError(f"each {name} of a sequence must be a single one, got {shown(item)}")
        texts.append(item)
    return ",".join(texts)


def _read_ssl(arguments: Mapping[str, object], keywords: Keywords) -> None:
    """Read `ssl`: an SSLContext, True (verify-full with the system's authorities), False (disable) or an sslmode."""
    value = arguments.get("ssl")
    if value is None:
        return
    if "sslmode" in keywords.values:
        raise ClientConfigurationError("both ssl and sslmode are given: they are the same argument")
    if isinstance(value, ssl_module.SSLContext):
        unused = [name for name in _CONTEXT_DECIDES if name in keywords.values]
        if unused:
            raise ClientConfigurationError(
                f"{', '.join(unused)} cannot be given together with an SSLContext, which decides that itself",
                hint="Load the files into the SSLContext, or give ssl as an sslmode.",
            )
        keywords.context = value
        keywords.values["sslmode"] = "require"
    elif isinstance(value, bool):
        keywords.values["sslmode"] = "verify-full" if value else "disable"
        if value:
            keywords.values.setdefault("sslrootcert", "system")
    elif isinstance(value, str):
        keywords.values["sslmode"] = value
    else:
        raise _wrong("ssl", "an ssl.SSLContext, a bool or an sslmode", value)


def _read_direct_tls(value: object, keywords: Keywords) -> None:
    """Read `direct_tls`, asyncpg's name for sslnegotiation=direct."""
    if value is None:
        return
    if not isinstance(value, bool):
        raise _wrong("direct_tls", "a bool", value)
    negotiation = "direct" if value else "postgres"
    if keywords.values.setdefault("sslnegotiation", negotiation) != negotiation:
        raise ClientConfigurationError("direct_tls and sslnegotiation contradict each other")
    keywords.direct_tls = value


def _server_settings(settings: object) -> dict[str, str]:
    """Check the session settings for the startup message."""
    if not isinstance(settings, Mapping):
        raise ClientConfigurationError(
            f"server_settings is expected to be None or a Dict[str, str], got {type(settings).__name__}"
        )
    checked: dict[str, str] = {}
    lowered: set[str] = set()
    for name, value in settings.items():
        if not isinstance(name, str) or not isinstance(value, str):
            found = (
                f"{name!r}: {type(value).__name__}"
                if isinstance(name, str)
                else f"a name of type {type(name).__name__}"
            )
            raise ClientConfigurationError(
                f"server_settings is expected to be None or a Dict[str, str], got {found}",
                hint="Write numbers and booleans as text: {'jit': 'off'}.",
            )
        if not name:
            raise ClientConfigurationError("server_settings has an empty name")
        _check_startup_text(f"the name {name!r} in server_settings", name)
        _check_startup_text(f"server_settings[{name!r}]", value)
        low = name.lower()
        if low in ("user", "database", "replication") or low.startswith("_pq_."):
            raise ClientConfigurationError(
                f"server_settings cannot set {name!r}: it is not a setting of the session but a field of the"
                " startup message",
                hint=f"Give {low}=... instead." if low in ("user", "database") else None,
            )
        if low in lowered:
            raise ClientConfigurationError(
                f"server_settings has {low!r} twice: names that differ only in case are equal"
            )
        lowered.add(low)
        checked[name] = value
    return checked


def _check_startup_text(what: str, text: str) -> None:
    if "\0" in text:
        raise ClientConfigurationError(f"{what} contains a NUL character, which would end it early")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise ClientConfigurationError(f"{what} cannot be encoded in UTF-8") from None
