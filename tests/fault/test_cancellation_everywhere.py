"""Fault 31: cancellation at every point of everything: no backend is left over, none in a transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace._io import transport
from tests.watching import until_in_flight

if TYPE_CHECKING:
    from tests.fixtures import Connect, Gate, MakePool
    from tests.secure import Secure
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=31)

AGAIN = "again whenever it waits"
MOMENTS = ["while it waits", "as it is woken", AGAIN]
PATIENCE = 10.0
STEPS = 60
"""More suspensions than anything here has."""


class Cancelled:
    """Awaits something in the current task, and has the task cancelled at the `step`-th suspension.

    "while it waits" cancels before what it waits for has happened, "as it is woken" after that, in the same turn of
    the loop, and "again whenever it waits" once more at each further suspension, as anyio's scopes do. `reached` says
    whether there was such a suspension at all.
    """

    def __init__(self, awaitable: Awaitable[Any], step: int, moment: str) -> None:
        self._awaitable = awaitable
        self._step = step
        self._moment = moment
        self.reached = False

    def __await__(self) -> Generator[Any, None, Any]:
        task = asyncio.current_task()
        assert task is not None
        inner = self._awaitable.__await__()
        number = 0
        send: Callable[[], Any] = lambda: inner.send(None) if hasattr(inner, "send") else next(inner)  # noqa: E731
        while True:
            try:
                waited_for = send()
            except StopIteration as done:
                return done.value
            if number == self._step or (self._moment == AGAIN and self.reached):
                self.reached = True
                if self._moment == "as it is woken" and waited_for is not None:
                    cancel_once_done(task, waited_for)
                else:
                    task.cancel()
            number += 1
            try:
                yield waited_for
            except BaseException as error:
                thrown = error
                send = lambda: inner.throw(thrown)  # noqa: E731, B023
            else:
                send = lambda: inner.send(None) if hasattr(inner, "send") else next(inner)  # noqa: E731


def cancel_once_done(task: asyncio.Task[Any], waited_for: Any) -> None:
    """Cancel a task once what it waits for has come, ahead of its being woken: this looks in every turn of the loop.

    A callback of what it waits for would not do, because a reply of headrace takes only one, the task's own.
    """
    if waited_for.done():
        task.cancel()
    elif not task.done():
        asyncio.get_running_loop().call_soon(cancel_once_done, task, waited_for)


async def cancelled_at(step: int, moment: str, work: Coroutine[Any, Any, Any]) -> bool:
    """Run `work` in a task that is cancelled at that step; return whether it came so far."""
    cancelled = Cancelled(work, step, moment)

    async def run() -> None:
        await cancelled

    async with asyncio.timeout(PATIENCE):
        with pytest.MonkeyPatch.context() as patch:
            if moment == "as it is woken":
                # As if a task were running whenever something is read. Then the loop wakes tasks, in its next turn.
                patch.setattr(transport, "current_task", lambda loop: True)
            outcome = (await asyncio.gather(asyncio.create_task(run()), return_exceptions=True))[0]
    assert outcome is None or (cancelled.reached and isinstance(outcome, asyncio.CancelledError)), repr(outcome)
    return cancelled.reached


async def cancelled_at_every_step(moment: str, work: Callable[[], Coroutine[Any, Any, Any]]) -> int:
    """Run `work` again and again, cancelled one step later each time, until it gets through; return the steps."""
    for step in range(STEPS):
        if not await cancelled_at(step, moment, work()):
            return step
    raise AssertionError(f"still not through after {STEPS} steps")


class Watch:
    """Counts the backends of a database, of which `connections` are the test's own."""

    def __init__(self, server: Cluster, database: str | None, connections: int) -> None:
        self._server = server
        self._database = database
        self._baseline = connections

    def beside(self, connections: int) -> Watch:
        """The same, now that the test has so many connections."""
        return Watch(self._server, self._database, connections)

    async def is_back(self) -> None:
        """Wait until there are no others than the test's own, none of them in a transaction.

        The event loop goes on meanwhile: what is cancelled on the server is by a task of the driver's.
        """
        async with asyncio.timeout(PATIENCE):
            while not self._is_idle():
                await asyncio.sleep(0.01)

    def _is_idle(self) -> bool:
        found = self._server.backends(self._database)
        return len(found) == self._baseline and not any("transaction" in (each.state or "") for each in found)


@pytest.fixture
async def watch(server: Cluster, database: str) -> Watch:
    watch = Watch(server, database, 0)
    # The backends of the test before may still be on their way out.
    await watch.is_back()
    return watch


@pytest.fixture
async def table(server: Cluster, database: str) -> AsyncIterator[str]:
    server.sql("CREATE TABLE IF NOT EXISTS kept (a int)", database=database)
    yield "kept"
    server.sql("DROP TABLE kept", database=database)


every_moment = pytest.mark.parametrize("moment", MOMENTS)


@every_moment
async def test_connect(connect_kwargs: dict[str, Any], watch: Watch, moment: str) -> None:
    async def work() -> None:
        await (await headrace.connect(**connect_kwargs)).close()

    assert await cancelled_at_every_step(moment, work) > 3
    await watch.is_back()


@every_moment
async def test_connect_with_tls_and_scram(tls: Secure, moment: str) -> None:
    watch = Watch(tls.cluster, None, 0)

    async def work() -> None:
        await (await headrace.connect(**tls.to("scram"), ssl="verify-full", sslrootcert=str(tls.pki.root))).close()

    assert await cancelled_at_every_step(moment, work) >= 5
    await watch.is_back()


@every_moment
@pytest.mark.parametrize("mode", ["named", "unnamed"])
async def test_transaction(connect: Connect, table: str, watch: Watch, moment: str, mode: Any) -> None:
    """BEGIN, a statement, a savepoint, COMMIT: after each cancellation the next user finds no transaction."""
    connection = await connect(statement_mode=mode)
    watch = watch.beside(1)

    async def work() -> None:
        async with connection.transaction():
            await connection.execute(f"INSERT INTO {table} VALUES ($1)", 1)
            async with connection.transaction():
                await connection.execute(f"INSERT INTO {table} VALUES (2)")

    steps = await cancelled_at_every_step(moment, work)
    assert steps >= (6 if mode == "unnamed" else 3)
    assert not connection.is_closed()
    async with connection.transaction():
        # All or nothing, each time.
        assert await connection.fetchval(
            f"SELECT count(*) FILTER (WHERE a = 1) = count(*) FILTER (WHERE a = 2) FROM {table}"
        )
    await watch.is_back()


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_the_end_of_a_transaction_that_waits_to_be_sent(
    connect: Connect, table: str, gate: Gate, watch: Watch, end: str
) -> None:
    """Who gives up a COMMIT in the queue has still asked for it: dropped, it would leave the transaction open."""
    gate.close()
    connection = await connect(max_pipeline=1)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(f"INSERT INTO {table} VALUES (1)")
    running = asyncio.create_task(connection.execute(gate.query))
    await until_in_flight(connection)
    ending = asyncio.create_task(getattr(transaction, end)())
    await asyncio.sleep(0)
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    gate.open()
    await running
    found = await connection.fetchval(f"SELECT count(*) FROM {table}")
    assert not connection.is_in_transaction()
    assert found == (1 if end == "commit" else 0)
    await connection.execute(f"TRUNCATE {table}")
    await connection.close()
    await watch.is_back()


@every_moment
async def test_cursor(connect: Connect, watch: Watch, moment: str) -> None:
    connection = await connect()
    watch = watch.beside(1)

    async def work() -> None:
        async with connection.transaction():
            seen = [row[0] async for row in connection.cursor("SELECT generate_series(1, 6)", prefetch=2)]
            assert seen == [1, 2, 3, 4, 5, 6]

    assert await cancelled_at_every_step(moment, work) >= 5
    assert await connection.fetchval("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0
    await watch.is_back()


@every_moment
async def test_executemany(connect: Connect, table: str, watch: Watch, moment: str) -> None:
    """A batch that is still being sent when it is cancelled is kept whole or not at all."""
    connection = await connect()
    watch = watch.beside(1)
    size = 30_000

    async def work() -> None:
        await connection.executemany(f"INSERT INTO {table} VALUES ($1)", ((i,) for i in range(size)))

    assert await cancelled_at_every_step(moment, work) >= 1
    assert await connection.fetchval(f"SELECT count(*) FROM {table}") % size == 0
    await watch.is_back()


@every_moment
@pytest.mark.parametrize("size", [3, 30_000])
@pytest.mark.parametrize("streamed", [False, True])
async def test_executemany_in_a_transaction_of_its_own(
    connect: Connect, table: str, watch: Watch, moment: str, size: int, streamed: bool
) -> None:
    """BEGIN and COMMIT travel with the batch: whatever was sent of it is committed whole or rolled back."""
    connection = await connect()
    watch = watch.beside(1)

    async def elements() -> AsyncIterator[tuple[int]]:
        for i in range(size):
            if i % 5000 == 0:
                await asyncio.sleep(0)
            yield (i,)

    async def work() -> None:
        args: Any = elements() if streamed else ((i,) for i in range(size))
        await connection.executemany(f"INSERT INTO {table} VALUES ($1)", args, transaction=True)

    # The replies to the batch and to COMMIT mostly come together.
    assert await cancelled_at_every_step(moment, work) >= 1
    assert not connection.is_closed()
    assert await connection.fetchval(f"SELECT count(*) FROM {table}") % size == 0
    assert not connection.is_in_transaction()
    await watch.is_back()


@every_moment
async def test_copy_in(connect: Connect, table: str, watch: Watch, moment: str) -> None:
    connection = await connect()
    watch = watch.beside(1)
    size = 30_000

    async def records() -> AsyncIterator[tuple[int]]:
        for i in range(size):
            if i % 5000 == 0:
                await asyncio.sleep(0)
            yield (i,)

    async def work() -> None:
        await connection.copy_records_to_table(table, records=records())

    assert await cancelled_at_every_step(moment, work) >= 3
    if connection.is_closed():
        connection = await connect()
    assert await connection.fetchval(f"SELECT count(*) FROM {table}") % size == 0
    await watch.is_back()


@every_moment
async def test_copy_out(connect: Connect, watch: Watch, moment: str) -> None:
    connection = await connect()
    watch = watch.beside(1)

    async def write(data: bytes) -> None:
        await asyncio.sleep(0)

    async def work() -> None:
        await connection.copy_from_query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)", output=write)

    assert await cancelled_at_every_step(moment, work) >= 3
    assert not connection.is_closed()
    assert await connection.fetchval("SELECT 1") == 1
    await watch.is_back()


@every_moment
@pytest.mark.parametrize("in_block", [False, True])
async def test_stream(connect: Connect, watch: Watch, moment: str, in_block: bool) -> None:
    connection = await connect()
    watch = watch.beside(1)

    async def work() -> None:
        query = "SELECT repeat('x', 1000) FROM generate_series(1, 1000)"
        if in_block:
            async with connection.transaction(), connection.stream(query, prefetch=200) as rows:
                async for _ in rows:
                    pass
        else:
            left = 1000
            async for _ in connection.stream(query):
                left -= 1
                if left % 250 == 0:
                    await asyncio.sleep(0)

    assert await cancelled_at_every_step(moment, work) >= 3
    assert not connection.is_closed()
    assert await connection.fetchval("SELECT 1") == 1
    await watch.is_back()


@every_moment
async def test_stream_of_a_pool(pool: MakePool, watch: Watch, moment: str) -> None:
    made = await pool(min_size=1, max_size=1)
    await made.fetchval("SELECT 1")
    watch = watch.beside(1)

    async def work() -> None:
        async for _ in made.stream("SELECT repeat('x', 1000) FROM generate_series(1, 1000)"):
            pass

    assert await cancelled_at_every_step(moment, work) >= 3
    assert await made.fetchval("SELECT 1") == 1
    await watch.is_back()


@every_moment
async def test_listen(connect: Connect, watch: Watch, moment: str) -> None:
    """A cancelled LISTEN or UNLISTEN leaves nothing behind that hears what nobody listens to any more."""
    connection = await connect()
    watch = watch.beside(1)
    heard: list[str] = []

    def hear(connection: headrace.Connection, pid: int, channel: str, payload: str) -> None:
        heard.append(payload)

    async def work() -> None:
        try:
            await connection.add_listener("c", hear)
            await connection.execute("NOTIFY c, 'x'")
        finally:
            await connection.remove_listener("c", hear)

    assert await cancelled_at_every_step(moment, work) >= 2
    await connection.fetchval("SELECT 1")
    assert await connection.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
    await watch.is_back()


@every_moment
async def test_acquire_and_release(connect_kwargs: dict[str, Any], watch: Watch, moment: str) -> None:
    """Whichever step of a pool's life is cancelled, every connection comes back to it and then to the server."""
    async with headrace.create_pool(**connect_kwargs, min_size=1, max_size=2) as pool:

        async def work() -> None:
            async with pool.acquire() as one, pool.acquire() as two:
                await one.execute("BEGIN; SET work_mem = '1234kB'")
                await two.fetchval("SELECT 1")
            await pool.execute("SET work_mem = '1234kB'")
            assert await pool.fetchval("SHOW work_mem") != "1234kB"

        assert await cancelled_at_every_step(moment, work) >= 4
        assert await asyncio.gather(*(pool.fetchval("SHOW work_mem") for _ in range(4))) == ["4MB"] * 4
        async with asyncio.timeout(PATIENCE), pool.acquire(), pool.acquire():
            assert pool.get_size() == 2
    await watch.is_back()


@every_moment
async def test_acquire_in_line(connect_kwargs: dict[str, Any], watch: Watch, moment: str) -> None:
    """Two waiters for one connection, one of them cancelled at every step: the other is always served."""
    async with headrace.create_pool(**connect_kwargs, min_size=1, max_size=1) as pool:

        async def other() -> None:
            async with pool.acquire() as connection:
                await connection.fetchval("SELECT 1")

        async def work() -> None:
            async with asyncio.TaskGroup() as others:
                others.create_task(other())
                await asyncio.sleep(0)
                async with pool.acquire() as connection:
                    others.create_task(other())
                    await connection.fetchval("SELECT 1")

        assert await cancelled_at_every_step(moment, work) >= 3
        async with asyncio.timeout(PATIENCE):
            await other()
            await pool.fetchval("SELECT 1")
        assert pool.get_size() == pool.get_idle_size() == 1
    await watch.is_back()


@every_moment
async def test_opening_and_closing_a_pool(connect_kwargs: dict[str, Any], watch: Watch, moment: str) -> None:
    async def work() -> None:
        async with headrace.create_pool(**connect_kwargs, min_size=2, max_size=2) as pool:
            await asyncio.gather(*(pool.fetchval("SELECT 1") for _ in range(2)))

    assert await cancelled_at_every_step(moment, work) >= 5
    await watch.is_back()


async def ask(connection: headrace.Connection) -> None:
    """What the callbacks of a pool do: wait for the server."""
    await connection.fetchval("SELECT 1")


async def cleanse(connection: headrace.Connection) -> None:
    """What a callback for the reset has to do: it stands in for the connection's own."""
    await connection.execute(connection.get_reset_query())


@every_moment
async def test_setup_and_reset(connect_kwargs: dict[str, Any], watch: Watch, moment: str) -> None:
    """A lease that is given up while it is prepared, or cleaned up, is over: the pool has its room back."""
    async with headrace.create_pool(**connect_kwargs, min_size=1, max_size=1, setup=ask, reset=cleanse) as pool:

        async def work() -> None:
            async with pool.acquire() as connection:
                await connection.execute("SET work_mem = '1234kB'")

        for step in range(STEPS):
            # A connection that was dropped is replaced; the next turn does not begin with waiting for it.
            async with asyncio.timeout(PATIENCE):
                while pool.get_idle_size() < 1:
                    await asyncio.sleep(0)
            if not await cancelled_at(step, moment, work()):
                break
        assert step >= 3
        # Cancelled in the block, and again in the callback for the reset, its connection is dropped as well.
        assert pool.stats().closed == {"setup_failed": 1, "reset_failed": 2 if moment == AGAIN else 1}
        async with asyncio.timeout(PATIENCE), pool.acquire() as connection:
            assert await connection.fetchval("SHOW work_mem") == "4MB"
    await watch.is_back()


@every_moment
async def test_init(connect_kwargs: dict[str, Any], watch: Watch, moment: str) -> None:
    async def work() -> None:
        async with headrace.create_pool(**connect_kwargs, min_size=2, max_size=2, init=ask):
            pass

    assert await cancelled_at_every_step(moment, work) >= 3
    await watch.is_back()


@every_moment
async def test_closing_while_a_query_runs(connect: Connect, watch: Watch, moment: str) -> None:
    """Closing cancels what runs on the server. Where closing is cut short itself, that is still done."""
    for step in range(STEPS):
        connection = await connect()
        running = asyncio.create_task(connection.execute("SELECT pg_sleep(600)"))
        await until_in_flight(connection)
        reached = await cancelled_at(step, moment, connection.close())
        assert isinstance((await asyncio.gather(running, return_exceptions=True))[0], headrace.PostgresError)
        if not reached:
            break
    assert step >= 1
    await watch.is_back()
