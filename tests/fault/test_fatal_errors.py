"""Fault 49: FATAL errors that are followed by something, or by nothing."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Query
from tests.watching import until_closed

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake, MakePool
    from tests.peers.fakeserver import Peer

pytestmark = pytest.mark.fault(number=49)

PATIENCE = 10.0

TERMINATED = backend.error_response(
    "terminating connection due to administrator command", code="57P01", severity="FATAL", routine="ProcessInterrupts"
)
GONE = backend.error_response("server conn crashed?", code="08P01", severity="FATAL")


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [(TERMINATED, GONE, "57P01"), (GONE, TERMINATED, "08P01")],
    ids=["the backend's", "the pooler's"],
)
async def test_the_first_of_two_is_told(fake: Fake, connect: Connect, first: bytes, second: bytes, code: str) -> None:
    """PgBouncer passes on what the backend has said, and then says that the backend is gone."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)
        await peer.send(first, second)

    server = await fake(script)
    connection = await connect(dsn=server.dsn())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.ConnectionDoesNotExistError) as raised:
            await connection.execute("DELETE FROM t")
    assert raised.value.sqlstate == code


async def test_the_socket_is_left_open(fake: Fake, connect: Connect) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        await peer.expect(Query)
        await peer.send(TERMINATED)
        await peer.hold()

    server = await fake(script)
    connection = await connect(dsn=server.dsn())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.AdminShutdownError):
            await connection.execute("DELETE FROM t")
    assert connection.is_closed()


async def test_the_socket_of_an_idle_connection_is_left_open(fake: Fake, connect: Connect) -> None:
    ended = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await ended.wait()
        await peer.send(TERMINATED)
        await peer.hold()

    server = await fake(script)
    connection = await connect(dsn=server.dsn())
    ended.set()
    await until_closed(connection)
    with pytest.raises(headrace.InterfaceError, match="connection is closed: terminating connection") as raised:
        await connection.execute("DELETE FROM t")
    assert headrace.is_safe_to_retry(raised.value)


async def test_an_idle_connection_of_a_pool_is_replaced(fake: Fake, pool: MakePool) -> None:
    ended = asyncio.Event()

    async def first(peer: Peer) -> None:
        await peer.greet()
        await ended.wait()
        await peer.send(TERMINATED)
        await peer.hold()

    async def second(peer: Peer) -> None:
        await peer.greet()
        await peer.expect_end()

    server = await fake(first, second)
    made = await pool(dsn=server.dsn(), min_size=1, max_size=1)
    ended.set()
    async with asyncio.timeout(PATIENCE):
        while made.stats().opened < 2:
            await asyncio.sleep(0)


async def test_the_last_words_are_read_though_a_write_fails(connect: Connect) -> None:
    """The server has said FATAL and reset the connection before the event loop looks at it again."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        dsn = f"postgresql://somebody@127.0.0.1:{listener.getsockname()[1]}/d?sslmode=disable"
        connecting = asyncio.ensure_future(connect(dsn=dsn))
        peer, _ = await loop.sock_accept(listener)
        await loop.sock_recv(peer, 4096)
        await loop.sock_sendall(peer, backend.greeting())
        connection = await connecting
    # Nothing is awaited between the end and the call: the call itself meets the reset.
    peer.send(TERMINATED)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.AdminShutdownError):
            await connection.execute("DELETE FROM t")
