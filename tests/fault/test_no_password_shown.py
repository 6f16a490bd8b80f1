"""Fault 20: no failure to connect, and no malformed DSN, shows a password in repr, str, traceback, log or pickle.

Error trackers and `pytest --showlocals` show the local variables of each frame in a traceback, so these may not contain
one either.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import ssl
import traceback
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.certificates import openssl
from tests.peers import backend
from tests.peers.blackhole import BlackHole
from tests.peers.frontend import Password
from tests.peers.scram import MECHANISM, ScramServer
from tests.secure import Secure

if TYPE_CHECKING:
    from tests.fixtures import Fake
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=20)

SECRET = "correct-horse-battery"
"""Of characters that stand the same everywhere, so that it is found wherever it turns up."""


Fails = Callable[..., Awaitable[BaseException]]

OURS = str(Path(__file__).parents[1])
"""The directory of the tests. Their frames know the secret."""


def shown(error: BaseException) -> str:
    """Return everything that a program or its log may show of an error."""
    texts = [repr(error), str(error), repr(error.args), repr(error.__dict__), *traceback.format_exception(error)]
    try:
        texts.append(pickle.dumps(error).decode("latin-1"))
    except TypeError as refused:
        # Not everything can be pickled; what cannot shows nothing.
        texts.append(str(refused))
    return "\n".join(texts)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error with its causes, and the errors that were being handled when it was raised."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def inside(value: object, seen: set[int]) -> Iterator[str]:
    """Yield the repr of a value, and of all that a tool finds in it by `vars()` and in containers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    yield repr(value)
    if isinstance(value, dict):
        yield from (text for pair in value.items() for each in pair for text in inside(each, seen))
    elif isinstance(value, list | tuple | set | frozenset):
        yield from (text for each in value for text in inside(each, seen))
    elif type(value).__module__.startswith("headrace"):
        yield from inside(getattr(value, "__dict__", None), seen)


def locals_shown(error: BaseException) -> Iterator[str]:
    """Yield what a tool that shows local variables finds in the frames of an error, those of the tests apart."""
    seen: set[int] = set()
    for each in chain(error):
        yield from inside(vars(each), seen)
        for frame, _ in traceback.walk_tb(each.__traceback__):
            if not frame.f_code.co_filename.startswith(OURS):
                for name, value in frame.f_locals.items():
                    yield from (f"{frame.f_code.co_qualname}: {name}: {text}" for text in inside(value, seen))
    captured = traceback.TracebackException.from_exception(error, capture_locals=True)
    parts = [captured]
    while parts:
        part = parts.pop()
        parts += [other for other in (part.__cause__, part.__context__) if other is not None]
        for summary in part.stack:
            if not summary.filename.startswith(OURS):
                yield from (f"{summary.name}: {name} = {value}" for name, value in (summary.locals or {}).items())


def check_hidden(error: BaseException) -> None:
    """Fail if the error, or a frame of its traceback, shows SECRET."""
    assert SECRET not in shown(error)
    for line in locals_shown(error):
        assert SECRET not in line


async def connecting(*args: Any, **arguments: Any) -> object:
    """Connect."""
    return await headrace.connect(*args, **arguments)


async def opening_a_pool(*args: Any, **arguments: Any) -> object:
    """Open a pool of one connection."""
    return await headrace.create_pool(*args, **{"min_size": 1, "max_size": 1, **arguments})


def failing(opening: Callable[..., Awaitable[object]], caplog: pytest.LogCaptureFixture) -> Iterator[Fails]:
    """Open in vain, in the loop's debug mode, and make sure that neither the failure nor the log shows SECRET."""

    async def fails(dsn: str | None = None, /, **arguments: Any) -> BaseException:
        asyncio.get_running_loop().set_debug(True)
        with pytest.raises(BaseException) as caught:
            await opening(dsn, **{"timeout": 10, **arguments})
        check_hidden(caught.value)
        return caught.value

    with caplog.at_level(logging.DEBUG):
        yield fails
    assert SECRET not in caplog.text


@pytest.fixture
def fails(caplog: pytest.LogCaptureFixture) -> Iterator[Fails]:
    """A connection that cannot be opened."""
    yield from failing(connecting, caplog)


@pytest.fixture(params=[connecting, opening_a_pool], ids=lambda opening: opening.__name__)
def both_fail(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[Fails]:
    """A connection, and a pool, that cannot be opened. A pool does not try again after these errors."""
    yield from failing(request.param, caplog)


# What real servers refuse


@pytest.mark.parametrize("role", ["hashed", "scram", "rejected", "nobody_of_that_name"])
async def test_a_server_that_lets_nobody_in(secure: Secure, both_fail: Fails, role: str) -> None:
    error = await both_fail(**secure.to(role, password=SECRET), ssl="disable")
    assert isinstance(error, headrace.InvalidAuthorizationSpecificationError)


async def test_a_database_that_does_not_exist(secure: Secure, both_fail: Fails) -> None:
    error = await both_fail(**{**secure.to("trusted", password=SECRET), "database": "nowhere"})
    assert isinstance(error, headrace.InvalidCatalogNameError)


async def test_a_password_in_cleartext(secure: Secure, both_fail: Fails) -> None:
    error = await both_fail(**secure.to("cleartext", password=SECRET), ssl="disable", allow_cleartext_password=True)
    assert isinstance(error, headrace.InvalidPasswordError)
    error = await both_fail(**secure.to("cleartext", password=SECRET), ssl="disable")
    assert isinstance(error, headrace.InterfaceError)


async def test_a_certificate_that_is_not_trusted(tls: Secure, both_fail: Fails) -> None:
    with tls.presenting(tls.pki.expired):
        error = await both_fail(**tls.to("scram", password=SECRET), ssl="verify-full", sslrootcert=tls.pki.root)
    assert isinstance(error, ssl.SSLError)


async def test_the_password_of_a_key(tls: Secure, fails: Fails, tmp_path: Path) -> None:
    issued = tls.pki.client
    key = tmp_path / "encrypted.key"
    openssl("pkey", "-in", issued.key, "-aes-256-cbc", "-passout", "pass:right", "-out", key)
    key.chmod(0o600)
    files = {"sslrootcert": tls.pki.root, "sslcert": issued.certificate, "sslkey": key}
    error = await fails(**tls.to("certified", password=None), ssl="verify-full", **files, sslpassword=SECRET)
    assert isinstance(error, headrace.ClientConfigurationError)


# What never gets that far


async def test_nobody_there(fails: Fails, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        assert isinstance(await fails(f"postgresql://me:{SECRET}@127.0.0.1:{port}/"), ConnectionRefusedError)
    assert isinstance(await fails(host=str(tmp_path), user="me", password=SECRET), FileNotFoundError)
    assert isinstance(await fails(f"host=name.invalid user=me password={SECRET}"), socket.gaierror)


async def test_time_outs(fails: Fails) -> None:
    with BlackHole() as hole:
        where: dict[str, Any] = {"host": [hole.host] * 2, "port": hole.port, "user": "me", "password": SECRET}
        assert isinstance(await fails(**where, connect_timeout=0.05), TimeoutError)
        assert isinstance(await fails(**where, timeout=0.05), TimeoutError)


async def test_a_callable_that_raises(fake: Fake, fails: Fails) -> None:
    server = await fake(every=lambda peer: peer.hold())
    error = await fails(server.dsn(), ssl="disable", password=lambda: os.environ["NO_SUCH_VARIABLE"])
    assert isinstance(error, KeyError)
    await fails(server.dsn(), ssl="disable", password=partial(int, "x", base=16), application_name="x")
    await fails(server.dsn(), ssl="disable", password=lambda: SECRET + "\0")
    await fails(server.dsn(), ssl="disable", password=lambda: SECRET.encode())


@pytest.mark.parametrize("option", ["password", "oauth_token", "sslpassword", "scram_client_key"])
async def test_a_secret_of_the_wrong_type(both_fail: Fails, option: str) -> None:
    error = await both_fail("host=h user=me", **{option: SECRET.encode()})
    assert isinstance(error, headrace.ClientConfigurationError)
    assert option in str(error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": "seven"},
        {"no_such_option": SECRET},
        {"connection_class": int},
        {"record_class": int},
        {"command_timeout": "soon"},
        {"max_pipeline": 0},
        {"statement_cache_size": -1},
        {"strict_transactions": "no"},
        {"server_settings": {"a": 1}},
        {"service": "nowhere"},
        {"ssl": "verify-full", "sslrootcert": "/nonexistent"},
        {"scram_client_key": "AAAA", "scram_server_key": SECRET},
        {"user": "\ud800"},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
async def test_a_bad_argument_beside_a_password(
    both_fail: Fails, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any]
) -> None:
    monkeypatch.setenv("PGPASSWORD", SECRET)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        for secret in ({"password": SECRET}, {"oauth_token": SECRET}, {"sslpassword": SECRET}):
            await both_fail(f"postgresql://me:{SECRET}@{host}:{port}/", **{"connect_timeout": 1, **secret, **wrong})


@pytest.mark.parametrize("wrong", [{"min_size": -1}, {"max_queries": 0}, {"init_size": 9}, {"codecs": [5]}])
async def test_a_bad_argument_of_a_pool(wrong: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError, headrace.InterfaceError)) as caught:
        headrace.create_pool(f"postgresql://me:{SECRET}@h/", password=SECRET, **wrong)
    check_hidden(caught.value)


async def test_new_arguments_of_a_pool() -> None:
    pool = headrace.create_pool(f"postgresql://me:{SECRET}@h/", password=SECRET)
    with pytest.raises(ValueError, match="max_pipeline") as caught:
        pool.set_connect_args(f"postgresql://me:{SECRET}@h/", password=SECRET, max_pipeline=0)
    check_hidden(caught.value)
    pool.set_connect_args(f"postgresql://me:{SECRET}@h/", password=SECRET)
    for text in inside(pool, set()):
        assert SECRET not in text


async def test_a_service_file_with_a_password(both_fail: Fails, tmp_path: Path) -> None:
    path = tmp_path / "services"
    path.write_text(f"[shop]\npassword={SECRET}\nno equals sign\n")
    assert isinstance(await both_fail(service="shop", servicefile=path), headrace.ClientConfigurationError)
    path.write_text(f"[shop]\npassword={SECRET}\nport=seven\n")
    assert isinstance(await both_fail(service="shop", servicefile=path), headrace.ClientConfigurationError)


@pytest.mark.filterwarnings("error::headrace.InterfaceWarning")
async def test_a_passfile_that_cannot_be_used(fake: Fake, both_fail: Fails, tmp_path: Path) -> None:
    path = tmp_path / "passfile"
    path.write_text(f"*:*:*:*:{SECRET}\n")
    path.chmod(0o644)
    server = await fake(every=lambda peer: peer.hold())
    error = await both_fail(server.dsn(), ssl="disable", passfile=path)
    assert isinstance(error, headrace.InterfaceWarning)


async def test_a_connection_class_that_raises(fake: Fake, both_fail: Fails) -> None:
    class Broken(headrace.Connection):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            raise LookupError("broken")

    server = await fake(every=greet_and_hold)
    error = await both_fail(server.dsn(), ssl="disable", password=SECRET, connection_class=Broken)
    assert isinstance(error, LookupError)


async def test_a_connect_callback_that_raises() -> None:
    async def connect(*args: Any, **kwargs: Any) -> headrace.Connection:
        raise LookupError("broken")

    def connect_at_once(*args: Any, **kwargs: Any) -> Awaitable[headrace.Connection]:
        raise LookupError("broken")

    for callback in (connect, connect_at_once):
        with pytest.raises(LookupError) as caught:
            await headrace.create_pool(f"postgresql://me:{SECRET}@h/", password=SECRET, connect=callback)
        check_hidden(caught.value)


async def test_a_pool_that_reaches_nobody() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        host, port = bound.getsockname()
        with pytest.raises(OSError) as caught:
            await headrace.create_pool(f"postgresql://me:{SECRET}@{host}:{port}/", password=SECRET, timeout=0.2)
        check_hidden(caught.value)


# What breaks in the middle


async def half_of_scram(peer: Peer) -> None:
    await peer.send(backend.authentication_sasl(MECHANISM))
    _, first = (await peer.expect(Password)).sasl_initial()
    await peer.send(backend.authentication_sasl_continue(ScramServer(SECRET).challenge(first or b"")))
    await peer.expect(Password)


async def a_false_signature(peer: Peer) -> None:
    await ScramServer(SECRET, signature=bytes(32)).authenticate(peer)


async def out_of_step(peer: Peer) -> None:
    await half_of_scram(peer)
    await peer.send(b"HTTP/1.1 400 Bad Request")


async def a_refusal(peer: Peer) -> None:
    await half_of_scram(peer)
    await peer.send(backend.authentication_sasl_final("e=invalid-proof"))


async def greet_and_hold(peer: Peer) -> None:
    await peer.greet()
    await peer.hold()


async def rubbish(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 400 Bad Request")


async def behind_a_password(peer: Peer) -> None:
    await peer.send(backend.authentication_cleartext_password())
    await peer.expect(Password)
    await peer.send(b"HTTP/1.1 400 Bad Request")


async def behind_a_hash(peer: Peer) -> None:
    await peer.send(backend.authentication_md5_password(b"salt"))
    await peer.expect(Password)
    await peer.send(backend.authentication_md5_password(b"salt"))


async def behind_a_token(peer: Peer) -> None:
    await peer.send(backend.authentication_sasl("OAUTHBEARER"))
    await peer.expect(Password)
    await peer.send(backend.authentication_sasl_final("v=1"))


@pytest.mark.parametrize(
    "play",
    [
        half_of_scram,
        a_false_signature,
        out_of_step,
        a_refusal,
        rubbish,
        behind_a_password,
        behind_a_hash,
        behind_a_token,
    ],
    ids=lambda each: each.__name__,
)
async def test_authentication_that_breaks_off(fake: Fake, fails: Fails, play: Callable[[Peer], Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await play(peer)

    server = await fake(script)
    await fails(server.dsn(), password=SECRET, oauth_token=SECRET, ssl="disable", allow_cleartext_password=True)


@pytest.mark.parametrize(
    ("ask", "given"),
    [
        (backend.authentication_cleartext_password(), {"password": SECRET + "\ud800"}),
        (backend.authentication_md5_password(b"salt"), {"password": SECRET + "\ud800"}),
        (backend.authentication_sasl(MECHANISM), {"password": SECRET + "\ud800"}),
        (backend.authentication_sasl("OAUTHBEARER"), {"oauth_token": SECRET + "\ud800"}),
        (backend.authentication_sasl("OAUTHBEARER"), {"oauth_token": SECRET + " and more"}),
    ],
    ids=["cleartext", "md5", "scram", "oauth", "oauth, no token"],
)
async def test_a_secret_that_cannot_be_sent(fake: Fake, both_fail: Fails, ask: bytes, given: dict[str, str]) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(ask)
        await peer.expect_end()

    server = await fake(script)
    error = await both_fail(server.dsn(), ssl="disable", allow_cleartext_password=True, **given)
    assert isinstance(error, headrace.ClientConfigurationError)


async def test_cancellation(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await half_of_scram(peer)
        hashed.set()
        await peer.hold()

    hashed = asyncio.Event()
    asyncio.get_running_loop().set_debug(True)
    server = await fake(script)
    with caplog.at_level(logging.DEBUG):
        connecting = asyncio.create_task(headrace.connect(server.dsn(), password=SECRET, ssl="disable"))
        await hashed.wait()
        assert SECRET not in repr(connecting)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await connecting
    check_hidden(caught.value)
    assert SECRET not in caplog.text


# What is no DSN


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://me:{}/more@host/db",
        "postgresql://me:{}@host:99999/db",
        "postgresql://me:a@{}@host/db",
        "postgresql://me:{}@[::1/db",
        "postgresql://me:%zz{}@host/db",
        "postgresql://host/db?password={}&{}",
        "postgresql://host/db?password=a&{}=1",
        "postgresql://host/db?passwort={}",
        "postgresql+asyncpg://me:{}@host/db",
        "mysql://me:{}@host/db",
        "host=h password=a {}",
        "host=h password='{}",
        "host=h password=a {}=b",
        "me:{}@host/db",
        "host=h password={} sslmode=perhaps",
        "host=h password={} port=seven",
        "host=h password={} connect_timeout=soon",
        "host=h scram_client_key={}",
        "host=h oauth_client_secret={}",
    ],
)
async def test_a_malformed_dsn(both_fail: Fails, dsn: str) -> None:
    error = await both_fail(dsn.format(*[SECRET] * 2))
    assert isinstance(error, ValueError)


async def test_what_connected_shows_nothing_either(secure: Secure) -> None:
    arguments = secure.to("scram")
    connection = await headrace.connect(**arguments)
    for each in (connection, connection._params, connection.get_settings()):
        assert arguments["password"] not in repr(each) + str(each)
    with pytest.raises(TypeError):
        pickle.dumps(connection._params)
    await connection.close()
