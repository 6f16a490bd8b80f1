"""Connection parameters from keyword arguments, DSN, service file and environment.

What a DSN means to libpq too is in test_params_libpq.py; here is what libpq has no word for, which errors say
what, and that no secret is shown.
"""

from __future__ import annotations

import base64
import copy
import dataclasses
import functools
import pickle
import ssl
import string
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace._connect.params.options import OPTIONS
from headrace._connect.params.resolve import Address, ConnectParams, resolve
from headrace.exceptions import ClientConfigurationError, InterfaceError

SECRET = "hunter2correcthorse"


def params(dsn: str | None = None, /, **arguments: Any) -> ConnectParams:
    """Resolve with an empty environment."""
    return resolve(dsn, environ=arguments.pop("environ", {}), **arguments)


def refused(dsn: str | None = None, /, **arguments: Any) -> str:
    """Return why the parameters are refused."""
    with pytest.raises(ClientConfigurationError) as caught:
        params(dsn, **arguments)
    assert isinstance(caught.value, (InterfaceError, ValueError))
    return str(caught.value)


def places(given: ConnectParams) -> list[str]:
    """Return the addresses as they are printed."""
    return [str(address) for address in given.addresses]


# ---- addresses


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"host": "a"}, ["a:5432"]),
        ({"host": "a", "port": 1}, ["a:1"]),
        ({"host": "a", "port": "1"}, ["a:1"]),
        ({"host": ["a", "b"]}, ["a:5432", "b:5432"]),
        ({"host": ["a", "b"], "port": 1}, ["a:1", "b:1"]),
        ({"host": ["a", "b"], "port": [1]}, ["a:1", "b:1"]),
        ({"host": ("a", "b"), "port": (1, "2")}, ["a:1", "b:2"]),
        ({"host": "a,b", "port": "1,2"}, ["a:1", "b:2"]),
        ({"host": "::1"}, ["[::1]:5432"]),
        ({"host": "/run/pg"}, ["/run/pg/.s.PGSQL.5432"]),
        ({"host": "/run/pg", "port": 1}, ["/run/pg/.s.PGSQL.1"]),
        ({"host": "/run/pg/.s.PGSQL.77"}, ["/run/pg/.s.PGSQL.77"]),
        ({"host": "@pg"}, ["@pg/.s.PGSQL.5432"]),
        (
            {"host": ["a", "/run/pg"], "hostaddr": ["10.0.0.1", ""]},
            ["a:5432 (10.0.0.1)", "/run/pg/.s.PGSQL.5432"],
        ),
        ({"hostaddr": "::1"}, ["[::1]:5432"]),
    ],
)
def test_hosts_and_ports_are_single_or_lists(arguments: dict[str, Any], expected: list[str]) -> None:
    assert places(params(**arguments)) == expected


@pytest.mark.parametrize("arguments", [{"host": ""}, {"host": []}, {"port": "", "user": "", "password": ""}])
def test_an_empty_argument_says_nothing(arguments: dict[str, Any]) -> None:
    assert params("postgresql://u:p@a:1/d", **arguments) == params("postgresql://u:p@a:1/d")


def test_an_abstract_socket_starts_with_a_nul() -> None:
    (address,) = params(host="@pg").addresses
    assert address.is_unix
    assert address.socket_path == "\0pg/.s.PGSQL.5432"


def test_an_address_to_connect_to_keeps_the_name_to_verify() -> None:
    (address,) = params(host="/run/pg", hostaddr="10.0.0.1").addresses
    assert address == Address("/run/pg", "10.0.0.1", 5432)
    assert not address.is_unix
    assert address.target == "10.0.0.1"


@pytest.mark.parametrize(
    ("dsn", "arguments", "expected"),
    [
        # As asyncpg: the ports of a URI belong to its hosts, and go when the hosts go.
        ("postgres://u@a:1/db", {"host": "x"}, ["x:5432"]),
        ("postgres://u@a:1,b:2/db", {"host": "x"}, ["x:5432"]),
        ("postgres://u@a:1,b:2/db", {"port": 9}, ["a:9", "b:9"]),
        ("postgres://u@/db?port=1", {"host": "x"}, ["x:1"]),
        ("host=a port=1", {"host": "x"}, ["x:1"]),
        ("host=a port=1", {"host": "x", "port": 2}, ["x:2"]),
    ],
)
def test_keyword_arguments_beat_the_dsn(dsn: str, arguments: dict[str, Any], expected: list[str]) -> None:
    assert places(params(dsn, **arguments)) == expected


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"host": ["a", "b"], "port": [1, 2, 3]}, "could not match 3 port numbers to 2 hosts"),
        ({"host": ["a", "b"], "hostaddr": "10.0.0.1"}, "could not match 1 hostaddr to 2 hosts"),
        ({"host": ["a,b", "c"]}, "single one, got 'a,b'"),
        ({"host": 1}, "host must be a str or a sequence of str, got int"),
        ({"host": b"a"}, "host must be a str or a sequence of str, got bytes"),
        ({"host": ["a", 1]}, "each host must be a str, got int"),
        ({"port": 0}, "port (keyword argument) must be a whole number from 1 to 65535, got '0'"),
        ({"port": 65536}, "got '65536'"),
        ({"port": 1.5}, "port must be an int, str, or a sequence of them, got float"),
        ({"port": True}, "got bool"),
        ({"hostaddr": "name"}, "hostaddr (keyword argument) must be an IP address, got 'name'"),
        ({"host": "/" + "x" * 120}, "too long"),
    ],
)
def test_addresses_that_make_no_sense(arguments: dict[str, Any], reason: str) -> None:
    assert reason in refused(**arguments)


# ---- where a value comes from


def test_keyword_beats_dsn_beats_service_beats_environment_beats_default(tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text("[one]\nuser=of service\ndbname=of service\noptions=of service\napplication_name=of service\n")
    given = resolve(
        "service=one user='of dsn' dbname='of dsn' options='of dsn'",
        environ={"PGAPPNAME": "of environment", "PGPORT": "7", "PGUSER": "x", "PGSERVICEFILE": str(file)},
        database="of keyword",
        host="h",
    )
    assert given.database == "of keyword"
    assert given.user == "of dsn"
    assert given.server_settings["options"] == "of dsn"
    assert given.server_settings["application_name"] == "of service"
    assert places(given) == ["h:7"]
    assert given.tls.mode == "prefer"


def test_none_is_the_same_as_left_out() -> None:
    arguments = dict.fromkeys([*OPTIONS, "database", "ssl", "direct_tls", "server_settings"])
    assert params("postgres://u@h/db", **arguments) == params("postgres://u@h/db")


def test_an_unknown_keyword_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'passwrd'") as caught:
        params(passwrd="x")
    assert caught.value.__notes__ == ["Did you mean 'password'?"]
    with pytest.raises(TypeError) as caught:
        params(search_path="x")
    assert "server_settings" in caught.value.__notes__[0]


@pytest.mark.parametrize("dsn", ["postgres://h?search_path=x", "host=h search_path=x"])
def test_an_unknown_option_is_refused_by_name(dsn: str) -> None:
    said = refused(dsn)
    assert 'unknown connection option "search_path" in the DSN' in said
    assert "server_settings={'search_path': ...}" in said


def test_a_misspelt_option_gets_a_suggestion() -> None:
    assert 'Did you mean "sslmode"?' in refused("postgres://h?sslmod=require")


@pytest.mark.parametrize(
    ("dsn", "reason"),
    [
        ("postgresql+asyncpg://u@h/db", 'Drop the "+asyncpg" that names a driver.'),
        ("jdbc:postgresql://h/db", "got 'jdbc:postgresql'"),
        ("mysql://h/db", 'scheme is expected to be either "postgresql" or "postgres"'),
        ("mydb", 'has no "=" after its word at character 1'),
        ("host=a 'b c'", "character 8"),
        ("host='a", "no closing quote for the one at character 6"),
        ("postgres://[::1/db", 'no "]"'),
        ("postgres://[]/db", "empty IPv6 address"),
        ("postgres://[::1]x/db", 'after the "]"'),
        ("postgres://h/db?sslmode", 'parameter without "="'),
        ("postgres://h/db?options=a=b", "%3D"),
        ("postgres://h/%0", "without two hexadecimal digits"),
        ("postgres://h/a b", "%20"),
        ("postgres://h:p/db", "port (DSN) must be a whole number"),
    ],
)
def test_a_malformed_dsn_says_what_is_wrong(dsn: str, reason: str) -> None:
    assert reason in refused(dsn)


@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://u:p@h/db?sslmode=require\n",
        "\n\t postgres://u:p@h/db?sslmode=require \r\n",
        "postgres://u:p@h/db?sslmode=require\n&application_name=x\n",
        "postgres://u:p@h/db\n?\nsslmode=require",
        "host=h user=u password=p dbname=db sslmode=require\n",
        "\nhost=h\nuser=u\npassword=p\ndbname=db\nsslmode=require\n",
    ],
)
async def test_white_space_around_a_dsn_and_its_values_is_ignored(dsn: str) -> None:
    found = params(dsn)
    password = await found.password_for(found.addresses[0])
    assert places(found) == ["h:5432"]
    assert (found.user, found.database, found.tls.mode) == ("u", "db", "require")
    assert password is not None
    assert password.reveal() == "p"


@pytest.mark.parametrize(
    ("dsn", "environ", "password"),
    [
        ("postgres://u:p%0A@h/db\n", {}, "p\n"),
        ("postgres://u:p\n@h/db\n", {}, "p\n"),
        ("postgres://h/db?password=p%20\n", {}, "p "),
        ("postgres://h/db?password=p\n&user=u", {}, "p\n"),
        ("host=h password='p\n'\n", {}, "p\n"),
        ("host=h password=p\\ ", {}, "p "),
        ("host=h", {"PGPASSWORD": "p\n"}, "p\n"),
    ],
)
async def test_a_password_keeps_its_white_space(dsn: str, environ: dict[str, str], password: str) -> None:
    found = resolve(dsn, environ=environ)
    given = await found.password_for(found.addresses[0])
    assert given is not None
    assert given.reveal() == password


def test_white_space_inside_a_uri_is_an_error() -> None:
    assert "contains a space" in refused("postgres://h/d b\n")


def test_a_dsn_that_is_no_text() -> None:
    assert "dsn must be a str, got bytes" in refused(b"postgres://h")  # type: ignore[arg-type]


def test_the_user_without_a_name_must_be_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    said = refused(environ={"HOME": "/"})
    assert "user is not given" in said
    assert "PGUSER" in said


# ---- service files


@pytest.fixture
def services(tmp_path: Path) -> Path:
    """A service file with a section that is fine and some that are not."""
    file = tmp_path / "services"
    file.write_text(
        "# services\n\n[fine]\nhost=a\nport=1\nhost=b\n  dbname=d  \n[spaced]\nhost ="
        " a\n[nested]\nservice=fine\n"
        f"[unknown]\nsearch_path=x\n[broken]\npassword={SECRET}\n{SECRET} x\n[fine]\nhost=second\n"
    )
    return file


def test_a_service_is_a_section_of_a_file(services: Path) -> None:
    given = params(service="fine", servicefile=services)
    assert places(given) == ["a:1"]
    assert given.database == "d"


@pytest.mark.parametrize(
    ("service", "reason"),
    [
        ("spaced", "line 9: there must be no space before the '=' of 'host'"),
        ("nested", "line 11: a service cannot refer to another one"),
        ("unknown", 'unknown connection option "search_path" in the service file'),
        ("broken", "line 16: expected option=value"),
        ("none", "no service file defines the service 'none'"),
    ],
)
def test_a_service_that_makes_no_sense(services: Path, service: str, reason: str) -> None:
    said = refused(service=service, servicefile=services)
    assert reason in said
    assert SECRET not in said


def test_a_service_file_that_is_named_must_exist(tmp_path: Path) -> None:
    assert "does not exist" in refused(service="x", servicefile=tmp_path / "none")


def test_the_system_wide_file_is_looked_into_after_the_users(tmp_path: Path) -> None:
    (tmp_path / ".pg_service.conf").write_text("[mine]\nhost=a\n")
    (tmp_path / "pg_service.conf").write_text("[ours]\nhost=b\n[mine]\nhost=c\n")
    environ = {"HOME": str(tmp_path), "PGSYSCONFDIR": str(tmp_path)}
    assert places(params(service="mine", environ=environ)) == ["a:5432"]
    assert places(params("service=ours", environ=environ)) == ["b:5432"]
    assert places(params(environ={**environ, "PGSERVICE": "ours"})) == ["b:5432"]


# ---- settings of the session


def test_the_startup_message_has_user_database_and_settings() -> None:
    given = params("postgres://u@h/db?application_name=me&options=-c%20geqo%3Doff", server_settings={"jit": "off"})
    assert given.startup_parameters() == {
        "user": "u",
        "database": "db",
        "application_name": "me",
        "options": "-c geqo=off",
        "client_encoding": "UTF8",
        "jit": "off",
    }


def test_server_settings_beat_options_and_variables() -> None:
    environ = {"PGTZ": "UTC", "PGAPPNAME": "of environment"}
    given = params("user=u", environ=environ, server_settings={"TimeZone": "CET", "application_name": "mine"})
    assert dict(given.server_settings) == {
        "client_encoding": "UTF8",
        "TimeZone": "CET",
        "application_name": "mine",
    }


def test_the_fallback_is_for_when_nothing_else_names_the_application() -> None:
    assert params(fallback_application_name="f").server_settings["application_name"] == "f"
    given = params(fallback_application_name="f", environ={"PGAPPNAME": "e"})
    assert given.server_settings["application_name"] == "e"


@pytest.mark.parametrize("encoding", ["UTF8", "utf-8", "Utf_8", "unicode", "auto"])
def test_the_encoding_is_utf_8(encoding: str) -> None:
    assert params(client_encoding=encoding).server_settings["client_encoding"] == "UTF8"
    given = params(server_settings={"Client_Encoding": encoding})
    assert dict(given.server_settings) == {"client_encoding": "UTF8"}


@pytest.mark.parametrize(
    "arguments",
    [
        {"client_encoding": "latin1"},
        {"server_settings": {"client_encoding": "SQL_ASCII"}},
        {"environ": {"PGCLIENTENCODING": "latin1"}},
    ],
)
def test_any_other_encoding_is_refused(arguments: dict[str, Any]) -> None:
    assert "must be UTF8, got" in refused(**arguments)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"a": 1}, "got 'a': int"),
        ({1: "a"}, "a name of type int"),
        ({"": "a"}, "empty name"),
        ("a=b", "server_settings is expected to be None or a Dict[str, str], got str"),
        ({"user": "x"}, "Give user=... instead."),
        ({"DATABASE": "x"}, "Give database=... instead."),
        ({"replication": "true"}, "cannot set 'replication'"),
        ({"_pq_.x": "y"}, "cannot set '_pq_.x'"),
        ({"TimeZone": "UTC", "timezone": "CET"}, "twice"),
        ({"a": "\ud800"}, "cannot be encoded in UTF-8"),
    ],
)
def test_server_settings_that_make_no_sense(settings: Any, reason: str) -> None:
    assert reason in refused(server_settings=settings)


def test_a_startup_message_that_no_server_takes_is_refused() -> None:
    assert "startup message would be" in refused(options="x" * 10_000)


# ---- fault 18: a NUL would end a field early and smuggle in others


@pytest.mark.fault(number=18)
@pytest.mark.parametrize(
    "name",
    [name for name, option in OPTIONS.items() if option.kind in ("text", "path", "choice", "number", "integer")],
)
def test_a_nul_in_any_keyword_argument_is_refused(name: str) -> None:
    assert "NUL" in refused(**{name: "a\0b"})


@pytest.mark.fault(number=18)
@pytest.mark.parametrize("dsn", ["host=a\0b", "postgres://a\0b", "postgres://u:p%00@h", "postgres://h?options=%00"])
def test_a_nul_in_a_dsn_is_refused(dsn: str) -> None:
    assert "NUL" in refused(dsn)


@pytest.mark.fault(number=18)
@pytest.mark.parametrize("pair", [("jit", "off\0user\0postgres"), ("jit\0user", "x")])
def test_a_nul_in_server_settings_is_refused(pair: tuple[str, str]) -> None:
    assert "NUL" in refused(server_settings=dict([pair]))


@pytest.mark.fault(number=18)
async def test_a_nul_from_a_callable_is_refused() -> None:
    given = params(password=lambda: "a\0b")
    with pytest.raises(ClientConfigurationError, match="NUL"):
        await given.password_for(given.addresses[0])


def test_fields_that_are_no_unicode_are_refused() -> None:
    assert "user (DSN) must be text in UTF-8" in refused("postgres://%ff@h")


# ---- passwords


async def test_a_callable_is_asked_again_for_each_connection() -> None:
    answers = iter(["one", "two"])
    given = params(password=lambda: next(answers))
    passwords = [await given.password_for(given.addresses[0]) for _ in range(2)]
    assert [password and password.reveal() for password in passwords] == ["one", "two"]


async def test_a_coroutine_function_is_awaited() -> None:
    async def ask() -> str:
        return SECRET

    given = params("postgres://u:ignored@h", password=ask, environ={"PGPASSWORD": "ignored"})
    password = await given.password_for(given.addresses[0])
    assert password is not None
    assert password.reveal() == SECRET


async def test_a_callable_may_know_no_password_but_must_return_text() -> None:
    none = params(password=lambda: None)
    assert await none.password_for(none.addresses[0]) is None
    wrong = params(password=lambda: 5)
    with pytest.raises(ClientConfigurationError, match="given as password must return str, got int"):
        await wrong.password_for(wrong.addresses[0])


async def test_a_token_may_be_asked_for_too() -> None:
    token = await params(oauth_token=lambda: "t", oauth_issuer="https://i").token()
    assert token is not None
    assert token.reveal() == "t"
    assert await params().token() is None
    assert "needs oauth_token" in refused(oauth_issuer="https://i")


def test_the_authorities_of_an_issuer_are_not_read() -> None:
    # As in libpq 19, the variable may be set for other programs.
    assert params(environ={"HOME": "/", "PGUSER": "u", "PGOAUTHCAFILE": "/nowhere"}).oauth_token is None


def test_bytes_are_no_password() -> None:
    said = refused(password=SECRET.encode())
    assert "password must be a str or a callable, got bytes" in said
    assert SECRET not in said


# ---- TLS: what ssl means


@pytest.mark.parametrize("mode", ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"])
def test_ssl_may_be_an_sslmode(mode: str) -> None:
    assert params("sslmode=prefer", ssl=mode).tls.mode == mode
    assert params(sslmode=mode).tls.mode == mode
    assert params(f"sslmode={mode}").tls.mode == mode
    assert params(environ={"PGSSLMODE": mode}).tls.mode == mode


def test_true_verifies_by_the_systems_authorities() -> None:
    tls = params("sslmode=disable sslrootcert=/x", ssl=True).tls
    assert (tls.mode, tls.rootcert) == ("verify-full", "system")
    assert params(ssl=True, sslrootcert="/x").tls.rootcert == "/x"
    assert params("sslmode=require", ssl=False).tls.mode == "disable"


def test_a_context_decides_itself() -> None:
    context = ssl.create_default_context()
    tls = params("sslmode=disable sslrootcert=system", ssl=context).tls
    assert tls.context is context
    assert tls.mode == "require"
    assert "sslrootcert cannot be given together with an SSLContext" in refused(ssl=context, sslrootcert="/x")


def test_the_systems_authorities_need_verify_full() -> None:
    assert params(sslrootcert="system").tls.mode == "verify-full"
    assert params(environ={"PGSSLROOTCERT": "system"}).tls.mode == "verify-full"
    assert "sslrootcert=system needs sslmode=verify-full" in refused(sslrootcert="system", sslmode="require")
    assert "needs sslmode=verify-full" in refused("sslrootcert=system", environ={"PGSSLMODE": "prefer"})


def test_direct_tls_is_asyncpgs_word_for_sslnegotiation() -> None:
    tls = params(direct_tls=True, ssl="require").tls
    assert (tls.negotiation, tls.require_alpn) == ("direct", False)
    tls = params(sslnegotiation="direct", ssl="require").tls
    assert (tls.negotiation, tls.require_alpn) == ("direct", True)
    assert params("sslnegotiation=direct sslmode=require", direct_tls=False).tls.negotiation == "postgres"
    assert "contradict" in refused(direct_tls=True, sslnegotiation="postgres", ssl="require")
    for mode in ("disable", "allow", "prefer", None):
        assert "direct TLS requires sslmode=require, verify-ca, or verify-full" in refused(direct_tls=True, ssl=mode)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"ssl": 1}, "ssl must be an ssl.SSLContext, a bool or an sslmode, got int"),
        (
            {"ssl": "on"},
            "one of 'disable', 'allow', 'prefer', 'require', 'verify-ca', 'verify-full', got 'on'",
        ),
        ({"ssl": "require", "sslmode": "require"}, "both ssl and sslmode"),
        ({"database": "a", "dbname": "a"}, "both database and dbname"),
        ({"direct_tls": 1}, "direct_tls must be a bool, got int"),
        ({"ssl_min_protocol_version": "SSLv3"}, "one of TLSv1, TLSv1.1, TLSv1.2, TLSv1.3, got 'SSLv3'"),
        ({"ssl_min_protocol_version": "TLSv1.3", "ssl_max_protocol_version": "TLSv1.2"}, "is newer than"),
        ({"sslsni": False, "ssl": "verify-full"}, "sslsni=0 does not go with"),
        ({"sslcompression": True}, "must be nothing: the option is not supported, got '1'"),
        ({"replication": "database"}, "must be nothing: the option is not supported"),
        ({"gssencmode": "require"}, "`require` is refused"),
        ({"gsslib": "sspi"}, "`sspi` is refused"),
        ({"keepalives": "maybe"}, "must be 0 or 1, got 'maybe'"),
        ({"keepalives": 1.0}, "keepalives must be a bool, got float"),
        ({"keepalives_idle": 1.5}, "keepalives_idle must be an int, got float"),
        ({"connect_timeout": "inf"}, "finite"),
        (
            {"connect_timeout": "soon"},
            "connect_timeout (keyword argument) must be a number of seconds, got 'soon'",
        ),
        ({"target_session_attrs": "master"}, "one of 'any', 'read-write'"),
        ({"user": 5}, "user must be a str, got int"),
        ({"passfile": 5}, "passfile must be a path, got int"),
        ({"require_auth": "md5,!password"}, 'mixes methods with and without "!"'),
        ({"require_auth": "kerberos"}, "unknown method 'kerberos'"),
        ({"require_auth": "md5,md5"}, "'md5' twice"),
        ({"min_protocol_version": "3.2", "max_protocol_version": "3.0"}, "is above"),
        ({"scram_min_iterations": 10, "scram_max_iterations": 5}, "is above"),
        ({"scram_max_iterations": 0}, "from 1 to"),
        ({"scram_client_key": base64.b64encode(bytes(32)).decode()}, "given together"),
        ({"scram_client_key": "AAAA"}, "must hold 32 bytes, got 3"),
        ({"scram_client_key": "?" + SECRET}, "scram_client_key (keyword argument) must be base64"),
    ],
)
def test_values_that_make_no_sense(arguments: dict[str, Any], reason: str) -> None:
    said = refused(**arguments)
    assert reason in said
    assert SECRET not in said


@pytest.mark.parametrize(("value", "expected"), [(True, True), (False, False), (1, True), ("0", False), ("off", False)])
def test_booleans_are_bools_numbers_or_words(value: Any, expected: bool) -> None:
    assert params(keepalives=value).keepalives.enabled is expected


def test_numbers_are_numbers_or_texts() -> None:
    keepalives = params(
        "keepalives_idle=5", keepalives_count=3, tcp_user_timeout="100", keepalives_interval=0
    ).keepalives
    assert keepalives.idle == 5
    assert keepalives.count == 3
    assert keepalives.user_timeout == 100
    assert keepalives.interval is None
    assert params(connect_timeout=0.5).connect_timeout == 0.5
    assert params(connect_timeout=0).connect_timeout is None
    assert params("connect_timeout=-1").connect_timeout is None


# ---- fault 20: no secret in what is printed, logged, raised or pickled


def given_secrets(**more: Any) -> ConnectParams:
    """Resolve with a secret in every place that takes one."""
    key = base64.b64encode(SECRET.encode().ljust(32, b"!")).decode()
    return params(
        f"postgres://u:{SECRET}@h/db?sslpassword={SECRET}",
        scram_client_key=key,
        scram_server_key=key,
        oauth_token=SECRET,
        oauth_client_secret=SECRET,
        **more,
    )


@pytest.mark.fault(number=20)
def test_printing_shows_no_secret() -> None:
    given = given_secrets()
    asked = params(password=functools.partial(str, SECRET))
    for printed in (
        repr(given),
        str(given),
        f"{given}",
        f"{given!r}",
        repr(asked),
    ):
        assert SECRET not in printed
        assert base64.b64encode(SECRET.encode()).decode()[:-4] not in printed
        assert repr(SECRET.encode())[2:-1] not in printed
    assert given.password is not None
    assert repr(given.password) == "<secret>"
    assert "user='u'" in repr(given)
    assert str(given) == "h:5432 user='u' database='db' sslmode=prefer"


@pytest.mark.fault(number=20)
def test_parameters_cannot_be_pickled_but_copied() -> None:
    given = given_secrets()
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(given)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(given.password)
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(params(password=str).password)
    assert copy.copy(given) is given
    assert copy.deepcopy(given) == given
    assert dataclasses.replace(given, user="v").password == given.password


@pytest.mark.fault(number=20)
@pytest.mark.parametrize(
    "dsn",
    [
        "postgres://u:{0}/x@h/db",
        "postgres://u:{0}/x@h:1/db",
        "postgres://u:12/{0}@h/db",
        "postgres://u:x@{0}@h/db",
        "postgres://u:x@y/{0}@h/db",
        "postgres://u:x@?{0}=@h/db",
        "postgres://u:{0}%zz@h/db",
        "postgres://u:{0} x@h/db",
        "postgres://u:{0}%00@h/db",
        "postgres://u:{0}@h/db?nonsense=1",
        "postgres://u:{0}@h/db?sslmode=nonsense",
        "postgres://u:{0}@h:port/db",
        "postgres://u:{0}@[h/db",
        "postgres://h/db?password={0}&{0}",
        "postgres://h/db?password={0}&{0}=1",
        "postgres://h/db?password={0}={0}",
        "postgres://h/db?passwrd={0}",
        "postgres://u:[{0}",
        "postgres://u:{0}",
        "postgresql+psycopg://u:{0}@h/db",
        "host=h password={0} {0}",
        "host=h password={0} {0} = 1",
        "host=h password={0} x{0}=1",
        "host=h password='{0}",
        "host=h password={0} port=x",
        "host=h {0}",
        "u:{0}@h/db",
        "{0}",
    ],
)
def test_a_malformed_dsn_shows_no_password(dsn: str) -> None:
    with pytest.raises(ClientConfigurationError) as caught:
        params(dsn.format(SECRET))
    error = caught.value
    shown = [
        str(error),
        repr(error),
        "".join(traceback.format_exception(error)),
        repr(pickle.loads(pickle.dumps(error))),
    ]
    assert not any(SECRET in text for text in shown)


@pytest.mark.fault(number=20)
@settings(max_examples=300, deadline=None)
@given(
    before=st.text("@:/?%[]= '\\&", max_size=4),
    after=st.text("@:/?%[]= '\\&", max_size=4),
    form=st.sampled_from(
        [
            "postgres://u:x{}@h/db",
            "postgres://u:{}@h/db",
            "postgres://h/db?password={}&port=x",
            "host=h password={} port=x",
        ]
    ),
)
def test_a_password_that_needed_quoting_is_not_shown(before: str, after: str, form: str) -> None:
    secret = before + SECRET + after + SECRET[::-1]
    try:
        given = params(form.format(secret))
    except ClientConfigurationError as error:
        shown = "".join(traceback.format_exception(error))
    else:
        shown = repr(given)
    assert SECRET not in shown
    assert SECRET[::-1] not in shown


# ---- the table


def test_the_table_says_all_there_is_to_say() -> None:
    for name, option in OPTIONS.items():
        assert option.name == name
        assert option.meaning.endswith((".", ")")), name
        assert bool(option.choices) == (option.kind == "choice"), name
        assert option.default is None or option.kind != "choice" or option.default in option.choices, name
        if option.status == "narrower":
            assert option.note, name
        assert set(name) <= set(string.ascii_lowercase + "_"), name


def test_every_option_is_a_keyword_argument() -> None:
    from headrace._connect.params.resolve import ConnectArguments

    assert set(ConnectArguments.__annotations__) == {
        *OPTIONS,
        "database",
        "ssl",
        "direct_tls",
        "server_settings",
    }
