"""Fault 40: poolers, and servers that lack a part of the protocol: no reply is another's, and nothing waits for ever.

A long run: `pytest tests/fault/test_poolers.py --pooler-queries 100000`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest

import headrace
import headrace._core.pipeline.cancel
from tests.peers import backend, frontend
from tests.peers.fakeserver import Peer
from tests.peers.frontend import Bind, Execute, Flush, Query, Sync
from tests.peers.proxy import Proxy
from tests.peers.scripts import answered, prepare, row, run

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake, MakePool
    from tests.poolers import StartPgBouncer
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=40)

PATIENCE = 10.0

TASKS = 40

MODES = {
    "unnamed": ({"max_prepared_statements": 0}, {"statement_mode": "unnamed"}),
    "describe": ({"max_prepared_statements": 0}, {"statement_mode": "describe"}),
    "kept": ({"max_prepared_statements": 20}, {}),
}
"""What PgBouncer is configured with, and how its clients connect."""


# PgBouncer in transaction mode


class Crowd:
    """Tasks that ask one pool for all kinds of things; each query carries a token that no other has."""

    def __init__(self, pool: headrace.Pool, queries: int, seed: int) -> None:
        self.pool = pool
        self.left = queries
        self.random = random.Random(seed)
        self.tokens = count(1)
        self.asked = 0
        self.given_up = 0

    async def run(self) -> None:
        """Ask until all is asked; what is wrong with a reply raises."""
        async with asyncio.TaskGroup() as group:
            for _ in range(TASKS):
                group.create_task(self._work())

    async def _work(self) -> None:
        kinds: list[Callable[[], Awaitable[int]]] = [self._value] * 6
        kinds += [self._row] * 3 + [self._rows, self._many, self._lease, self._failure, self._cursor, self._given_up]
        while self.left > 0:
            asked = await self.random.choice(kinds)()
            self.left -= asked
            self.asked += asked

    async def _value(self) -> int:
        token = next(self.tokens)
        text = self.random.choice(["SELECT $1::int8", "SELECT $1::int8 + 0", "SELECT $1::int8 * 1"])
        assert await self.pool.fetchval(text, token) == token
        return 1

    async def _row(self) -> int:
        token = next(self.tokens)
        found = await self.pool.fetchrow("SELECT $1::text AS name, $2::int8 AS number", f"name {token}", token)
        assert found == (f"name {token}", token)
        return 1

    async def _rows(self) -> int:
        token = next(self.tokens)
        found = await self.pool.fetch("SELECT $1::int8, n FROM generate_series(1, $2::int) AS n", token, 20)
        assert found == [(token, n) for n in range(1, 21)]
        return 1

    async def _many(self) -> int:
        tokens = [next(self.tokens) for _ in range(10)]
        found = await self.pool.fetchmany("SELECT $1::int8", [(token,) for token in tokens])
        assert [value for (value,) in found] == tokens
        return len(tokens)

    async def _lease(self) -> int:
        tokens = [next(self.tokens) for _ in range(3)]
        async with self.pool.acquire() as connection, connection.transaction():
            home = await connection.fetchval("SELECT pg_backend_pid()")
            calls = [connection.fetchrow("SELECT $1::int8, pg_backend_pid()", token) for token in tokens]
            assert await asyncio.gather(*calls) == [(token, home) for token in tokens]
        return 1 + len(tokens)

    async def _cursor(self) -> int:
        token = next(self.tokens)
        async with self.pool.acquire() as connection, connection.transaction():
            cursor = connection.cursor("SELECT $1::int8, n FROM generate_series(1, 30) AS n", token, prefetch=10)
            assert [tuple(found) async for found in cursor] == [(token, n) for n in range(1, 31)]
        return 3

    async def _failure(self) -> int:
        token = next(self.tokens)
        with pytest.raises(headrace.InvalidTextRepresentationError, match=rf'"no number {token}"'):
            await self.pool.fetchval("SELECT $1::text::int", f"no number {token}")
        return 1

    async def _given_up(self) -> int:
        token = next(self.tokens)
        task = asyncio.create_task(self.pool.fetchval("SELECT $1::int8", token))
        for _ in range(self.random.randrange(4)):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            assert await task == token
            return 1
        self.given_up += 1
        return 1


@pytest.mark.parametrize("mode", MODES)
async def test_no_reply_is_anothers(
    pgbouncer: StartPgBouncer, pool: MakePool, database: str, mode: str, request: pytest.FixtureRequest
) -> None:
    settings, options = MODES[mode]
    pooler = pgbouncer(default_pool_size=4, **settings)
    made = await pool(**pooler.kwargs(database), min_size=4, max_size=12, **options)
    crowd = Crowd(made, request.config.getoption("--pooler-queries"), seed=40)
    await crowd.run()
    assert crowd.asked >= request.config.getoption("--pooler-queries")
    servers = {each["remote_pid"] for each in pooler.console("SHOW SERVERS") if each["database"] == database}
    assert 1 < len(servers) <= 4, "twelve connections shared the backends"


# No BackendKeyData: nothing can be cancelled


def keyless_greeting() -> bytes:
    """Return what follows authentication, without the key that cancels."""
    return backend.greeting().replace(backend.backend_key_data(), b"")


async def test_without_a_key_what_is_given_up_is_drained(fake: Fake, connect: Connect) -> None:
    """No CancelRequest is sent, which would need another connection; whoever is behind gets the reply that is his."""
    running, given_up = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(keyless_greeting())
        await prepare(peer, "n")
        await peer.expect(Bind, Execute, Sync)
        running.set()
        await given_up.wait()
        await peer.send(answered(row("late")))
        await run(peer, row("next"))
        await peer.expect_end()

    server = await fake(script)
    connection = await connect(dsn=server.dsn(), statement_cache_size=10)
    task = asyncio.create_task(connection.fetchval("SELECT f()"))
    async with asyncio.timeout(PATIENCE):
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        behind = asyncio.create_task(connection.fetchval("SELECT f()"))
        given_up.set()
        assert await behind == "next"


async def test_without_a_key_what_goes_on_for_too_long_ends_the_connection(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headrace._core.pipeline.cancel, "CANCEL_TIMEOUT", 0.1)
    running = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(keyless_greeting())
        await prepare(peer, "n")
        await peer.expect(Bind, Execute, Sync)
        running.set()
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    async with asyncio.timeout(PATIENCE):
        task = asyncio.create_task(connection.fetchval("SELECT f()"))
        await running.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(headrace.ConnectionDoesNotExistError) as caught:
            await connection.fetchval("SELECT f()")
    assert isinstance(caught.value.__cause__, headrace.FeatureNotSupportedError)
    assert "BackendKeyData" in str(caught.value.__cause__)
    assert connection.is_closed()


async def test_without_a_key_a_time_limit_and_closing_keep_their_time(fake: Fake) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(keyless_greeting())
        await prepare(peer, "n")
        await run(peer, row("5"))
        await peer.expect(Bind, Execute, Sync)
        await peer.hold()

    server = await fake(script)
    connection = await headrace.connect(server.dsn())
    async with asyncio.timeout(PATIENCE):
        assert await connection.fetchval("SELECT f()") == "5"
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT f()", timeout=0.1)
        with pytest.raises(TimeoutError):
            await connection.close(timeout=0.1)
    assert connection.is_closed()


async def test_without_a_key_there_is_no_process_id_to_tell(fake: Fake, connect: Connect) -> None:
    async def script(peer: Peer) -> None:
        await peer.expect_startup()
        await peer.send(keyless_greeting())
        await peer.expect_end()

    server = await fake(script)
    connection = await connect(dsn=server.dsn())
    with pytest.raises(headrace.FeatureNotSupportedError, match="process id"):
        connection.get_server_pid()


# Encodings


async def test_an_encoding_reported_as_unicode_is_utf8(fake: Fake, connect: Connect) -> None:
    """Servers before 8.1 called it so, and what imitates them still does."""

    async def script(peer: Peer) -> None:
        await peer.greet({"client_encoding": "UNICODE", "server_encoding": "UNICODE"})
        parse = await prepare(peer, "größe", parameters=(25,))
        assert parse.sql == "SELECT $1 AS größe"
        bind = await run(peer, row("süß"))
        assert bind.values == ("sauer über".encode(),)
        await peer.expect_end()

    server = await fake(script)
    connection = await connect(dsn=server.dsn())
    assert await connection.fetchrow("SELECT $1 AS größe", "sauer über") == ("süß",)
    assert connection.get_settings().server_encoding == "UNICODE"


# Flush


@pytest.mark.parametrize("mode", ["named", "unnamed", "describe"])
async def test_nothing_relies_on_flush(server: Cluster, connect: Connect, mode: str) -> None:
    """A pooler may drop Flush, or give the backend to somebody else there: everything ends with Sync, or is a Query."""
    async with Proxy(server.host(), server.port, record=True) as proxy:
        connection = await connect(host="127.0.0.1", port=proxy.port, statement_mode=mode, ssl="disable")
        await connection.execute("CREATE TEMPORARY TABLE t (a int, b int4range)")
        await asyncio.gather(*(connection.fetch("SELECT $1::int, '[1,2)'::int4range", i) for i in range(20)))
        await connection.executemany("INSERT INTO t VALUES ($1, $2)", [(i, None) for i in range(10_000)])
        statement = await connection.prepare("SELECT * FROM t WHERE a < $1")
        async with connection.transaction():
            assert len([found async for found in statement.cursor(200, prefetch=30)]) == 200
        await connection.copy_records_to_table("t", records=[(1, None)])
        with suppress(headrace.DivisionByZeroError):
            await connection.fetch("SELECT 1/$1::int", 0)
        del statement
        await connection.close()
        (link,) = proxy.links
        sent = link.recorded("server")
    kinds = {kind for kind, _ in backend.split(sent[int.from_bytes(sent[:4], "big") :])}
    assert kinds >= {b"P", b"B", b"E", b"D", b"S", b"Q", b"d"}
    assert isinstance(frontend.decode(b"H\0\0\0\4"), Flush)
    assert b"H" not in kinds


# A reset that fails


async def test_a_connection_whose_reset_fails_is_not_used_again(fake: Fake, pool: MakePool) -> None:
    async def first(peer: Peer) -> None:
        await peer.greet()
        while "RESET" not in (await peer.expect(Query)).sql:
            await peer.send(backend.command_complete("SET"), backend.ready_for_query())
        await peer.send(backend.error_response("not here", code="0A000"), backend.ready_for_query())
        # What was sent right behind the reset gets no answer any more.
        await peer.hold()

    async def second(peer: Peer) -> None:
        await peer.greet()
        await prepare(peer, "n")
        await run(peer, row("clean"))
        await peer.expect_end()

    server = await fake(first, second)
    made = await pool(dsn=server.dsn(), min_size=1, max_size=1)
    async with asyncio.timeout(PATIENCE):
        async with made.acquire() as lease:
            await lease.execute("SET work_mem = '1MB'")
        while True:
            try:
                assert await made.fetchval("SELECT f()") == "clean"
                break
            except headrace.ConnectionDoesNotExistError:
                continue
