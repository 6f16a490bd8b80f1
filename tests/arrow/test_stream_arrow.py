"""stream_arrow(): record batches as they come, inside a transaction and outside of one."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pyarrow
import pytest

import headrace
from headrace.arrow import RecordBatch
from headrace.exceptions import (
    DivisionByZeroError,
    InterfaceError,
    NoActiveSQLTransactionError,
    UnrepresentableValueError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

MANY = "SELECT g FROM generate_series(1, $1::int) AS g"
ENDLESS = "SELECT generate_series(1, 100000000) AS g, repeat('x', 1000) AS t"


@pytest.fixture(params=["portal", "owned"])
def mode(request: pytest.FixtureRequest) -> str:
    """Inside a transaction, and outside."""
    return str(request.param)


@asynccontextmanager
async def block(conn: headrace.Connection, mode: str) -> AsyncIterator[None]:
    if mode == "owned":
        yield
    else:
        async with conn.transaction():
            yield


def numbers(batches: list[RecordBatch]) -> list[list[int]]:
    return [pyarrow.record_batch(batch).column("g").to_pylist() for batch in batches]


@pytest.mark.any_server
@pytest.mark.parametrize(
    ("count", "sizes"), [(0, []), (1, [1]), (10, [10]), (11, [10, 1]), (30, [10, 10, 10]), (35, [10, 10, 10, 5])]
)
async def test_batches_have_as_many_rows_as_were_asked_for(
    conn: headrace.Connection, mode: str, count: int, sizes: list[int]
) -> None:
    async with block(conn, mode):
        batches = [batch async for batch in conn.stream_arrow(MANY, count, batch_rows=10)]
    assert [len(batch) for batch in batches] == sizes
    assert [number for numbers_of in numbers(batches) for number in numbers_of] == list(range(1, count + 1))


@pytest.mark.any_server
async def test_by_default_a_batch_has_65536_rows(conn: headrace.Connection, mode: str) -> None:
    async with block(conn, mode):
        assert [len(batch) async for batch in conn.stream_arrow(MANY, 100_000)] == [65536, 34464]


@pytest.mark.any_server
async def test_the_schema_is_known_before_the_first_batch(conn: headrace.Connection, mode: str) -> None:
    async with block(conn, mode), conn.stream_arrow("SELECT 1 AS a, 'x' AS b WHERE false") as stream:
        assert stream.column_names == ["a", "b"]
        assert pyarrow.schema(stream) == pyarrow.schema([("a", pyarrow.int32()), ("b", pyarrow.string())])
        assert [batch async for batch in stream] == []
    unopened = conn.stream_arrow("SELECT 1")
    with pytest.raises(InterfaceError, match="once it is open"):
        _ = unopened.column_names


@pytest.mark.any_server
@pytest.mark.parametrize("way", ["block", "aclose", "aclosing", "forgotten"])
async def test_a_reader_that_stops_midway_frees_the_connection(conn: headrace.Connection, mode: str, way: str) -> None:
    async with block(conn, mode):
        if way == "block":
            async with conn.stream_arrow(ENDLESS, batch_rows=100) as stream:
                async for _ in stream:
                    break
        elif way == "aclosing":
            async with aclosing(conn.stream_arrow(ENDLESS, batch_rows=100)) as stream:
                async for _ in stream:
                    break
        else:
            stream = conn.stream_arrow(ENDLESS, batch_rows=100)
            async for _ in stream:
                break
            if way == "aclose":
                await stream.aclose()
            del stream
            gc.collect()
        assert await conn.fetchval("SELECT 1") == 1
    assert await conn.fetchval("SELECT 2") == 2


@pytest.mark.any_server
@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_reader_that_is_cancelled_at_a_batch(conn: headrace.Connection, mode: str, taken: int) -> None:
    async with block(conn, mode):
        batches: list[RecordBatch] = []

        async def read() -> None:
            async with conn.stream_arrow(ENDLESS, batch_rows=10) as stream:
                async for batch in stream:
                    batches.append(batch)
                    if len(batches) > taken:
                        await asyncio.get_running_loop().create_future()

        task = asyncio.create_task(read())
        while len(batches) <= taken:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await conn.fetchval("SELECT 1") == 1
    assert [number for numbers_of in numbers(batches) for number in numbers_of] == list(
        range(1, 10 * (taken + 1) + 1)
    ), "what was taken stays"


@pytest.mark.any_server
async def test_a_wait_that_is_cancelled_ends_the_stream(conn: headrace.Connection, mode: str) -> None:
    async with block(conn, "owned"):
        stream = conn.stream_arrow("SELECT 1 AS a FROM pg_sleep(600)")
        task = asyncio.ensure_future(anext(stream))
        while not conn._driver.pending:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [batch async for batch in stream] == []
        assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_a_time_limit_covers_each_wait(conn: headrace.Connection) -> None:
    stream = conn.stream_arrow(
        "SELECT pg_sleep(CASE g WHEN 3 THEN 600 ELSE 0 END) FROM generate_series(1, 5) AS g", batch_rows=1, timeout=0.5
    )
    with pytest.raises(TimeoutError):
        async for _ in stream:
            pass
    assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_an_error_of_the_server_midway(conn: headrace.Connection, mode: str) -> None:
    query = "SELECT 10 / (g - 25) AS g FROM generate_series(1, 100) AS g"
    taken = 0
    with pytest.raises(DivisionByZeroError):
        async with block(conn, mode):
            async for batch in conn.stream_arrow(query, batch_rows=10):
                taken += len(batch)
    assert taken == 20
    assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_a_value_without_a_place_is_named_by_its_row_among_all(conn: headrace.Connection, mode: str) -> None:
    query = "SELECT CASE g WHEN 25 THEN 'infinity' ELSE 'today' END::date AS day FROM generate_series(1, 100) AS g"
    async with block(conn, mode):
        with pytest.raises(UnrepresentableValueError, match="row 25, column 'day'"):
            async for _ in conn.stream_arrow(query, batch_rows=10):
                pass
        assert await conn.fetchval("SELECT 1") == 1
        found = [batch async for batch in conn.stream_arrow(query, batch_rows=10, out_of_range="null")]
    assert sum(pyarrow.record_batch(batch).column("day").null_count for batch in found) == 1


@pytest.mark.any_server
async def test_inside_a_transaction_other_queries_run_between_the_batches(conn: headrace.Connection) -> None:
    async with conn.transaction():
        async with (
            conn.stream_arrow(MANY, 30, batch_rows=10) as one,
            conn.stream_arrow(MANY, 30, batch_rows=10) as other,
        ):
            async for batch in one:
                assert numbers([batch]) == numbers([await anext(other)])
                assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_a_stream_does_not_outlive_its_transaction(conn: headrace.Connection) -> None:
    async with conn.transaction():
        stream = conn.stream_arrow(MANY, 30, batch_rows=10)
        await anext(stream)
    with pytest.raises(NoActiveSQLTransactionError, match="the transaction in which it was opened has ended"):
        await anext(stream)
    assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_outside_of_a_transaction_it_owns_its_connection(conn: headrace.Connection) -> None:
    opened = asyncio.Event()

    async def call() -> Any:
        await opened.wait()
        return await conn.fetchval("SELECT 1")

    other = asyncio.create_task(call())
    async with conn.stream_arrow(ENDLESS, batch_rows=10) as stream:
        await anext(stream)
        with pytest.raises(InterfaceError, match="this task has a stream of rows open on the connection"):
            await conn.fetchval("SELECT 1")
        opened.set()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not other.done()
        with pytest.raises(InterfaceError, match="the task that has made this one has a stream of rows open"):
            await asyncio.gather(conn.fetchval("SELECT 1"))
    assert await other == 1


@pytest.mark.any_server
async def test_a_stream_of_a_prepared_statement(conn: headrace.Connection, mode: str) -> None:
    statement = await conn.prepare(MANY)
    async with block(conn, mode):
        for count in (25, 0):
            async with statement.stream_arrow(count, batch_rows=10) as stream:
                assert stream.column_names == ["g"]
                batches = [batch async for batch in stream]
            assert [number for part in numbers(batches) for number in part] == list(range(1, count + 1))
        with pytest.raises(ValueError, match="batch_rows is expected"):
            statement.stream_arrow(1, batch_rows=0)
        assert await statement.fetchval(3) == 1


@pytest.mark.any_server
async def test_the_columns_are_known_after_the_end_as_well(conn: headrace.Connection, mode: str) -> None:
    async with block(conn, mode), conn.stream_arrow(MANY, 25, batch_rows=10) as stream:
        await anext(stream)
    assert stream.column_names == ["g"]


@pytest.mark.any_server
async def test_a_statement_that_is_wrong_ends_the_stream(conn: headrace.Connection) -> None:
    stream = conn.stream_arrow("SELECT nothing")
    with pytest.raises(headrace.UndefinedColumnError):
        await stream.__aenter__()
    with pytest.raises(InterfaceError, match="the schema of a stream is known once it is open"):
        _ = stream.column_names
    assert await conn.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_query_loggers_see_it_at_its_end(conn: headrace.Connection) -> None:
    seen: list[headrace.LoggedQuery] = []
    with conn.query_logger(seen.append):
        async for _ in conn.stream_arrow(MANY, 3):
            assert not seen
        with pytest.raises(headrace.UndefinedColumnError):
            await anext(conn.stream_arrow("SELECT nothing"))
    assert [(each.query, each.args, type(each.exception)) for each in seen] == [
        (MANY, (3,), type(None)),
        ("SELECT nothing", (), headrace.UndefinedColumnError),
    ]


@pytest.mark.any_server
async def test_without_a_cache_of_statements(connect: Connect) -> None:
    for options in ({"statement_cache_size": 0}, {"statement_mode": "unnamed"}, {"statement_mode": "describe"}):
        conn = await connect(**options)
        for _ in range(2):
            assert [len(batch) async for batch in conn.stream_arrow(MANY, 25, batch_rows=10)] == [10, 10, 5]
            assert len(await conn.fetch_arrow(MANY, 25)) == 25


@pytest.mark.any_server
async def test_a_slow_reader_stops_the_server(conn: headrace.Connection, server: Cluster) -> None:
    pid = conn.get_server_pid()
    async with conn.stream_arrow(ENDLESS, batch_rows=10) as stream:
        await anext(stream)
        while server.sql(f"SELECT wait_event FROM pg_stat_activity WHERE pid = {pid}") != [("ClientWrite",)]:
            await asyncio.sleep(0.01)
        request: Any
        (request,) = conn._driver.session.sent
        assert request.backlog < 1 << 20, "what is full, and a read of the socket"


@pytest.mark.any_server
async def test_a_stream_of_a_pool_is_a_lease(pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1)
    assert numbers([batch async for batch in shared.stream_arrow(MANY, 25, batch_rows=10)])[2] == [21, 22, 23, 24, 25]
    async with shared.stream_arrow(ENDLESS, batch_rows=10) as stream:
        await anext(stream)
        assert shared.get_idle_size() == 0
    assert await shared.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_wrong_use(conn: headrace.Connection) -> None:
    for rows in (0, -1, True, "10", 2**31):
        with pytest.raises(ValueError, match="batch_rows is expected to be a number of rows"):
            conn.stream_arrow("SELECT 1", batch_rows=rows)  # type: ignore[arg-type]
    with pytest.raises(InterfaceError, match="query is expected to return rows"):
        await anext(conn.stream_arrow("CREATE TEMPORARY TABLE never ()"))
    stream = conn.stream_arrow("SELECT 1 AS a")
    async with stream:
        pass
    with pytest.raises(InterfaceError, match="cannot be used again after its end"):
        await stream.__aenter__()
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


@pytest.mark.any_server
async def test_two_tasks_cannot_wait_for_one_stream(conn: headrace.Connection) -> None:
    stream = conn.stream_arrow("SELECT 1 AS a FROM pg_sleep(0.01)")
    first = asyncio.create_task(stream.__anext__())
    await asyncio.sleep(0)
    with pytest.raises(InterfaceError, match="another task is waiting"):
        await anext(stream)
    assert len(await first) == 1
    await stream.aclose()


@pytest.mark.any_server
async def test_a_lost_connection(connect: Connect, mode: str) -> None:
    conn, other = await connect(), await connect()
    with pytest.raises((headrace.PostgresConnectionError, headrace.AdminShutdownError, InterfaceError)):
        async with block(conn, mode):
            async with conn.stream_arrow(ENDLESS, batch_rows=10) as stream:
                await anext(stream)
                await other.execute("SELECT pg_terminate_backend($1)", conn.get_server_pid())
                async for _ in stream:
                    pass


@pytest.mark.any_server
async def test_the_database_s_own_types(conn: headrace.Connection, mode: str) -> None:
    await conn.execute("DROP TYPE IF EXISTS stream_mood; CREATE TYPE stream_mood AS ENUM ('sad', 'ok')")
    async with block(conn, mode):
        query = "SELECT (array['sad', 'ok'])[g % 2 + 1]::stream_mood AS g FROM generate_series(1, 5) AS g"
        found: list[Any] = [batch async for batch in conn.stream_arrow(query, batch_rows=2)]
    assert numbers(found) == [["ok", "sad"], ["ok", "sad"], ["ok"]]


@pytest.mark.any_server
@pytest.mark.parametrize("waits", [False, True])
async def test_a_lease_that_ends_before_its_stream(pool: MakePool, waits: bool) -> None:
    shared = await pool(min_size=1, max_size=1)
    query = "SELECT 1 AS a FROM pg_sleep(600)" if waits else ENDLESS
    async with shared.acquire() as conn:
        stream = conn.stream_arrow(query, batch_rows=10)
        if waits:
            await stream.__aenter__()
            task = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
        else:
            await anext(stream)
    if waits:
        with pytest.raises(InterfaceError, match="released back to the pool"):
            await task
    else:
        with pytest.raises(InterfaceError, match="released back to the pool"):
            # After the batches that it holds.
            async for _ in stream:
                pass
    assert await shared.fetchval("SELECT 1") == 1


@pytest.mark.any_server
async def test_a_connection_that_is_closed_before_its_stream(connect: Connect, mode: str) -> None:
    conn = await connect()
    stream = conn.stream_arrow(ENDLESS, batch_rows=10)
    if mode == "portal":
        await conn.transaction().start()
    await anext(stream)
    await asyncio.wait_for(conn.close(), 60)
    with pytest.raises((InterfaceError, headrace.PostgresError, headrace.PostgresConnectionError)):
        async for _ in stream:
            pass
