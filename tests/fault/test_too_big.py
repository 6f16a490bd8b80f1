"""Fault 21: what no server can take is refused before a byte of it is sent, and the connection goes on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers.proxy import Proxy
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect

pytestmark = pytest.mark.fault(number=21)

GIB = 2**30


@asynccontextmanager
async def nothing_sent(
    server: Cluster, connect: Connect, query: str = "SELECT 1", *args: object
) -> AsyncIterator[headrace.Connection]:
    """Give a connection on which nothing may be sent within the block, and which works after it.

    The query is run before, so that its statement is prepared by then.
    """
    async with Proxy(server.host(), server.port) as proxy:
        connection = await connect(host=proxy.host, port=proxy.port)
        await connection.fetchval(query, *args)
        sent = proxy.links[0].count("server")
        yield connection
        assert proxy.links[0].count("server") == sent
        assert await connection.fetchval("SELECT 2") == 2
        await connection.close()


def placeholders(count: int) -> str:
    return ",".join(f"${i}::int" for i in range(1, count + 1))


async def test_more_than_65535_arguments(server: Cluster, connect: Connect) -> None:
    query = f"SELECT 1 WHERE 1 IN ({placeholders(65536)})"
    async with nothing_sent(server, connect) as connection:
        for call in (connection.fetch, connection.fetchrow, connection.fetchval, connection.execute):
            with pytest.raises(headrace.InterfaceError, match="at most 65535 parameters, got 65536"):
                await call(query, *range(65536))


async def test_exactly_65535_arguments(conn: headrace.Connection) -> None:
    query = f"SELECT 1 WHERE 65534 IN ({placeholders(65535)})"
    assert await conn.fetchval(query, *range(65535)) == 1


async def test_a_query_of_more_than_65535_parameters_cannot_be_prepared(server: Cluster, connect: Connect) -> None:
    query = f"SELECT 1 WHERE 1 IN ({placeholders(65537)})"
    async with nothing_sent(server, connect) as connection:
        for call in (connection.prepare(query), connection.fetch(query, 1), connection.executemany(query, [(1,)])):
            with pytest.raises(headrace.InterfaceError, match="at most 65535 parameters, got 65537"):
                await call


async def test_what_looks_like_one_parameter_too_many(conn: headrace.Connection) -> None:
    """In a string or a comment it is none; and where those before it are missing the server says so."""
    assert await conn.fetchval("SELECT '$65536' || $1 /* $65536 */", "!") == "$65536!"
    with pytest.raises(headrace.InterfaceError, match="at most 65535 parameters, got 65536"):
        await conn.fetchval("SELECT $65536::int", 1)
    with pytest.raises(headrace.SyntaxOrAccessError):
        await conn.fetchval(f"SELECT ${'9' * 5000}, '$65536'")


@pytest.mark.slow
@pytest.mark.any_server
async def test_a_query_of_more_than_a_gigabyte(server: Cluster, connect: Connect) -> None:
    query = "SELECT 1" + " " * GIB
    async with nothing_sent(server, connect) as connection:
        calls: list[Any] = [connection.fetch, connection.execute, connection.prepare]
        for call in calls:
            with pytest.raises(headrace.InterfaceError, match="the query is expected to have at most"):
                await call(query)
        with pytest.raises(headrace.InterfaceError, match="the query is expected to have at most"):
            await connection.executemany(query, [(1,)])


@pytest.mark.slow
@pytest.mark.any_server
async def test_arguments_of_more_than_two_gigabytes(server: Cluster, connect: Connect) -> None:
    value = bytes(GIB // 2)
    query = f"SELECT {' + '.join(f'length(${i}::bytea)' for i in range(1, 6))}"
    async with nothing_sent(server, connect, query, *[b""] * 5) as connection:
        with pytest.raises(headrace.InterfaceError, match="which no server takes in one message"):
            await connection.fetchval(query, *[value] * 5)
