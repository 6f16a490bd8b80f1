"""Faults 9 and 10: a flood of what nobody asked for, and columns named like anything."""

from __future__ import annotations

import asyncio
import keyword
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend, scripts
from tests.peers.fakeserver import Peer
from tests.peers.frontend import Bind, Execute, Sync
from tests.watching import PeakMemory

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake

# Not known to be a plain read, so it is described before it is executed.
QUERY = "SELECT a FROM f()"


class Listening(headrace.Connection):
    """Keeps what came outside of the replies, in order."""

    heard: list[tuple[Any, ...]]

    def _on_notification(self, pid: int, channel: str, payload: str) -> None:
        self.heard.append((channel, int(payload)))

    def _on_notice(self, message: Any) -> None:
        self.heard.append(("notice", int(message.message)))


@pytest.mark.fault(number=9)
async def test_a_flood_among_pipelined_rows(fake: Fake) -> None:
    """Rows stay in order, what comes between them is told in order, and none of it is kept."""
    rounds, filler = 20_000, "x" * 1000

    def chatter(number: int) -> bytes:
        return (
            backend.notice_response(str(number), detail=filler)
            + backend.notification_response("c", str(number))
            + backend.parameter_status("application_name", str(number))
        )

    async def script(peer: Peer) -> None:
        await peer.greet()
        await scripts.prepare(peer, "a")
        for query in range(2):
            await peer.expect(Bind, Execute, Sync)
            await peer.send(backend.bind_complete())
            for number in range(rounds):
                await peer.send(
                    chatter(number) + (backend.data_row(f"{query}/{number}") if number % 1000 == 0 else b"")
                )
            await peer.send(backend.command_complete("SELECT 20"), chatter(rounds), backend.ready_for_query())
        await peer.expect_end()

    server = await fake(script)
    Listening.heard = []
    connection = await headrace.connect(server.dsn(), connection_class=Listening)
    memory = PeakMemory()
    replies = await asyncio.gather(*(connection.fetch(QUERY) for _ in range(2)))
    for query, rows in enumerate(replies):
        assert [row["a"] for row in rows] == [f"{query}/{number}" for number in range(0, rounds, 1000)]
    expected = [(kind, number) for number in range(rounds + 1) for kind in ("notice", "c")]
    assert Listening.heard == expected * 2
    # 40 MB have passed; what the list above takes is a tenth of that.
    assert memory.growth < 16 << 20
    assert connection.get_settings().application_name == str(rounds)
    Listening.heard.clear()
    await connection.close()


@pytest.mark.fault(number=9)
@pytest.mark.parametrize("encoding", ["LATIN1", "SJIS", "WIN1252"])
async def test_another_client_encoding_ends_the_session(fake: Fake, encoding: str) -> None:
    """Text would be misread from here on: better none than wrong."""

    async def script(peer: Peer) -> None:
        await peer.greet()
        await scripts.prepare(peer, "a")
        await peer.expect(Bind, Execute, Sync)
        await peer.send(
            backend.parameter_status("client_encoding", encoding), scripts.answered(backend.data_row(b"\xe4"))
        )
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    with pytest.raises(headrace.ProtocolError, match=f"client_encoding to {encoding}"):
        await connection.fetch(QUERY)
    assert connection.is_closed()


@pytest.mark.fault(number=9)
async def test_a_real_change_of_client_encoding(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.ProtocolError, match="client_encoding"):
        await conn.execute("SET client_encoding TO latin1")
    assert conn.is_closed()


@pytest.mark.fault(number=9)
async def test_notices_of_a_real_server(connect: Connect) -> None:
    Listening.heard = []
    connection = await connect(connection_class=Listening)
    raising = "DO $$ BEGIN FOR i IN 1..2000 LOOP RAISE NOTICE '%', i; END LOOP; END $$"
    results = await asyncio.gather(
        connection.fetchval("SELECT 1"), connection.execute(raising), connection.fetchval("SELECT 2")
    )
    assert results == [1, "DO", 2]
    assert Listening.heard == [("notice", number) for number in range(1, 2001)]


NAMES = [
    *keyword.kwlist, *keyword.softkwlist, "__class__", "__init__", "get", "keys", "items", "values", "self", "", " ",
    "a b", "a.b", "%s", "{x}", "$1", "'", '"', "\\", "\n", "é", "名前", "🐘", "__import__('os')", "1", "-1",
]  # fmt: skip


@pytest.mark.fault(number=10)
async def test_columns_named_like_code(conn: headrace.Connection) -> None:
    names = [name for name in NAMES if name]
    quoted = ", ".join(f'{i} AS "{name.replace(chr(34), chr(34) * 2)}"' for i, name in enumerate(names))
    row = await conn.fetchrow(f"SELECT {quoted}")
    assert list(row.keys()) == names
    assert tuple(row) == tuple(range(len(names)))
    for number, name in enumerate(names):
        assert row[name] == number
    assert dict(row) == {name: number for number, name in enumerate(names)}


@pytest.mark.fault(number=10)
async def test_columns_with_empty_names(fake: Fake) -> None:
    """No server sends them, but some proxies do."""
    server = await fake(scripts.answering(scripts.answered(backend.data_row("1", "2")), "", ""))
    connection = await headrace.connect(server.dsn())
    row = await connection.fetchrow(QUERY)
    assert list(row.keys()) == ["", ""]
    assert tuple(row) == ("1", "2")
    await connection.close()


@pytest.mark.fault(number=10)
async def test_duplicate_names_and_1600_columns(conn: headrace.Connection) -> None:
    row = await conn.fetchrow("SELECT 1 AS a, 2 AS b, 3 AS a")
    assert tuple(row) == (1, 2, 3)
    assert list(row.items()) == [("a", 1), ("b", 2), ("a", 3)]
    wide = ", ".join(f"{i} AS c{i}" for i in range(1600))
    rows = await conn.fetch(f"SELECT {wide} FROM generate_series(1, 3)")
    assert [tuple(row) for row in rows] == [tuple(range(1600))] * 3
    assert rows[0]["c1599"] == 1599
    same = await conn.fetchrow("SELECT " + ", ".join(["7 AS c"] * 1600))
    assert tuple(same) == (7,) * 1600
    assert same["c"] == 7
    assert await conn.fetchval("SELECT 1") == 1
