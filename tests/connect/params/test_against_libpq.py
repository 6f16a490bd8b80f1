"""Connection parameters mean to headrace what they mean to libpq itself.

libpq 18 comes with psycopg. Two of its functions are asked: PQconninfoParse, which reads a DSN and nothing
else, and PQconnectStart, which puts DSN, service file, environment, passfile and defaults together before it
opens a socket. The sockets are in directories that do not exist, or ports of the loopback address where
nobody listens.

Where headrace means to differ, `DIFFERENCES` says how and why, and a test shows that both do as it says.
"""

from __future__ import annotations

import asyncio
import base64
import os
import pwd
import string
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict

from headrace._connect.params.conninfo import parse_dsn
from headrace._connect.params.options import OPTIONS
from headrace._connect.params.resolve import ConnectParams, resolve
from headrace._connect.params.uri import BLANKS, SCHEMES
from headrace._connect.platform import DEFAULT_HOSTS
from headrace.exceptions import ClientConfigurationError

pytestmark = pytest.mark.skipif(pq.version() < 180000, reason="the table of options is libpq 18's")

FAST = settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow])


# ---- what libpq says


@dataclass
class Said:
    """What libpq made of DSN, environment and files."""

    error: str | None
    options: dict[str, str] = field(default_factory=dict)
    password: str = ""


def libpq_parse(dsn: str) -> dict[str, str] | None:
    """Return what PQconninfoParse reads, None where it refuses."""
    try:
        found = pq.Conninfo.parse(dsn.encode("utf-8", "surrogateescape"))
    except Exception:
        return None
    return {
        option.keyword.decode(): option.val.decode("utf-8", "surrogateescape")
        for option in found
        if option.val is not None
    }


def libpq_start(dsn: str, environ: Mapping[str, str]) -> Said:
    """Return what PQconnectStart makes of it all; a connection that fails because nobody listens is no
    error."""
    with environment(environ):
        connection = pq.PGconn.connect_start(dsn.encode("utf-8", "surrogateescape"))
        try:
            message = connection.error_message.decode()
            refused = connection.status == pq.ConnStatus.BAD and not (
                message.startswith("connection to server") and "invalid integer" not in message
            )
            return Said(
                error=message if refused else None,
                options={
                    option.keyword.decode(): option.val.decode("utf-8", "surrogateescape")
                    for option in connection.info
                    if option.val is not None
                },
                password="" if refused else connection.password.decode("utf-8", "surrogateescape"),
            )
        finally:
            connection.finish()


@contextmanager
def environment(environ: Mapping[str, str]) -> Iterator[None]:
    """Set the variables that connecting reads to just these."""
    before = {name: text for name, text in os.environ.items() if name.startswith("PG") or name == "HOME"}
    for name in before:
        del os.environ[name]
    os.environ.update(environ)
    try:
        yield
    finally:
        for name in environ:
            os.environ.pop(name, None)
        os.environ.update(before)


# ---- a DSN is read the same

NEWER = set() if pq.version() >= 190000 else {"oauth_ca_file", "servicefile"}
"""The options of libpq 19, if this libpq is older."""
NAMES = sorted(name for name, option in OPTIONS.items() if option.status != "own" and name not in NEWER)
CHARACTERS = "aZ09 =&?/:@,%[]'\\\t\n.+-_~é€#;"
LETTERS = string.ascii_letters + string.digits + ".-_+é"
HOSTS = ("[::1]", "[fe80::1%25eth0]", "%2Ftmp", "@abstract", "127.0.0.1", "")


def agree(dsn: str) -> None:
    """Check that both read the same options out of a DSN, or that both refuse it."""
    refusal, found = None, None
    try:
        found = parse_dsn(dsn).values
    except ClientConfigurationError as error:
        refusal = str(error)
        # Difference "an @ too many".
        if '"@" too many' in refusal:
            return
    expected = libpq_parse(dsn)
    if expected != found and dsn.strip(BLANKS).startswith(SCHEMES):
        # Differences "white space around a URI" and "line breaks around the values of a URI".
        if found is not None and {*BLANKS} & {*found.get("password", "")}:
            return
        expected = libpq_parse(dsn.strip(BLANKS).translate(dict.fromkeys(map(ord, BLANKS), " ")))
    assert found == expected, f"{dsn!r}: {refusal=}"


@FAST
@given(st.text(alphabet=CHARACTERS, max_size=40))
def test_any_text_after_the_scheme_reads_the_same(text: str) -> None:
    agree("postgresql://" + text)
    agree("postgres://" + text)


@FAST
@given(st.text(alphabet=CHARACTERS + "hostuserpassworddbname", max_size=40))
@example("user")
@example("=x")
@example("host=a\\")
@example("host='a'port=1")
@example("host='a")
@example("host = a")
@example("host=a\xa0b")
@example("requiressl=1 user=u")
@example("requiressl=0")
@example("Postgres://h")
def test_any_text_reads_the_same(text: str) -> None:
    agree(text)


def percent_encoded(text: str) -> str:
    """Encode all but letters and digits."""
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"%{byte:02x}" for byte in text.encode())


def some_text(random: Random, alphabet: str, longest: int) -> str:
    """Make up a text."""
    return "".join(random.choice(alphabet) for _ in range(random.randint(0, longest)))


def some_value(random: Random) -> str:
    """Make up a value as it may stand in a URI, percent-encoded or in need of none."""
    if random.random() < 0.5:
        return some_text(random, LETTERS, 8)
    return percent_encoded(some_text(random, CHARACTERS, 12))


def some_uri(random: Random) -> str:
    """Make up a URI that is well formed, or one with one character that makes it not so."""

    def host() -> str:
        return some_value(random) if random.random() < 0.5 else random.choice(HOSTS)

    def parameter() -> str:
        name = random.choice([*NAMES, "ssl", "requiressl", "nonsense"])
        return f"{name}={random.choice((some_value(random), 'true'))}"

    identity = random.choice(("", "{}@", "{}:{}@")).format(some_value(random), some_value(random))
    hosts = ",".join(host() + random.choice(("", ":5432", ":", ":1", ":x")) for _ in range(random.randint(0, 3)))
    database = random.choice(("", "/" + some_value(random)))
    query = random.choice(("", "?" + "&".join(parameter() for _ in range(random.randint(0, 3)))))
    uri = f"postgresql://{identity}{hosts}{database}{query}"
    if random.random() < 0.1:
        at = random.randint(len("postgresql://"), len(uri))
        uri = uri[:at] + random.choice("@/?&=%[]: ,") + uri[at:]
    return uri


def some_conninfo(random: Random) -> str:
    """Make up a keyword/value text, quoted or not."""

    def part() -> str:
        value = some_text(random, CHARACTERS, 12)
        quoted = "'{}'".format(value.replace("\\", "\\\\").replace("'", "\\'"))
        name = random.choice([*NAMES, "requiressl", "nonsense"])
        return name + random.choice(("=", " = ")) + random.choice((value, quoted))

    return random.choice((" ", "\n", "")).join(part() for _ in range(random.randint(0, 4)))


@pytest.mark.parametrize(
    "uri",
    [
        "postgres://u:p@@abstract/db",
        "postgres://host?user=a@b",
        "postgres://a%2Cb:%31/",
        "postgres://h?ssl=true&sslmode=disable",
        "postgres:// h / d ?user= u ",
        "postgres://h/ a b",
        "postgres://[::1]x/",
        "postgres://h/%00",
        "postgres://h/%F",
        "postgres://h/%ff%fe",
        "postgres://,/",
        "postgres://h?&",
    ],
)
def test_odd_uris_read_the_same(uri: str) -> None:
    agree(uri)


def test_uris_read_the_same() -> None:
    for number in range(5_000):
        agree(some_uri(Random(number)))


def test_keyword_value_texts_read_the_same() -> None:
    for number in range(5_000):
        agree(some_conninfo(Random(number)))


def test_the_comparison_does_compare() -> None:
    dsn = "postgres://u:p%40@h1:1,[::1]/db?application_name=a%20b"
    assert parse_dsn(dsn).values == conninfo_to_dict(dsn)
    assert parse_dsn(dsn).values["password"] == "p@"


# ---- all sources together mean the same


def addresses(options: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """Pair libpq's lists as its documentation says ("Specifying Multiple Hosts")."""
    hosts, hostaddrs, ports = (options.get(name, "").split(",") for name in ("host", "hostaddr", "port"))
    count = len(hostaddrs) if options.get("hostaddr") else len(hosts)
    if not options.get("host"):
        hosts = [""] * count
    if not options.get("hostaddr"):
        hostaddrs = [""] * count
    ports = ports * count if len(ports) == 1 else ports
    found = []
    for host, hostaddr, port in zip(hosts, hostaddrs, ports, strict=True):
        # Difference "default hosts".
        names = (host,) if host or hostaddr else DEFAULT_HOSTS
        found += [(name, hostaddr, int(port or 5432)) for name in names]
    return found


def number(text: str | None) -> int | None:
    """Return what a keepalive option sets: nothing where libpq leaves the system's setting alone."""
    return max(int(text or 0), 0) or None


COMPARED: dict[str, tuple[Callable[[ConnectParams], object], Callable[[Mapping[str, str]], object]]] = {
    "addresses": (
        lambda params: [(each.host or "", each.hostaddr or "", each.port) for each in params.addresses],
        addresses,
    ),
    "user": (lambda params: params.user, lambda options: options["user"]),
    "database": (lambda params: params.database, lambda options: options["dbname"]),
    "options": (
        lambda params: params.server_settings.get("options", ""),
        lambda options: options.get("options", ""),
    ),
    "application_name": (
        lambda params: params.server_settings.get("application_name", ""),
        lambda options: options.get("application_name") or options.get("fallback_application_name", ""),
    ),
    "sslmode": (lambda params: params.tls.mode, lambda options: options["sslmode"]),
    "sslnegotiation": (lambda params: params.tls.negotiation, lambda options: options["sslnegotiation"]),
    "sslrootcert": (lambda params: params.tls.rootcert or "", lambda options: options.get("sslrootcert", "")),
    "sslcert": (lambda params: params.tls.cert or "", lambda options: options.get("sslcert", "")),
    "sslkey": (lambda params: params.tls.key or "", lambda options: options.get("sslkey", "")),
    "sslcrl": (lambda params: params.tls.crl or "", lambda options: options.get("sslcrl", "")),
    "sslcertmode": (lambda params: params.tls.certmode, lambda options: options["sslcertmode"]),
    "sslsni": (lambda params: params.tls.sni, lambda options: options["sslsni"] == "1"),
    "ssl_min_protocol_version": (
        lambda params: (params.tls.min_version or "").lower(),
        lambda options: options.get("ssl_min_protocol_version", "").lower(),
    ),
    "ssl_max_protocol_version": (
        lambda params: (params.tls.max_version or "").lower(),
        lambda options: options.get("ssl_max_protocol_version", "").lower(),
    ),
    "channel_binding": (
        lambda params: params.auth.channel_binding,
        lambda options: options["channel_binding"],
    ),
    "require_auth": (
        lambda params: params.auth.require_auth.text if params.auth.require_auth else "",
        lambda options: options.get("require_auth", ""),
    ),
    "krbsrvname": (lambda params: params.auth.krbsrvname, lambda options: options["krbsrvname"]),
    "requirepeer": (lambda params: params.requirepeer or "", lambda options: options.get("requirepeer", "")),
    "target_session_attrs": (
        lambda params: params.target_session_attrs,
        lambda options: options["target_session_attrs"],
    ),
    "load_balance_hosts": (
        lambda params: params.load_balance_hosts,
        lambda options: options["load_balance_hosts"] == "random",
    ),
    "keepalives": (
        lambda params: params.keepalives.enabled,
        lambda options: int(options.get("keepalives", 1)) != 0,
    ),
    "keepalives_idle": (
        lambda params: params.keepalives.idle,
        lambda options: number(options.get("keepalives_idle")),
    ),
    "keepalives_count": (
        lambda params: params.keepalives.count,
        lambda options: number(options.get("keepalives_count")),
    ),
    "tcp_user_timeout": (
        lambda params: params.keepalives.user_timeout,
        lambda options: number(options.get("tcp_user_timeout")),
    ),
    "connect_timeout": (
        lambda params: params.connect_timeout,
        lambda options: number(options.get("connect_timeout")),
    ),
    "min_protocol_version": (
        lambda params: params.min_protocol_version == 0x30002,
        lambda options: options.get("min_protocol_version", "3.0") != "3.0",
    ),
    "max_protocol_version": (
        lambda params: params.max_protocol_version == 0x30002,
        lambda options: (options.get("max_protocol_version") or options.get("min_protocol_version", "3.0")) != "3.0",
    ),
}

VALUES: dict[str, tuple[str, ...]] = {
    "host": ("127.0.0.1", "/nowhere", "/nowhere,/nobody", "127.0.0.1,/nowhere", "@none", "/a,", ""),
    "hostaddr": ("127.0.0.1", "127.0.0.1,::1", "", "::1"),
    "port": ("1", "2", "1,2", "", ",", "65535", "0", "65536", "x", " 7 "),
    "user": (),
    "password": ("secret", "", "it's", "\\"),
    "dbname": (),
    "options": (),
    "application_name": (),
    "fallback_application_name": (),
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full", "verify", "Require"),
    "sslnegotiation": ("postgres", "direct", "Direct"),
    "sslrootcert": ("system", "/nowhere/root.crt", ""),
    "sslcert": ("/nowhere/a.crt", ""),
    "sslkey": ("/nowhere/a.key", ""),
    "sslcrl": ("/nowhere/a.crl", ""),
    "sslcertmode": ("disable", "allow", "require", "deny"),
    "sslsni": ("1",),
    "ssl_min_protocol_version": ("", "TLSv1.2", "tlsv1.3", "SSLv3"),
    "ssl_max_protocol_version": ("", "TLSv1.2", "TLSV1.3", "1.3"),
    "channel_binding": ("disable", "prefer", "require", "yes"),
    "require_auth": (
        "",
        "md5",
        "md5,password",
        "!md5",
        "!md5,!none",
        "none",
        "md5,!password",
        "md5,md5",
        "md5, password",
        "scram",
    ),
    "krbsrvname": ("postgres", "pg"),
    "requirepeer": ("", "postgres"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby", "master"),
    "load_balance_hosts": ("disable", "random", "on"),
    "keepalives": ("0", "1"),
    "keepalives_idle": ("0", "5", "-3", " 60 "),
    "keepalives_count": ("0", "5"),
    "tcp_user_timeout": ("0", "5000"),
    "connect_timeout": ("0", "5", "-1", ""),
    "min_protocol_version": ("3.0", "3.2", "latest", "3.1"),
    "max_protocol_version": ("3.0", "3.2", "latest", "3"),
}
"""What an option may be, sensible and not; nothing: any word."""

PASSFILE_FIELDS = (
    ("*", "127.0.0.1", "localhost", "/nowhere", "::1"),
    ("*", "5432", "1"),
    ("*", "db", "a\\:b"),
    ("*", "user", "u\\\\"),
    ("one", "t\\:wo", "th\\\\ree", "fo:ur", ""),
)
PASSFILE_ODDITIES = ("# a comment", "", "malformed", "*:*", "*:*:*:*")


def differs_on_purpose(options: Mapping[str, str]) -> bool:
    """Tell whether a case is one of `DIFFERENCES`, so that it cannot be compared."""
    several = len(addresses_or_none(options) or [0]) > 1
    port = options.get("port", "")
    return (
        # "ports are checked before connecting"
        (several and any(not text.strip().isdigit() or not 0 < int(text) < 65536 for text in port.split(",") if text))
        # "empty words"
        or any(options.get(name) == "" for name in ("sslmode", "keepalives", "keepalives_idle"))
    )


def addresses_or_none(options: Mapping[str, str]) -> list[tuple[str, str, int]] | None:
    try:
        return addresses({**options, "port": ""})
    except ValueError:
        return None


@dataclass(frozen=True)
class Sources:
    """What DSN, service file, environment and passfile say."""

    dsn: dict[str, str]
    service: dict[str, str]
    environ: dict[str, str]
    passfile: list[str]
    as_uri: bool
    service_in_environment: bool


def some_sources(random: Random) -> Sources:
    """Make up a case."""

    def options() -> dict[str, str]:
        names = random.sample(sorted(VALUES), random.randint(0, 5))
        return {name: random.choice(VALUES[name] or (some_text(random, LETTERS, 8),)) for name in names}

    def line() -> str:
        if random.random() < 0.3:
            return random.choice(PASSFILE_ODDITIES)
        return ":".join(random.choice(field) for field in PASSFILE_FIELDS)

    return Sources(
        dsn=options(),
        service=options(),
        environ=options(),
        passfile=[line() for _ in range(random.randint(0, 4))],
        as_uri=random.random() < 0.5,
        service_in_environment=random.random() < 0.5,
    )


class Judge:
    """Compares what both make of a case; it has a home directory for service files and passfiles."""

    def __init__(self, home: Path, runner: asyncio.Runner) -> None:
        self.compared = 0
        """Cases that neither has refused."""
        self._home = home
        self._run = runner.run

    def mean_the_same(self, sources: Sources) -> None:
        """Check that both make the same of all sources, or that both refuse them."""
        variables = {"HOME": str(self._home)}
        for name, text in sources.environ.items():
            if (variable := OPTIONS[name].variable) and text:
                variables[variable] = text
        service = [f"{name}={text}" for name, text in sources.service.items() if text == text.strip()]
        rewrite(self._home / ".pg_service.conf", ["[other]", "user=wrong", "[test]", *service])
        rewrite(self._home / ".pgpass", sources.passfile)
        given = dict(sources.dsn)
        if sources.service_in_environment:
            variables["PGSERVICE"] = "test"
        else:
            given["service"] = "test"
        text = uri_of(given) if sources.as_uri else conninfo_of(given)

        said = libpq_start(text, variables)
        if differs_on_purpose(said.options or {**sources.environ, **sources.service, **sources.dsn}):
            return
        refusal, params = None, None
        try:
            params = resolve(text, environ=variables)
        except ClientConfigurationError as error:
            refusal = str(error)
        assert (refusal is None) == (said.error is None), f"{sources}: {refusal=}, {said.error=}"
        if params is None:
            return
        for name, (ours, theirs) in COMPARED.items():
            assert ours(params) == theirs(said.options), f"{name} of {sources}"
        if len(params.addresses) == 1 and not params.addresses[0].is_unix:
            # Of several hosts libpq may already be at any, and it has another name for Unix sockets.
            found = self._run(params.password_for(params.addresses[0]))
            assert (found.reveal() if found else "") == said.password, sources
        self.compared += 1


def rewrite(path: Path, lines: list[str]) -> None:
    """Write a small file that only its owner can read, in the place of what it held.

    Not by emptying it first: some file systems then write it to the disk when it is closed, which takes longer than all
    the rest of a case.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.ftruncate(file, os.write(file, "".join(f"{line}\n" for line in lines).encode()))
    finally:
        os.close(file)


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judge]:
    """One judge for all cases."""
    with asyncio.Runner() as runner:
        yield Judge(tmp_path_factory.mktemp("home"), runner)


@pytest.mark.parametrize(
    "numbers", [range(1_000), pytest.param(range(1_000, 10_000), marks=pytest.mark.slow)], ids=["in short", "at length"]
)
def test_all_sources_together_mean_the_same(judge: Judge, numbers: range) -> None:
    before = judge.compared
    for number in numbers:
        judge.mean_the_same(some_sources(Random(number)))
    assert judge.compared - before > len(numbers) / 5, "nearly all was refused by both, or differs on purpose"


def conninfo_of(options: Mapping[str, str]) -> str:
    """Write a keyword/value DSN."""
    return " ".join(
        "{}='{}'".format(name, text.replace("\\", "\\\\").replace("'", "\\'")) for name, text in options.items()
    )


def uri_of(options: Mapping[str, str]) -> str:
    """Write a URI that has all in its query."""
    return "postgresql://?" + "&".join(f"{name}={percent_encoded(text)}" for name, text in options.items())


# ---- the table of options is libpq's


def test_every_option_of_libpq_is_in_the_table() -> None:
    with environment({}):
        theirs = {option.keyword.decode(): option for option in pq.Conninfo.get_defaults()}
    assert set(NAMES) == set(theirs)


@pytest.mark.parametrize("name", NAMES)
def test_variables_defaults_and_secrets_are_libpqs(name: str) -> None:
    theirs = {option.keyword.decode(): option for option in pq.Conninfo.get_defaults()}[name]
    ours = OPTIONS[name]
    assert (ours.variable or "") == (theirs.envvar or b"").decode()
    if name not in {"client_encoding", "gssencmode", "keepalives", "min_protocol_version", "sslcertmode"}:
        # These have their defaults elsewhere in libpq's code; headrace always asks for UTF8. A libpq with Kerberos has
        # gssencmode=prefer; headrace has no encryption by it.
        assert (ours.default or "") == (theirs.compiled or b"").decode()
    if theirs.dispchar == b"*":
        assert ours.secret


# ---- where headrace differs on purpose

KEY = base64.b64encode(bytes(32)).decode()


@dataclass(frozen=True)
class Difference:
    """A DSN that headrace and libpq do not treat alike, and the reason."""

    name: str
    reason: str
    dsn: str
    libpq: bool
    """True if libpq takes it."""
    headrace: bool
    """True if headrace takes it."""
    environ: dict[str, str] = field(default_factory=dict)


DIFFERENCES = [
    Difference(
        "an @ too many in the host",
        "It is half of a password that was not percent-encoded: libpq looks it up as the name of a host,"
        " which shows it.",
        "postgres://u:pass@word@h/db?hostaddr=127.0.0.1&port=1",
        True,
        False,
    ),
    Difference(
        "an @ too many in the database",
        "The same for a password with a slash.",
        "postgres://127.0.0.1:1/word@host/db",
        True,
        False,
    ),
    Difference(
        "empty words",
        "An empty choice or number means the default, as an empty text does: a deployment that leaves a"
        " variable empty"
        " should not fail.",
        "host=/nowhere sslmode=''",
        False,
        True,
    ),
    Difference(
        "an empty variable",
        "PGSERVICE= is no service.",
        "host=/nowhere",
        False,
        True,
        {"PGSERVICE": ""},
    ),
    Difference(
        "ports are checked before connecting",
        "A wrong list is found at the start, not on the day that the first host fails.",
        "hostaddr=127.0.0.1,127.0.0.1 port=1,x",
        True,
        False,
    ),
    Difference(
        "addresses are checked before connecting",
        "The same for hostaddr.",
        "hostaddr=127.0.0.1,localhost port=1",
        True,
        False,
    ),
    Difference(
        "white space around a URI",
        "A secret that is read from a file usually ends in a line break.",
        "\npostgres:///?host=/nowhere\n",
        False,
        True,
    ),
    Difference(
        "line breaks around the values of a URI",
        "A long URI is written on several lines. A password keeps them.",
        "postgres:///?host=/nowhere\n&port=1",
        True,
        True,
    ),
    Difference(
        "short addresses",
        "127.1 is a form of the last century that means different things to different systems.",
        "hostaddr=127.1 port=1",
        True,
        False,
    ),
    Difference(
        "keepalives are checked",
        "libpq does so only where the first server that answers is reached by TCP.",
        "host=/nowhere keepalives_idle=x",
        True,
        False,
    ),
    Difference(
        "a time-out that is no number",
        "libpq takes it for zero, which is to wait for ever.",
        "hostaddr=127.0.0.1 port=1 connect_timeout=soon",
        True,
        False,
    ),
    Difference(
        "a time-out with a fraction",
        "Seconds are a float everywhere in headrace.",
        "hostaddr=127.0.0.1 port=1 connect_timeout=0.5",
        True,
        True,
    ),
    Difference(
        "encodings",
        "Values are Python texts, so the session's encoding is UTF-8.",
        "host=/nowhere client_encoding=LATIN1",
        True,
        False,
    ),
    Difference(
        "replication",
        "headrace does not speak that protocol.",
        "host=/nowhere replication=database",
        True,
        False,
    ),
    Difference(
        "TLS compression",
        "It is insecure, and Python has none.",
        "host=/nowhere sslcompression=1",
        True,
        False,
    ),
    Difference(
        "booleans are checked",
        "libpq reads the first character alone, so that sslsni=yes turns it off.",
        "host=/nowhere sslsni=maybe",
        True,
        False,
    ),
    Difference(
        "sslsni=0 with verify-full",
        "Python's ssl module verifies only a name that it sends.",
        "host=/nowhere sslsni=0 sslmode=verify-full",
        True,
        False,
    ),
    Difference("gsslib", "SSPI is for Windows.", "host=/nowhere gsslib=sspi", True, False),
    Difference(
        "one SCRAM key alone",
        "Without the server's key the server could not be verified.",
        f"host=/nowhere scram_client_key={KEY}",
        True,
        False,
    ),
    Difference(
        "OAuth without a token",
        "headrace runs no OAuth flow: without oauth_token the options would do nothing.",
        "host=/nowhere oauth_issuer=https://issuer oauth_client_id=x",
        True,
        False,
    ),
    Difference(
        "servicefile",
        "asyncpg's keyword argument; libpq 18 has the variable alone, and libpq 19 this as well.",
        "host=/nowhere servicefile=/nowhere",
        pq.version() >= 190000,
        True,
    ),
    Difference("database", "asyncpg's name for dbname.", "postgres:///?database=x&host=/nowhere", False, True),
    Difference(
        "consent to cleartext passwords",
        "libpq sends them to whoever asks.",
        "host=/nowhere allow_cleartext_password=1",
        False,
        True,
    ),
    Difference(
        "limits for SCRAM",
        "libpq has none.",
        "host=/nowhere scram_max_iterations=5000 scram_min_iterations=4096",
        False,
        True,
    ),
    Difference(
        "OAuth token",
        "libpq runs a flow of its own.",
        "host=/nowhere oauth_token=t oauth_scope=s",
        False,
        True,
    ),
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_headrace_differs_from_libpq_as_listed(difference: Difference, tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), **difference.environ}
    assert (libpq_start(difference.dsn, environ).error is None) is difference.libpq
    try:
        resolve(difference.dsn, environ=environ)
    except ClientConfigurationError:
        assert not difference.headrace, difference.reason
    else:
        assert difference.headrace, difference.reason


def test_without_a_host_the_usual_socket_directories_and_localhost_are_tried() -> None:
    # libpq tries one directory, which its packager chose; asyncpg tries these.
    assert [address.host for address in resolve("", environ={}).addresses] == list(DEFAULT_HOSTS)


def test_the_user_is_the_operating_systems(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "USER": "somebody", "LOGNAME": "else"}
    assert resolve("", environ=environ).user == pwd.getpwuid(os.geteuid()).pw_name
    assert libpq_start("host=/nowhere", environ).options["user"] == pwd.getpwuid(os.geteuid()).pw_name


def test_variables_for_settings_of_the_session_are_those_of_libpq() -> None:
    environ: dict[str, Any] = {"PGTZ": "UTC", "PGDATESTYLE": "German", "PGGEQO": "DEFAULT"}
    assert dict(resolve("", environ=environ).server_settings) == {
        "client_encoding": "UTF8",
        "timezone": "UTC",
        "datestyle": "German",
    }
