"""The pool: leases, sharing, isolation between users, the line of waiters, closing."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import pytest

import headrace
from tests.peers.proxy import Proxy
from tests.servers import Cluster


async def test_it_opens_min_size_and_grows_to_max_size(pool: Any) -> None:
    made = await pool(min_size=2, max_size=4)
    assert (made.get_size(), made.get_min_size(), made.get_max_size(), made.get_idle_size()) == (2, 2, 4, 2)
    leases = [await made.acquire() for _ in range(4)]
    assert (made.get_size(), made.get_idle_size()) == (4, 0)
    assert len({lease.get_server_pid() for lease in leases}) == 4
    for lease in leases:
        await made.release(lease)
    assert made.get_idle_size() == 4


async def test_a_lease_is_a_connection_until_it_is_given_back(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as lease:
        assert isinstance(lease, headrace.Connection)
        assert await lease.fetchval("SELECT 1") == 1
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        await lease.fetchval("SELECT 1")
    await made.release(lease)
    with pytest.raises(headrace.InterfaceError, match="not a member of this pool"):
        await made.release(object())


async def test_the_next_user_finds_the_session_pristine(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as lease:
        await lease.execute("SET work_mem = '1234kB'; SELECT pg_advisory_lock(7); LISTEN somewhere; BEGIN")
    async with made.acquire() as lease:
        assert not lease.is_in_transaction() or await lease.fetchval("SELECT 1") == 1
        assert await lease.fetchval("SHOW work_mem") != "1234kB"
        assert not lease.is_in_transaction()
        assert await lease.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
        assert await lease.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
        async with lease.transaction():
            pass


async def test_shared_methods(pool: Any) -> None:
    made = await pool(min_size=2, max_size=2)
    await made.execute("CREATE TABLE shared (a int)")
    await made.executemany("INSERT INTO shared VALUES ($1)", [(i,) for i in range(100)])
    assert await made.execute("INSERT INTO shared VALUES ($1)", 100) == "INSERT 0 1"
    assert await made.fetchval("SELECT count(*) FROM shared") == 101
    assert await made.fetchrow("SELECT min(a), max(a) FROM shared") == (0, 100)
    assert len(await made.fetch("SELECT * FROM shared")) == 101
    assert await made.fetchmany("SELECT $1::int", [(1,), (2,)]) == [(1,), (2,)]
    answers = await asyncio.gather(*(made.fetchval("SELECT a FROM shared WHERE a = $1", i) for i in range(100)))
    assert answers == list(range(100))
    assert made.get_idle_size() == 2


async def test_sharing_is_not_held_back_by_a_statement_being_prepared(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    await made.fetchval("SELECT 1")
    cold, warm = await asyncio.gather(made.fetchval("SELECT 'cold'"), made.fetchval("SELECT 1"))
    assert (cold, warm) == ("cold", 1)


@pytest.mark.parametrize(
    "query",
    ["SET work_mem = '1234kB'", "BEGIN", "LISTEN x", "CREATE TEMP TABLE t (a int)", "PREPARE p AS SELECT 1",
     "SELECT set_config('work_mem', '1234kB', false)", "SELECT pg_advisory_lock(9)", "DO $$ BEGIN END $$"],
)  # fmt: skip
async def test_what_changes_the_session_gets_a_lease_and_a_reset(pool: Any, query: str) -> None:
    made = await pool(min_size=1, max_size=1)
    await made.execute(query)
    assert await made.fetchval("SHOW work_mem") != "1234kB"
    assert await made.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0
    assert await made.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0
    async with made.acquire() as lease:
        assert not lease.is_in_transaction()


async def test_waiters_are_served_first_come_first_served(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    lease = await made.acquire()
    order: list[int] = []

    async def use(number: int) -> None:
        async with made.acquire():
            order.append(number)

    async def share(number: int) -> None:
        await made.fetchval("SELECT 1")
        order.append(number)

    tasks = [asyncio.create_task(use(i) if i % 2 else share(i)) for i in range(6)]
    await asyncio.sleep(0)
    await made.release(lease)
    await asyncio.gather(*tasks)
    assert [i for i in order if i % 2] == [1, 3, 5]
    assert [i for i in order if not i % 2] == [0, 2, 4]


async def test_acquire_times_out_and_leaves_the_line(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    lease = await made.acquire()
    with pytest.raises(TimeoutError):
        await made.acquire(timeout=0.01)
    waiting = asyncio.create_task(made.acquire().__aenter__())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await made.release(lease)
    async with made.acquire(timeout=5):
        pass


async def test_a_connection_given_back_as_its_waiter_is_cancelled_goes_to_the_next(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    lease = await made.acquire()
    first, second = (asyncio.create_task(made.fetchval("LISTEN somewhere")) for _ in range(2))
    while made.stats().waiting < 2:
        await asyncio.sleep(0)
    first.cancel()
    await made.release(lease)
    async with asyncio.timeout(10):
        assert await second is None
    with pytest.raises(asyncio.CancelledError):
        await first
    assert (made.stats().leased, made.stats().waiting, made.stats().closed) == (0, 0, {})


async def test_a_waiter_cancelled_as_it_is_served_loses_nothing(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    for turns in range(5):
        lease = await made.acquire()
        waiting = asyncio.create_task(made.acquire().__aenter__())
        await asyncio.sleep(0)
        await made.release(lease)
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        if not isinstance(outcome, BaseException):
            await made.release(outcome)
        async with made.acquire(timeout=5) as again:
            assert await again.fetchval("SELECT 1") == 1


async def test_setup_init_and_reset_callbacks(pool: Any) -> None:
    calls: list[str] = []

    async def init(connection: headrace.Connection) -> None:
        calls.append("init")
        await connection.execute("SELECT 1")

    async def setup(connection: headrace.Connection) -> None:
        calls.append("setup")
        await connection.execute("SET work_mem = '1234kB'")

    async def reset(connection: headrace.Connection) -> None:
        calls.append("reset")

    made = await pool(min_size=1, max_size=1, init=init, setup=setup, reset=reset)
    assert await made.fetchval("SHOW work_mem") == "1234kB"
    async with made.acquire() as lease:
        assert await lease.fetchval("SHOW work_mem") == "1234kB"
    assert calls == ["init", "setup", "reset", "setup", "reset"]


async def test_a_setup_that_fails_loses_no_room(pool: Any) -> None:
    async def setup(connection: headrace.Connection) -> None:
        raise RuntimeError("not today")

    made = await pool(min_size=1, max_size=1, setup=setup)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="not today"):
            await made.acquire(timeout=5)


async def test_a_backend_that_dies_is_replaced(pool: Any, conn: headrace.Connection) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as lease:
        pid = lease.get_server_pid()
        await conn.execute("SELECT pg_terminate_backend($1)", pid)
        with pytest.raises(
            (headrace.AdminShutdownError, headrace.ConnectionDoesNotExistError, headrace.InterfaceError)
        ):
            await lease.fetchval("SELECT pg_sleep(600)")
    assert await made.fetchval("SELECT pg_backend_pid()") != pid


async def test_expire_connections(pool: Any) -> None:
    made = await pool(min_size=2, max_size=2)
    lease = await made.acquire()
    before = lease.get_server_pid()
    await made.expire_connections()
    await made.release(lease)
    async with made.acquire() as lease:
        assert lease.get_server_pid() != before


async def test_max_queries(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1, max_queries=3)
    pids = set()
    for _ in range(8):
        async with made.acquire() as lease:
            pids.add(await lease.fetchval("SELECT pg_backend_pid()"))
    assert len(pids) > 1


async def test_close_waits_for_leases_and_queries(connect_kwargs: dict[str, Any]) -> None:
    made = await headrace.create_pool(min_size=2, max_size=2, **connect_kwargs)
    lease = await made.acquire()
    slow = asyncio.create_task(made.fetchval("SELECT 5 FROM pg_sleep(0.05)"))
    await asyncio.sleep(0)
    closing = asyncio.create_task(made.close())
    await asyncio.sleep(0)
    assert made.is_closing()
    with pytest.raises(headrace.InterfaceError, match="pool is closing"):
        await made.acquire()
    assert await lease.fetchval("SELECT 1") == 1
    assert not closing.done()
    await made.release(lease)
    await closing
    assert await slow == 5
    with pytest.raises(headrace.InterfaceError, match="pool is closed"):
        await made.fetch("SELECT 1")


async def test_terminate_fails_everybody(connect_kwargs: dict[str, Any]) -> None:
    made = await headrace.create_pool(min_size=1, max_size=1, **connect_kwargs)
    lease = await made.acquire()
    running = asyncio.create_task(lease.fetch("SELECT pg_sleep(600)"))
    waiting = asyncio.create_task(made.acquire().__aenter__())
    await asyncio.sleep(0)
    made.terminate()
    outcomes = await asyncio.gather(running, waiting, return_exceptions=True)
    assert all(isinstance(outcome, (headrace.InterfaceError, headrace.PostgresError)) for outcome in outcomes)


async def test_terminate_fails_a_waiter_that_has_just_been_served(connect_kwargs: dict[str, Any]) -> None:
    made = await headrace.create_pool(min_size=1, max_size=1, **connect_kwargs)
    lease = await made.acquire()
    waiting = asyncio.create_task(made.acquire().__aenter__())
    await asyncio.sleep(0)
    await made.release(lease)
    made.terminate()
    async with asyncio.timeout(60):
        with pytest.raises(headrace.InterfaceError, match="pool is closed"):
            await waiting


@pytest.mark.parametrize("closes", [False, True])
async def test_an_end_of_the_pool_fails_who_waits_for_a_ping(connect_kwargs: dict[str, Any], closes: bool) -> None:
    made = await headrace.create_pool(min_size=1, max_size=1, **connect_kwargs)
    made._scheduler.ping_after = 0.0
    waiting = asyncio.create_task(made.acquire().__aenter__())
    await asyncio.sleep(0)
    assert made.stats().leased == 1
    if closes:
        closing = asyncio.create_task(made.close())
        await asyncio.sleep(0)
        next(iter(made._scheduler.connections.values())).connection.terminate()
        await closing
    else:
        made.terminate()
    async with asyncio.timeout(60):
        with pytest.raises(headrace.InterfaceError, match="pool is clos"):
            await waiting


async def test_close_waits_for_calls_on_a_connection_whose_settings_are_about_to_be_compared(
    connect_kwargs: dict[str, Any],
) -> None:
    """They are not moved to a queue that nobody serves any more."""
    made = await headrace.create_pool(min_size=1, max_size=1, pipeline_budget=10, **connect_kwargs)
    query = "SELECT length($1::text)"
    assert await made.fetchval(query, "") == 0
    # More than may be in flight, so some are not sent.
    calls = [asyncio.create_task(made.fetchval(query, "x" * 1_500_000)) for _ in range(4)]
    await asyncio.sleep(0)
    pooled = next(iter(made._scheduler.connections.values()))
    assert pooled.work.count == 4
    closing = asyncio.create_task(made.close())
    pooled.driver.parameter("TimeZone", "Europe/Paris")
    async with asyncio.timeout(60):
        assert await asyncio.gather(*calls) == [1_500_000] * 4
        await closing


class Elements(list[Any]):
    """Arguments that can be referred to weakly."""


async def test_a_batch_that_fails_is_freed_at_once(pool: Any) -> None:
    """It is no garbage that only the collector finds."""
    made = await pool(min_size=1, max_size=1)
    elements = Elements([(0,)])
    reference = weakref.ref(elements)
    gc.disable()
    try:
        # pytest.raises() would keep the error, and its traceback the frames.
        with suppress(headrace.DivisionByZeroError):
            await made.executemany("SELECT 1 / $1::int4", elements)
        del elements
        # The turn in which the call has ended holds it.
        await asyncio.sleep(0)
        assert reference() is None
    finally:
        gc.enable()


async def test_a_call_that_is_cancelled_as_it_is_served_leaves_no_timer(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    lease = await made.acquire()
    argument = Elements([1])
    reference = weakref.ref(argument)
    waiting = asyncio.create_task(made.fetch("SELECT $1::int4[]", argument, timeout=3600))
    del argument
    await asyncio.sleep(0)
    waiting.cancel()
    await made.release(lease)
    with suppress(asyncio.CancelledError):
        await waiting
    del waiting
    await asyncio.sleep(0)
    gc.collect()
    assert reference() is None


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"max_size": 0}, "max_size"), ({"min_size": -1}, "min_size"), ({"min_size": 5, "max_size": 2}, "greater than"),
        ({"max_queries": 0}, "max_queries"), ({"max_inactive_connection_lifetime": -1}, "max_inactive"),
        ({"pipeline_budget": -0.001}, "pipeline_budget is expected to be a number of seconds, 0 to turn"),
        ({"pipeline_budget": "5ms"}, "pipeline_budget is expected to be a number of seconds"),
        ({"max_pipeline": 0}, "max_pipeline is expected to be greater than zero, got 0"),
    ],
)  # fmt: skip
def test_sizes_that_make_no_sense(kwargs: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        headrace.create_pool("postgresql://nowhere", **kwargs)


async def test_a_pool_that_is_not_open(connect_kwargs: dict[str, Any]) -> None:
    made = headrace.create_pool(min_size=0, **connect_kwargs)
    with pytest.raises(headrace.InterfaceError, match="not initialized"):
        await made.fetch("SELECT 1")


async def test_types_are_looked_up_once_for_all_connections(
    server: Cluster, pool: Any, conn: headrace.Connection
) -> None:
    await conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok')")
    async with Proxy(server.host(), server.port, record=True) as proxy:
        made = await pool(host=proxy.host, port=proxy.port, ssl="disable", min_size=2, max_size=2)
        async with made.acquire() as first, made.acquire() as second:
            assert await first.fetchval("SELECT 'ok'::mood") == "ok"
            assert await second.fetchval("SELECT 'sad'::mood") == "sad"
        assert sum(link.recorded("server").count(b"WITH RECURSIVE needed") for link in proxy.links) == 1
        await made.close()


async def test_no_server(pool: Any) -> None:
    with pytest.raises(OSError, match="cannot connect"):
        await headrace.create_pool(host="127.0.0.1", port=1, user="x", min_size=2)


async def test_init_size(pool: Any) -> None:
    shared = await pool(init_size=3, min_size=1, max_size=4)
    assert (shared.get_size(), shared.get_init_size(), shared.get_min_size()) == (3, 3, 1)
    assert (await pool(min_size=2)).get_init_size() == 2
    for sizes, message in (
        ({"init_size": 1, "min_size": 2}, "init_size is smaller than min_size: 1 < 2"),
        ({"init_size": 20, "min_size": 2}, "init_size is greater than max_size: 20 > 10"),
        ({"init_size": -1, "min_size": 0}, "init_size is expected to be greater or equal to zero, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            headrace.create_pool(**sizes)


@pytest.mark.parametrize("options", [{"pipeline_budget": 0}, {"max_pipeline": 1}, {"repeat_reads": False}])
async def test_pipelining_can_be_turned_off(pool: Any, options: dict[str, Any]) -> None:
    made = await pool(min_size=2, max_size=2, **options)
    assert await asyncio.gather(*(made.fetchval("SELECT $1::int", i) for i in range(200))) == list(range(200))


async def test_writes_are_pipelined_if_that_is_asked_for(pool: Any) -> None:
    made = await pool(min_size=2, max_size=2, pipeline_writes=True)
    await made.execute("CREATE TABLE written (a int)")
    await asyncio.gather(*(made.execute("INSERT INTO written VALUES ($1)", i) for i in range(200)))
    assert await made.fetchval("SELECT count(*) FROM written") == 200


async def test_a_lease_whose_holder_waits_for_the_pool_is_named(pool: Any, caplog: pytest.LogCaptureFixture) -> None:
    made = await pool(min_size=1, max_size=1)
    dispatcher = made._dispatcher
    with caplog.at_level(logging.WARNING, "headrace.pool"):
        async with made.acquire():
            waiting = asyncio.create_task(made.fetchval("SELECT 1"))
            async with asyncio.timeout(10):
                while not caplog.messages:
                    await asyncio.sleep(0.01)
            with pytest.raises(TimeoutError) as raised:
                await made.fetchval("SELECT 2", timeout=0.01)
        assert await waiting == 1
    (message,) = caplog.messages
    assert "callers wait while all connections are leased" in message
    for text in (message, raised.value.__notes__[0]):
        assert f"was acquired at {__file__}:" in text
    assert dispatcher.scheduler.waiting == 0


async def test_connections_that_were_being_opened_expire_too(pool: Any) -> None:
    """They may have reached the server that the pool is to leave."""
    began, going = asyncio.Event(), asyncio.Event()

    async def connect(*args: Any, **kwargs: Any) -> headrace.Connection:
        connection = await headrace.connect(*args, **kwargs)
        if first:
            began.set()
            await going.wait()
        return connection

    first: list[bool] = []
    made = await pool(min_size=1, max_size=2, connect=connect)
    first.append(True)
    lease = await made.acquire()
    waiting = asyncio.create_task(made.fetchval("SELECT pg_backend_pid()"))
    await began.wait()
    await made.expire_connections()
    first.clear()
    going.set()
    async with asyncio.timeout(10):
        assert await waiting
        while made.stats().closed.get("generation_retired", 0) < 1:
            await asyncio.sleep(0.005)
    await made.release(lease)


async def test_an_encoder_runs_in_the_context_of_its_caller(pool: Any) -> None:
    """Also if the call has to wait, and is encoded when the reply of another one is read."""
    tenant: ContextVar[int] = ContextVar("tenant")

    async def init(connection: headrace.Connection) -> None:
        await connection.set_type_codec(
            "int4", schema="pg_catalog", encoder=lambda value: str(value + tenant.get()), decoder=int
        )

    made = await pool(min_size=2, max_size=2, init=init)

    async def call(number: int, suffix: str) -> None:
        tenant.set(number)
        assert await made.fetchval(f"SELECT $1::int4{suffix}", 1000) == 1000 + number

    await asyncio.gather(*(call(i, "") for i in range(100)))
    await asyncio.gather(*(call(i, " FOR UPDATE" if i % 2 else "") for i in range(100)))


async def test_an_encoder_that_raises_cancelled_error_fails_its_own_call(pool: Any) -> None:
    def encode(value: int) -> str:
        if value == 50:
            raise asyncio.CancelledError
        return str(value)

    async def init(connection: headrace.Connection) -> None:
        await connection.set_type_codec("int4", schema="pg_catalog", encoder=encode, decoder=int)

    made = await pool(min_size=1, max_size=1, init=init)
    calls = (made.fetchval("SELECT $1::int4", i) for i in range(100))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [each for each in outcomes if isinstance(each, int)] == [i for i in range(100) if i != 50]
    assert made.stats().opened == 1
