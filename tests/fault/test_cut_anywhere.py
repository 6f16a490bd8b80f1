"""Faults 6 and 7: replies that come in pieces, and replies that end in the middle."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend, scripts
from tests.peers.backend import Field
from tests.peers.fakeserver import FakeServer, Peer
from tests.peers.frontend import Bind, Execute, Sync

if TYPE_CHECKING:
    from tests.fixtures import Connect
    from tests.peers.proxy import Proxy

PATIENCE = 10.0
ROWS = "SELECT i, repeat('x', i), ARRAY[i, NULL], row(i, 'a') FROM generate_series(0, $1::int) AS i"


async def conversation(connection: headrace.Connection) -> list[Any]:
    """A bit of everything, one result a line."""
    done = [
        await connection.fetch(ROWS, 40),
        await connection.execute("CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1), (2)"),
        await connection.executemany("INSERT INTO t VALUES ($1)", [(3,), (4,)]),
        await asyncio.gather(*(connection.fetchval("SELECT $1::int", i) for i in range(20))),
        await connection.fetchmany("SELECT $1::text", [("a",), ("b",)]),
    ]
    with pytest.raises(headrace.DivisionByZeroError) as raised:
        await connection.fetch("SELECT 1 / $1::int", 0)
    async with connection.transaction():
        done.append([row["a"] async for row in connection.cursor("SELECT a FROM t ORDER BY a", prefetch=2)])
    return [*done, str(raised.value)]


@pytest.mark.fault(number=6)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
async def test_a_conversation_in_pieces(connect: Connect, proxy: Proxy, size: int) -> None:
    """Whole or byte by byte, results are the same. (tests/core/pipeline/ cuts recorded exchanges everywhere.)"""
    expected = await conversation(await connect())
    proxy.slice(size)
    assert await conversation(await connect(host=proxy.host, port=proxy.port)) == expected


FIRST, SECOND = (backend.data_row("one"), backend.data_row("two")), (backend.data_row("three"),)
REPLIES = [
    backend.greeting(),
    scripts.described(Field("a", scripts.TEXT), parameters=(scripts.INT4,)),
    scripts.answered(*FIRST) + scripts.answered(*SECOND),
]
"""What the server says at three points of the conversation in `test_7`."""


@pytest.mark.fault(number=7)
async def test_the_socket_closed_at_every_byte() -> None:
    """Whoever waits gets ConnectionDoesNotExistError, or his whole result where all of it has come; never a part."""
    limit = sum(map(len, REPLIES))
    met: set[str] = set()
    for cut in range(limit):

        async def script(peer: Peer, cut: int = cut) -> None:
            left = cut
            for number, reply in enumerate(REPLIES):
                if number == 0:
                    await peer.expect_startup()
                elif number == 1:
                    await peer.next(), await peer.next(), await peer.next()
                else:
                    await peer.expect(Bind, Execute, Sync, Bind, Execute, Sync)
                await peer.send(reply[:left])
                left -= len(reply)
                if left < 0:
                    # By FIN and by RST in turn.
                    if cut % 2:
                        peer.reset()
                    return

        async with asyncio.timeout(PATIENCE), FakeServer(script) as server:
            met.add(await outcome(server, cut))
    assert met == {"connecting", "none", "first"}


async def outcome(server: FakeServer, cut: int) -> str:
    try:
        connection = await headrace.connect(server.dsn())
    except (headrace.ConnectionDoesNotExistError, ConnectionError):
        assert cut < len(REPLIES[0])
        return "connecting"
    first, second = await asyncio.gather(
        *(connection.fetch("SELECT a FROM t WHERE b = $1", 1) for _ in range(2)), return_exceptions=True
    )
    assert connection.is_closed()
    assert type(second) is headrace.ConnectionDoesNotExistError
    assert second.safe_to_retry, "it only reads"
    if type(first) is list:
        assert first == [("one",), ("two",)]
        return "first"
    assert type(first) is headrace.ConnectionDoesNotExistError
    return "none"


@pytest.mark.fault(number=7)
@pytest.mark.parametrize("end", ["cut_after", "reset_after"])
async def test_a_real_server_cut_off(connect: Connect, proxy: Proxy, connect_kwargs: dict[str, Any], end: str) -> None:
    """The same in the middle of a large result, which may be in flight for several reads."""
    connection = await connect(host=proxy.host, port=proxy.port)
    link = await proxy.linked()
    whole = await connection.fetch(ROWS, 1000)
    assert len(whole) == 1001
    getattr(link, end)(link.count("client") + 100_000, towards="client")
    async with asyncio.timeout(PATIENCE):
        for number in count(1):
            try:
                assert await connection.fetch(ROWS, 1000) == whole
            except headrace.ConnectionDoesNotExistError:
                break
            assert number < 10
    assert connection.is_closed()
    with pytest.raises(headrace.InterfaceError, match="connection is closed"):
        await connection.fetchval("SELECT 1")
