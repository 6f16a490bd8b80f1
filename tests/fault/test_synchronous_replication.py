"""Fault 50: the wait for a synchronous standby is terminated, or cancelled, and the caller learns of the notice."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.servers import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=50)

PATIENCE = 20.0

COMMITTED = "this server has committed it, its synchronous standbys perhaps not"


@pytest.fixture
def waiting_server(own_server: Cluster) -> Iterator[Cluster]:
    """A primary whose commits wait for a standby that does not exist."""
    own_server.sql("CREATE TABLE t (a int)")
    with own_server.settings(synchronous_standby_names="nobody", synchronous_commit="on"):
        yield own_server


async def until_waiting(server: Cluster, connection: headrace.Connection) -> None:
    """Wait until the connection's backend waits for the standby."""
    pid = connection.get_server_pid()
    await asyncio.to_thread(until, lambda: server.waits_for(pid) == "SyncRep", "the commit waits")


async def test_a_wait_terminated(waiting_server: Cluster) -> None:
    """The head has committed on the primary; those behind it were never started."""
    connection = await headrace.connect(waiting_server.dsn())
    calls = [asyncio.create_task(connection.execute("INSERT INTO t VALUES ($1)", i)) for i in range(3)]
    await until_waiting(waiting_server, connection)
    waiting_server.sql("SELECT pg_terminate_backend(%s)", connection.get_server_pid())
    async with asyncio.timeout(PATIENCE):
        head, *behind = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(head, headrace.AdminShutdownError)
    assert isinstance(head, headrace.ConnectionDoesNotExistError)
    assert "synchronous replication" in str(head)
    assert COMMITTED in str(head)
    assert not head.safe_to_retry
    assert all(headrace.is_safe_to_retry(each) for each in behind)  # type: ignore[arg-type]
    assert waiting_server.sql("SELECT a FROM t") == [(0,)]


async def test_the_wait_of_a_commit_terminated(waiting_server: Cluster) -> None:
    connection = await headrace.connect(waiting_server.dsn())

    async def transact() -> None:
        async with connection.transaction():
            await connection.execute("INSERT INTO t VALUES (1)")

    transacting = asyncio.create_task(transact())
    await until_waiting(waiting_server, connection)
    waiting_server.sql("SELECT pg_terminate_backend(%s)", connection.get_server_pid())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.AdminShutdownError, match=COMMITTED) as raised:
            await transacting
    assert not raised.value.safe_to_retry
    assert waiting_server.sql("SELECT a FROM t") == [(1,)]


async def test_a_wait_cancelled(waiting_server: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    """The statement succeeds: a warning is logged, and goes to the listeners of the connection."""
    connection = await headrace.connect(waiting_server.dsn())
    heard: list[headrace.PostgresLogMessage] = []
    connection.add_log_listener(lambda connection, message: heard.append(message))
    call = asyncio.create_task(connection.execute("INSERT INTO t VALUES (1)"))
    await until_waiting(waiting_server, connection)
    waiting_server.sql("SELECT pg_cancel_backend(%s)", connection.get_server_pid())
    async with asyncio.timeout(PATIENCE):
        assert await call == "INSERT 0 1"
    assert [(each.sqlstate, each.server_source_function) for each in heard] == [("01000", "SyncRepWaitForLSN")]
    assert "a commit is not known to be on a synchronous standby: canceling wait" in caplog.text
    await connection.close()
