"""Connection parameters: combines DSN, keyword arguments, service file, environment and passfile.

`resolve()` has libpq's meaning (PostgreSQL documentation, "Database Connection Control Functions"): a keyword argument
overrides the DSN, which overrides the service file, which overrides the environment, which overrides the default. The
module does not touch the network. It reads the service file, and the passfile when a password is needed. An option
that is not supported is refused by name and never sent to the server.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Final, Literal, NoReturn, Unpack, cast

from headrace._connect import platform
from headrace._connect.auth import AuthSettings
from headrace._connect.params import environment
from headrace._connect.params.address import Address, addresses
from headrace._connect.params.arguments import ConnectArguments, Keywords, read_arguments
from headrace._connect.params.conninfo import Dsn, parse_dsn
from headrace._connect.params.options import OPTIONS
from headrace._connect.params.passfile import find_password
from headrace._connect.params.require_auth import parse_require_auth
from headrace._connect.params.secret import CallableSecret, Secret, hides_locals
from headrace._connect.params.servicefile import read_service
from headrace._connect.params.values import DEFAULT, Values
from headrace._connect.scram import KEY_LENGTH, ScramKeys
from headrace._connect.tls import SSLCertMode, SSLMode, SSLNegotiation, TLSSettings
from headrace.exceptions import ClientConfigurationError

__all__ = ["Address", "CallableSecret", "ConnectArguments", "ConnectParams", "Keepalives", "Secret", "resolve"]

TargetSessionAttrs = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]

PROTOCOL_VERSIONS: Final = {"3.0": 0x30000, "3.2": 0x30002, "latest": 0x30002}
"""Protocol versions as in the startup message: the major version in the upper 16 bits."""

STARTUP_MAX: Final = 10_000
"""The longest startup message that a server accepts, in bytes (MAX_STARTUP_PACKET_LENGTH)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keepalives:
    """TCP keepalive settings, which detect a dead peer. None is the system's own setting."""

    enabled: bool = True
    idle: int | None = None
    """Seconds."""
    interval: int | None = None
    """Seconds."""
    count: int | None = None
    user_timeout: int | None = None
    """Milliseconds (TCP_USER_TIMEOUT)."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ConnectParams:
    """All parameters of a connection.

    It is safe to print: repr() and str() show no secret. Pickling raises TypeError, because it may contain secrets:
    send the DSN without its password, and let the other process find the password itself.
    """

    addresses: tuple[Address, ...]
    """In the order in which they are tried."""
    user: str
    database: str
    password: Secret | CallableSecret | None = None
    """The password as given. `password_for()` calls a callable, and reads the passfile."""
    passfile: str | None = None
    server_settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Session settings for the startup message, besides user and database."""
    tls: TLSSettings = field(default_factory=TLSSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    keepalives: Keepalives = field(default_factory=Keepalives)
    connect_timeout: float | None = None
    """Seconds for each address; None for no limit."""
    target_session_attrs: TargetSessionAttrs = "any"
    load_balance_hosts: bool = False
    """Try the hosts, and the addresses that each resolves to, in random order."""
    requirepeer: str | None = None
    min_protocol_version: int = PROTOCOL_VERSIONS["3.0"]
    max_protocol_version: int = PROTOCOL_VERSIONS["3.0"]
    oauth_token: Secret | CallableSecret | None = None

    def startup_parameters(self) -> dict[str, str]:
        """Return the fields of the startup message, user and database first."""
        return {"user": self.user, "database": self.database, **self.server_settings}

    async def password_for(self, address: Address) -> Secret | None:
        """Return the password for a server; None if there is none.

        A callable is called each time, and its errors are raised unchanged. Without a password the passfile is read
        each time; an unsafe passfile is ignored with an InterfaceWarning.
        """
        if isinstance(self.password, CallableSecret):
            return await self.password.get()
        if self.password is not None or self.passfile is None:
            return self.password
        return find_password(self.passfile, address.passfile_hosts, address.port, self.database, self.user)

    async def token(self) -> Secret | None:
        """Return the bearer token for OAUTHBEARER; None if there is none. A callable is called each time."""
        if isinstance(self.oauth_token, CallableSecret):
            return await self.oauth_token.get()
        return self.oauth_token

    def __str__(self) -> str:
        where = ",".join(map(str, self.addresses))
        return f"{where} user={self.user!r} database={self.database!r} sslmode={self.tls.mode}"

    def __repr__(self) -> str:
        shown = ", ".join(f"{each.name}={getattr(self, each.name)!r}" for each in fields(self))
        return f"{type(self).__name__}({shown})"

    def __copy__(self) -> ConnectParams:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> ConnectParams:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "ConnectParams cannot be pickled, because it may contain secrets: pass on a DSN without a password,"
            " and a passfile"
        )


@hides_locals
def resolve(
    dsn: str | None = None,
    /,
    *,
    environ: Mapping[str, str] | None = None,
    **arguments: Unpack[ConnectArguments],
) -> ConnectParams:
    """Return the parameters of a connection.

    `dsn` is a URI or a keyword/value text; `environ` replaces os.environ. Reads the service file if a service is named,
    and no other file.

    Raises ClientConfigurationError for anything malformed, unknown, contradictory or not supported, and TypeError for
    an unknown keyword argument. No message shows a secret, or a part of a malformed DSN that may be one.
    """
    environ = os.environ if environ is None else environ
    keywords = read_arguments(arguments)
    values = _gather(dsn, keywords, environ)

    user = values.text("user") or environment.system_user()
    database = values.text("dbname") or user
    params = ConnectParams(
        addresses=addresses(values),
        user=user,
        database=database,
        password=keywords.callables.get("password") or values.secret("password"),
        passfile=_passfile(values, environ),
        server_settings=MappingProxyType(_server_settings(values, keywords, environ)),
        tls=_tls(values, keywords, environ),
        auth=_auth(values),
        keepalives=_keepalives(values),
        connect_timeout=values.seconds("connect_timeout"),
        target_session_attrs=cast(TargetSessionAttrs, values.choice("target_session_attrs")),
        load_balance_hosts=values.choice("load_balance_hosts") == "random",
        requirepeer=values.text("requirepeer"),
        **_protocol_versions(values),
        oauth_token=_oauth_token(values, keywords),
    )
    values.choice("replication")
    values.choice("gssencmode")
    values.choice("gsslib")
    _check_startup_length(params)
    return params


def _gather(dsn: str | None, keywords: Keywords, environ: Mapping[str, str]) -> Values:
    """Collect the texts of all options from their sources, in order of precedence."""
    if dsn is not None and not isinstance(dsn, str):
        raise ClientConfigurationError(f"dsn must be a str, got {type(dsn).__name__}")
    parsed = parse_dsn(dsn) if dsn is not None else Dsn({})
    from_dsn = dict(parsed.values)
    if parsed.authority_ports and "host" in keywords.values:
        # The ports in the authority of a URI belong to the hosts there, so other hosts do not use them.
        del from_dsn["port"]

    values = Values()
    values.add(keywords.values, "keyword argument")
    values.add(from_dsn, "DSN")
    from_environment = environment.variables(environ)
    for name in ("service", "servicefile"):
        if name in from_environment:
            variable, text = from_environment[name]
            values.add({name: text}, f"environment variable {variable}")
    if service := values.raw("service"):
        values.add(read_service(service, values.raw("servicefile"), environ), f"service {service!r}")
    for name, (variable, text) in from_environment.items():
        values.add({name: text}, f"environment variable {variable}")
    if values.raw("sslrootcert") == "system":
        # As in libpq: the system's authorities certify anybody, so the name is verified unless sslmode is given.
        values.add({"sslmode": "verify-full"}, DEFAULT)
    values.add({option.name: option.default for option in OPTIONS.values() if option.default}, DEFAULT)
    return values


def _passfile(values: Values, environ: Mapping[str, str]) -> str | None:
    if path := values.raw("passfile"):
        return path
    directory = platform.home(environ)
    return None if directory is None else os.path.join(directory, platform.PASSFILE)


def _server_settings(values: Values, keywords: Keywords, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the session settings. `server_settings` overrides the options and variables for the same setting."""
    settings: dict[str, str] = {}
    if application_name := values.text("application_name") or values.text("fallback_application_name"):
        settings["application_name"] = application_name
    if options := values.text("options"):
        settings["options"] = options
    _check_encoding("client_encoding", values.raw("client_encoding") or "UTF8", values.source("client_encoding"))
    for name, value in environment.startup_settings(environ).items():
        if "\0" in value:
            raise ClientConfigurationError(f"the environment variable for {name} contains a NUL character")
        settings[name] = value
    for name, value in keywords.server_settings.items():
        if name.lower() == "client_encoding":
            _check_encoding(name, value, "server_settings")
            continue
        settings.pop(name.lower(), None)
        settings[name] = value
    settings["client_encoding"] = "UTF8"
    return settings


def _check_encoding(name: str, encoding: str, source: str) -> None:
    """Refuse any encoding except UTF-8. As on the server, case and punctuation in the name do not count."""
    plain = "".join(character for character in encoding.lower() if character.isalnum())
    if plain not in ("utf8", "unicode", "auto"):
        raise ClientConfigurationError(
            f"{name} ({source}) must be UTF8, got {encoding!r}",
            hint="The database may have another encoding: the server converts.",
        )


def _tls(values: Values, keywords: Keywords, environ: Mapping[str, str]) -> TLSSettings:
    directory = platform.home(environ)
    context = keywords.context
    values.choice("sslcompression")
    return TLSSettings(
        mode=cast(SSLMode, values.choice("sslmode")),
        negotiation=cast(SSLNegotiation, values.choice("sslnegotiation")),
        rootcert=None if context else values.raw("sslrootcert"),
        cert=values.raw("sslcert"),
        key=values.raw("sslkey"),
        password=values.secret("sslpassword"),
        certmode=cast(SSLCertMode, values.choice("sslcertmode")),
        crl=values.raw("sslcrl"),
        crldir=values.raw("sslcrldir"),
        sni=values.boolean("sslsni"),
        min_version=_tls_version(values, "ssl_min_protocol_version"),
        max_version=_tls_version(values, "ssl_max_protocol_version"),
        keylogfile=values.raw("sslkeylogfile"),
        context=context,
        require_alpn=values.raw("sslnegotiation") == "direct" and not keywords.direct_tls,
        directory=None if directory is None else os.path.join(directory, platform.CERTIFICATES),
    )


def _tls_version(values: Values, name: str) -> str | None:
    """Return a TLS version in libpq's form, from any letter case."""
    text = values.raw(name)
    if text is None:
        return None
    by_lower_case = {version.lower(): version for version in ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3")}
    if text.lower() not in by_lower_case:
        raise values.error(name, f"one of {', '.join(by_lower_case.values())}", found=text)
    return by_lower_case[text.lower()]


def _auth(values: Values) -> AuthSettings:
    required = values.raw("require_auth")
    minimum = values.integer("scram_min_iterations", minimum=1) or 1
    maximum = values.integer("scram_max_iterations", minimum=1) or 1
    if minimum > maximum:
        raise ClientConfigurationError(f"scram_min_iterations={minimum} is above scram_max_iterations={maximum}")
    return AuthSettings(
        require_auth=None if required is None else parse_require_auth(required),
        channel_binding=cast(Literal["disable", "prefer", "require"], values.choice("channel_binding")),
        allow_cleartext_password=values.boolean("allow_cleartext_password"),
        scram_keys=_scram_keys(values),
        scram_min_iterations=minimum,
        scram_max_iterations=maximum,
        krbsrvname=values.text("krbsrvname") or "postgres",
        gssdelegation=values.boolean("gssdelegation"),
        certificate_required=values.choice("sslcertmode") == "require",
    )


def _scram_keys(values: Values) -> ScramKeys | None:
    found: list[bytes] = []
    for name in ("scram_client_key", "scram_server_key"):
        text = values.raw(name)
        if text is None:
            continue
        try:
            key = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise values.error(name, "base64") from None
        if len(key) != KEY_LENGTH:
            raise ClientConfigurationError(
                f"{name} ({values.source(name)}) must hold {KEY_LENGTH} bytes, got {len(key)}"
            )
        found.append(key)
    if len(found) == 1:
        raise ClientConfigurationError("scram_client_key and scram_server_key must be given together")
    return ScramKeys(*found) if found else None


def _keepalives(values: Values) -> Keepalives:
    def count(name: str) -> int | None:
        # libpq reads a negative number as zero, and zero as the system's own setting.
        return max(values.integer(name, minimum=-(2**31)) or 0, 0) or None

    return Keepalives(
        enabled=values.boolean("keepalives"),
        idle=count("keepalives_idle"),
        interval=count("keepalives_interval"),
        count=count("keepalives_count"),
        user_timeout=count("tcp_user_timeout"),
    )


def _protocol_versions(values: Values) -> dict[str, int]:
    minimum = values.choice("min_protocol_version")
    maximum = values.choice("max_protocol_version") if values.given("max_protocol_version") else None
    if maximum is None:
        maximum = "3.0" if minimum == "3.0" else "latest"
    if PROTOCOL_VERSIONS[minimum] > PROTOCOL_VERSIONS[maximum]:
        raise ClientConfigurationError(f"min_protocol_version={minimum} is above max_protocol_version={maximum}")
    return {
        "min_protocol_version": PROTOCOL_VERSIONS[minimum],
        "max_protocol_version": PROTOCOL_VERSIONS[maximum],
    }


def _oauth_token(values: Values, keywords: Keywords) -> Secret | CallableSecret | None:
    token = keywords.callables.get("oauth_token") or values.secret("oauth_token")
    if token is None:
        for name in ("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope"):
            if values.given(name):
                raise ClientConfigurationError(
                    f"{name} ({values.source(name)}) needs oauth_token: headrace does not request tokens itself",
                    hint="Give oauth_token=..., a callable or coroutine function that returns a bearer token.",
                )
    return token


def _check_startup_length(params: ConnectParams) -> None:
    length = 9 + sum(len(f"{name}\0{value}\0".encode()) for name, value in params.startup_parameters().items())
    if length > STARTUP_MAX:
        raise ClientConfigurationError(
            f"the startup message would be {length} bytes long, expected at most {STARTUP_MAX}",
            hint="Shorten server_settings, options or application_name.",
        )
