"""insert_records() cut short at any point: nothing is kept, nobody waits for ever, the connection stays usable."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

import headrace
import headrace.insert.methods
from tests.fault.test_cancellation_everywhere import MOMENTS, Cancelled
from tests.servers import Cluster, until

if TYPE_CHECKING:
    from tests.fixtures import Connect

PATIENCE = 10.0
STEPS = 80
"""More suspensions than an insertion of these records has."""

WAYS: dict[str, dict[str, Any]] = {
    "copy": {},
    "arrays": {"returning": "a"},
    "update": {"on_conflict": ("update", ["a"])},
    "temporary table": {"on_conflict": ("update", ["a"]), "on_duplicate": "error"},
}


@pytest.fixture
async def conn(
    connect: Connect, server: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[headrace.Connection]:
    """A connection with a table `t` and small chunks; after the test the table is empty."""
    monkeypatch.setattr(headrace.insert.methods, "CHUNK_ROWS", 10)
    conn = await connect()
    await conn.execute("CREATE TABLE t (a int PRIMARY KEY, b text)")
    yield conn
    async with asyncio.timeout(PATIENCE):
        assert conn.is_closed() or await conn.fetchval("SELECT 1") == 1
        assert conn.is_closed() or not conn.is_in_transaction()
    assert server.sql("SELECT count(*) FROM t", database=database) == [(0,)]
    server.sql("DROP TABLE t; DROP FUNCTION IF EXISTS held_up()", database=database)


class Stuck:
    """A source that gives some records and then waits for ever."""

    def __init__(self, records: int = 55) -> None:
        self.records = records
        self.reached = asyncio.Event()
        self.cancelled = False

    async def __aiter__(self) -> AsyncIterator[tuple[int, str]]:
        for i in range(self.records):
            yield i, "x"
        self.reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise


@pytest.mark.parametrize("way", WAYS)
async def test_cancelled_while_it_waits_for_the_source(conn: headrace.Connection, way: str) -> None:
    stuck = Stuck()
    task = asyncio.create_task(conn.insert_records("t", stuck, **WAYS[way]))
    await stuck.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stuck.cancelled


@pytest.mark.parametrize("way", WAYS)
async def test_time_out(conn: headrace.Connection, way: str) -> None:
    stuck = Stuck()
    with pytest.raises(TimeoutError):
        await conn.insert_records("t", stuck, timeout=0.5, **WAYS[way])


def numbers() -> list[tuple[int, str]]:
    """Records of which two are of one row, in one chunk."""
    return [(i if i != 27 else 22, "x") for i in range(45)]


async def cancelled_at(step: int, moment: str, work: Any) -> bool:
    """Run some work, cancelled at the step-th suspension; returns whether there was one."""
    cancelled = Cancelled(work, step, moment)

    async def run() -> None:
        try:
            await cancelled
        except asyncio.CancelledError:
            assert cancelled.reached
            raise

    task = asyncio.create_task(run())
    async with asyncio.timeout(PATIENCE):
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()
    return cancelled.reached


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("way", ["copy", "arrays", "update"])
async def test_cancelled_at_every_await(conn: headrace.Connection, way: str, moment: str, in_transaction: bool) -> None:
    """Either everything is there, because the end had been sent, or nothing is."""
    records = numbers() if way == "update" else [(i, "x") for i in range(45)]
    expected = len({a for a, _ in records})
    for step in range(STEPS):
        if in_transaction:
            await conn.execute("BEGIN")
        reached = await cancelled_at(step, moment, conn.insert_records("t", records, **WAYS[way]))
        async with asyncio.timeout(PATIENCE):
            assert await conn.fetchval("SELECT count(*) FROM t") in ((0, expected) if reached else (expected,))
            if in_transaction:
                await conn.execute("ROLLBACK")
            await conn.execute("TRUNCATE t")
        if not reached:
            return
    raise AssertionError(f"more than {STEPS} suspensions")


@pytest.mark.parametrize("way", WAYS)
async def test_the_backend_is_terminated_in_the_middle(conn: headrace.Connection, server: Cluster, way: str) -> None:
    pid = conn.get_server_pid()

    def records() -> Iterator[tuple[int, str]]:
        for i in range(2000):
            if i == 1500:
                server.sql("SELECT pg_terminate_backend(%s)", pid)
                until(lambda: not server.sql("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid), "it is gone")
            yield i, "x" * 100

    async with asyncio.timeout(PATIENCE):
        with pytest.raises((headrace.PostgresError, headrace.InterfaceError), match="terminat|closed|lost"):
            await conn.insert_records("t", records(), **WAYS[way])
    assert conn.is_closed()


@pytest.mark.parametrize("way", ["copy", "arrays", "update"])
async def test_a_source_is_not_waited_for_when_the_server_has_refused_its_records(
    conn: headrace.Connection, way: str
) -> None:
    await conn.execute("ALTER TABLE t ADD CHECK (a <> 5)")
    stuck = Stuck(15 if way != "copy" else 10_000)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.CheckViolationError):
            await conn.insert_records("t", stuck, **WAYS[way])
    assert stuck.cancelled


async def test_cancelled_while_the_server_waits_for_a_lock(
    conn: headrace.Connection, connect: Connect, server: Cluster, database: str
) -> None:
    other = await connect()
    await other.execute("SELECT pg_advisory_lock(5)")
    await conn.execute(
        """CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(5); RETURN NEW; END';
        CREATE TRIGGER held_up BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION held_up()"""
    )
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event = 'advisory'"
    for way in WAYS:
        task = asyncio.create_task(conn.insert_records("t", ((i, "x") for i in range(100)), **WAYS[way]))
        await asyncio.to_thread(until, lambda: bool(server.sql(waiting, database)), "it waits for the lock")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(PATIENCE):
            assert await conn.fetchval("SELECT count(*) FROM t") == 0
