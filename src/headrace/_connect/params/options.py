"""Every connection option: name, environment variable, default, meaning.

The names, variables and defaults are libpq 19's (PostgreSQL documentation, "Parameter Key Words" and "Environment
Variables"); the last few are headrace's own. The reference table of the documentation is generated from `OPTIONS`, and
every DSN, service file, environment variable and keyword argument is read with it. No other options exist.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final, Literal

from headrace.exceptions import ClientConfigurationError

Kind = Literal["text", "integer", "number", "boolean", "choice", "path", "list"]
Status = Literal["libpq", "narrower", "refused", "own"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One connection option: how it is documented and how its value is read."""

    name: str
    meaning: str
    variable: str | None = None
    """The environment variable that is used if DSN, keyword argument and service file do not give the option."""
    default: str | None = None
    """The value in libpq's form that is used if no source gives one; None if there is none."""
    kind: Kind = "text"
    choices: tuple[str, ...] = ()
    """The allowed values of an option of kind "choice"."""
    status: Status = "libpq"
    """libpq: as in libpq. narrower: some values are refused or read more strictly, see `note`. refused: only the values
    in `choices` are accepted, which ask for nothing. own: libpq does not have the option."""
    note: str = ""
    secret: bool = False
    keyword: str | None = None
    """The keyword argument of connect(), if its name is different."""


OPTIONS: Final[dict[str, Option]] = {
    option.name: option
    for option in (
        # ---- where to connect
        Option(
            name="host",
            variable="PGHOST",
            kind="list",
            meaning="Names or addresses of the servers, tried in order; one that starts with `/` is the"
            " directory of a Unix socket, one that starts with `@` an abstract Unix socket.",
            note="Without it the usual socket directories are tried in order, then localhost, as in asyncpg.",
        ),
        Option(
            name="hostaddr",
            variable="PGHOSTADDR",
            kind="list",
            meaning="IP addresses of the servers, one for each host: used instead of looking the names up."
            " The names still serve for TLS, Kerberos and the passfile.",
            note="An IPv4 address is written in full, four decimal numbers.",
            status="narrower",
        ),
        Option(
            name="port",
            variable="PGPORT",
            default="5432",
            kind="list",
            meaning="Ports, one for each host or one for all; for a Unix socket the last part of the file's name.",
        ),
        Option(
            name="connect_timeout",
            variable="PGCONNECT_TIMEOUT",
            kind="number",
            meaning="Seconds that connecting to each address may take. Zero, negative or empty: no"
            " limit (the keyword argument `timeout` limits the whole).",
            status="narrower",
            note="Anything that is not a number is refused; libpq reads it as zero.",
        ),
        Option(
            name="target_session_attrs",
            variable="PGTARGETSESSIONATTRS",
            default="any",
            kind="choice",
            choices=("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
            meaning="The kind of server that is wanted.",
        ),
        Option(
            name="load_balance_hosts",
            variable="PGLOADBALANCEHOSTS",
            default="disable",
            kind="choice",
            choices=("disable", "random"),
            meaning="`random`: the hosts, and the addresses of each, are tried in random order.",
        ),
        Option(
            name="keepalives",
            default="1",
            kind="boolean",
            meaning="Send TCP keepalives.",
        ),
        Option(
            name="keepalives_idle",
            kind="integer",
            meaning="Seconds of silence before the first keepalive; zero or empty: the system's setting.",
        ),
        Option(
            name="keepalives_interval",
            kind="integer",
            meaning="Seconds between unanswered keepalives; zero or empty: the system's setting.",
        ),
        Option(
            name="keepalives_count",
            kind="integer",
            meaning="Lost keepalives before the connection counts as lost; zero or empty: the system's setting.",
        ),
        Option(
            name="tcp_user_timeout",
            kind="integer",
            meaning="Milliseconds that sent data may stay unacknowledged before the connection is lost"
            " (TCP_USER_TIMEOUT); zero or empty: the system's setting.",
        ),
        # ---- who connects to what
        Option(
            name="user",
            variable="PGUSER",
            meaning="Role to connect as. Default: the name of the operating system's user.",
        ),
        Option(
            name="password",
            variable="PGPASSWORD",
            secret=True,
            meaning="Password. The keyword argument may also be a callable or coroutine function, which is"
            " called for each connection.",
        ),
        Option(
            name="passfile",
            variable="PGPASSFILE",
            kind="path",
            meaning="File with passwords. Default: ~/.pgpass. Ignored with a warning unless it is a plain"
            " file that only its owner can read.",
        ),
        Option(
            name="dbname",
            variable="PGDATABASE",
            keyword="database",
            meaning="Database. Default: the name of the role. `database` is another name for it.",
        ),
        Option(
            name="service",
            variable="PGSERVICE",
            meaning="Section of the service file that further options are taken from.",
        ),
        Option(
            name="servicefile",
            variable="PGSERVICEFILE",
            kind="path",
            meaning="Service file. Default: ~/.pg_service.conf, then pg_service.conf in the directory PGSYSCONFDIR.",
            note="libpq knows it since 19, before that only the variable.",
        ),
        Option(
            name="requirepeer",
            variable="PGREQUIREPEER",
            meaning="Operating system user that the server on a Unix socket must run as.",
        ),
        # ---- settings of the session
        Option(
            name="options",
            variable="PGOPTIONS",
            meaning="Command line options for the backend, as in `-c geqo=off`.",
        ),
        Option(
            name="application_name",
            variable="PGAPPNAME",
            meaning="The name of this program in pg_stat_activity and in the server's log.",
        ),
        Option(
            name="fallback_application_name",
            meaning="The same, if nothing else gives an application_name.",
        ),
        Option(
            name="client_encoding",
            variable="PGCLIENTENCODING",
            default="UTF8",
            meaning="Encoding of the session: UTF8, or `auto`, which means the same.",
            status="narrower",
            note="Any other encoding is refused, because values are Python strings.",
        ),
        Option(
            name="replication",
            kind="choice",
            choices=("false", "off", "no", "0", ""),
            status="refused",
            meaning="headrace does not support the replication protocol.",
        ),
        # ---- TLS
        Option(
            name="sslmode",
            variable="PGSSLMODE",
            default="prefer",
            kind="choice",
            choices=("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
            keyword="ssl",
            meaning="The use of TLS, and the checks. Only `verify-full` proves which server answers.",
            note="The keyword argument `ssl` takes an ssl.SSLContext, True or False as well.",
        ),
        Option(
            name="sslnegotiation",
            variable="PGSSLNEGOTIATION",
            default="postgres",
            kind="choice",
            choices=("postgres", "direct"),
            meaning="`direct`: TLS from the first byte, one round trip less; needs PostgreSQL 17 and"
            " sslmode=require or above.",
        ),
        Option(
            name="sslrootcert",
            variable="PGSSLROOTCERT",
            kind="path",
            meaning="File with the certificate authorities to trust, or `system`. Default: ~/.postgresql/root.crt.",
            status="narrower",
            note="A named file that is missing is an error in every sslmode.",
        ),
        Option(
            name="sslcert",
            variable="PGSSLCERT",
            kind="path",
            meaning="File with the client's certificate. Default: ~/.postgresql/postgresql.crt.",
            status="narrower",
            note="A named file that is missing is an error.",
        ),
        Option(
            name="sslkey",
            variable="PGSSLKEY",
            kind="path",
            meaning="File with the key of that certificate, readable only by its owner. Default:"
            " ~/.postgresql/postgresql.key.",
            status="narrower",
            note="OpenSSL engines (`engine:key`) are not supported: the value is always a file.",
        ),
        Option(
            name="sslpassword",
            secret=True,
            meaning="Password of the client's key.",
        ),
        Option(
            name="sslcertmode",
            variable="PGSSLCERTMODE",
            default="allow",
            kind="choice",
            choices=("disable", "allow", "require"),
            meaning="The client's certificate is never sent, sent on request, or required.",
        ),
        Option(
            name="sslcrl",
            variable="PGSSLCRL",
            kind="path",
            meaning="File with revoked certificates. Default: ~/.postgresql/root.crl.",
            status="narrower",
            note="A named file that is missing is an error.",
        ),
        Option(
            name="sslcrldir",
            variable="PGSSLCRLDIR",
            kind="path",
            meaning="Directory with revoked certificates, prepared by `openssl rehash`.",
            status="narrower",
            note="A named directory that is missing is an error.",
        ),
        Option(
            name="sslsni",
            variable="PGSSLSNI",
            default="1",
            kind="boolean",
            meaning="Send the host's name in the TLS handshake (SNI).",
            status="narrower",
            note="sslsni=0 cannot be combined with sslmode=verify-full: Python's ssl module cannot verify a name"
            " that it does not send.",
        ),
        Option(
            name="ssl_min_protocol_version",
            variable="PGSSLMINPROTOCOLVERSION",
            default="TLSv1.2",
            meaning="Oldest TLS version: TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3. Empty: OpenSSL's own limit.",
        ),
        Option(
            name="ssl_max_protocol_version",
            variable="PGSSLMAXPROTOCOLVERSION",
            meaning="Newest TLS version, in the same form.",
        ),
        Option(
            name="sslkeylogfile",
            kind="path",
            meaning="File that the session's keys are appended to, for debugging only: it lets others read traffic.",
        ),
        Option(
            name="sslcompression",
            variable="PGSSLCOMPRESSION",
            default="0",
            kind="choice",
            choices=("0", ""),
            status="refused",
            meaning="TLS compression is insecure; neither OpenSSL nor Python offers it.",
        ),
        # ---- authentication
        Option(
            name="require_auth",
            variable="PGREQUIREAUTH",
            meaning="Methods that the server may ask for, separated by commas: password, md5, gss, sspi,"
            " scram-sha-256, oauth, none. With `!` before each: all except these.",
        ),
        Option(
            name="channel_binding",
            variable="PGCHANNELBINDING",
            default="prefer",
            kind="choice",
            choices=("disable", "prefer", "require"),
            meaning="Ties SCRAM to the server's certificate; `require` keeps out anyone in between.",
        ),
        Option(
            name="allow_cleartext_password",
            default="0",
            kind="boolean",
            status="own",
            meaning="Allow sending the password (or an OAuth token) in cleartext over a connection that is"
            " neither TLS nor a Unix socket. libpq always allows it.",
        ),
        Option(
            name="scram_client_key",
            secret=True,
            meaning="Base64 of the 32 byte ClientKey of SCRAM-SHA-256, instead of a password.",
            status="narrower",
            note="Only together with scram_server_key, without which the server could not be verified.",
        ),
        Option(
            name="scram_server_key",
            secret=True,
            meaning="Base64 of the 32 byte ServerKey that belongs to scram_client_key.",
            status="narrower",
            note="Only together with scram_client_key.",
        ),
        Option(
            name="scram_min_iterations",
            default="1",
            kind="integer",
            status="own",
            meaning="Fewest SCRAM iterations the server may ask for; 4096 is PostgreSQL's own number.",
        ),
        Option(
            name="scram_max_iterations",
            default="1000000",
            kind="integer",
            status="own",
            meaning="Most SCRAM iterations the server may ask for: limits the CPU time that a false server can cost.",
        ),
        Option(
            name="krbsrvname",
            variable="PGKRBSRVNAME",
            default="postgres",
            meaning="Kerberos service name of the server.",
        ),
        Option(
            name="gsslib",
            variable="PGGSSLIB",
            kind="choice",
            choices=("", "gssapi"),
            status="narrower",
            meaning="Library for GSSAPI: the package gssapi, if it is installed.",
            note="`sspi` is refused.",
        ),
        Option(
            name="gssencmode",
            variable="PGGSSENCMODE",
            default="disable",
            kind="choice",
            choices=("disable", "prefer"),
            status="narrower",
            meaning="GSSAPI encryption is not supported; `prefer` means disable.",
            note="`require` is refused.",
        ),
        Option(
            name="gssdelegation",
            variable="PGGSSDELEGATION",
            default="0",
            kind="boolean",
            meaning="Pass Kerberos credentials on to the server.",
        ),
        Option(
            name="oauth_token",
            status="own",
            secret=True,
            meaning="Bearer token for OAUTHBEARER, which the server gets to see: use it with sslmode=verify-full. The"
            " keyword argument may also be a callable or coroutine function, which is called for each connection.",
        ),
        Option(
            name="oauth_issuer",
            status="narrower",
            meaning="Identifier of the issuer of the token.",
            note="headrace runs no OAuth flow of its own: the oauth_ options need oauth_token.",
        ),
        Option(
            name="oauth_client_id",
            status="narrower",
            meaning="Identifier of this client at the issuer.",
            note="Needs oauth_token.",
        ),
        Option(
            name="oauth_client_secret",
            status="narrower",
            secret=True,
            meaning="Secret of this client at the issuer.",
            note="Needs oauth_token.",
        ),
        Option(
            name="oauth_scope",
            status="narrower",
            meaning="Scope asked of the issuer.",
            note="Needs oauth_token.",
        ),
        Option(
            name="oauth_ca_file",
            variable="PGOAUTHCAFILE",
            status="narrower",
            meaning="File with the authorities that certify the issuer (libpq 19).",
            note="Nothing is read from it: headrace does not talk to the issuer.",
        ),
        # ---- protocol
        Option(
            name="min_protocol_version",
            variable="PGMINPROTOCOLVERSION",
            default="3.0",
            kind="choice",
            choices=("3.0", "3.2", "latest"),
            meaning="Oldest version of the protocol; with 3.2 the server must be PostgreSQL 18 or newer.",
        ),
        Option(
            name="max_protocol_version",
            variable="PGMAXPROTOCOLVERSION",
            kind="choice",
            choices=("3.0", "3.2", "latest"),
            meaning="Newest version of the protocol, asked for first; `latest` is 3.2. Default: 3.0, because"
            " old servers and poolers cannot negotiate; latest if min_protocol_version is newer than"
            " that.",
        ),
    )
}

STARTUP_VARIABLES: Final[dict[str, str]] = {
    "PGDATESTYLE": "datestyle",
    "PGTZ": "timezone",
    "PGGEQO": "geqo",
}
"""Environment variables that become session settings, unless their value is `default`."""

_SERVER_SETTING_HINT = (
    "Pass a server setting as server_settings={{{name!r}: ...}}, or in the DSN as options=-c{name}=...,"
    " in a URI options=-c{name}%3D...;"
    " unknown options are never sent to the server."
)


def canonical(name: str, value: str) -> tuple[str, str]:
    """Return an option under libpq's name, for libpq's old names and asyncpg's one."""
    if name == "requiressl":
        return "sslmode", "require" if value.startswith("1") else "prefer"
    if name == "database":
        return "dbname", value
    return name, value


def is_secret(name: str | None) -> bool:
    """Return whether the value of an option is secret."""
    return name is not None and name in OPTIONS and OPTIONS[name].secret


_ARGUMENT: Final = '"{}" is an argument of connect(): connect(dsn, {}=...).'
_POOL_ARGUMENT: Final = '"{}" is an argument of create_pool(): create_pool(dsn, {}=...).'
_SEARCH_PATH: Final = (
    'Pass the schema as server_settings={"search_path": ...}, or in a URI as options=-csearch_path%3D followed by it.'
)

MISTAKEN: Final[dict[str, str]] = {
    "ssl": 'Write "sslmode", as in sslmode=require; or pass ssl= to connect().',
    "schema": _SEARCH_PATH,
    "currentSchema": _SEARCH_PATH,
    **dict.fromkeys(("username", "login"), 'Write "user".'),
    **dict.fromkeys(("passwd", "pwd", "pass"), 'Write "password".'),
    **dict.fromkeys(("hostname", "server"), 'Write "host".'),
    **dict.fromkeys(("db", "database"), 'Write "dbname".'),
    **{
        name: _ARGUMENT.format(name, name)
        for name in (
            "timeout", "command_timeout", "statement_cache_size", "max_cached_statement_lifetime",
            "max_cacheable_statement_size", "statement_mode", "max_pipeline", "server_settings",
        )
    },
    **{
        name: _POOL_ARGUMENT.format(meant, meant)
        for name, meant in (
            ("min_size", "min_size"), ("minsize", "min_size"), ("max_size", "max_size"), ("maxsize", "max_size"),
            ("pool_size", "max_size"), ("max_connections", "max_size"), ("connection_limit", "max_size"),
        )
    },
}  # fmt: skip
"""Names that people write in place of an option of libpq -> the hint."""


def unknown_option(name: str, source: str, *, hidden: bool = False) -> ClientConfigurationError:
    """Return the error for an unknown option.

    `hidden`: the name may be part of a password, which is split into options if a space, `&`, `=` or `@` in it was not
    escaped.
    """
    if hidden:
        return ClientConfigurationError(
            f"unknown connection option in the {source}"
            " (its name is not shown: it may be a part of the password before it)",
            hint="In a keyword/value DSN, quote a value with spaces; in a URI, percent-encode it."
            " Pass server settings as server_settings={...}.",
        )
    shown = name if name.isidentifier() or name.replace(".", "_").isidentifier() else ""
    if not shown:
        return ClientConfigurationError(f"the name of a connection option in the {source} is not a name (not shown)")
    if name in MISTAKEN:
        return ClientConfigurationError(f'unknown connection option "{shown}" in the {source}', hint=MISTAKEN[name])
    close = difflib.get_close_matches(name, OPTIONS, n=1, cutoff=0.75)
    meant = f'Did you mean "{close[0]}"? ' if close else ""
    return ClientConfigurationError(
        f'unknown connection option "{shown}" in the {source}',
        hint=meant + _SERVER_SETTING_HINT.format(name=shown),
    )
