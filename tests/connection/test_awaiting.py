"""How tasks wait for their queries: woken in order, cancelled with their message, whatever kind of task they are."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from asyncio import tasks
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import headrace

PythonTask: Callable[..., asyncio.Task[Any]] = tasks._PyTask  # type: ignore[attr-defined]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_tasks_are_woken_in_the_order_of_the_replies(conn: headrace.Connection) -> None:
    order: list[int] = []

    async def ask(i: int) -> None:
        assert await conn.fetchval("SELECT $1::int", i) == i
        order.append(i)

    await asyncio.gather(*[ask(i) for i in range(500)])
    assert order == list(range(500))


async def test_a_task_goes_on_in_its_own_context(conn: headrace.Connection) -> None:
    name: contextvars.ContextVar[int] = contextvars.ContextVar("name")

    async def ask(i: int) -> int:
        name.set(i)
        await conn.fetchval("SELECT 1")
        return name.get()

    assert await asyncio.gather(*[ask(i) for i in range(20)]) == list(range(20))
    assert name.get(None) is None


async def test_arguments_of_a_batch_are_read_and_encoded_in_the_context_of_its_task(conn: headrace.Connection) -> None:
    """Also those that are sent when a reply is read, or when the socket has room again."""
    tenant: contextvars.ContextVar[int] = contextvars.ContextVar("tenant")
    await conn.set_type_codec("int4", schema="pg_catalog", encoder=lambda value: str(value + tenant.get()), decoder=int)

    async def run(number: int) -> set[tuple[int, int]]:
        tenant.set(number)
        args = ((1000, str(tenant.get()), "x" * 1000) for _ in range(500))
        rows = await conn.fetchmany("SELECT $1::int4, $2::text, $3::text", args)
        return {(row[0], int(row[1])) for row in rows}

    assert await asyncio.gather(*(run(i) for i in range(4))) == [{(1000 + i, i)} for i in range(4)]


async def test_the_message_of_a_cancellation_arrives(conn: headrace.Connection) -> None:
    call = asyncio.create_task(conn.fetchval("SELECT pg_sleep(600)"))
    await until(lambda: conn._driver.pending == 1)
    call.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await call
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_cancellation_holds_though_it_is_taken_back_at_once(conn: headrace.Connection) -> None:
    """As with any future: what waits is cancelled by then, and no row may be taken for None."""
    call = asyncio.create_task(conn.fetchval("SELECT pg_sleep(600)"))
    await until(lambda: conn._driver.pending == 1)
    call.cancel()
    call.uncancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await conn.fetchval("SELECT 1") == 1


async def test_cancelled_in_the_turn_of_the_reply(conn: headrace.Connection) -> None:
    """The reply has come and the task is about to go on: CancelledError, and no error that nobody sees."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    for query in ("SELECT 1", "SELECT 1/0"):
        call = asyncio.create_task(conn.fetchval(query))
        await until(lambda: conn._driver.pending == 1)
        # The replies are handled in the loop's select, their tasks one turn later: in between comes this one.
        await until(lambda: conn._driver.pending == 0)
        if not call.done():
            call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert call.cancelled() or call.exception() is not None or call.result() == 1
    del call
    gc.collect()
    assert complaints == []
    assert await conn.fetchval("SELECT 1") == 1


async def test_tasks_written_in_python(conn: headrace.Connection) -> None:
    """The documented protocol alone, none of the shortcuts of the compiled tasks."""
    call = PythonTask(conn.fetchval("SELECT 7"))
    assert await call == 7
    call = PythonTask(conn.fetchval("SELECT 1/0"))
    with pytest.raises(headrace.DivisionByZeroError):
        await call
    call = PythonTask(conn.fetchval("SELECT pg_sleep(600)"))
    await until(lambda: conn._driver.pending == 1)
    call.cancel("enough")
    with pytest.raises(asyncio.CancelledError, match="enough"):
        await call
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_value_of_any_kind_is_returned_as_it_is(conn: headrace.Connection) -> None:
    """Also those that would mean something else as the argument of StopIteration."""
    kinds: list[Any] = [(1, 2), StopIteration(3), ValueError("a value"), None, ()]
    await conn.set_type_codec(
        "point", encoder=str, decoder=lambda text: kinds[int(text[1:].split(",")[0])], schema="pg_catalog"
    )
    got = await asyncio.gather(*[conn.fetchval(f"SELECT point '({i},0)'") for i in range(len(kinds))])
    assert [type(value) for value in got] == [type(value) for value in kinds]
    assert got[0] == (1, 2)


async def test_wait_for_shield_and_timeout(conn: headrace.Connection) -> None:
    assert await asyncio.wait_for(conn.fetchval("SELECT 1"), 60) == 1
    assert await asyncio.shield(conn.fetchval("SELECT 2")) == 2
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await conn.fetchval("SELECT pg_sleep(600)")
    assert await conn.fetchval("SELECT 3") == 3


async def test_a_coroutine_closed_while_it_waits(conn: headrace.Connection) -> None:
    call = conn.fetchval("SELECT pg_sleep(600)")
    call.send(None)
    call.close()
    assert await conn.fetchval("SELECT 1") == 1


async def test_nothing_is_kept_of_a_query_that_is_done(conn: headrace.Connection) -> None:
    class Value(str):
        __slots__ = ("__weakref__",)

    await conn.set_type_codec("text", encoder=str, decoder=Value, schema="pg_catalog")
    value = weakref.ref(await conn.fetchval("SELECT 'x'::text"))
    assert value() is None


@pytest.fixture
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def test_an_exception_that_stops_the_loop_leaves_the_other_tasks_their_replies(
    own_loop: asyncio.AbstractEventLoop, server: Any
) -> None:
    async def ask(i: int) -> int:
        value: int = await connection.fetchval("SELECT $1::int", i)
        if value == 3:
            raise KeyboardInterrupt
        return value

    async def begin() -> list[asyncio.Task[int]]:
        await connection.fetchval("SELECT $1::int", 0)
        return [asyncio.create_task(ask(i)) for i in range(10)]

    connection = own_loop.run_until_complete(headrace.connect(server.dsn()))
    calls = own_loop.run_until_complete(begin())
    with pytest.raises(KeyboardInterrupt):
        own_loop.run_until_complete(asyncio.wait(calls))
    own_loop.run_until_complete(asyncio.wait(calls))
    others = calls[:3] + calls[4:]
    assert [call.result() for call in others] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    assert isinstance(calls[3].exception(), KeyboardInterrupt)
    own_loop.run_until_complete(connection.close())
