"""Fault 43: what the end of a server or a backend proves of the requests in flight."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.servers import until
from tests.watching import until_in_flight

if TYPE_CHECKING:
    from tests.fixtures import Connect
    from tests.poolers import StartPgBouncer
    from tests.postmaster import ShutdownMode
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=43)

PATIENCE = 20.0

WRITE = "INSERT INTO t SELECT $1 FROM pg_sleep($2)"
READ = "SELECT $1::int FROM pg_sleep($2)"


async def three_in_flight(server: Cluster, connection: headrace.Connection) -> list[asyncio.Task[object]]:
    """Have a write run on the server, with a write and a plain read in flight behind it."""
    await connection.execute("CREATE TABLE IF NOT EXISTS t (a int)")
    await connection.execute(WRITE, 0, 0.0)
    await connection.fetchval(READ, 0, 0.0)
    # A pooler tells a process id of its own making.
    backend = await connection.fetchval("SELECT pg_backend_pid()")
    calls: list[asyncio.Task[object]] = [
        asyncio.create_task(connection.execute(WRITE, 1, 600.0)),
        asyncio.create_task(connection.execute(WRITE, 2, 0.0)),
        asyncio.create_task(connection.fetchval(READ, 3, 0.0)),
    ]
    await until_in_flight(connection, 3)
    until(lambda: server.waits_for(backend) == "PgSleep", "the head runs")
    return calls


async def failures(calls: list[asyncio.Task[object]]) -> list[headrace.ConnectionDoesNotExistError]:
    """Return the errors of the calls, all of which fail with the loss of the connection."""
    async with asyncio.timeout(PATIENCE):
        found = await asyncio.gather(*calls, return_exceptions=True)
    errors = [each for each in found if isinstance(each, headrace.ConnectionDoesNotExistError)]
    assert len(errors) == len(calls), found
    return errors


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_shutdown(own_server: Cluster, mode: ShutdownMode) -> None:
    """An immediate shutdown may come without its notice; only if that has come is anything known."""
    connection = await headrace.connect(own_server.dsn())
    calls = await three_in_flight(own_server, connection)
    await asyncio.to_thread(own_server.stop, mode)
    head, write, read = await failures(calls)
    told = isinstance(head, headrace.AdminShutdownError)
    assert told or mode == "immediate"
    assert not head.safe_to_retry
    assert write.safe_to_retry == told
    assert read.safe_to_retry
    assert ("this server has rolled it back" in str(head)) == told


async def test_a_backend_killed(own_server: Cluster) -> None:
    """Of the killed one nothing is known, but that a plain read only reads. The others say that there was a crash."""
    killed, other = [await headrace.connect(own_server.dsn()) for _ in range(2)]
    calls, others = await three_in_flight(own_server, killed), await three_in_flight(own_server, other)
    os.kill(killed.get_server_pid(), signal.SIGKILL)
    errors = await failures(calls)
    assert [type(each) for each in errors] == [headrace.ConnectionDoesNotExistError] * 3
    assert [each.safe_to_retry for each in errors] == [False, False, True]
    errors = await failures(others)
    told = isinstance(errors[0], headrace.CrashShutdownError)
    assert [each.safe_to_retry for each in errors] == [False, told, True]


async def test_a_poolers_time_limit_proves_nothing(
    pgbouncer: StartPgBouncer, connect: Connect, server: Cluster, database: str
) -> None:
    """PgBouncer gives an error of its own, and the backend goes on with what was forwarded."""
    pooler = pgbouncer(pool_mode="session", query_timeout="1")
    connection = await connect(**pooler.kwargs(database))
    calls = await three_in_flight(server, connection)
    head, write, read = await failures(calls)
    assert head.sqlstate == "08P01"
    assert [each.safe_to_retry for each in (head, write, read)] == [False, False, True]
