"""Fault 33: a backend that is terminated at every step of a transaction: all of it is kept, or none.

Every block here inserts tokens of its own. BEGIN and SAVEPOINT travel with statements, so a connection that has ended
must not let a statement of the block run by itself, and no error may say that a part of the block can be repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Query, Sync, Terminate

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake
    from tests.peers.fakeserver import Peer
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=33)

PATIENCE = 10.0
STEPS = 30
"""More suspensions than any block here has."""


class AtStep:
    """Awaits something, and calls a function when it is suspended for the `step`-th time."""

    def __init__(self, awaitable: Coroutine[Any, Any, Any], step: int, act: Callable[[], object]) -> None:
        self._awaitable = awaitable
        self._step = step
        self._act = act
        self.reached = False

    def __await__(self) -> Generator[Any, Any, Any]:
        inner = self._awaitable.__await__()
        number = 0
        while True:
            try:
                waited_for = next(inner)
            except StopIteration as done:
                return done.value
            if number == self._step:
                self.reached = True
                self._act()
            number += 1
            try:
                yield waited_for
            except BaseException as error:
                inner.throw(error)


@pytest.fixture
async def table(server: Cluster, database: str) -> AsyncIterator[str]:
    server.sql("CREATE TABLE cut_short (token int)", database=database)
    yield "cut_short"
    server.sql("DROP TABLE cut_short", database=database)


async def plain(conn: headrace.Connection, token: int) -> None:
    async with conn.transaction():
        await conn.execute(f"INSERT INTO cut_short VALUES ({token})")
        await conn.execute("INSERT INTO cut_short VALUES ($1)", token)


async def nested(conn: headrace.Connection, token: int) -> None:
    async with conn.transaction():
        async with conn.transaction():
            await conn.execute("INSERT INTO cut_short VALUES ($1)", token)
        async with conn.transaction():
            await conn.execute(f"INSERT INTO cut_short VALUES ({token})")


async def script(conn: headrace.Connection, token: int) -> None:
    async with conn.transaction():
        await conn.execute(f"INSERT INTO cut_short VALUES ({token}); SELECT 1")
        await conn.executemany("INSERT INTO cut_short VALUES ($1)", [(token,)])


async def at_once(conn: headrace.Connection, token: int) -> None:
    async with conn.transaction():
        await asyncio.gather(*(conn.execute("INSERT INTO cut_short VALUES ($1)", token) for _ in range(2)))


BLOCKS: list[Callable[[headrace.Connection, int], Coroutine[Any, Any, None]]] = [plain, nested, script, at_once]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.__name__))
async def test_a_backend_terminated_at_every_step(
    connect: Connect, server: Cluster, database: str, table: str, block: Callable[..., Coroutine[Any, Any, None]]
) -> None:
    for step in range(-1, STEPS):
        conn = await connect()
        pid = conn.get_server_pid()

        def kill(pid: int = pid) -> None:
            server.sql("SELECT pg_terminate_backend(%s, 5000)", pid)

        run = AtStep(block(conn, step), step, kill)
        if step == -1:
            kill()

        async def work(run: Awaitable[None] = run) -> None:
            await run

        async with asyncio.timeout(PATIENCE):
            (outcome,) = await asyncio.gather(asyncio.create_task(work()), return_exceptions=True)
        (count,) = server.sql(f"SELECT count(*) FROM {table} WHERE token = %s", step, database=database)[0]
        if outcome is None:
            assert count == 2
        else:
            assert count in (0, 2)
            assert isinstance(outcome, (headrace.PostgresError, headrace.InterfaceError)), repr(outcome)
            assert not headrace.is_safe_to_retry(outcome), repr(outcome)
            if "repeat all of it" in str(outcome):
                assert count == 0
        if not run.reached and step >= 0:
            return
    raise AssertionError(f"still not through after {STEPS} steps")


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.__name__))
@pytest.mark.parametrize("refused", ["BEGIN", "SAVEPOINT"])
async def test_nothing_of_a_block_whose_first_command_is_refused_is_executed(
    fake: Fake, connect: Connect, block: Callable[..., Coroutine[Any, Any, None]], refused: str
) -> None:
    """The server skips everything up to the Sync, and what it gets after that it would execute."""
    executed: list[str] = []

    async def play(peer: Peer) -> None:
        await peer.greet()
        skips = False
        status = "I"
        while True:
            message: Any = await peer.next()
            if isinstance(message, Terminate):
                return
            if isinstance(message, Sync):
                skips = False
                await peer.send(backend.ready_for_query(status))
            elif isinstance(message, Query):
                executed.append(message.sql)
                if message.sql in ("ROLLBACK", "COMMIT"):
                    tag, status = "ROLLBACK" if status == "E" else message.sql, "I"
                    await peer.send(backend.command_complete(tag), backend.ready_for_query(status))
                elif status == "E":
                    await peer.send(backend.error_response("aborted", code="25P02"), backend.ready_for_query(status))
                else:
                    await peer.send(backend.command_complete("SELECT 1"), backend.ready_for_query(status))
            elif not skips and getattr(message, "sql", None) is not None:
                if message.sql.startswith("BEGIN") and refused != "BEGIN":
                    status = "T"
                    await peer.send(backend.parse_complete())
                elif status == "E" or message.sql.startswith(refused):
                    skips = True
                    if status == "T":
                        status = "E"
                    await peer.send(backend.error_response("refused", code="25P02" if status == "E" else "0A000"))
                else:
                    await peer.send(backend.parse_complete())
                    executed.append(message.sql)
            elif not skips:
                await peer.send(answer(message))

    def answer(message: Any) -> bytes:
        kind = type(message).__name__
        if kind == "Bind":
            return backend.bind_complete()
        if kind == "Describe":
            return backend.parameter_description(23) + backend.no_data()
        return backend.command_complete("BEGIN")

    conn = await connect(dsn=(await fake(play)).dsn())
    if refused == "SAVEPOINT" and block is not nested:
        await block(conn, 1)
        assert executed
    else:
        with pytest.raises((headrace.FeatureNotSupportedError, headrace.InFailedSQLTransactionError)):
            await block(conn, 1)
        assert [text for text in executed if text not in ("ROLLBACK", "COMMIT")] == []
    assert not conn.is_in_transaction()
    await conn.close()
