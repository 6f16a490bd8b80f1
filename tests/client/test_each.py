"""fetch_each(), fetchrow_each(), fetchval_each(): results in order, errors in their places, nothing left running."""

from __future__ import annotations

import asyncio
import gc
import itertools
import select
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import headrace
from headrace import LoggedQuery, sql
from tests.watching import PATIENCE, in_flight, until_in_flight

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

ECHO = "SELECT $1::int"
INVERSE = "SELECT 100 / $1::int"
SERIES = "SELECT i AS a, i * 2 AS b FROM generate_series(1, $1::int) AS i"
SLOW = "SELECT pg_sleep(100), $1::int"
STUCK = "SELECT $1::int FROM pg_sleep(CASE $1::int WHEN 1 THEN 100 ELSE 0 END)"

Queries = Any


def numbers(count: int) -> list[tuple[int]]:
    return [(i,) for i in range(count)]


async def taken(results: Any, count: int | None = None) -> list[Any]:
    """Take the next results, all of them if there is no count."""
    found = []
    if count == 0:
        return found
    async for result in results:
        found.append(result)
        if len(found) == count:
            break
    return found


@pytest.fixture(params=["connection", "pool"])
async def queries(request: pytest.FixtureRequest, connect: Connect, pool: MakePool) -> Queries:
    """A connection, and a pool of three: both have the methods."""
    return await (connect() if request.param == "connection" else pool(min_size=3, max_size=3))


async def is_usable(queries: Queries) -> None:
    """Check that nothing is under way any more, and that the next call works."""
    async with asyncio.timeout(PATIENCE):
        assert await queries.fetchval("SELECT 42") == 42
        if isinstance(queries, headrace.Pool):
            while queries.get_idle_size() < queries.get_size():
                await asyncio.sleep(0.001)
        else:
            while queries._driver.pending:
                await asyncio.sleep(0.001)


# -- results -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 3, 300, 5000])
async def test_the_results_are_in_the_order_of_the_elements(queries: Queries, count: int) -> None:
    assert await taken(queries.fetchval_each(ECHO, numbers(count))) == list(range(count))


async def test_each_method_gives_what_the_method_for_one_gives(queries: Queries) -> None:
    elements = [(2,), (0,), (1,)]
    assert await taken(queries.fetch_each(SERIES, elements)) == [await queries.fetch(SERIES, *e) for e in elements]
    assert await taken(queries.fetchrow_each(SERIES, elements)) == [(1, 2), None, (1, 2)]
    assert await taken(queries.fetchval_each(SERIES, elements)) == [1, None, 1]
    assert await taken(queries.fetchval_each(SERIES, elements, column=1)) == [2, None, 2]
    assert await taken(queries.fetchval_each(SERIES, elements, column="b")) == [2, None, 2]
    assert await taken(queries.fetchval_each("SELECT 5", [(), ()])) == [5, 5]


@dataclass
class Pair:
    a: int
    b: int


class Named(headrace.Record):
    pass


async def test_rows_become_what_was_asked_for(queries: Queries) -> None:
    assert await taken(queries.fetchrow_each(SERIES, [(1,), (0,)], row=Pair)) == [Pair(1, 2), None]
    assert await taken(queries.fetch_each(SERIES, [(2,), (0,)], row=Pair)) == [[Pair(1, 2), Pair(2, 4)], []]
    (row,) = await taken(queries.fetchrow_each(SERIES, [(1,)], record_class=Named))
    assert type(row) is Named
    with pytest.raises(headrace.InterfaceError, match="cannot become Pair"):
        await taken(queries.fetchrow_each(ECHO, numbers(2), row=Pair))
    with pytest.raises(headrace.InterfaceError):
        queries.fetchrow_each(SERIES, [(1,)], row=Pair, record_class=Named)
    await is_usable(queries)


async def test_named_parameters(queries: Queries) -> None:
    async def later() -> AsyncIterator[dict[str, int]]:
        for i in range(3):
            yield {"a": i, "b": 10}

    query = sql("SELECT :a::int + :b::int")
    assert await taken(queries.fetchval_each(query, [{"a": 1, "b": 2}, {"b": 0, "a": 7}])) == [3, 7]
    assert await taken(queries.fetchval_each(query, later())) == [10, 11, 12]
    results = queries.fetchval_each(query, [{"a": 1, "b": 2}, {"a": 1}])
    assert await anext(results) == 3
    with pytest.raises(headrace.ArgumentError, match="element #1"):
        await anext(results)
    with pytest.raises(headrace.InterfaceError, match="brings its arguments along"):
        queries.fetchval_each(sql("SELECT :a::int", a=1), [])
    assert await taken(queries.fetchval_each(sql("SELECT 5"), [()])) == [5]


async def test_anext_with_a_default_and_an_iterator_that_has_ended(queries: Queries) -> None:
    results = queries.fetchval_each(ECHO, numbers(1))
    assert aiter(results) is results
    assert await anext(results, "end") == 0
    assert await anext(results, "end") == "end"
    with pytest.raises(StopAsyncIteration):
        await anext(results)
    await results.aclose()


async def test_the_next_result_may_be_awaited_in_a_task_of_its_own(queries: Queries) -> None:
    results = queries.fetchval_each(ECHO, numbers(3))
    assert await asyncio.wait_for(anext(results), PATIENCE) == 0
    assert await asyncio.ensure_future(anext(results)) == 1
    assert await asyncio.gather(anext(results)) == [2]


# -- the source of the elements ------------------------------------------------------------------------------------


async def test_the_source_is_read_as_results_are_taken(queries: Queries) -> None:
    pulled = 0

    def endless() -> Iterator[tuple[int]]:
        nonlocal pulled
        for pulled in itertools.count():
            yield (pulled,)

    async with aclosing(queries.fetchval_each(ECHO, endless(), window=50)) as results:
        for i in range(1000):
            assert await anext(results) == i
            assert pulled - i <= 50 + 1
    await is_usable(queries)


async def test_an_endless_source_and_a_break(queries: Queries) -> None:
    async for value in queries.fetchval_each(ECHO, ((i,) for i in itertools.count())):
        if value == 5000:
            break
    await is_usable(queries)


async def test_nothing_is_sent_or_read_before_the_first_result_is_awaited(queries: Queries) -> None:
    def source() -> Iterator[tuple[int]]:
        raise AssertionError("read")
        yield (1,)

    results = queries.fetchval_each(ECHO, source())
    await asyncio.sleep(0)
    await results.aclose()
    assert await anext(results, None) is None


async def test_a_source_may_yield_one_list_again_and_again(queries: Queries) -> None:
    def reusing() -> Iterator[list[int]]:
        row = [0]
        for i in range(1000):
            row[0] = i
            yield row

    assert await taken(queries.fetchval_each(ECHO, reusing())) == list(range(1000))


@pytest.mark.parametrize("at", [0, 1, 2, 700])
async def test_a_source_that_raises_does_so_behind_the_results_of_its_elements(queries: Queries, at: int) -> None:
    def source() -> Iterator[tuple[int]]:
        yield from numbers(at)
        raise LookupError("source")

    results = queries.fetchval_each(ECHO, source(), return_errors=True)
    assert await taken(results, at) == list(range(at))
    with pytest.raises(LookupError, match="source"):
        await anext(results)
    assert await anext(results, "end") == "end"
    await is_usable(queries)


async def test_asynchronous_sources(queries: Queries) -> None:
    closed = False

    async def source(end: BaseException | None = None) -> AsyncIterator[tuple[int]]:
        nonlocal closed
        try:
            for i in range(1500):
                if i % 100 == 0:
                    await asyncio.sleep(0)
                yield (i,)
            if end is not None:
                raise end
        finally:
            closed = True

    assert await taken(queries.fetchval_each(ECHO, source())) == list(range(1500))
    for error in (LookupError("source"), asyncio.CancelledError("source")):
        results = queries.fetchval_each(ECHO, source(error))
        assert await taken(results, 1500) == list(range(1500))
        with pytest.raises(type(error), match="source"):
            await anext(results)
    closed = False
    async with aclosing(queries.fetchval_each(ECHO, source())) as results:
        assert await anext(results) == 0
    assert closed
    await is_usable(queries)


async def test_elements_are_asked_for_as_they_arrive(queries: Queries) -> None:
    """The result of one is there before the next one is."""
    arrivals: asyncio.Queue[int | None] = asyncio.Queue()

    async def source() -> AsyncIterator[tuple[int]]:
        while (i := await arrivals.get()) is not None:
            yield (i,)

    results = queries.fetchval_each(ECHO, source())
    for i in range(5):
        arrivals.put_nowait(i)
        assert await anext(results) == i
    arrivals.put_nowait(None)
    assert await anext(results, "end") == "end"


async def test_a_source_that_never_goes_on(queries: Queries) -> None:
    async def source() -> AsyncIterator[tuple[int]]:
        yield (1,)
        await asyncio.Event().wait()

    results = queries.fetchval_each(ECHO, source(), timeout=0.05)
    assert await anext(results) == 1
    with pytest.raises(TimeoutError, match="#1"):
        await anext(results)
    results = queries.fetchval_each(ECHO, source())
    assert await anext(results) == 1
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(results)
    await is_usable(queries)


@pytest.mark.parametrize("args", [5, None, "abc", b"abc", object()])
async def test_args_that_cannot_be_iterated(queries: Queries, args: Any) -> None:
    with pytest.raises(TypeError, match="args is expected to be an iterable .* got"):
        queries.fetchval_each(ECHO, args)


@pytest.mark.parametrize("element", [5, "abc", b"abc", {"a": 1}, {1}, None])
async def test_an_element_that_is_no_sequence(queries: Queries, element: Any) -> None:
    results = queries.fetchval_each(ECHO, [(0,), (1,), element, (3,)])
    assert await taken(results, 2) == [0, 1]
    with pytest.raises(headrace.ArgumentError, match="args element #2: expected a sequence, got"):
        await anext(results)
    await is_usable(queries)


@pytest.mark.parametrize("window", [0, -1, 1.5, "5", None, True])
async def test_a_window_that_is_no_number_of_elements(queries: Queries, window: Any) -> None:
    with pytest.raises(ValueError, match="window is expected to be a number of elements greater than zero"):
        queries.fetchval_each(ECHO, [], window=window)


async def test_the_narrowest_and_the_widest_window(queries: Queries) -> None:
    for window in (1, 2, 10**30):
        assert await taken(queries.fetchval_each(ECHO, numbers(20), window=window)) == list(range(20))


async def test_other_bad_options(queries: Queries) -> None:
    with pytest.raises(TypeError, match="query"):
        queries.fetchval_each(5, [])
    with pytest.raises((TypeError, headrace.InterfaceError), match="record_class"):
        queries.fetch_each(ECHO, [], record_class=int)


async def test_a_loop_without_async(queries: Queries) -> None:
    """It must not go round for ever, without a turn of the event loop."""
    with pytest.raises(headrace.InterfaceError, match="`async for`"):
        for _ in itertools.islice(queries.fetchval_each(ECHO, numbers(3)), 100):
            pass
    await is_usable(queries)


async def test_a_source_that_ends_the_iteration_itself(queries: Queries) -> None:
    def source() -> Iterator[tuple[int]]:
        yield from numbers(600)
        with suppress(StopIteration):
            results.aclose().send(None)
        yield from numbers(10)

    results = queries.fetchval_each(ECHO, source())
    await taken(results)
    await is_usable(queries)


# -- errors --------------------------------------------------------------------------------------------------------


async def test_the_error_of_an_element_is_raised_in_its_turn_and_ends_the_iteration(queries: Queries) -> None:
    results = queries.fetchval_each(INVERSE, [(1,), (2,), (0,), (4,), (0,)])
    assert await taken(results, 2) == [100, 50]
    with pytest.raises(headrace.DivisionByZeroError) as caught:
        await anext(results)
    assert "This is the error of element #2 of args." in caught.value.__notes__
    assert await anext(results, "end") == "end"
    await is_usable(queries)


async def test_errors_in_the_places_of_results(queries: Queries) -> None:
    elements: list[Any] = [(1,), (0,), ("x",), (4,), (), (1, 2), (0,), (2**40,), (5,)]
    results = await taken(queries.fetchval_each(INVERSE, elements, return_errors=True))
    assert [each if isinstance(each, int) else type(each).__name__ for each in results] == [
        100, "DivisionByZeroError", "ArgumentError", 25, "InterfaceError", "InterfaceError", "DivisionByZeroError",
        "ArgumentError", 20,
    ]  # fmt: skip
    for number, each in enumerate(results):
        if isinstance(each, Exception):
            assert f"This is the error of element #{number} of args." in each.__notes__
    await is_usable(queries)


async def test_far_too_many_arguments_are_the_error_of_their_element(queries: Queries) -> None:
    elements = [(1,), range(70_000), (2,)]
    results = await taken(queries.fetchval_each(ECHO, elements, return_errors=True))
    assert results[::2] == [1, 2]
    assert isinstance(results[1], headrace.InterfaceError)


async def test_a_text_that_the_server_refuses_is_the_error_of_each_element(queries: Queries) -> None:
    results = await taken(queries.fetchval_each("SELECT $1::int FROM nowhere", numbers(4), return_errors=True))
    assert [type(each) for each in results] == [headrace.UndefinedTableError] * 4
    with pytest.raises(headrace.PostgresSyntaxError):
        await taken(queries.fetchval_each("SELEC $1", numbers(4)))
    await is_usable(queries)


async def test_a_column_that_is_not_there(queries: Queries) -> None:
    results = await taken(queries.fetchval_each(ECHO, numbers(3), column="other", return_errors=True))
    assert [type(each) for each in results] == [KeyError] * 3
    with pytest.raises(IndexError):
        await taken(queries.fetchval_each(ECHO, numbers(3), column=5))


elements = st.lists(st.one_of(st.integers(-3, 3), st.just("bad"), st.integers(2**31, 2**31 + 3)), max_size=40)


@given(elements=elements, window=st.integers(1, 50), return_errors=st.booleans(), repeat=st.sampled_from([1, 30]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_gives_what_one_call_for_each_element_gives(
    elements: list[Any], window: int, return_errors: bool, repeat: int, connect_kwargs: dict[str, Any]
) -> None:
    async def one(queries: Queries, value: Any) -> Any:
        try:
            return await queries.fetchval(INVERSE, value)
        except Exception as error:
            return type(error)

    async def check(queries: Queries) -> None:
        expected = [await one(queries, value) for value in elements] * repeat
        results: list[Any] = []
        try:
            async for result in queries.fetchval_each(
                INVERSE, ((value,) for value in elements * repeat), window=window, return_errors=return_errors
            ):
                results.append(type(result) if isinstance(result, Exception) else result)
        except Exception as error:
            assert not return_errors
            results.append(type(error))
            expected = expected[: len(results)]
        assert results == expected

    async def both() -> None:
        async with headrace.create_pool(**connect_kwargs, min_size=2, max_size=2) as pool, pool.acquire() as conn:
            await check(conn)
            await check(pool)

    asyncio.run(both())


# -- transaction blocks --------------------------------------------------------------------------------------------


async def test_in_a_block_all_elements_are_in_its_transaction(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    async with conn.transaction():
        assert await taken(conn.fetchval_each("INSERT INTO t VALUES ($1) RETURNING a", numbers(20))) == list(range(20))
        assert set(await taken(conn.fetchval_each("SELECT count(*) + 0 * $1::int FROM t", numbers(300)))) == {20}
        assert len(set(await taken(conn.fetchval_each("SELECT now(), $1::int", numbers(10))))) == 1
    assert await conn.fetchval("SELECT count(*) FROM t") == 20


@pytest.mark.parametrize("return_errors", [False, True])
async def test_in_a_block_an_error_of_the_server_ends_the_iteration(
    conn: headrace.Connection, return_errors: bool
) -> None:
    transaction = conn.transaction()
    await transaction.start()
    results = conn.fetchval_each(INVERSE, [(1,), (0,), (2,)], return_errors=return_errors)
    assert await anext(results) == 100
    with pytest.raises(headrace.DivisionByZeroError):
        await anext(results)
    assert await anext(results, "end") == "end"
    await transaction.rollback()
    await is_usable(conn)


async def test_in_a_block_an_argument_that_cannot_be_sent_fails_its_element_alone(conn: headrace.Connection) -> None:
    async with conn.transaction():
        results = await taken(conn.fetchval_each(INVERSE, [(1,), ("x",), (2,)], return_errors=True))
        assert (results[0], type(results[1]), results[2]) == (100, headrace.ArgumentError, 50)
        assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.parametrize("way", ["del", "aclose"])
async def test_in_a_block_ending_early_does_not_fail_the_block(conn: headrace.Connection, way: str) -> None:
    """A read that was sent is not cancelled, because that would fail the block."""
    brief = "SELECT $1::int FROM pg_sleep(CASE $1::int WHEN 1 THEN 0.5 ELSE 0 END)"
    async with conn.transaction():
        results: Any = conn.fetchval_each(brief, [(0,), (1,), (1,)])
        assert await anext(results) == 0
        await until_in_flight(conn)
        if way == "aclose":
            await results.aclose()
        del results
        gc.collect()
        assert await conn.fetchval("SELECT 42") == 42


async def test_a_block_that_ends_in_the_middle(conn: headrace.Connection) -> None:
    """The decision for the block ends with it: behind it the isolation of a single statement counts."""
    await conn.execute("SET default_transaction_isolation = 'repeatable read'")
    async with conn.transaction():
        results = conn.fetchval_each(STARTED, numbers(1000), window=10)
        assert len(set(await taken(results, 100))) == 1
    assert len(set(await taken(results))) > 800


# -- ended early ---------------------------------------------------------------------------------------------------


async def test_aclose_ends_it_at_once(queries: Queries) -> None:
    results = queries.fetchval_each(STUCK, numbers(10))
    assert await anext(results) == 0
    async with asyncio.timeout(PATIENCE):
        await results.aclose()
    assert await anext(results, "end") == "end"
    await is_usable(queries)


async def test_break_and_del_end_it(queries: Queries) -> None:
    async for _ in queries.fetchval_each(STUCK, numbers(10)):
        break
    await is_usable(queries)
    results = queries.fetchval_each(STUCK, numbers(10))
    await anext(results)
    cycle = [results]
    cycle.append(cycle)
    del results, cycle
    gc.collect()
    await is_usable(queries)


async def test_cancellation_while_it_waits(queries: Queries) -> None:
    task = asyncio.create_task(taken(queries.fetchval_each(SLOW, numbers(10))))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await is_usable(queries)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await taken(queries.fetchval_each(STUCK, numbers(10)))
    await is_usable(queries)


async def test_a_result_that_is_long_in_coming(queries: Queries) -> None:
    results = queries.fetchval_each(STUCK, numbers(10), timeout=0.2)
    with pytest.raises(TimeoutError, match="no result for element #1 of args within 0.2 seconds"):
        await taken(results)
    assert await anext(results, "end") == "end"
    await is_usable(queries)


async def test_the_default_time_limit(connect: Connect, pool: MakePool) -> None:
    for queries in (await connect(command_timeout=0.2), await pool(min_size=1, max_size=1, command_timeout=0.2)):
        with pytest.raises(TimeoutError, match="#0"):
            await taken(queries.fetchval_each(SLOW, numbers(2)))
        await is_usable(queries)


async def test_a_result_that_has_come_in_time_is_not_lost(conn: headrace.Connection) -> None:
    """The loop is late: when it comes to read the reply the time limit is over as well."""
    if not type(asyncio.get_running_loop()).__module__.startswith("asyncio"):
        pytest.skip("uvloop looks at timers first")
    await conn.fetchval(ECHO, 0)
    results = conn.fetchval_each(ECHO, numbers(1), timeout=0.05)
    waiting = asyncio.ensure_future(anext(results))
    await until_in_flight(conn)
    select.select([conn._driver.transport.get_extra_info("socket")], [], [], PATIENCE)
    time.sleep(0.1)
    assert await waiting == 0


async def test_results_asked_for_together_are_not_the_same_result(queries: Queries) -> None:
    results = queries.fetchval_each(ECHO, numbers(10))
    first, *others = await asyncio.gather(*(anext(results) for _ in range(3)), return_exceptions=True)
    assert first == 0
    assert [str(error).splitlines()[0] for error in others] == [
        "another task is waiting for the next result of this iterator"
    ] * 2
    later = anext(results), anext(results, None), results.__anext__()
    assert [await each for each in later] == [1, 2, 3]
    assert [value async for value in results] == [4, 5, 6, 7, 8, 9]
    later = anext(results, "end"), anext(results, "end")
    assert [await each for each in later] == ["end", "end"]


async def test_two_tasks_cannot_wait_for_one_iterator(queries: Queries) -> None:
    results = queries.fetchval_each(STUCK, numbers(10))
    assert await anext(results) == 0
    waiting = asyncio.ensure_future(anext(results))
    await asyncio.sleep(0)
    awaitable = results.__anext__()
    with pytest.raises(headrace.InterfaceError, match="another task"):
        await awaitable
    with pytest.raises(headrace.InterfaceError, match="another task"):
        await anext(results)
    with pytest.raises(headrace.InterfaceError, match="another task"):
        await results.aclose()
    assert not waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
    await is_usable(queries)


async def test_two_tasks_may_take_turns(queries: Queries) -> None:
    results = queries.fetchval_each(ECHO, numbers(1000))
    lock = asyncio.Lock()
    found: list[int] = []

    async def worker() -> None:
        while True:
            async with lock:
                value = await anext(results, None)
            if value is None:
                return
            found.append(value)

    await asyncio.gather(*(worker() for _ in range(3)))
    assert sorted(found) == list(range(1000))


def test_it_may_be_dropped_after_its_loop_was_closed(connect_kwargs: dict[str, Any]) -> None:
    async def begin() -> tuple[Any, Any]:
        connection = await headrace.connect(**connect_kwargs)
        results = connection.fetchval_each(ECHO, ((i,) for i in itertools.count()))
        await anext(results)
        return connection, results

    connection, results = asyncio.run(begin())
    connection.terminate()
    del results
    gc.collect()


def test_it_belongs_to_the_loop_of_its_connection(connect_kwargs: dict[str, Any]) -> None:
    async def elsewhere(results: Any) -> None:
        with pytest.raises(headrace.InterfaceError, match="another event loop"):
            await anext(results)

    async def here() -> None:
        connection = await headrace.connect(**connect_kwargs)
        results = connection.fetchval_each(ECHO, numbers(5))
        await asyncio.to_thread(asyncio.run, elsewhere(results))
        await connection.close()

    asyncio.run(here())


async def test_on_a_closed_connection(connect: Connect) -> None:
    connection = await connect()
    results = connection.fetchval_each(ECHO, numbers(5000))
    assert await anext(results) == 0
    await connection.close()
    with pytest.raises((headrace.InterfaceError, headrace.PostgresConnectionError)):
        await taken(results)
    with pytest.raises(headrace.InterfaceError, match="closed"):
        await taken(connection.fetchval_each(ECHO, numbers(5)))


async def test_the_end_of_the_connection_ends_the_iteration(connect: Connect, server: Cluster) -> None:
    for return_errors in (False, True):
        connection = await connect()
        results = connection.fetchval_each(STUCK, numbers(10), return_errors=return_errors)
        assert await anext(results) == 0
        waiting = asyncio.ensure_future(anext(results))
        async with asyncio.timeout(PATIENCE):
            while set(in_flight(connection)) != {STUCK}:
                await asyncio.sleep(0.001)
        server.sql(f"SELECT pg_terminate_backend({connection.get_server_pid()})")
        if return_errors:
            assert isinstance(await waiting, headrace.AdminShutdownError)
            with pytest.raises(headrace.InterfaceError):
                await taken(results)
        else:
            with pytest.raises(headrace.AdminShutdownError) as caught:
                await waiting
            assert any("#1" in note for note in caught.value.__notes__)
            assert await anext(results, "end") == "end"


# -- requests that are no plain reads ------------------------------------------------------------------------------


@pytest.fixture
async def table(server: Cluster, database: str) -> AsyncIterator[str]:
    server.sql("CREATE TABLE each_rows (a int CHECK (a <> 13))", database=database)
    yield "each_rows"
    server.sql("DROP TABLE each_rows", database=database)


def rows_of(server: Cluster, database: str) -> list[int]:
    return [int(row[0]) for row in server.sql("SELECT a FROM each_rows ORDER BY a", database=database)]


INSERT = "INSERT INTO each_rows VALUES ($1) RETURNING a"


async def test_writes_are_each_committed_by_themselves(
    queries: Queries, table: str, server: Cluster, database: str
) -> None:
    results = await taken(queries.fetchval_each(INSERT, numbers(30), return_errors=True))
    assert results[:13] + results[14:] == [*range(13), *range(14, 30)]
    assert isinstance(results[13], headrace.CheckViolationError)
    assert rows_of(server, database) == [*range(13), *range(14, 30)]
    assert await taken(queries.fetchrow_each("DELETE FROM each_rows WHERE a = $1", numbers(30))) == [None] * 30


async def test_one_write_at_a_time_on_each_connection(queries: Queries, table: str, connect: Connect) -> None:
    """While a lock holds up the writes, no connection has more than one of them in flight."""
    width = 3 if isinstance(queries, headrace.Pool) else 1
    holder = await connect()
    # The server would wait for the lock already when it parses the statement.
    await queries.fetchval(INSERT, 99)
    async with holder.transaction():
        await holder.execute("LOCK each_rows")
        task = asyncio.ensure_future(taken(queries.fetchval_each(INSERT, ((i,) for i in range(100, 120)))))
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'each_rows'::regclass"
        async with asyncio.timeout(PATIENCE):
            while await holder.fetchval(waiting) < width:
                await asyncio.sleep(0.01)
        if isinstance(queries, headrace.Connection):
            assert in_flight(queries) == [INSERT]
        else:
            assert [pooled.work.count for pooled in queries._scheduler.connections.values()] == [1, 1, 1]
    assert await task == list(range(100, 120))


async def test_pipelined_writes(queries: Queries, table: str, server: Cluster, database: str) -> None:
    results = queries.fetchval_each(INSERT, numbers(30), pipeline_writes=True)
    assert await taken(results, 13) == list(range(13))
    with pytest.raises(headrace.CheckViolationError) as caught:
        await anext(results)
    (note,) = [note for note in caught.value.__notes__ if "Later elements" in note]
    later = [int(word[1:]) for word in note.split() if word.startswith("#")]
    assert later == list(range(14, 14 + len(later)))
    assert "#14 was executed" in note
    assert rows_of(server, database) == [*range(13), *later]
    await is_usable(queries)


async def test_the_error_of_a_write_names_the_later_ones_that_were_sent(
    pool: MakePool, table: str, server: Cluster, database: str
) -> None:
    made = await pool(min_size=3, max_size=3)
    results = made.fetchval_each(INSERT, [(13,), (1,), (2,), (3,), (4,), (5,)])
    with pytest.raises(headrace.CheckViolationError) as caught:
        await anext(results)
    (note,) = [note for note in caught.value.__notes__ if "Later elements" in note]
    later = [int(word[1:]) for word in note.split() if word.startswith("#")]
    assert later
    assert note.count("was executed") == len(later)
    assert rows_of(server, database) == later


async def test_breaking_off_lets_writes_that_were_sent_finish_and_sends_no_more(
    queries: Queries, table: str, server: Cluster, database: str
) -> None:
    width = 3 if isinstance(queries, headrace.Pool) else 1
    results = queries.fetchval_each(INSERT, numbers(1000), window=10)
    assert await anext(results) == 0
    await results.aclose()
    found = rows_of(server, database)
    assert 1 <= len(found) <= 1 + 4 * width
    async for _ in queries.fetchval_each(INSERT, ((i,) for i in range(1000, 2000)), window=10):
        break
    await is_usable(queries)
    more = rows_of(server, database)[len(found) :]
    assert 1 <= len(more) <= 1 + 4 * width


async def test_a_time_limit_for_the_writes_that_an_error_waits_for(
    pool: MakePool, connect: Connect, table: str, server: Cluster, database: str
) -> None:
    made = await pool(min_size=2, max_size=2)
    holder = await connect()
    query = "WITH w AS (INSERT INTO each_rows VALUES ($1)) SELECT count(*) FROM pg_advisory_xact_lock($1)"
    async with holder.transaction():
        await holder.execute("SELECT pg_advisory_xact_lock(77)")
        # The one that waits for the lock is sent ahead of the one that fails.
        results = made.fetchval_each(query, [(1,), (77,), (13,), (2,)], timeout=0.5, return_errors=False)
        assert await anext(results) == 1
        with pytest.raises(TimeoutError, match="#1"):
            await anext(results)
        await is_usable(made)
        results = made.fetchval_each(query, [(13,), (77,)], timeout=0.5)
        with pytest.raises(headrace.CheckViolationError) as caught:
            await anext(results)
        assert any("#1 is unknown" in note for note in caught.value.__notes__)
        await is_usable(made)
    assert 77 not in rows_of(server, database)


async def test_statements_of_a_session_run_on_a_lease(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    before = await made.fetchval("SHOW work_mem")
    query = "SELECT set_config('work_mem', $1, false)"
    assert await taken(made.fetchval_each(query, [("1MB",), ("2MB",)])) == ["1MB", "2MB"]
    assert await made.fetchval("SHOW work_mem") == before
    locks = "SELECT pg_advisory_lock($1)"
    async for _ in made.fetchval_each(locks, numbers(5)):
        break
    async with asyncio.timeout(PATIENCE):
        while await made.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"):
            await asyncio.sleep(0.01)
    with pytest.raises(headrace.InterfaceError, match="lastval"):
        await taken(made.fetchval_each("SELECT lastval()", [()]))
    await is_usable(made)


async def test_a_pool_with_setup_runs_it_on_a_lease(pool: MakePool) -> None:
    prepared = 0

    async def setup(connection: Any) -> None:
        nonlocal prepared
        prepared += 1

    made = await pool(min_size=1, max_size=1, setup=setup)
    assert await taken(made.fetchval_each(ECHO, numbers(300))) == list(range(300))
    assert prepared == 1


class Doubling(headrace.Connection):
    async def fetchval_each(self, query: Any, args: Any, **options: Any) -> AsyncIterator[Any]:  # type: ignore[override]
        async for value in super().fetchval_each(query, args, **options):
            yield value * 2


async def test_a_method_that_a_program_has_replaced(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1, connection_class=Doubling)
    assert await taken(made.fetchval_each(ECHO, numbers(3))) == [0, 2, 4]
    assert await taken(made.fetchrow_each(ECHO, numbers(3))) == [(0,), (1,), (2,)]


# -- on a lease, and on a pool that closes -------------------------------------------------------------------------


async def test_it_ends_with_its_lease(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as lease:
        results = lease.fetchval_each(ECHO, ((i,) for i in itertools.count()), window=10)
        assert await taken(results, 20) == list(range(20))
        unused = lease.fetchval_each(ECHO, numbers(3))
    with pytest.raises(headrace.InterfaceError, match=r"fetchval_each\(\): the connection has been released"):
        await taken(results)
    with pytest.raises(headrace.InterfaceError, match="has been released back to the pool"):
        await taken(unused)
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        lease.fetchval_each(ECHO, [])
    await is_usable(made)


async def test_a_pool_that_is_closed_in_the_middle(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    results = made.fetchval_each(ECHO, ((i,) for i in itertools.count()), window=2000)
    assert await anext(results) == 0
    closing = asyncio.create_task(made.close())
    with pytest.raises(headrace.InterfaceError, match="clos"):
        await taken(results)
    await closing
    with pytest.raises(headrace.InterfaceError, match="closed"):
        made.fetchval_each(ECHO, [])


async def test_a_pool_that_is_terminated_in_the_middle(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    results = made.fetchval_each(STUCK, numbers(10))
    assert await anext(results) == 0
    made.terminate()
    with pytest.raises((headrace.InterfaceError, headrace.ConnectionDoesNotExistError)):
        await taken(results)


async def test_a_pool_that_cannot_connect_says_so(pool: MakePool) -> None:
    """The TimeoutError says what the element has waited for."""
    made = await pool(min_size=1, max_size=1)
    async with made.acquire():
        with pytest.raises(TimeoutError) as caught:
            await taken(made.fetchval_each(ECHO, numbers(3), timeout=0.05))
    assert any("leased" in note for note in caught.value.__notes__)


# -- what groups must not show -------------------------------------------------------------------------------------

# One row for the transaction that this statement is in.
STARTED = "SELECT xact_start FROM pg_stat_activity WHERE pid = pg_backend_pid() AND $1::int >= 0"


async def transactions_of(queries: Queries, query: str = STARTED) -> int:
    """Return in how many transactions 600 elements were executed."""
    return len(set(await taken(queries.fetchval_each(query, numbers(600)))))


async def test_plain_reads_share_transactions(conn: headrace.Connection) -> None:
    # The size of a group follows what the elements before it have cost. A busy machine may make that much for a while.
    async with asyncio.timeout(60):
        while await transactions_of(conn) >= 200:
            pass


@pytest.mark.parametrize(
    "word", ["now()", "pg_catalog.now()", "'today'::date", "CURRENT_TIME", "age('2020-01-01'::date)"]
)
async def test_a_text_with_the_time_of_its_transaction_has_one_for_each_element(
    conn: headrace.Connection, word: str
) -> None:
    assert await transactions_of(conn, f"{STARTED} AND {word} IS NOT NULL") > 500


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_by_default_isolated_elements_have_transactions_of_their_own(
    connect: Connect, server: Cluster, database: str, isolation: str
) -> None:
    """So each of them has a snapshot of its own, however the default was set."""
    connection = await connect(server_settings={"default_transaction_isolation": isolation})
    assert await transactions_of(connection) > 500
    async with connection.transaction():
        assert await transactions_of(connection) == 1
    server.sql(f"ALTER DATABASE \"{database}\" SET default_transaction_isolation = '{isolation}'")
    try:
        assert await transactions_of(await connect()) > 500
    finally:
        server.sql(f'ALTER DATABASE "{database}" RESET default_transaction_isolation')


async def test_elements_whose_transactions_have_a_time_limit_do_not_share_it(connect: Connect) -> None:
    connection = await connect()
    if connection.get_server_version() < (17,):
        pytest.skip("transaction_timeout is new in PostgreSQL 17")
    await connection.execute("SET transaction_timeout = '100s'")
    assert await transactions_of(connection) > 500


async def test_elements_with_the_time_of_their_transaction_on_a_pool(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    times = await taken(made.fetchval_each("SELECT now() + 0 * interval '1s' * $1::int", numbers(600)))
    assert len(set(times)) > 300


# -- query loggers -------------------------------------------------------------------------------------------------


async def logging(queries: Queries) -> list[LoggedQuery]:
    """Add a query logger to the connection, or to all of the pool."""
    records: list[LoggedQuery] = []
    if isinstance(queries, headrace.Connection):
        queries.add_query_logger(records.append)
        return records
    leases = [await queries.acquire() for _ in range(3)]
    for lease in leases:
        lease.add_query_logger(records.append)
    for lease in leases:
        await queries.release(lease)
    records.clear()
    return records


def told(records: list[LoggedQuery], query: str) -> list[Any]:
    return sorted((record.args[0] for record in records if record.query == query), key=str)


async def test_loggers_see_each_element_once(queries: Queries) -> None:
    records = await logging(queries)
    elements = [(i,) for i in range(300)]
    results = await taken(queries.fetchval_each(INVERSE, elements, return_errors=True))
    assert sorted(told(records, INVERSE)) == list(range(300))
    assert isinstance(results[0], headrace.DivisionByZeroError)
    (failed,) = [record for record in records if record.exception is not None]
    assert failed.args == (0,)
    assert failed.exception is results[0]
    assert not [record for record in records if record.query not in (INVERSE, "") and "setting" in record.query]


async def test_loggers_see_an_argument_that_cannot_be_encoded_once(queries: Queries) -> None:
    records = await logging(queries)
    await queries.fetchval(ECHO, 0)
    records.clear()
    with pytest.raises(headrace.ArgumentError):
        await queries.fetchval(ECHO, "x")
    assert told(records, ECHO) == ["x"]
    records.clear()
    await taken(queries.fetchval_each(ECHO, [(1,), ("x",), (2,)], return_errors=True))
    assert told(records, ECHO) == [1, 2, "x"]


async def test_loggers_see_what_was_sent_and_given_up(queries: Queries) -> None:
    records = await logging(queries)
    results = queries.fetchval_each(STUCK, numbers(10))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await taken(results)
    seen = told(records, STUCK)
    assert seen[:2] == [0, 1]
    assert len(seen) == len(set(seen))
    await is_usable(queries)


async def test_loggers_see_writes_once(queries: Queries, table: str, server: Cluster, database: str) -> None:
    records = await logging(queries)
    for options in ({}, {"pipeline_writes": isinstance(queries, headrace.Connection)}):
        records.clear()
        with pytest.raises(headrace.CheckViolationError):
            await taken(queries.fetchval_each(INSERT, ((i,) for i in range(10, 30)), **options))
        found = rows_of(server, database)
        assert sorted(told(records, INSERT)) == sorted([*found, 13])
        server.sql("DELETE FROM each_rows", database=database)


# -- types ---------------------------------------------------------------------------------------------------------


async def test_types_that_are_met_in_the_middle(queries: Queries, server: Cluster, database: str) -> None:
    """Anonymous records tell their types with the rows; those that are new are looked up for their own element."""
    server.sql("DROP TYPE IF EXISTS mood, place; CREATE TYPE mood AS ENUM ('sad', 'glad'); "
               "CREATE TYPE place AS (x int, m mood)", database=database)  # fmt: skip
    query = "SELECT CASE WHEN $1::int % 7 = 3 THEN ROW($1::int, ROW($1::int, 'glad')::place) ELSE ROW($1::int, 1) END"
    results = await taken(queries.fetchval_each(query, numbers(50)))
    assert results[2] == (2, 1)
    assert results[3] == (3, (3, "glad"))
    assert [row[0] for row in results] == list(range(50))


async def test_a_type_that_is_altered_in_the_middle(connect: Connect, server: Cluster, database: str) -> None:
    server.sql("DROP TYPE IF EXISTS pair; CREATE TYPE pair AS (a int, b int)", database=database)
    connection = await connect()
    query = "SELECT ($1::pair).a + $2::int"

    def source() -> Iterator[tuple[Any, int]]:
        for i in range(600):
            if i == 300:
                server.sql("DROP TYPE pair; CREATE TYPE pair AS (a int, b int)", database=database)
            yield (i, 1), 0

    results = await taken(connection.fetchval_each(query, source(), return_errors=True))
    assert results == list(range(600))


async def test_a_table_that_is_altered_in_the_middle(queries: Queries, server: Cluster, database: str) -> None:
    server.sql("DROP TABLE IF EXISTS widening; CREATE TABLE widening AS SELECT 1 AS a", database=database)

    def source() -> Iterator[tuple[int]]:
        for i in range(1200):
            if i == 600:
                server.sql("ALTER TABLE widening ADD COLUMN b int DEFAULT 2", database=database)
            yield (i,)

    results = await taken(queries.fetchrow_each("SELECT * FROM widening WHERE $1::int >= 0", source()))
    assert len(results) == 1200
    assert (results[0], results[-1]) == ((1,), (1, 2))


@pytest.mark.parametrize("mode", ["unnamed", "describe"])
async def test_without_prepared_statements(connect: Connect, pool: MakePool, mode: str) -> None:
    for queries in (await connect(statement_mode=mode), await pool(min_size=2, max_size=2, statement_mode=mode)):
        results = await taken(queries.fetchval_each(INVERSE, [(i % 50,) for i in range(500)], return_errors=True))
        assert [type(each) for each in results[::50]] == [headrace.DivisionByZeroError] * 10
        assert results[1:50] == [100 // i for i in range(1, 50)]
    for queries in (await connect(statement_cache_size=0),):
        assert await taken(queries.fetchval_each(ECHO, numbers(500))) == list(range(500))


async def test_large_arguments_and_rows(queries: Queries) -> None:
    size = 300_000
    query = "SELECT repeat('y', $1::int) || $2::text"
    count = 0
    async for value in queries.fetchval_each(query, ((size, "x" * size) for _ in range(60))):
        assert len(value) == 2 * size
        count += 1
    assert count == 60


@pytest.mark.parametrize(
    "options",
    [{"pipeline_budget": 0}, {"max_pipeline": 1}, {"repeat_reads": False}, {"pipeline_writes": True}],
    ids=lambda options: next(iter(options)),
)
async def test_the_options_of_a_pool(pool: MakePool, options: dict[str, Any]) -> None:
    made = await pool(min_size=2, max_size=2, **options)
    results = await taken(made.fetchval_each(INVERSE, [(i % 10,) for i in range(200)], return_errors=True))
    assert [type(each) for each in results[::10]] == [headrace.DivisionByZeroError] * 20
    assert results[1:10] == [100 // i for i in range(1, 10)]
    for query in ("SELECT $1::int + nextval('each_options') * 0", "SELECT $1::int"):
        await made.execute("CREATE SEQUENCE IF NOT EXISTS each_options")
        assert await taken(made.fetchval_each(query, numbers(50))) == list(range(50))
    await is_usable(made)


async def test_a_connection_that_sends_one_request_at_a_time(connect: Connect) -> None:
    connection = await connect(max_pipeline=1)
    assert await taken(connection.fetchval_each(ECHO, numbers(500))) == list(range(500))


@pytest.mark.parametrize("shared", [False, True], ids=["connection", "pool"])
async def test_encoders_see_the_variables_of_the_iterations_own_task(
    connect: Connect, pool: MakePool, shared: bool
) -> None:
    """Also if an element is encoded when the reply to another task's element is read."""
    tenant: ContextVar[int] = ContextVar("tenant")

    async def init(connection: Any) -> None:
        await connection.set_type_codec(
            "int4", schema="pg_catalog", encoder=lambda value: str(value + tenant.get()), decoder=int
        )

    queries: Queries
    if shared:
        queries = await pool(min_size=2, max_size=2, init=init)
    else:
        queries = await connect()
        await init(queries)

    async def run(number: int) -> set[int]:
        tenant.set(number)
        return set(await taken(queries.fetchval_each("SELECT $1::int4", [(1000,)] * 3000)))

    assert await asyncio.gather(*(run(i) for i in range(4))) == [{1000 + i} for i in range(4)]
