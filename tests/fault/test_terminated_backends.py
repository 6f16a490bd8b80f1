"""Fault 33: pg_terminate_backend. Who had something at the server learns so, and nothing sent is ever run twice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.servers import until
from tests.watching import until_closed, until_in_flight

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=33)

PATIENCE = 10.0


def terminate(server: Cluster, connection: headrace.Connection) -> None:
    server.sql("SELECT pg_terminate_backend(%s)", connection.get_server_pid())


async def test_an_idle_connection(connect: Connect, server: Cluster) -> None:
    connection = await connect()
    terminate(server, connection)
    await until_closed(connection)
    with pytest.raises(headrace.InterfaceError, match="connection is closed: terminating connection"):
        await connection.fetchval("SELECT 1")


async def test_an_active_connection(connect: Connect, server: Cluster) -> None:
    connection = await connect()
    running = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
    await until_in_flight(connection)
    terminate(server, connection)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.AdminShutdownError) as raised:
            await running
    assert raised.value.sqlstate == "57P01"
    assert isinstance(raised.value, headrace.ConnectionDoesNotExistError)
    assert connection.is_closed()


RETRIED = (headrace.ConnectionDoesNotExistError, headrace.InterfaceError, OSError)
"""The errors that programs catch in order to connect again."""


async def chunks() -> AsyncIterator[bytes]:
    while True:
        yield b"1\n"
        await asyncio.sleep(0)


async def fetch_by_cursor(connection: headrace.Connection) -> None:
    async with connection.transaction():
        async for _ in connection.cursor("SELECT pg_sleep(600)"):
            pass


BUSY: dict[str, Callable[[headrace.Connection], Awaitable[object]]] = {
    "fetch": lambda connection: connection.fetch("SELECT pg_sleep(600)"),
    "script": lambda connection: connection.execute("SELECT 1; SELECT pg_sleep(600)"),
    "executemany": lambda connection: connection.executemany("SELECT pg_sleep($1)", [(600,)]),
    "fetchmany": lambda connection: connection.fetchmany("SELECT pg_sleep($1)", [(600,)]),
    "copy in": lambda connection: connection.copy_to_table("copied", source=chunks()),
    "copy out": lambda connection: connection.copy_from_query("SELECT pg_sleep(600)", output=os.devnull),
    "cursor": fetch_by_cursor,
}


@pytest.mark.parametrize("call", BUSY.values(), ids=BUSY)
async def test_whatever_runs_gets_an_error_that_is_both(
    connect: Connect, server: Cluster, call: Callable[[headrace.Connection], Awaitable[object]]
) -> None:
    connection = await connect()
    await connection.execute("CREATE TEMP TABLE copied (a int)")
    running = asyncio.ensure_future(call(connection))
    await asyncio.sleep(0)
    pid = connection.get_server_pid()
    running_query = (
        "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
        " AND (wait_event = 'PgSleep' OR query LIKE 'COPY%%')"
    )
    async with asyncio.timeout(PATIENCE):
        while server.sql(running_query, pid) != [(1,)]:
            await asyncio.sleep(0.01)
        terminate(server, connection)
        with pytest.raises(headrace.AdminShutdownError) as raised:
            await running
    assert isinstance(raised.value, headrace.ConnectionDoesNotExistError)


async def start(connection: headrace.Connection) -> None:
    await connection.transaction().start()


IDLE: dict[str, Callable[[headrace.Connection], Awaitable[object]]] = {
    "fetch": lambda connection: connection.fetch("SELECT 1"),
    "script": lambda connection: connection.execute("SELECT 1; SELECT 2"),
    "executemany": lambda connection: connection.executemany("SELECT $1::int", [(1,)]),
    "prepare": lambda connection: connection.prepare("SELECT 1"),
    "start": start,
    "listener": lambda connection: connection.add_listener("c", lambda *_: None),
    "copy": lambda connection: connection.copy_records_to_table("t", records=[(1,)]),
    "reset": lambda connection: connection.reset(),
}


@pytest.mark.parametrize("call", IDLE.values(), ids=IDLE)
async def test_whatever_comes_later_gets_an_error_that_is_retried(
    connect: Connect, server: Cluster, call: Callable[[headrace.Connection], Awaitable[object]]
) -> None:
    connection = await connect()
    terminate(server, connection)
    await until_closed(connection)
    with pytest.raises(RETRIED):
        await call(connection)


@pytest.mark.parametrize("method", ["commit", "rollback"])
async def test_a_transaction_whose_backend_has_ended(connect: Connect, server: Cluster, method: str) -> None:
    connection = await connect()
    transaction = connection.transaction()
    await transaction.start()
    terminate(server, connection)
    await until_closed(connection)
    with pytest.raises(RETRIED):
        await getattr(transaction, method)()


async def test_a_pipelined_connection(connect: Connect, server: Cluster, database: str) -> None:
    """The one that ran gets the server's words, those behind it an error that says that they were never started."""
    connection = await connect(max_pipeline=3)
    await connection.execute("CREATE TABLE behind (a int)")
    write = "INSERT INTO behind SELECT $1 FROM pg_sleep($2)"
    await connection.execute(write, 0, 0.0)
    head = asyncio.create_task(connection.execute(write, 1, 600.0))
    others = [asyncio.create_task(connection.execute(write, 2 + i, 0.0)) for i in range(4)]
    await until_in_flight(connection, 3)
    until(lambda: server.waits_for(connection.get_server_pid()) == "PgSleep", "the head runs")
    terminate(server, connection)
    async with asyncio.timeout(PATIENCE):
        first, *rest = await asyncio.gather(head, *others, return_exceptions=True)
    assert isinstance(first, headrace.AdminShutdownError)
    assert isinstance(first, headrace.ConnectionDoesNotExistError)
    assert not first.safe_to_retry
    assert "this server has rolled it back" in str(first)
    assert [type(each) for each in rest] == [headrace.ConnectionDoesNotExistError] * 4
    assert all(headrace.is_safe_to_retry(each) for each in rest)  # type: ignore[arg-type]
    assert all(isinstance(each, Exception) and each.__cause__ is first for each in rest)
    assert server.sql("SELECT a FROM behind", database=database) == [(0,)]
    server.sql("DROP TABLE behind", database=database)


async def test_a_write_that_fails_ends_nothing_before_the_last_words_are_read(
    connect: Connect, server: Cluster, database: str
) -> None:
    """The backend leaves with input unread, so that the kernel resets the connection behind its last words."""
    connection = await connect()
    await connection.execute("CREATE TABLE unread (a int, b text)")
    write = "INSERT INTO unread SELECT $1, $2 FROM pg_sleep($3)"
    await connection.execute(write, 0, "", 0.0)
    head = asyncio.create_task(connection.execute(write, 1, "", 600.0))
    behind = asyncio.create_task(connection.execute(write, 2, "x" * 50_000, 0.0))
    await until_in_flight(connection, 2)
    pid = connection.get_server_pid()
    until(lambda: server.waits_for(pid) == "PgSleep", "the head runs")
    # The event loop stands still from here on: it learns of the end by writing.
    terminate(server, connection)
    until(lambda: server.waits_for(pid) is None, "the backend ends")
    with pytest.raises(headrace.ConnectionDoesNotExistError) as raised:
        await connection.execute(write, 3, "", 0.0)
    async with asyncio.timeout(PATIENCE):
        errors = await asyncio.gather(head, behind, return_exceptions=True)
    assert isinstance(errors[0], headrace.AdminShutdownError)
    safe = [headrace.is_safe_to_retry(each) for each in (*errors, raised.value)]  # type: ignore[arg-type]
    assert safe == [False, True, True]
    assert server.sql("SELECT a FROM unread", database=database) == [(0,)]
    server.sql("DROP TABLE unread", database=database)


async def test_a_listening_connection(connect: Connect, server: Cluster) -> None:
    """Its listeners hear no more; who asks to be told of the end is told."""
    connection = await connect()
    heard: list[str] = []
    ended: list[headrace.Connection] = []
    await connection.add_listener("c", lambda *args: heard.append(args[3]))
    connection.add_termination_listener(ended.append)
    await connection.execute("NOTIFY c, 'before'")
    terminate(server, connection)
    await until_closed(connection)
    await asyncio.sleep(0)
    assert heard == ["before"]
    assert ended == [connection]


async def test_in_a_transaction(connect: Connect, server: Cluster) -> None:
    """Leaving the block does not cover up why. Nothing in it is safe to retry, nor is a COMMIT that was never sent."""
    connection = await connect(max_pipeline=1)
    transaction = connection.transaction()
    calls: list[Exception] = []
    with pytest.raises(headrace.AdminShutdownError) as raised:
        async with transaction:
            running = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
            texts = ("SELECT 1", "DELETE FROM t", "COMMIT")
            others = [asyncio.create_task(connection.execute(text)) for text in texts]
            await until_in_flight(connection)
            terminate(server, connection)
            calls += await asyncio.gather(*others, return_exceptions=True)  # type: ignore[arg-type]
            with pytest.raises(headrace.InterfaceError) as refused:
                await connection.execute("DELETE FROM t")
            calls.append(refused.value)
            await running
    for error in (raised.value, *calls):
        assert not headrace.is_safe_to_retry(error)
        assert "the transaction was rolled back, repeat all of it" in str(error)


async def test_in_a_cursor(connect: Connect, server: Cluster) -> None:
    connection = await connect()
    with pytest.raises((headrace.AdminShutdownError, headrace.ConnectionDoesNotExistError, headrace.InterfaceError)):
        async with connection.transaction():
            async for row in connection.cursor("SELECT generate_series(1, 10)", prefetch=2):
                if row[0] == 2:
                    terminate(server, connection)
                    await until_closed(connection)
    assert connection.is_closed()


async def test_in_the_middle_of_executemany(connect: Connect, server: Cluster, database: str) -> None:
    """It is one transaction, so nothing of it was kept."""
    connection = await connect()
    await connection.execute("CREATE TABLE kept (a int)")

    async def elements() -> None:
        def batch() -> object:
            for i in range(100_000):
                if i == 50_000:
                    terminate(server, connection)
                yield (i,)

        await connection.executemany("INSERT INTO kept VALUES ($1)", batch())  # type: ignore[arg-type]

    async with asyncio.timeout(PATIENCE):
        with pytest.raises((headrace.AdminShutdownError, headrace.ConnectionDoesNotExistError)):
            await elements()
    assert server.sql("SELECT count(*) FROM kept", database=database) == [(0,)]
    server.sql("DROP TABLE kept", database=database)


async def test_nothing_sent_is_ever_run_twice(pool: MakePool, server: Cluster, database: str) -> None:
    """Writes with a token each, through a pool whose backends are shot all the while.

    What was reported as done is there once; what failed as sent, once or not at all; what failed as not sent, never.
    """
    made = await pool(min_size=4, max_size=4)
    await made.execute("CREATE TABLE written (token int)")
    done: set[int] = set()
    unsure: set[int] = set()
    refused: set[int] = set()

    async def write(token: int) -> None:
        try:
            await made.execute("INSERT INTO written SELECT $1::int FROM pg_sleep(0.001)", token)
        except headrace.ConnectionDoesNotExistError as error:
            (refused if error.safe_to_retry else unsure).add(token)
        else:
            done.add(token)

    async def writer(first: int) -> None:
        for token in range(first, first + 100):
            await write(token)

    async def shooting() -> None:
        while True:
            for backend in server.backends(database)[:2]:
                server.sql("SELECT pg_terminate_backend(%s)", backend.pid)
            await asyncio.sleep(0.05)

    shots = asyncio.create_task(shooting())
    async with asyncio.timeout(60):
        await asyncio.gather(*(writer(100 * i) for i in range(20)))
    shots.cancel()
    found = [token for (token,) in server.sql("SELECT token FROM written", database=database)]
    assert len(found) == len(set(found))
    assert done <= set(found) <= done | unsure
    assert done | unsure | refused == set(range(2000))
    assert done
    assert unsure
    server.sql("DROP TABLE written", database=database)
