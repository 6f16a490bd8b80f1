"""Leases on demand: plain reads share connections, and the first call that is anything else takes one."""

from __future__ import annotations

import asyncio
import gc
import inspect
import io
import logging
import sys
from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

import headrace
from headrace.pool.lazy import MEMBERS, LazyConnectionProxy

TABLE = """
    CREATE TABLE item (id int PRIMARY KEY, name text);
    INSERT INTO item SELECT i, 'item ' || i FROM generate_series(1, 100) i
"""
NAME = "SELECT name FROM item WHERE id = $1"


@pytest.fixture
async def lazy(pool: Any) -> Any:
    made = await pool(min_size=2, max_size=2, lazy_acquire=True)
    await made.execute(f"DROP TABLE IF EXISTS item; {TABLE}")
    return made


def taken(pool: headrace.Pool) -> int:
    return pool.stats().leased


async def test_plain_reads_take_no_connection(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        assert await connection.fetchval(NAME, 1) == "item 1"
        assert await connection.fetchrow(NAME, 2) == ("item 2",)
        assert await connection.fetch(query="SELECT id FROM item WHERE id < 3 ORDER BY id") == [(1,), (2,)]
        assert await connection.fetchval("SELECT 1, 2", column=1) == 2
        assert await connection.fetchval(headrace.sql("SELECT :n::int", n=7)) == 7
        assert await connection.execute("SELECT 1") == "SELECT 1"
        assert taken(lazy) == 0
        assert connection._con is None


async def test_more_callers_than_connections_are_inside_at_once(lazy: Any) -> None:
    inside = 0
    most = 0
    everybody = asyncio.Event()

    async def look_up(number: int) -> str:
        nonlocal inside, most
        async with lazy.acquire() as connection:
            inside += 1
            most = max(most, inside)
            if inside == 100:
                everybody.set()
            await everybody.wait()
            name: str = await connection.fetchval(NAME, number)
            return name

    names = await asyncio.gather(*(look_up(number) for number in range(1, 101)))
    assert names == [f"item {number}" for number in range(1, 101)]
    assert most == 100


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("execute", ("UPDATE item SET name = 'new' WHERE id = 1",)),
        ("execute", ("SET work_mem = '1234kB'",)),
        ("execute", ("CREATE TEMP TABLE scratch (a int)",)),
        ("fetchval", ("INSERT INTO item VALUES (101, 'x') RETURNING id",)),
        ("fetchval", ("SELECT pg_backend_pid()",)),
        ("fetchval", ("SELECT current_setting('work_mem')",)),
        ("fetch", ("SELECT * FROM pg_cursors",)),
        ("fetch", ("SELECT id FROM item WHERE id = 1 FOR UPDATE",)),
        ("fetchval", ("SELECT pg_advisory_lock(1)",)),
        ("executemany", ("INSERT INTO item VALUES ($1, $2)", [(102, "a"), (103, "b")])),
        ("prepare", ("SELECT 1",)),
        ("add_listener", ("channel", print)),
        ("reload_schema_state", ()),
    ],
)
async def test_any_other_call_takes_one_and_the_proxy_keeps_it(lazy: Any, method: str, args: tuple[Any, ...]) -> None:
    async with lazy.acquire() as connection:
        await getattr(connection, method)(*args)
        assert taken(lazy) == 1
        pid = connection.get_server_pid()
        assert await connection.fetchval("SELECT pg_backend_pid()") == pid
        assert await connection.fetchval(NAME, 2) == "item 2"
        assert taken(lazy) == 1
        if method == "add_listener":
            await connection.remove_listener("channel", print)
    assert taken(lazy) == 0


async def test_state_of_the_session_lasts_until_the_release(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        assert await connection.fetchval("SELECT 1") == 1
        await connection.execute("CREATE SEQUENCE IF NOT EXISTS numbers; SELECT nextval('numbers')")
        assert await connection.fetchval("SELECT lastval()") == await connection.fetchval("SELECT currval('numbers')")
        await connection.execute("SET work_mem = '1234kB'")
        assert await connection.fetchval("SHOW work_mem") == "1234kB"
    async with lazy.acquire() as connection:
        assert await connection.fetchval("SELECT current_setting('work_mem')") != "1234kB"


async def test_a_transaction_takes_one_at_its_start(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        transaction = connection.transaction()
        assert not connection.is_in_transaction()
        assert taken(lazy) == 0
        await transaction.start()
        assert connection.is_in_transaction()
        assert taken(lazy) == 1
        await connection.execute("DELETE FROM item")
        await transaction.rollback()
        assert await connection.fetchval("SELECT count(*) FROM item") == 100


async def test_a_transaction_block_with_savepoints_and_a_cursor(lazy: Any) -> None:
    async with lazy.acquire() as connection, connection.transaction(isolation="serializable"):
        async with connection.transaction():
            await connection.execute("UPDATE item SET name = 'x' WHERE id = 1")
        assert [row["id"] async for row in connection.cursor("SELECT id FROM item ORDER BY id LIMIT 3")] == [1, 2, 3]
        cursor = await connection.cursor("SELECT id FROM item ORDER BY id")
        assert await cursor.fetch(2) == [(1,), (2,)]
    async with lazy.acquire() as connection:
        assert await connection.fetchval(NAME, 1) == "x"


async def test_a_cursor_may_be_made_before_its_transaction(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        cursor = connection.cursor("SELECT id FROM item ORDER BY id LIMIT 2")
        with pytest.raises(headrace.NoActiveSQLTransactionError):
            await cursor
        async with connection.transaction():
            assert [row["id"] async for row in cursor] == [1, 2]


async def test_copy_takes_one(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        output = io.BytesIO()
        assert await connection.copy_from_query(NAME, 1, output=output.write) == "COPY 1"
        assert output.getvalue() == b"item 1\n"
        assert taken(lazy) == 1
    async with lazy.acquire() as connection:
        assert [row["id"] async for row in connection.copy_out("SELECT id FROM item WHERE id < $1", 3)] == [1, 2]
        assert taken(lazy) == 1
    async with lazy.acquire() as connection, connection.copy_in("item", columns=["id", "name"]) as copy:
        await copy.write_row((200, "two hundred"))
    assert await lazy.fetchval(NAME, 200) == "two hundred"


async def test_queries_for_each_element_take_one(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        names = connection.fetchval_each(NAME, [(1,), (2,)])
        assert taken(lazy) == 0
        assert [name async for name in names] == ["item 1", "item 2"]
        assert taken(lazy) == 1
    async with lazy.acquire() as connection:
        insert = "INSERT INTO item VALUES ($1, 'x') RETURNING id"
        assert [row async for row in connection.fetchrow_each(insert, [(401,), (402,)])] == [(401,), (402,)]
        assert taken(lazy) == 1
        assert [rows async for rows in connection.fetch_each(NAME, [(401,)])] == [[("x",)]]


async def test_a_loop_over_elements_may_write_on_the_same_lease(pool: Any) -> None:
    """The elements do not wait for the pool, whose only connection the lease holds."""
    lazy = await pool(min_size=1, max_size=1, lazy_acquire=True)
    await lazy.execute(f"DROP TABLE IF EXISTS item; {TABLE}")
    async with lazy.acquire() as connection:
        keys = [(n % 100 + 1,) for n in range(5_000)]
        found = []
        async for name in connection.fetchval_each(NAME, keys, window=100):
            found.append(name)
            if len(found) % 1_000 == 1:
                await connection.execute("INSERT INTO item VALUES ($1, 'new')", 1_000 + len(found))
        assert found == [f"item {key}" for (key,) in keys]


async def test_elements_see_the_transaction_and_the_settings_of_their_lease(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        names = connection.fetchval_each(NAME, [(1,), (2,)])
        async with connection.transaction():
            await connection.execute("UPDATE item SET name = 'changed' WHERE id = 1")
            assert [name async for name in names] == ["changed", "item 2"]
    async with lazy.acquire() as connection:
        names = connection.fetchval_each(NAME, [(1,)])
        await connection.execute("CREATE TEMP TABLE item AS SELECT 1 AS id, 'temporary' AS name")
        assert [name async for name in names] == ["temporary"]
        await connection.execute("DROP TABLE pg_temp.item")


async def test_a_loader_reads_on_the_shared_connections_and_then_in_the_transaction(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        items = headrace.Loader(connection, "SELECT * FROM item WHERE id = ANY($1)", key="id")
        assert await items.load_many([2, 1]) == [(2, "item 2"), (1, "item 1")]
        assert taken(lazy) == 0
        async with connection.transaction():
            await connection.execute("UPDATE item SET name = 'changed' WHERE id = 1")
            assert await items.load(1) == (1, "changed")
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        await items.load(1)


async def test_calls_at_the_same_time_keep_their_order(lazy: Any) -> None:
    """The read that came first is shared. Those behind it run on the connection, after it."""
    async with lazy.acquire() as connection:
        before, _, after = await asyncio.gather(
            connection.fetchval(NAME, 1),
            connection.execute("UPDATE item SET name = 'changed' WHERE id = 1"),
            connection.fetchval(NAME, 1),
        )
        assert (before, after) == ("item 1", "changed")
        assert taken(lazy) == 1


async def test_a_write_waits_for_the_read_before_it(lazy: Any) -> None:
    async with lazy.acquire() as blocker, blocker.transaction():
        await blocker.execute("LOCK TABLE item")
        async with asyncio.TaskGroup() as group:
            connection = await lazy.acquire()
            reading = group.create_task(connection.fetchval(NAME, 1))
            await asyncio.sleep(0)
            writing = group.create_task(connection.execute("CREATE TABLE IF NOT EXISTS other (a int)"))
            await asyncio.wait([reading, writing], timeout=0.05)
            assert not writing.done()
            reading.cancel()
            assert await writing == "CREATE TABLE"
    assert reading.cancelled()
    await lazy.release(connection)


async def test_calls_that_meet_while_one_is_taken_share_it(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        pids = await asyncio.gather(*(connection.fetchval("SELECT pg_backend_pid()") for _ in range(5)))
        assert set(pids) == {connection.get_server_pid()}
        assert taken(lazy) == 1


async def test_it_is_released_like_any_other(lazy: Any) -> None:
    unused = await lazy.acquire()
    await lazy.release(unused)
    await lazy.release(unused)
    used = await lazy.acquire()
    await used.execute("SET work_mem = '1234kB'")
    await lazy.release(used)
    assert lazy.get_idle_size() == 2
    for connection in (unused, used):
        with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
            await connection.fetchval("SELECT 1")
        assert not hasattr(connection, "nothing")


async def test_one_that_is_released_while_it_waits_takes_nothing(lazy: Any) -> None:
    first, second, third = [await lazy.acquire() for _ in range(3)]
    for connection in (first, second):
        await connection.execute("SET work_mem = '1234kB'")
    waiting = asyncio.create_task(third.execute("SET work_mem = '2345kB'"))
    await asyncio.sleep(0)
    await lazy.release(third)
    await lazy.release(first)
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        await waiting
    await lazy.release(second)
    assert taken(lazy) == 0
    assert lazy.get_idle_size() == 2


async def test_the_time_limit_is_for_the_call_that_takes_one(lazy: Any) -> None:
    held = [await lazy.acquire() for _ in range(2)]
    for connection in held:
        await connection.execute("SET work_mem = '1234kB'")
    async with lazy.acquire(timeout=0.01) as connection:
        with pytest.raises(TimeoutError) as error:
            await connection.execute("DELETE FROM item")
        assert any("are leased" in note for note in error.value.__notes__)
        with pytest.raises(TimeoutError):
            await connection.execute("DELETE FROM item", timeout=5)
    async with lazy.acquire() as connection:
        with pytest.raises(TimeoutError):
            await connection.execute("DELETE FROM item", timeout=0.01)
    for connection in held:
        await lazy.release(connection)
    assert await lazy.fetchval("SELECT count(*) FROM item") == 100


async def test_a_cancelled_wait_takes_nothing(lazy: Any) -> None:
    held = [await lazy.acquire() for _ in range(2)]
    for connection in held:
        await connection.execute("SET work_mem = '1234kB'")
    async with lazy.acquire() as connection:
        waiting = asyncio.create_task(connection.execute("DELETE FROM item"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        for each in held:
            await lazy.release(each)
        assert await connection.fetchval("SELECT pg_backend_pid()") > 0
    assert await lazy.fetchval("SELECT count(*) FROM item") == 100


async def test_members_that_need_no_reply_have_an_answer_without_a_connection(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        assert isinstance(connection, headrace.Connection)
        assert not connection.is_closed()
        assert not connection.is_in_transaction()
        assert connection.get_server_version().major >= 15
        assert connection.get_settings().server_encoding == "UTF8"
        assert "pg_advisory_unlock_all" in connection.get_reset_query()
        assert "no connection taken" in repr(connection)
        await connection.reset()
        await connection.remove_listener("nowhere", print)
        with pytest.raises(headrace.InterfaceError, match="no connection has been taken"):
            connection.get_server_pid()
        with pytest.raises(headrace.InterfaceError, match="no connection has been taken"):
            _ = connection._driver
        assert taken(lazy) == 0
        # The hint of the error, followed.
        pid = await connection.fetchval("SELECT pg_backend_pid()")
        assert connection.get_server_pid() == pid


def test_every_member_of_a_connection_is_either_awaited_or_has_an_answer() -> None:
    passes = inspect.iscoroutinefunction if sys.version_info >= (3, 12) else asyncio.iscoroutinefunction
    for name in dir(headrace.Connection):
        member = getattr(headrace.Connection, name)
        if not name.startswith("_") and callable(member):
            assert name in MEMBERS or inspect.iscoroutinefunction(member), name
            assert name in vars(LazyConnectionProxy)
            assert passes(member) == passes(getattr(LazyConnectionProxy, name)), name


@pytest.mark.parametrize("end", ["close", "terminate"])
async def test_one_that_is_closed_before_it_takes_a_connection(lazy: Any, end: str) -> None:
    async with lazy.acquire() as connection:
        result = getattr(connection, end)()
        if inspect.isawaitable(result):
            await result
        assert connection.is_closed()
        for call in (connection.fetchval("SELECT 1"), connection.execute("DELETE FROM item")):
            with pytest.raises(headrace.InterfaceError, match="connection is closed"):
                await call
    assert lazy.get_size() == 2


async def test_a_logger_sees_every_call_from_then_on(lazy: Any) -> None:
    seen: list[str] = []
    async with lazy.acquire() as connection:
        with connection.query_logger(lambda record: seen.append(record.query)):
            await connection.fetchval("SELECT 1")
            await connection.fetchval("SELECT 2")
        await connection.fetchval("SELECT 3")
    assert seen == ["SELECT 1", "SELECT 2"]


async def test_listeners_that_are_added_before(lazy: Any) -> None:
    messages: list[str] = []
    ended: list[Any] = []

    def note(_: Any, message: headrace.PostgresLogMessage) -> None:
        messages.append(message.message or "")

    async with lazy.acquire() as connection:
        connection.add_log_listener(note)
        connection.add_termination_listener(ended.append)
        await connection.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        assert messages == ["hello"]
        connection.remove_log_listener(note)
        connection.terminate()
        while not ended:
            await asyncio.sleep(0)
        assert ended == [connection]


async def test_a_method_that_is_replaced_gets_a_connection(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        with patch.object(headrace.Connection, "fetchval", AsyncMock(return_value="patched")):
            assert await connection.fetchval("SELECT 1") == "patched"
        assert taken(lazy) == 1


async def test_one_that_is_forgotten_is_taken_back_only_if_it_has_a_connection(
    lazy: Any, caplog: pytest.LogCaptureFixture
) -> None:
    unused = await lazy.acquire()
    assert await unused.fetchval("SELECT 1") == 1
    del unused
    used = await lazy.acquire()
    await used.execute("SET work_mem = '1234kB'")
    with caplog.at_level(logging.WARNING, "headrace.pool"):
        del used
        gc.collect()
        while taken(lazy):
            await asyncio.sleep(0)
    assert [record.getMessage().count("never given back") for record in caplog.records] == [1]
    assert f"{__name__.rpartition('.')[2]}.py" in caplog.text, "it names the call that took the connection"


async def test_errors_of_a_shared_read_leave_it_untaken(lazy: Any) -> None:
    async with lazy.acquire() as connection:
        with pytest.raises(headrace.DivisionByZeroError):
            await connection.fetchval("SELECT 1 / 0")
        with pytest.raises(headrace.ArgumentError):
            await connection.fetchval("SELECT $1::int", "x")
        with pytest.raises(TimeoutError):
            await connection.fetchval("SELECT pg_sleep(100)", timeout=0.01)
        assert taken(lazy) == 0
        assert await connection.fetchval("SELECT 1") == 1


async def test_a_pool_that_is_closed(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1, lazy_acquire=True)
    connection = await made.acquire()
    await made.close()
    assert connection.is_closed()
    with pytest.raises(headrace.InterfaceError, match="pool is closed"):
        await connection.fetchval("SELECT 1")
    with pytest.raises(headrace.InterfaceError, match="pool is closed"):
        await connection.execute("SET work_mem = '1MB'")
    with pytest.raises(headrace.InterfaceError, match="pool is closed"):
        await made.acquire()


async def test_the_pools_own_methods_take_leases_as_ever(lazy: Any) -> None:
    assert await lazy.execute("SET work_mem = '1MB'") == "SET"
    assert await lazy.copy_records_to_table("item", records=[(300, "x")]) == "COPY 1"
    assert taken(lazy) == 0


class Other(headrace.Connection):
    pass


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"setup": AsyncMock()}, "setup callback"),
        ({"reset": AsyncMock()}, "reset callback"),
        ({"connection_class": Other}, "connection_class"),
        ({"host": ["one", "two"]}, "several hosts"),
        ({"host": ["one", "two"], "target_session_attrs": "standby"}, "several hosts"),
    ],
)
def test_a_pool_refuses_it_if_reads_could_not_be_shared(options: dict[str, Any], text: str) -> None:
    with pytest.raises(headrace.InterfaceError, match=f"lazy_acquire cannot be combined with .*{text}"):
        headrace.create_pool(lazy_acquire=True, **options)
    headrace.create_pool(**options)


def test_several_hosts_of_one_role_and_a_bad_value() -> None:
    headrace.create_pool(lazy_acquire=True, host=["one", "two"], target_session_attrs="primary")
    with pytest.raises(ValueError, match="lazy_acquire is expected to be True or False"):
        headrace.create_pool(lazy_acquire="yes")  # type: ignore[arg-type]
