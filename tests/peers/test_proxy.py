"""The fault proxy and the black hole, between real servers and drivers that are known to work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.peers import backend, frontend
from tests.peers.blackhole import BlackHole
from tests.peers.proxy import Proxy
from tests.servers import SUPERUSER, Cluster

ROWS = "SELECT i, repeat('x', i) FROM generate_series(1, 100) AS i"
EXPECTED = [(i, "x" * i) for i in range(1, 101)]

LOST = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)
"""What asyncpg raises when its connection ends, depending on what it was doing."""

Connecting = Callable[..., Awaitable[asyncpg.Connection]]


@pytest.fixture
def through(proxy: Proxy, database: str) -> Connecting:
    """`await through(proxy)`: an asyncpg connection that goes through a proxy, by default the fixture's."""

    async def connect(by: Proxy = proxy, **kwargs: Any) -> asyncpg.Connection:
        return await asyncpg.connect(host=by.host, port=by.port, user=SUPERUSER, database=database, ssl=False, **kwargs)

    return connect


async def rows(connection: asyncpg.Connection) -> list[tuple[int, str]]:
    return [tuple(row) for row in await connection.fetch(ROWS)]


async def test_everything_passes_while_there_is_no_fault(proxy: Proxy, through: Connecting) -> None:
    connections = [await through() for _ in range(3)]
    assert [await rows(connection) for connection in connections] == [EXPECTED] * 3
    for connection in connections:
        await connection.close()
    for link in proxy.links:
        await link.ended()
    assert len(proxy.links) == 3


@pytest.mark.parametrize("size", [1, 7, 4096])
async def test_slices_change_nothing_but_the_pieces(proxy: Proxy, through: Connecting, size: int) -> None:
    proxy.slice(size)
    connection = await through()
    assert await rows(connection) == EXPECTED
    await connection.close()


@pytest.mark.parametrize("size", [0, 1])
async def test_round_trips_are_counted_whatever_the_pieces(proxy: Proxy, through: Connecting, size: int) -> None:
    connection = await through(statement_cache_size=0)
    proxy.slice(size)
    with proxy.counting() as trips:
        await connection.execute("SELECT 1; SELECT 2")
    assert trips.count == 1
    with proxy.counting() as trips:
        assert await rows(connection) == EXPECTED
        assert trips.count == 2  # asyncpg describes a statement before it binds it
    await connection.execute("SELECT 1")
    assert trips.count == 2
    await connection.close()


async def test_round_trips_of_new_links_are_counted(proxy: Proxy, through: Connecting) -> None:
    with proxy.counting() as trips:
        for connection in [await through(), await through()]:
            await connection.execute("SELECT 1")
            await connection.close()
        for link in proxy.links:
            await link.ended()
    # The startup, the query and Terminate of each.
    assert trips.count == 6
    assert [link.trips for link in proxy.links] == [3, 3]


async def test_what_is_sent_without_waiting_belongs_to_one_round_trip(fake: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.expect(frontend.Sync, frontend.Sync)
        await peer.send(b"a")
        await peer.expect(frontend.Sync)
        await peer.send(b"b")
        await peer.hold()

    sync = b"S\0\0\0\4"
    server = await fake(script)
    async with Proxy(server.host, server.port) as proxy:
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        link = await proxy.linked()
        writer.write(sync)
        while link.count("server") < len(sync):
            await asyncio.sleep(0)
        writer.write(sync)
        assert await reader.readexactly(1) == b"a"
        assert link.trips == 1
        writer.write(sync)
        assert await reader.readexactly(1) == b"b"
        assert link.trips == 2
        writer.close()


async def test_slices_arrive_one_by_one(fake: Any) -> None:
    async def script(peer: Any) -> None:
        await peer.send(b"abcdef")
        await peer.hold()

    server = await fake(script)
    async with Proxy(server.host, server.port) as proxy:
        proxy.slice(1)
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        assert await reader.readexactly(6) == b"abcdef"
        link = await proxy.linked()
        assert link.count("client") == 6
        writer.close()


async def test_delay_keeps_the_order(proxy: Proxy, through: Connecting) -> None:
    connection = await through()
    proxy.delay(0.05, towards="client")
    assert await rows(connection) == EXPECTED
    proxy.delay(0)
    await connection.close()


@pytest.mark.parametrize("towards", ["client", "server", None])
@pytest.mark.parametrize("fault", ["freeze", "blackhole"])
async def test_held_back_until_thawed(
    proxy: Proxy, through: Connecting, server: Cluster, fault: str, towards: Any
) -> None:
    connection = await through()
    getattr(proxy, fault)(towards=towards)
    running = asyncio.create_task(rows(connection))
    done, _ = await asyncio.wait([running], timeout=0.2)
    assert not done
    assert not connection.is_closed()
    proxy.thaw()
    assert await running == EXPECTED
    await connection.close()


async def test_new_connections_meet_the_same_fault(proxy: Proxy, through: Connecting) -> None:
    proxy.freeze()
    with pytest.raises(TimeoutError):
        await through(timeout=0.2)
    proxy.thaw()
    await (await through()).close()


@pytest.mark.parametrize("end", ["cut", "reset"])
async def test_end_reaches_client_and_server(
    proxy: Proxy, through: Connecting, server: Cluster, database: str, end: str
) -> None:
    connection = await through()
    await connection.execute("BEGIN")
    getattr(proxy, end)()
    with pytest.raises(LOST):
        await rows(connection)
    await proxy.links[0].ended()
    connection.terminate()
    # That its transaction is gone from the server is what the guard after every test makes sure of.


@pytest.mark.parametrize("end", ["cut_after", "reset_after"])
async def test_end_comes_at_the_byte_asked_for(server: Cluster, database: str, end: str) -> None:
    async with Proxy(server.host(), server.port, record=True) as proxy:
        getattr(proxy, end)(30, towards="client")
        with pytest.raises(psycopg.OperationalError):
            await psycopg.AsyncConnection.connect(
                host=proxy.host, port=proxy.port, user=SUPERUSER, dbname=database, sslmode="disable"
            )
        link = await proxy.linked()
        await link.ended()
        assert link.count("client") == 30
        assert link.recorded("client").startswith(backend.authentication_ok())


async def test_one_link_alone(proxy: Proxy, through: Connecting) -> None:
    first, second = await through(), await through()
    proxy.links[0].reset()
    with pytest.raises(LOST):
        await rows(first)
    assert await rows(second) == EXPECTED
    await second.close()
    first.terminate()


async def test_refused_and_heard_again(proxy: Proxy, through: Connecting) -> None:
    connection = await through()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        await through()
    assert await rows(connection) == EXPECTED
    port = proxy.port
    await proxy.listen()
    assert proxy.port == port
    await (await through()).close()
    await connection.close()


async def test_retargeted_to_another_server(proxy: Proxy, server: Cluster, own_server: Cluster, database: str) -> None:
    async def port() -> int:
        connection = await asyncpg.connect(
            host=proxy.host, port=proxy.port, user=SUPERUSER, database=SUPERUSER, ssl=False
        )
        try:
            found: int = await connection.fetchval("SELECT inet_server_port()")
        finally:
            await connection.close()
        return found

    assert await port() == server.port
    proxy.retarget(own_server.host(), own_server.port)
    assert await port() == own_server.port


async def test_server_that_is_down_resets_the_client(proxy: Proxy, through: Connecting) -> None:
    with BlackHole() as free:
        pass
    proxy.retarget(free.host, free.port)
    with pytest.raises(LOST):
        await through()


async def test_recorded_exchange_is_one_of_whole_messages(server: Cluster, through: Connecting) -> None:
    async with Proxy(server.host(), server.port, record=True) as proxy:
        connection = await through(proxy)
        assert await rows(connection) == EXPECTED
        await connection.execute("CREATE TEMPORARY TABLE copied (id int, name text)")
        await connection.copy_records_to_table("copied", records=[(1, "one"), (2, None)])
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetch("SELECT 1 / $1::int", 0)
        await connection.close()
        link = await proxy.linked()
        await link.ended()
    sent = list(frontend.split(link.recorded("server")))
    assert isinstance(sent[0], frontend.StartupMessage)
    assert sent[0].parameters["user"] == SUPERUSER
    assert isinstance(sent[-1], frontend.Terminate)
    assert b"".join(message.raw for message in sent) == link.recorded("server")
    binds = [message for message in sent if isinstance(message, frontend.Bind)]
    assert binds[-1].values == (b"\0\0\0\0",)

    received = list(backend.split(link.recorded("client")))
    assert received[0] == (b"R", b"\0\0\0\0")
    assert b"".join(backend.message(*each) for each in received) == link.recorded("client")
    assert next(body for kind, body in received if kind == b"C") == b"SELECT 100\0"
    # What the builders make of the same contents is what a real server sends.
    data = [body for kind, body in received if kind == b"D"]
    assert backend.data_row((1).to_bytes(4), "x")[5:] in data
    assert backend.command_complete("COPY 2")[5:] in [body for kind, body in received if kind == b"C"]
    assert (b"G", backend.copy_in_response(backend.BINARY, backend.BINARY)[5:]) in received
    assert (b"t", backend.parameter_description(23)[5:]) in received


async def test_black_hole_answers_nothing() -> None:
    with BlackHole() as hole:
        loop = asyncio.get_running_loop()
        attempt = loop.create_task(asyncio.open_connection(hole.host, hole.port))
        done, _ = await asyncio.wait([attempt], timeout=0.3)
        assert not done
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
