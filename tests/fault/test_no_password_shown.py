"""Fault 20: no failure to connect, and no malformed DSN, shows a password in repr, str, traceback, log or pickle."""

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

DRIVER = str(Path(headrace.__file__).parent)


def shown(error: BaseException) -> str:
    """Return everything that a program or its log may show of an error."""
    texts = [repr(error), str(error), repr(error.args), repr(error.__dict__), *traceback.format_exception(error)]
    try:
        texts.append(pickle.dumps(error).decode("latin-1"))
    except TypeError as refused:
        # Not everything can be pickled; what cannot shows nothing.
        texts.append(str(refused))
    return "\n".join(texts)


def locals_shown(error: BaseException | None) -> Iterator[str]:
    """Yield what a collector of tracebacks finds in the driver's own frames."""
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if DRIVER in frame.f_code.co_filename:
                yield from (f"{frame.f_code.co_qualname}: {name} = {value!r}" for name, value in frame.f_locals.items())
        error = error.__cause__ or error.__context__


@pytest.fixture
def fails(caplog: pytest.LogCaptureFixture) -> Iterator[Fails]:
    """Connect in vain, in the loop's debug mode, and make sure that neither the failure nor the log shows SECRET."""

    async def fails(dsn: str | None = None, /, *, resolved: bool = True, **arguments: Any) -> BaseException:
        asyncio.get_running_loop().set_debug(True)
        with pytest.raises(BaseException) as caught:
            await headrace.connect(dsn, **{"timeout": 10, **arguments})
        error = caught.value
        assert SECRET not in shown(error)
        if resolved:
            for line in locals_shown(error):
                assert SECRET not in line
        return error

    with caplog.at_level(logging.DEBUG):
        yield fails
    assert SECRET not in caplog.text


# What real servers refuse


@pytest.mark.parametrize("role", ["hashed", "scram", "rejected", "nobody_of_that_name"])
async def test_a_server_that_lets_nobody_in(secure: Secure, fails: Fails, role: str) -> None:
    error = await fails(**secure.to(role, password=SECRET), ssl="disable")
    assert isinstance(error, headrace.InvalidAuthorizationSpecificationError)


async def test_a_database_that_does_not_exist(secure: Secure, fails: Fails) -> None:
    error = await fails(**{**secure.to("trusted", password=SECRET), "database": "nowhere"})
    assert isinstance(error, headrace.InvalidCatalogNameError)


async def test_a_password_in_cleartext(secure: Secure, fails: Fails) -> None:
    error = await fails(**secure.to("cleartext", password=SECRET), ssl="disable", allow_cleartext_password=True)
    assert isinstance(error, headrace.InvalidPasswordError)
    error = await fails(**secure.to("cleartext", password=SECRET), ssl="disable")
    assert isinstance(error, headrace.InterfaceError)


async def test_a_certificate_that_is_not_trusted(tls: Secure, fails: Fails) -> None:
    with tls.presenting(tls.pki.expired):
        error = await fails(**tls.to("scram", password=SECRET), ssl="verify-full", sslrootcert=tls.pki.root)
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


@pytest.mark.parametrize(
    "play", [half_of_scram, a_false_signature, out_of_step, a_refusal], ids=lambda each: each.__name__
)
async def test_authentication_that_breaks_off(fake: Fake, fails: Fails, play: Callable[[Peer], Any]) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await play(peer)

    server = await fake(script)
    await fails(server.dsn(), password=SECRET, ssl="disable")


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
    assert SECRET not in shown(caught.value)
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
async def test_a_malformed_dsn(fails: Fails, dsn: str) -> None:
    error = await fails(dsn.format(*[SECRET] * 2), resolved=False)
    assert isinstance(error, ValueError)


async def test_what_connected_shows_nothing_either(secure: Secure) -> None:
    arguments = secure.to("scram")
    connection = await headrace.connect(**arguments)
    for each in (connection, connection._params, connection.get_settings()):
        assert arguments["password"] not in repr(each) + str(each)
    with pytest.raises(TypeError):
        pickle.dumps(connection._params)
    await connection.close()
