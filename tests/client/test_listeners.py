"""LISTEN and NOTIFY: listeners of a connection, of a lease, and pool.listen()."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace import Gap, Notification
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import MakePool

PATIENCE = 10.0
"""Seconds after which a test takes something for lost."""


class Heard:
    """A listener that keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    def __call__(self, *args: Any) -> None:
        self.calls.put_nowait(args)

    async def later(self, *args: Any) -> None:
        await asyncio.sleep(0)
        self.calls.put_nowait(args)

    async def next(self) -> tuple[Any, ...]:
        async with asyncio.timeout(PATIENCE):
            return await self.calls.get()

    async def payloads(self, count: int) -> list[str]:
        return [(await self.next())[3] for _ in range(count)]

    @property
    def silent(self) -> bool:
        return self.calls.empty()


@pytest.fixture
async def other(connect: Any) -> headrace.Connection:
    """Another connection, to notify from."""
    return await connect()  # type: ignore[no-any-return]


async def settle(conn: headrace.Connection) -> None:
    """Wait until the connection has got whatever was sent to it before now, and its listeners were called."""
    await conn.execute("SELECT 1")
    await asyncio.sleep(0)


# Listeners of a connection


async def test_a_listener_is_told_connection_backend_channel_and_payload(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    heard = Heard()
    await conn.add_listener("news", heard)
    await other.execute("NOTIFY news, 'first'")
    assert await heard.next() == (conn, other.get_server_pid(), "news", "first")
    await conn.execute("NOTIFY news")
    assert await heard.next() == (conn, conn.get_server_pid(), "news", "")


async def test_functions_and_coroutine_functions_of_every_kind(conn: headrace.Connection) -> None:
    heard = Heard()

    class WithCall:
        async def __call__(self, *args: Any) -> None:
            await heard.later(*args)

    for callback in (heard, heard.later, functools.partial(heard.later), WithCall()):
        await conn.add_listener("news", callback)
        await conn.execute("NOTIFY news, 'x'")
        assert (await heard.next())[3] == "x"
        await conn.remove_listener("news", callback)


async def test_several_listeners_and_channels(conn: headrace.Connection, other: headrace.Connection) -> None:
    first, second, third = Heard(), Heard(), Heard()
    await asyncio.gather(
        conn.add_listener("news", first),
        conn.add_listener("news", second),
        conn.add_listener("news", first),  # no more often than once
        conn.add_listener("weather", third),
    )
    assert {row[0] for row in await conn.fetch("SELECT pg_listening_channels()")} == {"news", "weather"}
    await other.execute("NOTIFY news, 'n'; NOTIFY weather, 'w'")
    assert await first.payloads(1) == await second.payloads(1) == ["n"]
    assert await third.payloads(1) == ["w"]
    await settle(conn)
    assert first.silent
    assert second.silent
    assert third.silent


async def test_the_last_listener_ends_the_listening(conn: headrace.Connection) -> None:
    first, second = Heard(), Heard()
    await conn.add_listener("news", first)
    await conn.add_listener("news", second)
    await conn.remove_listener("news", first)
    assert await conn.fetchval("SELECT pg_listening_channels()") == "news"
    await conn.execute("NOTIFY news, 'x'")
    assert await second.payloads(1) == ["x"]
    assert first.silent
    await conn.remove_listener("news", second)
    assert await conn.fetch("SELECT pg_listening_channels()") == []


async def test_removing_what_does_not_listen_does_nothing(conn: headrace.Connection) -> None:
    heard = Heard()
    await conn.remove_listener("news", heard)
    await conn.add_listener("news", heard)
    await conn.remove_listener("weather", heard)
    await conn.remove_listener("news", print)
    await conn.execute("NOTIFY news, 'x'")
    assert await heard.payloads(1) == ["x"]
    await conn.close()
    await conn.remove_listener("news", heard)


@pytest.mark.parametrize("channel", ["a b", 'qu"oted', "Upper", "'; DROP TABLE t; --", "ünïcödé", "x" * 63])
@pytest.mark.parametrize("strings", ["on", "off"])
async def test_any_name_is_a_channel(conn: headrace.Connection, channel: str, strings: str) -> None:
    await conn.execute(f"SET standard_conforming_strings = {strings}")
    heard = Heard()
    await conn.add_listener(channel, heard)
    await conn.fetch("SELECT pg_notify($1, 'x')", channel)
    assert (await heard.next())[2:] == (channel, "x")
    await conn.remove_listener(channel, heard)
    assert await conn.fetch("SELECT pg_listening_channels()") == []


@pytest.mark.parametrize(
    ("channel", "message"),
    [
        (5, "channel is expected to be a str, got int 5"),
        ("a\0b", "channel must not contain a NUL"),
        ("ü" * 32, "channel is expected to have at most 63 bytes, got 64"),
    ],
)
async def test_what_is_no_channel_is_refused(conn: headrace.Connection, channel: Any, message: str) -> None:
    with pytest.raises(headrace.InterfaceError, match=message):
        await conn.add_listener(channel, print)


async def test_what_is_no_callback_is_refused(conn: headrace.Connection) -> None:
    for add in (conn.add_log_listener, conn.add_termination_listener, conn.add_query_logger):
        with pytest.raises(headrace.InterfaceError, match="expected a callable or an `async def` function, got 5"):
            add(5)  # type: ignore[arg-type]
    with pytest.raises(headrace.InterfaceError, match="expected a callable"):
        await conn.add_listener("news", 5)  # type: ignore[arg-type]
    assert await conn.fetch("SELECT pg_listening_channels()") == []


async def test_a_listener_that_could_not_be_added_is_not_there(conn: headrace.Connection) -> None:
    heard = Heard()
    transaction = conn.transaction()
    await transaction.start()
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("SELECT 1/0")
    with pytest.raises(headrace.InFailedSQLTransactionError):
        await conn.add_listener("news", heard)
    await transaction.rollback()
    await conn.add_listener("news", heard)
    await conn.execute("NOTIFY news, 'x'")
    assert await heard.payloads(1) == ["x"]
    closed = conn
    await closed.close()
    with pytest.raises(headrace.InterfaceError, match="closed"):
        await closed.add_listener("news", heard)


async def test_inside_a_transaction_listening_begins_with_its_commit(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    heard = Heard()
    async with conn.transaction():
        await conn.add_listener("news", heard)
        await other.execute("NOTIFY news, 'too early'")
    await other.execute("NOTIFY news, 'in time'")
    assert await heard.payloads(1) == ["in time"]
    # One that was rolled back is told to the server again.
    with pytest.raises(LookupError):
        async with conn.transaction():
            await conn.add_listener("weather", heard)
            raise LookupError
    await conn.add_listener("weather", heard)
    await other.execute("NOTIFY weather, 'w'")
    assert await heard.payloads(1) == ["w"]


async def test_notifications_come_between_and_within_pipelined_replies(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    heard = Heard()
    await conn.add_listener("news", heard)
    results = await asyncio.gather(
        *(
            conn.fetchval("SELECT pg_notify('news', $1::text) IS NULL, $2::int", str(i), i, column=1)
            for i in range(300)
        ),
        *(other.execute(f"NOTIFY news, 'other {i}'") for i in range(300)),
    )
    assert results[:300] == list(range(300))
    payloads = await heard.payloads(600)
    assert [text for text in payloads if not text.startswith("other")] == [str(i) for i in range(300)]
    assert [text for text in payloads if text.startswith("other")] == [f"other {i}" for i in range(300)]


async def test_a_listener_may_use_its_connection(conn: headrace.Connection) -> None:
    answers: asyncio.Queue[str] = asyncio.Queue()

    async def answer(connection: headrace.Connection, pid: int, channel: str, payload: str) -> None:
        answers.put_nowait(await connection.fetchval("SELECT upper($1)", payload))
        await connection.remove_listener(channel, answer)

    await conn.add_listener("news", answer)
    await conn.execute("NOTIFY news, 'loud'")
    assert await asyncio.wait_for(answers.get(), PATIENCE) == "LOUD"
    assert await conn.fetch("SELECT pg_listening_channels()") == []


async def test_an_error_in_a_listener_goes_to_the_loops_handler(conn: headrace.Connection) -> None:
    errors: asyncio.Queue[BaseException] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.put_nowait(context["exception"]))
    heard = Heard()

    def wrong(*args: Any) -> None:
        raise LookupError("plain")

    async def wrong_later(*args: Any) -> None:
        raise LookupError("coroutine")

    for callback in (wrong, wrong_later, heard):
        await conn.add_listener("news", callback)
    await conn.execute("NOTIFY news, 'x'")
    assert await heard.payloads(1) == ["x"]
    found = {str(await asyncio.wait_for(errors.get(), PATIENCE)) for _ in range(2)}
    assert found == {"plain", "coroutine"}
    assert await conn.fetchval("SELECT 1") == 1


async def test_reset_ends_listening(conn: headrace.Connection) -> None:
    heard = Heard()
    await conn.add_listener("news", heard)
    conn.add_log_listener(heard)
    await conn.reset()
    await conn.execute("NOTIFY news; DO $$ BEGIN RAISE NOTICE 'n'; END $$")
    await settle(conn)
    assert heard.silent
    await conn.add_listener("news", heard)
    await conn.execute("NOTIFY news, 'again'")
    assert await heard.payloads(1) == ["again"]


# Log messages, and the end


async def test_log_listeners_are_told_of_notices(conn: headrace.Connection) -> None:
    heard, later = Heard(), Heard()
    conn.add_log_listener(heard)
    conn.add_log_listener(later.later)
    await conn.execute("DO $$ BEGIN RAISE WARNING 'look out' USING HINT = 'there', ERRCODE = '01007'; END $$")
    connection, message = await heard.next()
    assert connection is conn
    assert isinstance(message, headrace.PostgresLogMessage)
    assert isinstance(message, headrace.PrivilegeNotGranted)
    assert (message.severity, message.message, message.hint, message.sqlstate) == (
        "WARNING",
        "look out",
        "there",
        "01007",
    )
    assert await later.next() == (connection, message)
    conn.remove_log_listener(heard)
    conn.remove_log_listener(later.later)
    conn.remove_log_listener(print)
    await conn.execute("DO $$ BEGIN RAISE NOTICE 'x'; END $$")
    await settle(conn)
    assert heard.silent
    assert later.silent


@pytest.mark.parametrize("end", ["close", "terminate", "the server"])
async def test_termination_listeners_are_told_once(conn: headrace.Connection, server: Cluster, end: str) -> None:
    heard, removed = Heard(), Heard()
    conn.add_termination_listener(heard)
    conn.add_termination_listener(heard.later)
    conn.add_termination_listener(removed)
    conn.remove_termination_listener(removed)
    conn.remove_termination_listener(print)
    if end == "close":
        await conn.close()
    elif end == "terminate":
        conn.terminate()
    else:
        server.sql("SELECT pg_terminate_backend(%s)", conn.get_server_pid())
    assert await heard.next() == await heard.next() == (conn,)
    await conn.close()
    conn.terminate()
    await asyncio.sleep(0)
    assert heard.silent
    assert removed.silent


# Leases


async def test_during_a_lease_listeners_are_told_of_the_proxy(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    heard = Heard()
    async with shared.acquire() as leased:
        await leased.add_listener("news", heard)
        leased.add_log_listener(heard)
        await leased.execute("NOTIFY news, 'x'; DO $$ BEGIN RAISE NOTICE 'n'; END $$")
        assert {(await heard.next())[0], (await heard.next())[0]} == {leased}
        await leased.remove_listener("news", heard)
        leased.remove_log_listener(heard)


async def test_listeners_left_on_a_lease_are_removed_with_a_warning(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    heard = Heard()
    leased = await shared.acquire()
    await leased.add_listener("news", heard)
    await leased.add_listener("news", heard.later)
    leased.add_log_listener(heard)
    with (
        pytest.warns(headrace.InterfaceWarning, match="released to the pool but has 2 active notification listeners"),
        pytest.warns(headrace.InterfaceWarning, match="released to the pool but has 1 active log listener"),
    ):
        await shared.release(leased)
    async with shared.acquire() as leased:
        assert await leased.fetch("SELECT pg_listening_channels()") == []
        await leased.execute("NOTIFY news; DO $$ BEGIN RAISE NOTICE 'n'; END $$")
        await asyncio.sleep(0)
    assert heard.silent


async def test_what_init_adds_stays(pool: Any) -> None:
    heard = Heard()

    async def init(connection: headrace.Connection) -> None:
        connection.add_log_listener(heard)

    shared = await pool(min_size=1, max_size=1, init=init)
    for number in range(3):
        async with shared.acquire() as leased:
            await leased.execute(f"DO $$ BEGIN RAISE NOTICE '{number}'; END $$")
        assert (await heard.next())[1].message == str(number)


async def test_a_warning_made_an_error_does_not_lose_the_connection(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    with pytest.raises(headrace.InterfaceWarning):  # warnings are errors in these tests
        async with shared.acquire() as leased:
            await leased.add_listener("news", print)
    assert await asyncio.wait_for(shared.fetchval("SELECT 1"), PATIENCE) == 1
    assert shared.get_idle_size() == 1


# pool.listen()


@pytest.fixture
async def shared(pool: Any) -> headrace.Pool:
    """A pool of one connection."""
    return await pool(min_size=1, max_size=1)  # type: ignore[no-any-return]


async def notify(pool: headrace.Pool, channel: str, *payloads: str) -> None:
    for payload in payloads:
        await pool.execute("SELECT pg_notify($1, $2)", channel, payload)


async def upcoming(events: headrace.Listening) -> Notification | Gap | None:
    async with asyncio.timeout(PATIENCE):
        return await events.next()


async def test_events_come_in_order_and_take_no_connection_of_the_pool(shared: headrace.Pool) -> None:
    async with shared.listen("news", 'odd "name') as events:
        assert shared.get_size() == 1
        await notify(shared, "news", "1", "2")
        await notify(shared, 'odd "name', "3")
        found = [await upcoming(events) for _ in range(3)]
        pid = await shared.fetchval("SELECT pg_backend_pid()")
    assert found == [
        Notification("news", "1", pid),
        Notification("news", "2", pid),
        Notification('odd "name', "3", pid),
    ]
    assert await events.next() is None


async def test_an_iteration_by_itself_begins_and_ends_the_listening(
    shared: headrace.Pool, server: Cluster, database: str
) -> None:
    async def later() -> None:
        listening = "SELECT 1 FROM pg_stat_activity WHERE datname = %s AND query ILIKE 'LISTEN%%'"
        while not server.sql(listening, database):
            await asyncio.sleep(0.01)
        await notify(shared, "news", "x")

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        group.create_task(later())
        async for event in shared.listen("news"):
            assert isinstance(event, Notification)
            assert event.payload == "x"
            break
        while len(server.backends(database)) > 1:
            await asyncio.sleep(0.01)


async def test_a_lost_connection_leaves_a_gap(shared: headrace.Pool, server: Cluster, database: str) -> None:
    async with shared.listen("news") as events:
        await notify(shared, "news", "before")
        first = await upcoming(events)
        assert isinstance(first, Notification)
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND query ILIKE 'LISTEN%%'",
            database,
        )
        gap = await upcoming(events)
        assert isinstance(gap, Gap)
        assert (gap.reason, gap.missing) == ("connection lost", None)
        assert gap.seconds > 0
        assert isinstance(gap.error, headrace.AdminShutdownError)
        # From the gap on the server is listening again.
        await notify(shared, "news", "behind")
        behind = await upcoming(events)
        assert isinstance(behind, Notification)
        assert behind.payload == "behind"


async def test_what_came_before_the_loss_is_given_out_before_the_gap(
    shared: headrace.Pool, server: Cluster, database: str
) -> None:
    async with shared.listen("news") as events:
        # Of one transaction: the backend that listens passes them on together.
        await shared.execute("SELECT pg_notify('news', '1'), pg_notify('news', '2')")
        assert await upcoming(events)
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND query ILIKE 'LISTEN%%'",
            database,
        )
        kinds = [type(await upcoming(events)), type(await upcoming(events))]
    assert kinds == [Notification, Gap]


async def test_it_comes_back_when_the_server_does(own_server: Cluster, pool: Any) -> None:
    shared = await pool(dsn=own_server.dsn(), min_size=1, max_size=1)
    async with shared.listen("news") as events:
        own_server.stop()
        own_server.start()
        gap = await upcoming(events)
        assert isinstance(gap, Gap)
        own_server.sql("SELECT pg_notify('news', 'back')")
        event = await upcoming(events)
        assert isinstance(event, Notification)
        assert event.payload == "back"


async def test_a_full_queue_drops_the_oldest_and_says_how_many(shared: headrace.Pool) -> None:
    async with shared.listen("news", max_queue=3) as events:
        while True:
            await notify(shared, "news", *"12345")
            gap = await upcoming(events)
            if isinstance(gap, Gap):
                break
        assert gap.reason == "queue full"
        assert gap.missing is not None
        assert gap.missing > 0
        assert gap.error is None
        assert isinstance(await upcoming(events), Notification)


async def test_a_dead_connection_is_found_out(proxy: Any, pool: Any, connect_kwargs: dict[str, Any]) -> None:
    shared = await pool(**{**connect_kwargs, "host": proxy.host, "port": proxy.port}, min_size=0, max_size=1)
    async with shared.listen("news", heartbeat=0.2) as events:
        proxy.freeze()
        async with asyncio.timeout(PATIENCE):
            while "reconnecting" not in repr(events):
                await asyncio.sleep(0.01)
        proxy.thaw()
        gap = await upcoming(events)
        assert isinstance(gap, Gap)
        assert gap.reason == "connection lost"


async def test_it_ends_with_the_pool(pool: Any) -> None:
    for end in ("close", "terminate"):
        shared = await pool(min_size=1)

        async def consume(shared: headrace.Pool, ready: asyncio.Event) -> list[Any]:
            async with shared.listen("news") as events:
                ready.set()
                return [event async for event in events]

        ready = asyncio.Event()
        task = asyncio.create_task(consume(shared, ready))
        await ready.wait()
        if end == "close":
            await shared.close()
        else:
            shared.terminate()
        assert await asyncio.wait_for(task, PATIENCE) == []
        with pytest.raises(headrace.InterfaceError, match="pool is closed"):
            async with shared.listen("news"):
                pass


async def test_the_first_connection_fails_as_any_does(shared: headrace.Pool) -> None:
    shared.set_connect_args("postgresql://nobody@127.0.0.1:1/nowhere")
    with pytest.raises(OSError):
        async with shared.listen("news"):
            pass


async def test_wrong_arguments(shared: headrace.Pool) -> None:
    for channels, kwargs, message in (
        ((), {}, "channels are expected"),
        ((5,), {}, "a channel is expected to be a str, got int 5"),
        (("a",), {"max_queue": 0}, "max_queue is expected to be greater than zero, got 0"),
        (("a",), {"heartbeat": -1}, "heartbeat is expected to be a number of seconds or None, got -1"),
    ):
        with pytest.raises((headrace.InterfaceError, ValueError), match=message):
            shared.listen(*channels, **kwargs)
    async with shared.listen("a") as events:
        with pytest.raises(headrace.InterfaceError, match="cannot begin twice"):
            await events.__aenter__()
        task = asyncio.create_task(events.next())
        await asyncio.sleep(0)
        with pytest.raises(headrace.InterfaceError, match="another task is waiting"):
            await events.next()
        task.cancel()


class Unlucky(headrace.Connection):
    """A connection whose first one ends while it begins to listen."""

    made = 0

    async def add_listener(self, channel: str, callback: Any) -> None:
        await super().add_listener(channel, callback)
        Unlucky.made += 1
        if Unlucky.made == 1:
            self.terminate()


async def test_a_connection_that_ends_while_it_begins_to_listen_leaves_nothing_behind(pool: MakePool) -> None:
    Unlucky.made = 0
    made = await pool(min_size=1, max_size=1, connection_class=Unlucky)
    async with made.listen("news") as events:
        gap = await events.next()
        assert isinstance(gap, headrace.Gap)
    assert Unlucky.made == 2
    reference = weakref.ref(events)
    del events, gap
    gc.collect()
    assert reference() is None, "no timer of its heartbeat is left in the event loop"
