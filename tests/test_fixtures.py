"""The fixtures that hand out headrace's own connections and pools, and the peers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from tests.peers import backend
from tests.peers.fakeserver import Peer
from tests.peers.frontend import Query

if TYPE_CHECKING:
    import headrace
    from tests.fixtures import Connect, Fake, MakePool
    from tests.peers.proxy import Proxy
    from tests.servers import Cluster


async def test_connection_reaches_the_module_database(
    conn: headrace.Connection, server: Cluster, database: str
) -> None:
    assert await conn.fetchval("SELECT current_database()") == database
    assert conn.get_server_version().major == server.version


async def test_keywords_go_before_the_defaults(connect: Connect, server: Cluster) -> None:
    by_socket = await connect(host=server.host(unix=True), database="postgres")
    assert await by_socket.fetchval("SELECT inet_server_addr()::text") is None
    assert await by_socket.fetchval("SELECT current_database()") == "postgres"
    assert await (await connect(dsn=server.dsn())).fetchval("SELECT 1") == 1


async def test_pool_reaches_the_module_database(pool: MakePool, database: str) -> None:
    two = await pool(min_size=1, max_size=2)
    names = await asyncio.gather(*(two.fetchval("SELECT current_database()") for _ in range(10)))
    assert names == [database] * 10


async def test_connection_goes_through_the_proxy(connect: Connect, proxy: Proxy) -> None:
    proxy.slice(1)
    connection = await connect(port=proxy.port)
    assert await connection.fetchval("SELECT 42") == 42
    assert len(proxy.links) == 1


async def test_connection_to_the_fake_server(connect: Connect, fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        assert (await peer.expect(Query)).sql == "SET a.b TO 'c'"
        await peer.send(backend.command_complete("SET"), backend.ready_for_query())
        await peer.expect_end()

    connection = await connect(dsn=(await fake(script)).dsn())
    assert await connection.execute("SET a.b TO 'c'") == "SET"


CLOSED: list[Any] = []


async def test_connection_and_pool_are_open_during_the_test(connect: Connect, pool: MakePool) -> None:
    CLOSED[:] = [await connect(), await pool(min_size=1, max_size=1)]
    assert not CLOSED[0].is_closed()
    assert not CLOSED[1].is_closing()


@pytest.mark.usefixtures("server")
def test_connection_and_pool_are_closed_after_it() -> None:
    assert CLOSED[0].is_closed()
    assert CLOSED[1].is_closing()
