"""Fault 40, servers that are not PostgreSQL: a reset asks for nothing that they lack, and a refused one costs one call.

What each lacks is in headrace/server_kind.py. None of them can be run here, so the fake server is each of them in turn.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.peers import backend
from tests.peers.fakeserver import Peer
from tests.peers.frontend import Bind, Describe, Execute, Parse, Query, Sync, Terminate

if TYPE_CHECKING:
    from tests.fixtures import Fake, MakePool

pytestmark = pytest.mark.fault(number=40)

PATIENCE = 10.0

FULL = "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;"

SERVERS = {
    "PostgreSQL": ({}, FULL),
    "Redshift": ({"padb_revision": "1.0.100000"}, "RESET ALL;"),
    "CockroachDB": ({"crdb_version": "CockroachDB CCL v23.1.0"}, ""),
    "CrateDB": ({"crate_version": "5.4.0"}, ""),
}


ANSWERS = {
    Parse: backend.parse_complete(),
    Describe: backend.parameter_description() + backend.row_description("n"),
    Bind: backend.bind_complete(),
    Execute: backend.data_row("there") + backend.command_complete("SELECT 1"),
    Sync: backend.ready_for_query(),
}
"""The answer to each message of the extended protocol, for a query whose one column `n` is "there"."""


class Scribe:
    """A server that carries out what it has, and notes the simple queries it was sent, one list a connection."""

    def __init__(self, parameters: dict[str, str], lacks: tuple[str, ...]) -> None:
        self.parameters = parameters
        self.lacks = lacks
        self.heard: list[list[str]] = []

    async def __call__(self, peer: Peer) -> None:
        heard: list[str] = []
        self.heard.append(heard)
        await peer.greet(self.parameters)
        while not isinstance(message := await peer.next(), Terminate):
            if isinstance(message, Query):
                heard.append(message.sql)
                if any(word in message.sql for word in self.lacks):
                    await peer.send(backend.error_response("not here", code="0A000"), backend.ready_for_query())
                    await peer.hold()
                    return
                else:
                    await peer.send(backend.command_complete("DONE"), backend.ready_for_query())
            else:
                await peer.send(ANSWERS[type(message)])


@pytest.mark.parametrize("name", SERVERS)
async def test_a_reset_asks_for_nothing_that_the_server_lacks(fake: Fake, pool: MakePool, name: str) -> None:
    parameters, reset = SERVERS[name]
    lacks = tuple(part for part in FULL.split("\n") if part not in reset)
    scribe = Scribe(parameters, lacks)
    server = await fake(every=scribe)
    made = await pool(dsn=server.dsn(), min_size=1, max_size=1)
    async with asyncio.timeout(PATIENCE):
        for _ in range(4):
            async with made.acquire() as lease:
                assert lease.get_reset_query() == reset
                await lease.execute("SET a = 1")
                assert await lease.fetchval("SELECT n") == "there"
    assert len(scribe.heard) == 1, "the connection is used again and again"
    await made.close()
    assert scribe.heard[0] == ["SET a = 1", *([reset] if reset else [])] * 4


@pytest.mark.parametrize("name", [name for name in SERVERS if name != "PostgreSQL"])
async def test_a_server_that_cannot_tell_what_code_has_left_is_not_asked(fake: Fake, pool: MakePool, name: str) -> None:
    """The connection is replaced instead, with an `init` and without."""
    parameters, reset = SERVERS[name]

    async def init(connection: headrace.Connection) -> None:
        await connection.execute("SET a = 1")

    for callback, first in ((None, []), (init, ["SET a = 1"])):
        scribe = Scribe(parameters, ("pg_settings",))
        server = await fake(every=scribe)
        made = await pool(dsn=server.dsn(), min_size=1, max_size=1, init=callback)
        async with asyncio.timeout(PATIENCE):
            for _ in range(2):
                assert await made.execute("CALL p()") == "DONE"
                assert await made.fetchval("SELECT n") == "there"
        assert made.stats().closed == {"not_resettable": 2}
        await made.close()
        assert scribe.heard == [[*first, "CALL p()", *([reset] if reset else [])]] * 2 + [first]


async def test_a_server_that_refuses_to_tell_has_its_connection_replaced(fake: Fake, pool: MakePool) -> None:
    """It does not say what it is, and lacks a view that the question reads."""

    async def refuse(peer: Peer) -> None:
        await peer.greet({"session_authorization": "somebody"})
        while not isinstance(message := await peer.next(), Terminate):
            if isinstance(message, Query):
                await peer.send(backend.command_complete("DONE"), backend.ready_for_query())
            elif isinstance(message, Sync):
                await peer.send(backend.error_response("no such view", code="42P01"), backend.ready_for_query())

    server = await fake(every=refuse)
    made = await pool(dsn=server.dsn(), min_size=1, max_size=1)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            assert await made.execute("CALL p()") == "DONE"
        while made.stats().closed != {"not_resettable": 2}:
            await asyncio.sleep(0)
    await made.close()


async def test_the_text_of_a_subclass_goes_behind_the_reset(fake: Fake, pool: MakePool) -> None:
    class Connection(headrace.Connection):
        def get_reset_query(self) -> str:
            return f"{super().get_reset_query()} SET b = 2"

    for name, (parameters, reset) in SERVERS.items():
        server = await fake(every=Scribe(parameters, ()))
        made = await pool(dsn=server.dsn(), min_size=1, max_size=1, connection_class=Connection)
        async with made.acquire() as lease:
            assert lease.get_reset_query() == f"{reset} SET b = 2", name
        await made.close()


async def test_after_a_refused_reset_nothing_is_sent_before_a_reset_is_done(fake: Fake, pool: MakePool) -> None:
    """A server of which nothing is known refuses all resets: one call finds out, no other pays for it."""
    scribe = Scribe({}, ("RESET",))
    server = await fake(every=scribe)
    made = await pool(dsn=server.dsn(), min_size=1, max_size=1)
    failures = 0
    async with asyncio.timeout(PATIENCE):
        for _ in range(6):
            try:
                async with made.acquire() as lease:
                    await lease.execute("SET a = 1")
                    assert await lease.fetchval("SELECT n") == "there"
            except headrace.ConnectionDoesNotExistError:
                failures += 1
    assert failures <= 1
    assert made.stats().closed["reset_failed"] >= 4
    await made.close()
