"""connect(): by every method of authentication, from every source of parameters, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import pwd
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import headrace
from tests.peers import backend
from tests.peers.blackhole import BlackHole
from tests.peers.fakeserver import Peer
from tests.peers.frontend import Password
from tests.secure import PASSWORD, Secure, eventually
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake


@asynccontextmanager
async def connected(*args: Any, **kwargs: Any) -> AsyncIterator[headrace.Connection]:
    """Connect for the length of a block."""
    connection = await headrace.connect(*args, **{"timeout": 20, **kwargs})
    try:
        yield connection
    finally:
        await connection.close()


# Methods of authentication


@pytest.mark.parametrize("role", ["trusted", "hashed", "scram"])
@pytest.mark.parametrize("ssl", ["disable", "prefer"])
async def test_each_method_lets_in(secure: Secure, role: str, ssl: str) -> None:
    async with connected(**secure.to(role), ssl=ssl) as connection:
        assert await connection.fetchval("SELECT current_user") == role


async def test_a_password_in_cleartext_goes_over_tls(tls: Secure) -> None:
    async with connected(**tls.to("cleartext"), ssl="require") as connection:
        assert await connection.fetchval("SELECT current_user") == "cleartext"


async def test_a_unix_socket_is_private_enough_for_a_password_in_cleartext(secure: Secure) -> None:
    with secure.cluster.hba("local all cleartext password"):
        async with connected(**secure.to("cleartext", unix=True)) as connection:
            assert await connection.fetchval("SELECT current_user") == "cleartext"


@pytest.mark.parametrize("role", ["hashed", "scram"])
async def test_a_wrong_password(secure: Secure, role: str) -> None:
    with pytest.raises(headrace.InvalidPasswordError, match="password authentication failed"):
        await headrace.connect(**secure.to(role, password="wrong"))


@pytest.mark.parametrize("role", ["hashed", "scram"])
async def test_no_password(secure: Secure, role: str) -> None:
    with pytest.raises(headrace.ClientConfigurationError, match="asks for a password .* and none is given") as caught:
        await headrace.connect(**secure.to(role, password=None), passfile="/nonexistent")
    # The password is missing rather than wrong, and programs that ask the user for another one go by that class.
    assert isinstance(caught.value, headrace.InvalidPasswordError)
    assert caught.value.sqlstate == "28P01"
    assert "Tried with and without TLS" not in "".join(getattr(caught.value, "__notes__", []))


async def test_a_role_that_pg_hba_rejects(secure: Secure) -> None:
    with pytest.raises(headrace.InvalidAuthorizationSpecificationError, match="rejects connection"):
        await headrace.connect(**secure.to("rejected"))


async def test_an_unknown_database(secure: Secure) -> None:
    with pytest.raises(headrace.InvalidCatalogNameError, match='database "nowhere" does not exist'):
        await headrace.connect(**{**secure.to("scram"), "database": "nowhere"})


async def test_keys_in_place_of_a_password(secure: Secure) -> None:
    """What pg_authid holds, StoredKey, is not enough to come in; ClientKey is."""
    ((verifier,),) = secure.cluster.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'scram'")
    iterations, salt = verifier.split("$")[1].split(":")
    salted = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), base64.b64decode(salt), int(iterations))
    keys = {
        "scram_client_key": base64.b64encode(hmac.digest(salted, b"Client Key", "sha256")).decode(),
        "scram_server_key": base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode(),
    }
    async with connected(**secure.to("scram", password=None), **keys) as connection:
        assert await connection.fetchval("SELECT current_user") == "scram"


# Where the password comes from


async def test_a_callable_is_asked_for_each_connection(secure: Secure) -> None:
    asked = 0

    def password() -> str:
        nonlocal asked
        asked += 1
        return PASSWORD

    for count in (1, 2):
        async with connected(**{**secure.to("scram"), "password": password}):
            assert asked == count


async def test_a_coroutine_function_is_awaited(secure: Secure) -> None:
    async def password() -> str:
        await asyncio.sleep(0)
        return PASSWORD

    async with connected(**{**secure.to("scram"), "password": password}) as connection:
        assert await connection.fetchval("SELECT current_user") == "scram"


async def test_a_callable_is_asked_once_for_an_address_though_it_is_tried_twice(tls: Secure) -> None:
    asked = 0

    def password() -> str:
        nonlocal asked
        asked += 1
        return PASSWORD

    async with connected(**{**tls.to("over_tls"), "password": password}, ssl="allow"):
        assert asked == 1
    async with connected(**{**tls.to("without_tls"), "password": password}, ssl="prefer"):
        assert asked == 2


@pytest.mark.parametrize("error", [OSError("no token today"), TimeoutError("no token in time"), KeyError("token")])
async def test_what_a_callable_raises_comes_at_once(fake: Fake, error: Exception) -> None:
    """It is not taken for a failure of the server's, which another address may mend."""

    def password() -> str:
        raise error

    first, never = await fake(every=lambda peer: peer.hold()), await fake()
    with pytest.raises(type(error)) as caught:
        await headrace.connect(
            host=[first.host, never.host],
            port=[first.port, never.port],
            user="me",
            password=password,
            ssl="disable",
            timeout=10,
        )
    assert caught.value is error
    assert never.peers == []


async def test_a_server_that_leaves_while_a_callable_is_asked(fake: Fake) -> None:
    async def leave(peer: Peer) -> None:
        await peer.close()
        left.set()

    async def password() -> str:
        await left.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        return PASSWORD

    left = asyncio.Event()
    server = await fake(leave)
    with pytest.raises(headrace.ConnectionDoesNotExistError, match="before the session had started"):
        await headrace.connect(server.dsn(), ssl="disable", password=password, timeout=10)


async def test_the_passfile_knows_each_server_by_the_name_the_user_gave(secure: Secure, tmp_path: Path) -> None:
    path = tmp_path / "passfile"
    path.write_text(f"localhost:{secure.cluster.port}:*:scram:{PASSWORD}\n")
    path.chmod(0o600)
    where = {**secure.to("scram", password=None), "host": "localhost", "hostaddr": "127.0.0.1"}
    async with connected(**where, passfile=path) as connection:
        assert await connection.fetchval("SELECT current_user") == "scram"


async def test_a_bearer_token_comes_from_a_callable_too(fake: Fake) -> None:
    async def token() -> str:
        return "eyJhbGciOi.payload.signature"

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(backend.authentication_sasl("OAUTHBEARER"))
        mechanism, response = (await peer.expect(Password)).sasl_initial()
        assert mechanism == "OAUTHBEARER"
        assert response == b"n,,\1auth=Bearer eyJhbGciOi.payload.signature\1\1"
        await peer.send(backend.greeting())
        await peer.expect_end()

    server = await fake(script)
    async with connected(server.dsn(), ssl="disable", oauth_token=token, allow_cleartext_password=True):
        pass
    with pytest.raises(headrace.InterfaceError, match="was not sent"):
        await headrace.connect((await fake(refusing)).dsn(), ssl="disable", oauth_token=token)


async def refusing(peer: Peer) -> None:
    startup = await peer.expect_startup()
    await peer.send(backend.authentication_sasl("OAUTHBEARER"))
    await peer.hold()
    assert peer.received == startup.raw


# Forms of a DSN


FORMS = {
    "uri": "postgresql://postgres@{host}:{port}/{database}",
    "short-scheme": "postgres://postgres@{host}:{port}/{database}",
    "uri-query": "postgresql:///{database}?host={host}&port={port}&user=postgres",
    "uri-unix": "postgresql://postgres@{quoted}:{port}/{database}",
    "uri-unix-query": "postgresql://postgres@/{database}?host={unix}&port={port}",
    "keywords": "host={host} port={port} user=postgres dbname={database}",
    "keywords-quoted": "host = '{host}' port = {port} user = 'postgres' dbname = '{database}'",
    "keywords-unix": "host={unix} port={port} user=postgres dbname={database}",
    "hostaddr": "host=anything.invalid hostaddr={host} port={port} user=postgres dbname={database}",
    "name": "postgresql://postgres@localhost:{port}/{database}",
}
"""DSNs that all lead to the same place."""


@pytest.mark.parametrize("form", FORMS)
async def test_a_dsn_has_two_forms(server: Cluster, database: str, form: str) -> None:
    unix = server.host(unix=True)
    where = {"host": server.host(), "port": server.port, "unix": unix, "quoted": quote(unix, safe="")}
    async with connected(FORMS[form].format(**where, database=database)) as connection:
        assert await connection.fetchval("SELECT current_database()") == database


async def test_the_path_of_the_socket_itself_is_a_host(server: Cluster, database: str) -> None:
    path = f"{server.host(unix=True)}/.s.PGSQL.{server.port}"
    async with connected(host=path, user="postgres", database=database) as connection:
        assert await connection.fetchval("SELECT inet_server_addr()") is None


async def test_variables_and_a_service_file(
    server: Cluster, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    services = tmp_path / "services"
    services.write_text(f"[shop]\nhost={server.host()}\nport={server.port}\ndbname={database}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    monkeypatch.setenv("PGUSER", "postgres")
    monkeypatch.setenv("PGAPPNAME", "from the environment")
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    monkeypatch.setenv("PGOPTIONS", "-c geqo=off")
    async with connected("service=shop") as connection:
        assert await connection.fetchval("SELECT current_database()") == database
        assert connection.get_settings().application_name == "from the environment"
        assert connection.get_settings().TimeZone == "Asia/Tokyo"
        assert await connection.fetchval("SHOW geqo") == "off"


async def test_server_settings_hold_from_the_start(connect: Connect) -> None:
    connection = await connect(
        server_settings={"search_path": "pg_catalog", "application_name": "shop", "statement_timeout": "12345"},
        options="-c work_mem=7MB",
    )
    assert await connection.fetchval("SHOW search_path") == "pg_catalog"
    assert await connection.fetchval("SHOW statement_timeout") == "12345ms"
    assert await connection.fetchval("SHOW work_mem") == "7MB"
    assert connection.get_settings().application_name == "shop"
    await connection.execute("RESET ALL")
    assert await connection.fetchval("SHOW search_path") == "pg_catalog", "they are the session's defaults"


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"no_such_setting": "1"}, headrace.UndefinedObjectError),
        ({"work_mem": "much"}, headrace.InvalidParameterValueError),
    ],
)
async def test_a_setting_that_the_server_refuses(
    connect: Connect, settings: dict[str, str], error: type[Exception]
) -> None:
    with pytest.raises(error):
        await connect(server_settings=settings)


# Nobody there


@pytest.fixture
def unused_port() -> Iterator[int]:
    """A port of 127.0.0.1 that refuses connections: it is taken, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def test_a_port_that_refuses(unused_port: int) -> None:
    with pytest.raises(
        ConnectionRefusedError, match=f"cannot connect to PostgreSQL at 127.0.0.1:{unused_port}"
    ) as refused:
        await headrace.connect(host="127.0.0.1", port=unused_port, user="me")
    assert headrace.is_safe_to_retry(refused.value)


async def test_what_time_does_not_mend_is_not_to_be_tried_again(connect: Connect) -> None:
    with pytest.raises(headrace.InvalidCatalogNameError) as refused:
        await connect(database="there_is_none")
    assert not headrace.is_safe_to_retry(refused.value)


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        await headrace.connect(host=str(tmp_path), user="me")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b", "x" * 64 + ".example"])
async def test_a_name_that_nobody_has(host: str) -> None:
    with pytest.raises(socket.gaierror, match=f"cannot look up the host '{host}'"):
        await headrace.connect(host=host, user="me", timeout=30)


# Time limits


async def test_connect_timeout_is_for_each_address() -> None:
    with BlackHole() as first, BlackHole() as second:
        with pytest.raises(TimeoutError, match="0.05 s .connect_timeout") as caught:
            await headrace.connect(
                host=[first.host, second.host], port=[first.port, second.port], user="me", connect_timeout=0.05
            )
    (note,) = caught.value.__notes__
    assert f"{first.host}:{first.port}: TimeoutError" in note
    assert f"{second.host}:{second.port}: TimeoutError" in note


async def test_an_address_that_does_not_answer_is_passed_over(server: Cluster, database: str) -> None:
    with BlackHole() as hole:
        async with connected(
            host=[hole.host, server.host()],
            port=[hole.port, server.port],
            user="postgres",
            database=database,
            # For the real server as well, which may have a lot to do.
            connect_timeout=2,
        ) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_timeout_is_for_the_whole(unused_port: int) -> None:
    with BlackHole() as hole:
        with pytest.raises(TimeoutError, match=f"0.05 s .timeout.*{hole.port}") as caught:
            await headrace.connect(
                host=["127.0.0.1", hole.host], port=[unused_port, hole.port], user="me", timeout=0.05
            )
    assert f"127.0.0.1:{unused_port}: ConnectionRefusedError" in caught.value.__notes__[0]


@pytest.mark.parametrize("silent_after", ["connecting", "ssl-request", "startup", "authentication"])
async def test_a_server_that_falls_silent(fake: Fake, silent_after: str) -> None:
    async def script(peer: Peer) -> None:
        if silent_after != "connecting":
            if silent_after == "ssl-request":
                await peer.expect_ssl_request(b"")
            else:
                await peer.expect_startup()
            if silent_after == "authentication":
                await peer.send(backend.authentication_ok())
        await peer.hold()

    server = await fake(script)
    with pytest.raises(TimeoutError, match="0.1 s"):
        await headrace.connect(server.dsn(), ssl="prefer", connect_timeout=0.1)


async def test_a_limit_of_nothing() -> None:
    with pytest.raises(TimeoutError):
        await headrace.connect(host="127.0.0.1", port=1, user="me", timeout=0)
    with pytest.raises(ValueError, match="timeout"):
        await headrace.connect(host="127.0.0.1", port=1, user="me", timeout="soon")  # type: ignore[arg-type]


# Addresses of other kinds


class Session:
    """Accepts one session, on whatever kind of socket."""

    def __init__(self) -> None:
        self.over = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, 1, self.over)
        startup = await peer.greet()
        assert startup.parameters["user"] == "me"
        await peer.expect_end()
        await peer.close()
        self.over.set()


async def test_an_ipv6_address() -> None:
    session = Session()
    try:
        listener = await asyncio.start_server(session, "::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    port = listener.sockets[0].getsockname()[1]
    async with listener:
        async with connected(f"postgresql://me@[::1]:{port}/"):
            pass
        await asyncio.wait_for(session.over.wait(), 10)


async def test_an_abstract_unix_socket() -> None:
    """It is a name in the kernel, not a file; PostgreSQL takes `@name` in unix_socket_directories too."""
    directory = f"@headrace-tests-{os.getpid()}"
    session = Session()
    listener = await asyncio.start_unix_server(session, path=f"\0{directory[1:]}/.s.PGSQL.5433")
    async with listener:
        async with connected(host=directory, port=5433, user="me"):
            pass
        await asyncio.wait_for(session.over.wait(), 10)


def owner_of(server: Cluster) -> str:
    """Return the name of the user that a server runs as."""
    return pwd.getpwuid(server.directory.stat().st_uid).pw_name


@pytest.mark.skipif(not hasattr(socket, "SO_PEERCRED"), reason="the platform does not tell who is at the other end")
async def test_requirepeer_names_the_user_that_the_server_runs_as(server: Cluster, database: str) -> None:
    where: dict[str, Any] = {
        "host": server.host(unix=True),
        "port": server.port,
        "user": "postgres",
        "database": database,
    }
    async with connected(**where, requirepeer=owner_of(server)) as connection:
        assert await connection.fetchval("SELECT 1") == 1
    with pytest.raises(ConnectionError, match=f"requirepeer=daemon, but the server runs as {owner_of(server)}"):
        await headrace.connect(**where, requirepeer="daemon")
    async with connected(**{**where, "host": server.host()}, requirepeer="daemon") as connection:
        assert await connection.fetchval("SELECT 1") == 1, "it is for Unix sockets alone"


# TCP


async def test_keepalives_and_tcp_user_timeout_are_set_on_the_socket(connect: Connect) -> None:
    connection = await connect(keepalives_idle=31, keepalives_interval=7, keepalives_count=5, tcp_user_timeout=4321)
    sock = connection._driver.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    options = ("TCP_KEEPIDLE", 31), ("TCP_KEEPINTVL", 7), ("TCP_KEEPCNT", 5), ("TCP_USER_TIMEOUT", 4321)
    for name, value in options:
        if hasattr(socket, name):
            assert sock.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) == value
    quiet = await connect(keepalives=False)
    assert not quiet._driver.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


@pytest.mark.skipif(not hasattr(socket, "TCP_KEEPIDLE"), reason="the platform has no such option")
async def test_a_keepalive_that_the_system_refuses_is_named(connect: Connect) -> None:
    with pytest.raises(headrace.ClientConfigurationError, match="keepalives_idle=99999 is refused by the system"):
        await connect(keepalives_idle=99999)


# The class of the connection


async def test_a_connection_class_that_raises_leaves_nothing_open(
    server: Cluster, connect_kwargs: dict[str, Any]
) -> None:
    class Broken(headrace.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("not today")

    def is_there() -> bool:
        return any(backend.application == "broken" for backend in server.backends(connect_kwargs["database"]))

    with pytest.raises(RuntimeError, match="not today"):
        await headrace.connect(
            **connect_kwargs, connection_class=Broken, server_settings={"application_name": "broken"}
        )
    await eventually(lambda: not is_there(), "the backend ends")
