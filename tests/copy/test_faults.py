"""COPY cut short or held up on either side: nothing half copied, nobody waits for ever, the connection usable."""

from __future__ import annotations

import asyncio
import errno
import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import headrace
from tests.servers import Cluster, until

PATIENCE = 10.0
"""Seconds after which a test takes something for hanging."""

ROW = b"1\t" + b"x" * 100 + b"\n"
ENDLESS = "SELECT repeat('x', 100), generate_series(1, 1000000000)"


@pytest.fixture
async def conn(conn: headrace.Connection, server: Cluster, database: str) -> AsyncIterator[headrace.Connection]:
    """A connection with a table `t` of its own; after the test that is empty, and the connection usable or closed."""
    await conn.execute("CREATE TABLE t (a int, b text)")
    yield conn
    async with asyncio.timeout(PATIENCE):
        assert conn.is_closed() or await conn.fetchval("SELECT 1") == 1
    assert server.sql("SELECT count(*) FROM t", database=database) == [(0,)]
    server.sql("DROP TABLE t; DROP FUNCTION IF EXISTS held_up()", database=database)


class Stuck:
    """A source or sink that works for a while and then waits for ever; `reached` is set when it has come to that."""

    def __init__(self, rows: int = 3000) -> None:
        self.rows = rows
        self.reached = asyncio.Event()
        self.cancelled = False

    async def wait(self) -> None:
        self.reached.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise

    async def pieces(self) -> AsyncIterator[bytes]:
        for _ in range(self.rows):
            yield ROW
        await self.wait()

    async def records(self) -> AsyncIterator[tuple[int, str]]:
        for _ in range(self.rows):
            yield 1, "x" * 100
        await self.wait()

    async def take(self, data: bytes) -> None:
        await self.wait()


def copies(conn: headrace.Connection, stuck: Stuck) -> list[Callable[[], Any]]:
    """Every way to be stuck in a COPY."""
    return [
        lambda: conn.copy_to_table("t", source=stuck.pieces()),
        lambda: conn.copy_records_to_table("t", records=stuck.records()),
        lambda: conn.copy_from_query(ENDLESS, output=stuck.take),
    ]


@pytest.mark.parametrize("way", range(3))
async def test_cancelled_in_the_middle(conn: headrace.Connection, way: int) -> None:
    stuck = Stuck()
    task = asyncio.create_task(copies(conn, stuck)[way]())
    await stuck.reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert stuck.cancelled
    async with asyncio.timeout(PATIENCE):
        assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("way", range(3))
async def test_time_out(conn: headrace.Connection, connect: Any, way: int) -> None:
    stuck = Stuck()
    # Enough for a COPY to begin, whatever else the machine has to do.
    limited = await connect(command_timeout=1)
    with pytest.raises(TimeoutError):
        await copies(limited, stuck)[way]()
    assert stuck.cancelled
    assert await limited.fetchval("SELECT 1", timeout=PATIENCE) == 1
    with pytest.raises(TimeoutError):
        await conn.copy_to_table("t", source=stuck.pieces(), timeout=0.01)


async def test_cancelled_before_anything_was_sent(conn: headrace.Connection) -> None:
    stuck = Stuck(0)
    for copy in copies(conn, stuck):
        task = asyncio.create_task(copy())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await conn.fetchval("SELECT 1") == 1


async def test_cancelled_while_the_server_waits_for_a_lock(conn: headrace.Connection, connect: Any) -> None:
    other = await connect()
    async with other.transaction():
        await other.execute("LOCK TABLE t")
        for copy in (conn.copy_to_table("t", source=[ROW]), conn.copy_from_table("t", output=io.BytesIO())):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(copy, 0.2)
            async with asyncio.timeout(PATIENCE):
                assert await conn.fetchval("SELECT 1") == 1


async def test_cancelled_while_the_server_works_on_what_it_has_got(
    conn: headrace.Connection, connect: Any, server: Cluster, database: str
) -> None:
    """The server reads no CopyFail then: only a CancelRequest gets through to it."""
    other = await connect()
    await other.execute("SELECT pg_advisory_lock(5)")
    await conn.execute(
        """CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(5); RETURN NEW; END';
        CREATE TRIGGER held_up BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION held_up()"""
    )

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield ROW * 1000

    task = asyncio.create_task(conn.copy_to_table("t", source=endless()))
    waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND wait_event = 'advisory'"
    await asyncio.to_thread(until, lambda: bool(server.sql(waiting, database)), "the COPY waits for the lock")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(PATIENCE):
        assert await conn.fetchval("SELECT 1") == 1


# Errors on this side


async def test_a_source_that_raises(conn: headrace.Connection) -> None:
    class Wrong(Exception):
        pass

    async def asynchronous() -> AsyncIterator[Any]:
        for _ in range(3000):
            yield (1, "x" * 100)
        raise Wrong

    def synchronous() -> Any:
        for _ in range(3000):
            yield (1, "x" * 100)
        raise Wrong

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3000):
            yield ROW
        raise Wrong

    for copy in (
        conn.copy_records_to_table("t", records=asynchronous()),
        conn.copy_records_to_table("t", records=synchronous()),
        conn.copy_to_table("t", source=pieces()),
        conn.copy_to_table("t", source=[ROW, 5]),  # type: ignore[list-item]
    ):
        with pytest.raises((Wrong, headrace.InterfaceError)):
            await copy
        assert await conn.fetchval("SELECT count(*) FROM t") == 0


async def test_a_sink_that_raises(conn: headrace.Connection) -> None:
    def wrong(data: bytes) -> None:
        raise LookupError("no more")

    for _ in range(3):
        with pytest.raises(LookupError, match="no more"):
            await conn.copy_from_query(ENDLESS, output=wrong)
        assert await conn.fetchval("SELECT 1") == 1


async def test_a_full_disk_behind_a_sink(conn: headrace.Connection) -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        for output in ("/dev/full", full):
            with pytest.raises(OSError, match="No space left") as caught:
                await conn.copy_from_query(ENDLESS, output=output)
            assert caught.value.errno == errno.ENOSPC
    assert Path("/dev/full").exists()


async def test_a_file_that_was_not_there_is_not_left_half_written(conn: headrace.Connection, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.copy_from_query("SELECT 1 / (50000 - i) FROM generate_series(1, 100000) AS i", output=path)
    assert not path.exists()
    task = asyncio.create_task(conn.copy_from_query(ENDLESS, output=path))
    await asyncio.to_thread(until, path.exists, "the file is there")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(until, lambda: not path.exists(), "the file is gone")


async def test_inside_a_transaction_the_transaction_fails_with_it(conn: headrace.Connection) -> None:
    async def wrong() -> AsyncIterator[bytes]:
        yield ROW
        raise LookupError("the source")

    with pytest.raises(LookupError):
        async with conn.transaction():
            await conn.copy_to_table("t", source=[ROW])
            await conn.copy_to_table("t", source=wrong())
    async with conn.transaction():
        await conn.copy_to_table("t", source=[ROW])
        with pytest.raises(LookupError):
            async with conn.transaction():
                await conn.copy_to_table("t", source=wrong())
        assert await conn.fetchval("SELECT count(*) FROM t") == 1
        await conn.execute("DELETE FROM t")


# Errors on the server's side


async def test_a_source_is_not_waited_for_when_the_server_has_refused_its_data(conn: headrace.Connection) -> None:
    await conn.execute("ALTER TABLE t ADD CHECK (a > 1)")
    for way, rows in ((0, 1), (1, 1000)):  # records go out 64 kB at a time
        stuck = Stuck(rows)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(headrace.CheckViolationError):
                await copies(conn, stuck)[way]()
        assert stuck.cancelled
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.BadCopyFileFormatError):
            await conn.copy_to_table("t", source=Stuck(1).pieces(), columns=["a"])


async def test_data_that_the_server_cannot_read(conn: headrace.Connection) -> None:
    for source, error in (
        ([ROW, b"no number\tx\n"], headrace.InvalidTextRepresentationError),
        ([ROW, b"1\n"], headrace.BadCopyFileFormatError),
        ([ROW, b"1\t\xff\n"], headrace.CharacterNotInRepertoireError),
    ):
        with pytest.raises(error) as caught:
            await conn.copy_to_table("t", source=source * 100)
        assert "COPY t, line 2" in (caught.value.context or "")
        assert await conn.fetchval("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("way", range(2))
async def test_the_backend_is_terminated_in_the_middle_of_copying_in(
    conn: headrace.Connection, server: Cluster, way: int
) -> None:
    stuck = Stuck()
    task = asyncio.create_task(copies(conn, stuck)[way]())
    await stuck.reached.wait()
    server.sql("SELECT pg_terminate_backend(%s)", conn.get_server_pid())
    async with asyncio.timeout(PATIENCE):
        with pytest.raises((headrace.AdminShutdownError, headrace.ConnectionDoesNotExistError)):
            await task
    assert stuck.cancelled
    assert conn.is_closed()
    server.sql("SELECT 1")


async def test_the_backend_is_terminated_in_the_middle_of_copying_out(
    conn: headrace.Connection, server: Cluster
) -> None:
    slow = asyncio.Event()

    async def take(data: bytes) -> None:
        await slow.wait()

    task = asyncio.create_task(conn.copy_from_query(ENDLESS, output=take))
    state = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'ClientWrite'"
    await asyncio.to_thread(until, lambda: bool(server.sql(state, conn.get_server_pid())), "the server is held up")
    server.sql("SELECT pg_terminate_backend(%s)", conn.get_server_pid())
    slow.set()
    async with asyncio.timeout(PATIENCE):
        with pytest.raises((headrace.AdminShutdownError, headrace.ConnectionDoesNotExistError)):
            await task


async def test_closed_in_the_middle(conn: headrace.Connection, connect: Any) -> None:
    for way in range(3):
        other = await connect()
        stuck = Stuck()
        task = asyncio.create_task(copies(other, stuck)[way]())
        await stuck.reached.wait()
        await other.close(timeout=PATIENCE)
        if way < 2:
            with pytest.raises(headrace.PostgresError):
                await task
        else:
            task.cancel()  # the sink's own business
            with pytest.raises(asyncio.CancelledError):
                await task


# The pipeline


async def test_a_copy_runs_in_its_turn(conn: headrace.Connection) -> None:
    """Before it: what was asked before. Behind it: what was asked while it went on."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def rows() -> AsyncIterator[tuple[int, str]]:
        yield 1, "x"
        began.set()
        await go_on.wait()
        yield 2, "y"

    count = "SELECT count(*) FROM t"
    async with asyncio.TaskGroup() as group:
        before = group.create_task(conn.fetchval(count))
        await asyncio.sleep(0)
        copy = group.create_task(conn.copy_records_to_table("t", records=rows()))
        await began.wait()
        behind = [group.create_task(conn.fetchval(count)) for _ in range(50)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in behind)
        go_on.set()
    assert (before.result(), copy.result(), {task.result() for task in behind}) == (0, "COPY 2", {2})
    await conn.execute("TRUNCATE t")


async def test_many_copies_and_queries_at_once(conn: headrace.Connection) -> None:
    output = io.BytesIO()
    results = await asyncio.gather(
        *(conn.copy_records_to_table("t", records=[(i, "x")]) for i in range(50)),
        *(conn.fetchval("SELECT $1::int", i) for i in range(50)),
        *(conn.copy_from_query("SELECT $1::int", i, output=output) for i in range(50)),
    )
    assert results == ["COPY 1"] * 50 + list(range(50)) + ["COPY 1"] * 50
    assert sorted(map(int, output.getvalue().split())) == list(range(50))
    await conn.execute("TRUNCATE t")


async def asked_within(conn: headrace.Connection, ask: Callable[[], Awaitable[None]]) -> None:
    """Ask from within a source, a copy_in() and a copy_out()."""

    async def asking_source() -> AsyncIterator[bytes]:
        yield b""
        yield ROW
        await ask()

    assert await conn.copy_to_table("t", source=asking_source()) == "COPY 1"
    async with conn.copy_in("t"):
        await ask()
    async for _ in conn.copy_out(ENDLESS):
        await ask()
        break
    await conn.execute("TRUNCATE t")


async def test_what_would_wait_for_itself_is_refused(conn: headrace.Connection) -> None:
    async def ask() -> None:
        with pytest.raises(headrace.InterfaceError, match="this task is in the middle of a COPY"):
            await conn.fetchval("SELECT 1")

    async def asking_sink(data: bytes) -> None:
        await ask()
        raise LookupError("seen")

    with pytest.raises(LookupError, match="seen"):
        await conn.copy_from_query(ENDLESS, output=asking_sink)
    await asked_within(conn, ask)


async def test_what_a_task_would_ask_that_the_copy_waits_for_is_refused(conn: headrace.Connection) -> None:
    async def ask() -> None:
        with pytest.raises(headrace.InterfaceError, match="the task that has made this one is in the middle of a COPY"):
            await asyncio.wait_for(asyncio.create_task(conn.fetchval("SELECT 1")), PATIENCE)

    await asked_within(conn, ask)


@pytest.mark.parametrize("command", ["COPY t FROM STDIN", "COPY t TO STDOUT", "SELECT 1; COPY t TO STDOUT; SELECT 2"])
async def test_a_copy_typed_by_the_user_is_refused_before_it_blocks_the_wire(
    conn: headrace.Connection, command: str
) -> None:
    for call in (conn.execute(command), conn.fetch(command)):
        with pytest.raises((headrace.InterfaceError, headrace.PostgresSyntaxError)):
            await asyncio.wait_for(call, PATIENCE)
    statement = await conn.prepare("COPY t TO STDOUT")
    with pytest.raises(headrace.InterfaceError, match="copy_from_table"):
        await asyncio.wait_for(statement.fetch(), PATIENCE)


# Back-pressure


async def test_a_slow_sink_holds_the_server_up(conn: headrace.Connection, server: Cluster) -> None:
    sizes: list[int] = []
    go_on = asyncio.Event()

    async def take(data: bytes) -> None:
        sizes.append(len(data))
        await go_on.wait()

    rows = 300_000
    query = f"SELECT repeat('x', 99) FROM (SELECT generate_series(1, {rows})) AS q"
    task = asyncio.create_task(conn.copy_from_query(query, output=take))
    state = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'ClientWrite'"
    await asyncio.to_thread(until, lambda: bool(server.sql(state, conn.get_server_pid())), "the server is held up")
    assert len(sizes) == 1
    go_on.set()
    assert await task == f"COPY {rows}"
    assert sum(sizes) == rows * 100
    assert max(sizes) < 1_000_000


async def test_a_slow_reader_of_rows_holds_the_server_up(conn: headrace.Connection, server: Cluster) -> None:
    state = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event = 'ClientWrite'"
    pid = conn.get_server_pid()
    seen = 0
    async for _ in conn.copy_out("SELECT repeat('x', 100) FROM generate_series(1, 300000)"):
        seen += 1
        if seen == 1:
            await asyncio.to_thread(until, lambda: bool(server.sql(state, pid)), "the server is held up")
    assert seen == 300_000


async def test_a_slow_server_holds_the_source_up(conn: headrace.Connection, connect: Any) -> None:
    other = await connect()
    await other.execute("SELECT pg_advisory_lock(6)")
    await conn.execute(
        """CREATE FUNCTION held_up() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(6); RETURN NULL; END';
        CREATE TRIGGER held_up BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION held_up()"""
    )
    total, given = 400, 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal given
        for _ in range(total):
            given += 1
            yield ROW * 2000

    task = asyncio.create_task(conn.copy_to_table("t", source=pieces()))
    # The loop goes round freely once the source is no longer asked for more.
    before = -1
    async with asyncio.timeout(PATIENCE):
        while given != before or not given:
            before = given
            await asyncio.sleep(0.2)
    assert given < total
    await other.execute("SELECT pg_advisory_unlock(6)")
    assert await task == "COPY 0"
    assert given == total
