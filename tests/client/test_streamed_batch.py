"""executemany() and fetchmany() with arguments from asynchronous iterables."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

import headrace
from headrace import sql

PATIENCE = 20.0
"""Seconds after which a test takes something for hanging."""

INSERT = "INSERT INTO t VALUES ($1, $2)"
LONG = "x" * 1000
"""So long that 200 elements are more than two chunks."""
MANY = 2000


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    await conn.execute("CREATE TEMP TABLE t (a int CHECK (a <> -1), b text)")
    return conn


class Elements:
    """Elements that come one by one; notes how many were taken and whether the generator was closed."""

    def __init__(self, count: int, *, after: Callable[[], Any] | None = None) -> None:
        self.count = count
        self.after = after
        self.taken = 0
        self.closed = False

    async def __aiter__(self) -> AsyncGenerator[tuple[int, str], None]:
        try:
            for i in range(self.count):
                self.taken += 1
                yield i, LONG
                if i % 10 == 0:
                    await asyncio.sleep(0)
            if self.after is not None:
                result = self.after()
                if result is not None:
                    await result
        finally:
            self.closed = True


async def count(conn: headrace.Connection) -> Any:
    return await conn.fetchval("SELECT count(*) FROM t")


@pytest.mark.parametrize("number", [0, 1, 3, MANY])
async def test_all_elements_are_executed(conn: headrace.Connection, number: int) -> None:
    elements = Elements(number)
    async with asyncio.timeout(PATIENCE):
        assert await conn.executemany(INSERT, elements) is None  # type: ignore[func-returns-value]
    assert await count(conn) == number
    assert elements.closed


async def test_rows_of_all_executions(conn: headrace.Connection) -> None:
    async with asyncio.timeout(PATIENCE):
        rows = await conn.fetchmany("SELECT $1::int + 1 AS n, length($2)", Elements(MANY))
        assert [row["n"] for row in rows] == list(range(1, MANY + 1))
        assert await conn.fetchmany("SELECT $1::int, $2::text", Elements(0)) == []


async def test_prepared_statements(conn: headrace.Connection) -> None:
    statement = await conn.prepare(INSERT + " RETURNING a")
    async with asyncio.timeout(PATIENCE):
        assert [a for (a,) in await statement.fetchmany(Elements(MANY))] == list(range(MANY))
        assert statement.get_statusmsg() == "INSERT 0 1"
        await statement.executemany(Elements(3))
    assert await count(conn) == MANY + 3


async def test_named_parameters(conn: headrace.Connection) -> None:
    async def elements() -> AsyncIterator[dict[str, Any]]:
        yield {"a": 1, "b": "x"}
        yield {"b": "y", "a": 2}

    async def bad() -> AsyncIterator[dict[str, Any]]:
        yield {"a": 1, "b": "x"}
        yield {"a": 2}

    await conn.executemany(sql("INSERT INTO t VALUES (:a, :b)"), elements())
    with pytest.raises(headrace.ArgumentError, match="element #1"):
        await conn.executemany(sql("INSERT INTO t VALUES (:a, :b)"), bad())
    assert await conn.fetch("TABLE t") == [(1, "x"), (2, "y")]


@pytest.mark.parametrize("number", [0, 3, MANY])
async def test_an_exception_of_the_source_undoes_all_and_is_raised_as_it_is(
    conn: headrace.Connection, number: int
) -> None:
    error = LookupError("the source has failed")

    def fail() -> None:
        raise error

    elements = Elements(number, after=fail)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(LookupError) as caught:
            await conn.executemany(INSERT, elements)
        assert caught.value is error
        assert await count(conn) == 0


@pytest.mark.parametrize("position", [0, 3, MANY])
async def test_a_bad_element_undoes_all_and_closes_the_source(conn: headrace.Connection, position: int) -> None:
    closed = False

    async def elements() -> AsyncIterator[tuple[Any, str]]:
        nonlocal closed
        try:
            for i in range(position):
                yield i, LONG
            yield "no number", LONG
            raise AssertionError("nothing more is taken")
        finally:
            closed = True

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.ArgumentError, match=f"element #{position} "):
            await conn.executemany(INSERT, elements())
        assert closed
        assert await count(conn) == 0


async def test_an_error_in_the_first_chunk_leaves_a_transaction_usable(conn: headrace.Connection) -> None:
    async with conn.transaction():
        await conn.execute(INSERT, 1, "kept")
        with pytest.raises(headrace.ArgumentError):
            await conn.executemany(INSERT, _of((2, "x"), ("no number", "y")))
    assert await count(conn) == 1


async def test_a_later_error_fails_the_transaction_and_is_its_cause(conn: headrace.Connection) -> None:
    error = LookupError("the source has failed")

    def fail() -> None:
        raise error

    transaction = conn.transaction()
    await transaction.start()
    with pytest.raises(LookupError):
        await conn.executemany(INSERT, Elements(MANY, after=fail))
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        await conn.fetchval("SELECT 1")
    assert caught.value.__cause__ is error
    await transaction.rollback()


async def test_an_error_of_the_server_interrupts_a_source_that_waits(conn: headrace.Connection) -> None:
    stuck = asyncio.Event()
    cancelled = False

    async def elements() -> AsyncIterator[tuple[int, str]]:
        nonlocal cancelled
        try:
            yield -1, LONG
            for i in range(200):
                yield i, LONG
            await stuck.wait()
        except (asyncio.CancelledError, GeneratorExit):
            # It is closed if the error comes before it waits.
            cancelled = True
            raise

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.CheckViolationError):
            await conn.executemany(INSERT, elements())
        assert cancelled
        assert await count(conn) == 0
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()


async def test_cancelled_while_the_source_waits(conn: headrace.Connection) -> None:
    for number in (0, 3, MANY):
        reached = asyncio.Event()

        async def wait(reached: asyncio.Event = reached) -> None:
            reached.set()
            await asyncio.Event().wait()

        elements = Elements(number, after=wait)
        task = asyncio.create_task(conn.executemany(INSERT, elements))
        async with asyncio.timeout(PATIENCE):
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert elements.closed
            assert await count(conn) == 0


async def test_a_time_out_covers_the_waits_for_the_source(conn: headrace.Connection) -> None:
    for number in (0, MANY):
        elements = Elements(number, after=asyncio.Event().wait)
        with pytest.raises(TimeoutError):
            await conn.executemany(INSERT, elements, timeout=1)
        assert elements.closed
        async with asyncio.timeout(PATIENCE):
            assert await count(conn) == 0


async def test_calls_of_other_tasks_wait_for_the_end(conn: headrace.Connection) -> None:
    proceed = asyncio.Event()
    reached = asyncio.Event()

    async def wait() -> None:
        reached.set()
        await proceed.wait()

    batch = asyncio.create_task(conn.executemany(INSERT, Elements(MANY, after=wait)))
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
        other = asyncio.create_task(count(conn))
        done, _ = await asyncio.wait([other], timeout=0.05)
        assert not done
        proceed.set()
        assert await other == MANY
        await batch


async def test_before_the_first_chunk_is_full_others_use_the_connection(conn: headrace.Connection) -> None:
    proceed = asyncio.Event()
    batch = asyncio.create_task(conn.executemany(INSERT, Elements(3, after=proceed.wait)))
    async with asyncio.timeout(PATIENCE):
        for _ in range(3):
            assert await count(conn) == 0
        proceed.set()
        await batch
        assert await count(conn) == 3


@pytest.mark.parametrize("number", [0, MANY])
async def test_a_source_that_uses_the_connection_itself_gets_an_error(conn: headrace.Connection, number: int) -> None:
    async def ask() -> None:
        with pytest.raises(headrace.InterfaceError, match="is reading its arguments from the code that asks for it"):
            await conn.fetchval("SELECT 1")
        async with asyncio.TaskGroup() as group:
            task = group.create_task(_error_of(conn))
        assert isinstance(task.result(), headrace.InterfaceError)
        with pytest.raises(headrace.InterfaceError):
            async for _ in conn.copy_out("SELECT 1"):
                pass

    async with asyncio.timeout(PATIENCE):
        await conn.executemany(INSERT, Elements(number, after=ask))
        assert await count(conn) == number


async def test_a_source_may_use_another_connection(conn: headrace.Connection, connect: Any) -> None:
    other = await connect()

    async def elements() -> AsyncIterator[tuple[int, str]]:
        async with other.transaction():
            async for row in other.cursor("SELECT i, repeat('x', 1000) FROM generate_series(1, 500) AS i"):
                yield row

    async with asyncio.timeout(PATIENCE):
        await conn.executemany(INSERT, elements())
    assert await count(conn) == 500
    assert not other.is_in_transaction()


async def test_a_source_uses_the_connection_again_when_it_is_closed(conn: headrace.Connection) -> None:
    async def elements() -> AsyncIterator[tuple[Any, str]]:
        try:
            for i in range(MANY):
                yield i, LONG
            yield "no number", LONG
        finally:
            assert await conn.fetchval("SELECT 1") == 1

    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.ArgumentError):
            await conn.executemany(INSERT, elements())


async def test_two_at_once(conn: headrace.Connection) -> None:
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*(conn.executemany(INSERT, Elements(MANY)) for _ in range(3)))
        assert await count(conn) == 3 * MANY


async def test_the_connection_is_lost_in_the_middle(conn: headrace.Connection, connect: Any) -> None:
    other = await connect()

    async def terminate() -> None:
        await other.execute("SELECT pg_terminate_backend($1)", conn.get_server_pid())
        await asyncio.Event().wait()

    elements = Elements(MANY, after=terminate)
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(headrace.ConnectionDoesNotExistError):
            await conn.executemany(INSERT, elements)
    assert elements.closed


async def test_a_call_that_is_thrown_away_in_another_context(conn: headrace.Connection) -> None:
    call = conn.executemany(INSERT, Elements(0, after=asyncio.Event().wait))
    call.send(None)
    contextvars.Context().run(call.close)
    async with asyncio.timeout(PATIENCE):
        assert await conn.fetchval("SELECT 1") == 1


async def test_a_closed_connection_takes_nothing(conn: headrace.Connection) -> None:
    await conn.close()
    elements = Elements(3)
    with pytest.raises(headrace.InterfaceError, match="connection is closed"):
        await conn.executemany(INSERT, elements)
    assert elements.taken == 0


async def test_a_statement_that_does_not_parse(conn: headrace.Connection) -> None:
    elements = Elements(3)
    with pytest.raises(headrace.PostgresSyntaxError):
        await conn.executemany("INSER", elements)
    assert elements.closed
    assert await conn.fetchval("SELECT 1") == 1


async def test_query_loggers_see_it_once(conn: headrace.Connection) -> None:
    records: list[headrace.connection.LoggedQuery] = []
    elements = Elements(3)
    with conn.query_logger(records.append):
        await conn.executemany(INSERT, elements)
        with pytest.raises(ZeroDivisionError):
            await conn.executemany(INSERT, Elements(3, after=lambda: 1 / 0))
    assert [(record.query, record.exception is None) for record in records] == [(INSERT, True), (INSERT, False)]
    assert records[0].args is elements


async def test_a_pool_takes_a_lease(conn: headrace.Connection, pool: Any, connect: Any) -> None:
    await conn.execute("CREATE TABLE shared (a int, b text)")
    try:
        async with contextlib.AsyncExitStack() as stack, asyncio.timeout(PATIENCE):
            two = await pool(min_size=2, max_size=2)
            stack.push_async_callback(two.close)

            async def elements() -> AsyncIterator[tuple[int, str]]:
                for i in range(MANY):
                    if i % 500 == 0:
                        assert await two.fetchval("SELECT 1") == 1
                    yield i, LONG

            await two.executemany("INSERT INTO shared VALUES ($1, $2)", elements())
            rows = await two.fetchmany("SELECT $1::int", _of((1,), (2,)))
            assert rows == [(1,), (2,)]
            with pytest.raises(ZeroDivisionError):
                await two.executemany("INSERT INTO shared VALUES ($1, $2)", Elements(MANY, after=lambda: 1 / 0))
            assert await two.fetchval("SELECT count(*) FROM shared") == MANY
    finally:
        await conn.execute("DROP TABLE shared")


async def _of(*elements: Any) -> AsyncIterator[Any]:
    for element in elements:
        yield element


async def _error_of(conn: headrace.Connection) -> BaseException | None:
    try:
        await conn.fetchval("SELECT 1")
    except headrace.InterfaceError as error:
        return error
    return None
