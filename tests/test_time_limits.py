"""Every TimeoutError says what timed out, after how long, and in an outage why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import headrace
from tests.core.pipeline.script import Conversation
from tests.peers.blackhole import BlackHole
from tests.servers import Cluster

pytestmark = pytest.mark.any_server

MakePool = Callable[..., Awaitable[headrace.Pool]]
SHORT = 0.05
"""Seconds after which a call that cannot succeed times out."""


async def late(call: Awaitable[Any]) -> TimeoutError:
    with pytest.raises(TimeoutError) as caught:
        await call
    return caught.value


async def test_a_query_that_takes_too_long(conn: headrace.Connection) -> None:
    assert (
        str(await late(conn.fetch("SELECT pg_sleep(60)", timeout=SHORT))) == "the command timed out after 0.05 seconds"
    )
    assert str(await late(conn.fetch("SELECT 1", timeout=0))) == "the command timed out after 0 seconds"


async def test_a_query_of_a_pool_that_takes_too_long(pool: MakePool) -> None:
    shared = await pool(min_size=1)
    error = await late(shared.fetch("SELECT pg_sleep(60)", timeout=SHORT))
    assert str(error) == "the command timed out after 0.05 seconds"


async def test_a_pool_whose_connections_are_taken(pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1)
    async with shared.acquire():
        error = await late(shared.acquire(timeout=SHORT))
        assert str(error) == "acquire() timed out after 0.05 seconds: no connection was free"
        error = await late(shared.fetch("SELECT 1", timeout=SHORT))
        assert str(error) == "the command timed out after 0.05 seconds: no connection was free"


async def test_a_call_that_was_never_sent_is_safe_to_retry(pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1)
    async with shared.acquire():
        for call in (
            shared.acquire(timeout=SHORT),
            shared.execute("CREATE TABLE never (a int)", timeout=SHORT),
            shared.executemany("SELECT $1::int", [(1,)], timeout=SHORT),
        ):
            assert headrace.is_safe_to_retry(await late(call))
    assert not headrace.is_safe_to_retry(
        await late(shared.execute("DO 'BEGIN PERFORM pg_sleep(60); END'", timeout=SHORT))
    )


async def test_run_does_not_repeat_a_wait_that_was_too_long(pool: MakePool) -> None:
    """The time that the caller allows is used up."""
    shared = await pool(min_size=1, max_size=1)

    async def never(connection: object) -> None:
        raise AssertionError("there is no connection")

    async with shared.acquire():
        error = await late(shared.run(never, timeout=SHORT))
        assert headrace.is_safe_to_retry(error)
        assert "attempts" not in "".join(error.__notes__)


async def test_an_outage_is_the_reason(pool: MakePool, own_server: Cluster) -> None:
    shared = await pool(dsn=own_server.dsn(), min_size=0, max_size=2)
    own_server.stop()
    waiting = asyncio.create_task(shared.fetch("SELECT 1"))
    async with asyncio.timeout(30):
        while not shared.stats().connect_errors:
            await asyncio.sleep(0.01)
    for call in (shared.fetch("SELECT 1", timeout=SHORT), shared.acquire(timeout=SHORT)):
        error = await late(call)
        assert isinstance(error.__cause__, OSError)
        assert f"timed out after 0.05 seconds: no connection could be opened ({error.__cause__}); " in str(error)
        assert str(error).endswith("seconds") or str(error).endswith("an attempt is under way")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_closing_a_pool_with_a_lease(pool: MakePool) -> None:
    shared = await pool(min_size=1)
    lease = await shared.acquire()
    error = await late(shared.close(timeout=SHORT))
    assert str(error) == "close() timed out after 0.05 seconds: all connections were dropped"
    del lease


async def test_copy_that_takes_too_long(conn: headrace.Connection) -> None:
    error = await late(conn.copy_from_query("SELECT pg_sleep(60)", output=bytearray().extend, timeout=SHORT))
    assert str(error) == "the COPY timed out after 0.05 seconds"


async def test_a_source_of_a_batch_that_takes_too_long(conn: headrace.Connection) -> None:
    error = await late(conn.executemany("SELECT $1::int", endless(), timeout=SHORT))
    assert str(error) == "the command timed out after 0.05 seconds"


@pytest.mark.parametrize("returning", [None, ["a"]])
async def test_records_that_take_too_long(conn: headrace.Connection, returning: list[str] | None) -> None:
    await conn.execute("CREATE TEMP TABLE taken (a int)")
    error = await late(conn.insert_records("taken", endless(), returning=returning, timeout=SHORT))
    assert str(error) == "insert_records() timed out after 0.05 seconds"
    assert await conn.fetchval("SELECT count(*) FROM taken") == 0


async def test_records_that_get_no_connection(pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1)
    async with shared.acquire():
        error = await late(shared.insert_records("taken", [(1,)], timeout=SHORT))
    assert str(error) == "acquire() timed out after 0.05 seconds: no connection was free"


async def endless() -> AsyncIterator[tuple[int]]:
    while True:
        yield (1,)
        await asyncio.sleep(0.001)


async def test_connecting_that_takes_too_long() -> None:
    with BlackHole() as hole:
        error = await late(headrace.connect(host=hole.host, port=hole.port, user="x", timeout=SHORT))
    assert "0.05 s (timeout)" in str(error)


async def test_a_setup_callback_that_takes_too_long(pool: MakePool) -> None:
    async def setup(connection: Any) -> None:
        await asyncio.sleep(60)

    shared = await pool(min_size=1, setup=setup)
    assert "setup callback" in str(await late(shared.acquire(timeout=SHORT)))


async def test_a_reset_callback_that_takes_too_long(pool: MakePool) -> None:
    async def reset(connection: Any) -> None:
        await asyncio.sleep(60)

    shared = await pool(min_size=1, reset=reset)
    lease = await shared.acquire()
    error = await late(shared.release(lease, timeout=SHORT))
    assert str(error) == "the reset callback timed out after 0.05 seconds"


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (MemoryError(), ": out of memory on this side (MemoryError); the request had been sent"),
        (ConnectionResetError(), ": ConnectionResetError; the request had been sent"),
        (OSError(5, "I/O error"), ": [Errno 5] I/O error; the request had been sent"),
    ],
    ids=repr,
)
def test_the_end_of_a_connection_is_told_in_words(reason: Exception, words: str) -> None:
    talk = Conversation()
    call = talk.script("INSERT INTO t VALUES (1)")
    talk.flush()
    talk.session.connection_lost(reason)
    assert words in str(call.error)
    assert call.error.__cause__ is reason
