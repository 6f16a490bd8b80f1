"""Query loggers: what they are told, by whom, and what they cost."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

import headrace
from headrace import LoggedQuery


class Logged:
    """A query logger that keeps its records."""

    def __init__(self) -> None:
        self.records: list[LoggedQuery] = []

    def __call__(self, record: LoggedQuery) -> None:
        self.records.append(record)

    async def later(self, record: LoggedQuery) -> None:
        await asyncio.sleep(0)
        self.records.append(record)

    @property
    def queries(self) -> list[str]:
        return [record.query for record in self.records]

    def take(self) -> LoggedQuery:
        (record,) = self.records
        self.records.clear()
        return record


async def test_a_record_tells_all_of_a_query(conn: headrace.Connection, connect_kwargs: dict[str, Any]) -> None:
    logged = Logged()
    conn.add_query_logger(logged)
    assert await conn.fetchval("SELECT $1::int + $2::int", 1, 2, timeout=5) == 3
    record = logged.take()
    assert record.query == "SELECT $1::int + $2::int"
    assert record.args == (1, 2)
    assert record.timeout == 5
    assert 0 < record.elapsed < 5
    assert record.exception is None
    assert record.conn_addr == (connect_kwargs["host"], connect_kwargs["port"])
    assert record.conn_params.user == connect_kwargs["user"]
    assert record.conn_params.database == connect_kwargs["database"]


async def test_every_method_is_told_of(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    with conn.query_logger(logged := Logged()):
        await conn.execute("SELECT 1; SELECT 2")
        await conn.execute("SELECT $1::int", 3)
        await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
        await conn.fetchmany("SELECT $1::int", [(4,)])
        await conn.fetch("SELECT 5")
        await conn.fetchrow("SELECT 6")
        statement = await conn.prepare("SELECT 7")
        await statement.fetchval()
        async with conn.transaction():
            async for _ in conn.cursor("SELECT 8"):
                pass
        await conn.copy_to_table("t", source=b"9\n")
        await conn.copy_from_query("SELECT 10", output=io.BytesIO())
    told = {(record.query, tuple(record.args)) for record in logged.records}
    assert told >= {
        ("SELECT 1; SELECT 2", ()),
        ("SELECT $1::int", (3,)),
        ("INSERT INTO t VALUES ($1)", ((1,), (2,))),
        ("SELECT $1::int", ((4,),)),
        ("SELECT 5", ()),
        ("SELECT 6", ()),
        ("SELECT 7", ()),
        ("BEGIN", ()),
        ("SELECT 8", ()),
        ("COMMIT", ()),
        ('COPY "t" FROM STDIN', ()),
        ("COPY (\nSELECT 10\n) TO STDOUT", ()),
    }


async def test_errors_are_told_of(conn: headrace.Connection) -> None:
    logged = Logged()
    conn.add_query_logger(logged)
    with pytest.raises(headrace.DivisionByZeroError) as refused:
        await conn.fetch("SELECT 1/0")
    assert logged.take().exception is refused.value
    for _ in range(2):  # the statement is new, and known
        with pytest.raises(headrace.DataError) as unfit:
            await conn.fetch("SELECT $1::int", "x")
        record = logged.take()
        assert (record.exception, record.args) == (unfit.value, ("x",))
    with pytest.raises(TimeoutError):
        await conn.fetch("SELECT pg_sleep(60)", timeout=0.05)
    record = logged.take()
    assert isinstance(record.exception, TimeoutError)
    assert record.timeout == 0.05
    task = asyncio.create_task(conn.fetch("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(logged.take().exception, asyncio.CancelledError)

    def wrong(data: bytes) -> None:
        raise LookupError

    with pytest.raises(LookupError) as failed:
        await conn.copy_from_query("SELECT 1", output=wrong)
    assert logged.take().exception is failed.value


async def test_each_of_many_at_once_is_told_of(conn: headrace.Connection) -> None:
    logged = Logged()
    conn.add_query_logger(logged)
    await asyncio.gather(*(conn.fetchval("SELECT $1::int", i) for i in range(100)))
    assert sorted(record.args[0] for record in logged.records) == list(range(100))


async def test_several_loggers_and_their_removal(conn: headrace.Connection) -> None:
    first, second = Logged(), Logged()
    conn.add_query_logger(first)
    conn.add_query_logger(first)  # no more often than once
    with conn.query_logger(second):
        await conn.execute("SELECT 1")
    await conn.execute("SELECT 2")
    conn.remove_query_logger(first)
    conn.remove_query_logger(first)
    await conn.execute("SELECT 3")
    assert (first.queries, second.queries) == (["SELECT 1", "SELECT 2"], ["SELECT 1"])


async def test_a_coroutine_function_runs_as_a_task(conn: headrace.Connection) -> None:
    logged = Logged()
    conn.add_query_logger(logged.later)
    await conn.execute("SELECT 1")
    async with asyncio.timeout(10):
        while not logged.records:
            await asyncio.sleep(0)
    assert logged.queries == ["SELECT 1"]


async def test_only_slow_queries(conn: headrace.Connection) -> None:
    slow, slower = Logged(), Logged()
    conn.add_query_logger(slow, slower_than=0.2)
    conn.add_query_logger(slower, slower_than=3600)
    await conn.execute("SELECT pg_sleep(0.25)")
    assert "SELECT pg_sleep(0.25)" in slow.queries
    assert slower.queries == []
    conn.add_query_logger(slower, slower_than=0)  # in place of the former
    await conn.execute("SELECT 'fast'")
    assert slower.queries == ["SELECT 'fast'"]
    for wrong in (-1, "1", True, None):
        with pytest.raises(ValueError, match="slower_than is expected to be a number of seconds"):
            conn.add_query_logger(slow, slower_than=wrong)  # type: ignore[arg-type]


async def test_an_error_in_a_logger_is_none_of_the_query(conn: headrace.Connection) -> None:
    errors: asyncio.Queue[str] = asyncio.Queue()
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: errors.put_nowait(str(context["exception"])))

    def wrong(record: LoggedQuery) -> None:
        raise LookupError("plain")

    async def wrong_later(record: LoggedQuery) -> None:
        raise LookupError("coroutine")

    conn.add_query_logger(wrong)
    conn.add_query_logger(wrong_later)
    assert await conn.fetchval("SELECT 1") == 1
    assert {await asyncio.wait_for(errors.get(), 10) for _ in range(2)} == {"plain", "coroutine"}


async def test_loggers_set_by_init_see_what_a_pool_shares(pool: Any) -> None:
    logged = Logged()

    async def init(connection: headrace.Connection) -> None:
        connection.add_query_logger(logged)

    shared = await pool(min_size=2, max_size=2, init=init)
    assert await asyncio.gather(*(shared.fetchval("SELECT $1::int", i) for i in range(20))) == list(range(20))
    async with shared.acquire() as leased:
        await leased.execute("SELECT 'leased'")
    async with shared.acquire() as leased:
        await leased.execute("SELECT 'leased again'")
    queries = logged.queries
    assert queries.count("SELECT $1::int") == 20
    assert {"SELECT 'leased'", "SELECT 'leased again'"} < set(queries)


async def test_a_pools_loggers_see_how_each_shared_call_has_ended(pool: Any) -> None:
    logged = Logged()

    async def init(connection: headrace.Connection) -> None:
        connection.add_query_logger(logged)

    async def idle() -> None:
        """Wait until a call is sent at once, on a connection with a query logger."""
        await shared.execute("SELECT 'idle'")
        assert logged.take().query == "SELECT 'idle'"

    shared = await pool(min_size=1, max_size=1, init=init)
    assert await shared.execute("SELECT 1") == "SELECT 1"
    record = logged.take()
    assert (record.exception, record.timeout) == (None, None)
    with pytest.raises(headrace.DivisionByZeroError) as failed:
        await shared.fetchval("SELECT 1 / $1::int", 0, timeout=60)
    record = logged.take()
    assert record.exception is failed.value
    assert (record.args, record.timeout) == ((0,), 60)
    with pytest.raises(TimeoutError) as late:
        await shared.executemany("SELECT pg_sleep($1)", [(60,)], timeout=0.05)
    assert logged.take().exception is late.value
    await idle()
    task = asyncio.create_task(shared.fetchrow("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(logged.take().exception, asyncio.CancelledError)
    await idle()
    call = shared.fetchrow("SELECT pg_sleep(60)")
    call.send(None)
    call.close()
    assert isinstance(logged.take().exception, GeneratorExit)


async def test_without_a_logger_nothing_stands_between_the_caller_and_the_answer(conn: headrace.Connection) -> None:
    """The request itself is awaited, and not a coroutine around it."""
    request = conn._driver.simple_query("SELECT 1")
    assert conn._driver.reply(request, None) is request
    await request
    with conn.query_logger(Logged()):
        request = conn._driver.simple_query("SELECT 1")
        watched = conn._driver.reply(request, None)
        assert watched is not request
        await watched
    request = conn._driver.simple_query("SELECT 1")
    assert conn._driver.reply(request, None) is request
    await request


async def test_no_password_in_a_record(connect: Any) -> None:
    conn = await connect(password="s3cret-s3cret")
    logged = Logged()
    conn.add_query_logger(logged)
    await conn.execute("SELECT 1")
    assert "s3cret-s3cret" not in repr(logged.take())
