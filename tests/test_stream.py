"""Streams on real servers: inside and outside of transactions, on pools, and ended at every point."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import aiostream as untyped_aiostream
import pytest

import headrace
import headrace._core.pipeline.cancel
from tests.watching import in_flight, until_in_flight

if TYPE_CHECKING:
    from headrace.stream import Stream
    from tests.fixtures import Connect, MakePool
    from tests.peers.proxy import Proxy
    from tests.servers import Cluster

aiostream: Any = untyped_aiostream
"""Its generic classes are too clever for type checkers."""

SERIES = "SELECT generate_series(1, $1::int) AS n"
ENDLESS = "SELECT generate_series(1, 1000000000) AS n, repeat('x', 100) AS text"
PATIENCE = 10.0
"""Seconds after which a test takes something for hanging."""

MOST_READ = 4 << 20
"""Bytes that may be under way to a reader that takes nothing: in this process and in the buffers of the sockets."""


class Pair(NamedTuple):
    a: int
    b: str


@dataclass
class Sku:
    sku_id: int


@dataclass
class Product:
    product_id: int
    skus: list[Sku]


# The rows


@pytest.mark.parametrize("count", [0, 1, 50, 51, 30_000])
@pytest.mark.parametrize("prefetch", [None, 1, 7, 1000])
async def test_it_gives_the_rows_of_the_query(conn: headrace.Connection, count: int, prefetch: int | None) -> None:
    count = min(count, 300 * (prefetch or 1000))
    assert [row["n"] async for row in conn.stream(SERIES, count, prefetch=prefetch)] == list(range(1, count + 1))
    async with conn.transaction():
        rows = [row["n"] async for row in conn.stream(SERIES, count, prefetch=prefetch)]
    assert rows == list(range(1, count + 1))


async def test_on_a_pool_and_of_a_prepared_statement(pool: MakePool, conn: headrace.Connection) -> None:
    made = await pool(min_size=1, max_size=2)
    assert [row["n"] async for row in made.stream(SERIES, 3)] == [1, 2, 3]
    async with made.stream(SERIES, 3) as rows:
        assert [row["n"] async for row in rows] == [1, 2, 3]
    statement = await conn.prepare(SERIES)
    for _ in range(2):
        assert [row["n"] async for row in statement.stream(3)] == [1, 2, 3]
    async with conn.transaction():
        assert [row["n"] async for row in statement.stream(3)] == [1, 2, 3]


async def test_rows_of_every_class(conn: headrace.Connection, pool: MakePool) -> None:
    class Row(headrace.Record):
        pass

    shared = await pool(min_size=1, max_size=1)
    query = "SELECT n AS a, n::text AS b FROM generate_series(1, 3) AS n"
    expected = [Pair(1, "1"), Pair(2, "2"), Pair(3, "3")]
    for source in (conn, shared):
        assert [row async for row in source.stream(query, row=Pair)] == expected
        assert [type(row) async for row in source.stream(query, record_class=Row)] == [Row] * 3
    statement = await conn.prepare(query)
    assert [row async for row in statement.stream(row=Pair)] == expected
    async with conn.transaction():
        assert [row async for row in conn.stream(query, row=Pair)] == expected


async def test_objects_with_lists_come_when_their_rows_have_ended(conn: headrace.Connection) -> None:
    query = "SELECT n / 3 AS product_id, n AS skus__sku_id FROM generate_series(0, 7) AS n"
    expected = [
        Product(0, [Sku(0), Sku(1), Sku(2)]),
        Product(1, [Sku(3), Sku(4), Sku(5)]),
        Product(2, [Sku(6), Sku(7)]),
    ]
    assert [row async for row in conn.stream(query, row=Product)] == expected
    async with conn.transaction():
        assert [row async for row in conn.stream(query, row=Product, prefetch=1)] == expected


async def test_an_object_whose_rows_are_not_consecutive_comes_twice(conn: headrace.Connection) -> None:
    query = "SELECT n % 2 AS product_id, n AS skus__sku_id FROM generate_series(0, 2) AS n"
    expected = [Product(0, [Sku(0)]), Product(1, [Sku(1)]), Product(0, [Sku(2)])]
    assert [row async for row in conn.stream(query, row=Product)] == expected
    async with conn.transaction():
        assert [row async for row in conn.stream(query, row=Product)] == expected


async def test_an_object_of_a_million_rows(conn: headrace.Connection) -> None:
    query = "SELECT 1 AS product_id, generate_series(1, 100000) AS skus__sku_id"
    (product,) = [row async for row in conn.stream(query, row=Product)]
    assert len(product.skus) == 100_000


async def test_named_parameters(conn: headrace.Connection) -> None:
    query = headrace.sql("SELECT generate_series(1, :last) AS n", last=3)
    assert [row["n"] async for row in conn.stream(query)] == [1, 2, 3]


async def test_types_of_users_and_their_codecs(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TYPE pg_temp.mood AS ENUM ('good', 'bad')")
    query = "SELECT 'good'::pg_temp.mood AS mood FROM generate_series(1, 3)"
    assert [row["mood"] async for row in conn.stream(query)] == ["good"] * 3


async def test_statements_that_write(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (n int)")
    rows = [row["n"] async for row in conn.stream("INSERT INTO t SELECT generate_series(1, 1000) RETURNING n")]
    assert rows == list(range(1, 1001))
    assert [row async for row in conn.stream("DELETE FROM t WHERE n > 10")] == []
    assert await conn.fetchval("SELECT count(*) FROM t") == 10


async def test_by_hand(conn: headrace.Connection) -> None:
    rows = conn.stream(SERIES, 2)
    assert await anext(rows) == (1,)
    assert await anext(rows, None) == (2,)
    assert await anext(rows, None) is None
    with pytest.raises(StopAsyncIteration):
        await anext(rows)
    await rows.aclose()


async def test_of_a_prepared_statement_that_is_forgotten(conn: headrace.Connection) -> None:
    assert [row["n"] async for row in (await conn.prepare(SERIES)).stream(3)] == [1, 2, 3]
    assert await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE statement = $1", SERIES) <= 1


async def test_query_loggers_see_it_at_its_end(conn: headrace.Connection) -> None:
    seen: list[headrace.LoggedQuery] = []
    with conn.query_logger(seen.append):
        async for _ in conn.stream(SERIES, 3):
            assert not seen
        async for _ in conn.stream(ENDLESS):
            break
        with pytest.raises(headrace.DivisionByZeroError):
            await anext(conn.stream("SELECT 1 / 0"))
    assert [(each.query, each.args, type(each.exception)) for each in seen] == [
        (SERIES, (3,), type(None)),
        (ENDLESS, (), GeneratorExit),
        ("SELECT 1 / 0", (), headrace.DivisionByZeroError),
    ]


async def test_without_statement_cache(connect: Connect) -> None:
    for options in ({"statement_cache_size": 0}, {"statement_mode": "unnamed"}, {"statement_mode": "describe"}):
        connection = await connect(**options)
        for _ in range(2):
            assert [row["n"] async for row in connection.stream(SERIES, 30_000)] == list(range(1, 30_001))


# With others' libraries


async def test_under_aiostream(conn: headrace.Connection, pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1)
    for source in (conn, shared):
        chunks = aiostream.stream.chunks(aiostream.stream.iterate(source.stream(ENDLESS)), 10)
        async with aiostream.stream.take(chunks, 2).stream() as streamer:
            assert [[row["n"] for row in chunk] async for chunk in streamer] == [
                list(range(1, 11)),
                list(range(11, 21)),
            ]
        assert await source.fetchval("SELECT 1") == 1


async def test_a_cursor_under_aiostream(conn: headrace.Connection) -> None:
    async with conn.transaction():
        taken = aiostream.stream.take(aiostream.stream.iterate(conn.cursor(SERIES, 1000)), 60)
        assert [row["n"] for row in await aiostream.stream.list(taken)] == list(range(1, 61))


async def test_under_aclosing(conn: headrace.Connection) -> None:
    async with aclosing(conn.stream(ENDLESS)) as rows:
        async for row in rows:
            if row["n"] == 10:
                break
    assert await conn.fetchval("SELECT 1") == 1


# Bad use


async def test_bad_arguments(conn: headrace.Connection, pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1)
    for source in (conn, shared):
        for prefetch in (0, -1, "many", True):
            with pytest.raises(headrace.InterfaceError, match="greater than zero"):
                source.stream(SERIES, 3, prefetch=prefetch)  # type: ignore[arg-type]
        with pytest.raises(headrace.DataError, match="three"):
            await anext(source.stream(SERIES, "three"))
        with pytest.raises(headrace.InterfaceError, match="1 argument"):
            await anext(source.stream(SERIES))
        with pytest.raises(headrace.PostgresSyntaxError):
            await anext(source.stream("SELEC 1"))
        with pytest.raises(ValueError, match="timeout"):
            await anext(source.stream(SERIES, 1, timeout="soon"))  # type: ignore[call-overload]
        with pytest.raises(headrace.InterfaceError, match="copy"):
            await anext(source.stream("COPY pg_class TO STDOUT"))
        assert await source.fetchval("SELECT 1") == 1


async def test_after_its_end_it_is_not_entered_again(conn: headrace.Connection) -> None:
    rows = conn.stream(SERIES, 1)
    async with rows:
        pass
    with pytest.raises(headrace.InterfaceError, match="call stream"):
        await rows.__aenter__()


async def test_two_tasks_do_not_wait_for_the_same_row(conn: headrace.Connection) -> None:
    rows = conn.stream("SELECT pg_sleep(60)")

    async def one() -> Any:
        return await anext(rows)

    first = asyncio.create_task(one())
    await until_in_flight(conn)
    with pytest.raises(headrace.InterfaceError, match="another task"):
        await one()
    with pytest.raises(headrace.InterfaceError, match="another task"):
        await rows.aclose()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert await conn.fetchval("SELECT 1") == 1


async def test_rows_asked_for_together_are_not_the_same_row(conn: headrace.Connection) -> None:
    async with conn.stream(SERIES, 10) as rows:
        first, *others = await asyncio.gather(*(anext(rows) for _ in range(3)), return_exceptions=True)
        assert first == (1,)
        assert [str(error).splitlines()[0] for error in others] == [
            "another task is waiting for the next row of this stream"
        ] * 2
        # These rows have come already.
        together: list[Any] = await asyncio.gather(anext(rows), anext(rows, None), anext(rows))
        assert together == [(2,), (3,), (4,)]
        later: list[Awaitable[Any]] = [anext(rows), anext(rows, None), rows.__anext__()]
        assert [await each for each in later] == [(5,), (6,), (7,)]
        tasks = [asyncio.create_task(rows.__anext__()) for _ in range(2)]
        assert [await each for each in tasks] == [(8,), (9,)]
        assert [row async for row in rows] == [(10,)]
        later = [anext(rows, "end"), anext(rows, "end")]
        assert [await each for each in later] == ["end", "end"]


async def test_the_task_that_reads_gets_an_error_for_other_calls(conn: headrace.Connection) -> None:
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: conn.fetchval("SELECT 1"),
        lambda: conn.execute("SELECT 1"),
        lambda: conn.prepare("SELECT 1"),
        lambda: conn.transaction().start(),
        lambda: conn.executemany("SELECT $1::int", [(1,)]),
        lambda: conn.copy_from_query("SELECT 1", output=bytearray.extend),  # type: ignore[arg-type]
        lambda: anext(conn.stream("SELECT 1")),
    ]
    async with conn.stream(SERIES, 3) as rows:
        for call in calls:
            with pytest.raises(headrace.InterfaceError) as caught:
                await call()
            assert caught.value.hint is not None
            assert "pool.stream()" in caught.value.hint
            assert "connection.transaction()" in caught.value.hint
        assert [row["n"] async for row in rows] == [1, 2, 3]
    assert await conn.fetchval("SELECT 1") == 1


async def test_that_does_not_depend_on_how_much_has_come(conn: headrace.Connection) -> None:
    async for row in conn.stream(SERIES, 2):
        with pytest.raises(headrace.InterfaceError, match="stream"):
            await conn.fetchval("SELECT 1")
        assert row["n"] in (1, 2)
    assert await conn.fetchval("SELECT 1") == 1


async def test_the_two_ways_out_that_the_error_names(conn: headrace.Connection, pool: MakePool) -> None:
    async with conn.transaction():
        assert [await conn.fetchval("SELECT $1::int + 1", row["n"]) async for row in conn.stream(SERIES, 3)] == [
            2,
            3,
            4,
        ]
    shared = await pool(min_size=2, max_size=2)
    rows = [await shared.fetchval("SELECT $1::int + 1", row["n"]) async for row in shared.stream(SERIES, 3)]
    assert rows == [2, 3, 4]


async def test_calls_of_other_tasks_wait_for_its_end(conn: headrace.Connection) -> None:
    opened = asyncio.Event()

    async def call() -> Any:
        await opened.wait()
        return await conn.fetchval("SELECT 7")

    other = asyncio.create_task(call())
    rows = conn.stream(SERIES, 100_000)
    assert await anext(rows) == (1,)
    opened.set()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not other.done()
    assert len([row async for row in rows]) == 99_999
    assert await other == 7


IN_A_TASK_OF_ITS_OWN = [
    asyncio.create_task,
    asyncio.gather,
    lambda call: asyncio.wait_for(asyncio.create_task(call), PATIENCE),  # wait_for() alone does that on Python 3.11
]


@pytest.mark.parametrize("awaited", IN_A_TASK_OF_ITS_OWN)
async def test_a_call_of_a_task_that_its_reader_makes_meanwhile_is_refused_at_once(
    conn: headrace.Connection, awaited: Callable[[Any], Awaitable[Any]]
) -> None:
    """The reader waits for the task, the task for the end of the stream, and that for the reader."""
    async for row in conn.stream(SERIES, 3):
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(headrace.InterfaceError, match="task that has made this one has a stream") as caught:
                await awaited(conn.fetchval("SELECT 1"))
        assert "pool.stream()" in str(caught.value)
        assert row["n"] <= 3
    assert await awaited(conn.fetchval("SELECT 1")) in (1, [1])


async def test_a_call_is_refused_too_if_each_row_is_read_in_a_task_of_its_own(conn: headrace.Connection) -> None:
    """As wait_for(anext(rows)) does on Python 3.11."""
    rows = conn.stream(SERIES, 100_000)
    for number in (1, 2):
        (row,) = await asyncio.gather(anext(rows))
        assert row["n"] == number
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(headrace.InterfaceError, match="this task has a stream of rows open"):
                await conn.fetchval("SELECT 1")
    await rows.aclose()
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_call_waits_for_a_stream_that_another_task_reads(conn: headrace.Connection) -> None:
    """Also if it is of the task that has made the stream and the other task."""

    async def read(rows: Any) -> int:
        return len([row async for row in rows])

    reader = asyncio.create_task(read(conn.stream(SERIES, 100_000)))
    await until_in_flight(conn)
    assert await conn.fetchval("SELECT 7") == 7
    assert await reader == 100_000


@pytest.mark.parametrize("awaited", IN_A_TASK_OF_ITS_OWN)
async def test_in_a_transaction_tasks_that_its_reader_makes_run_between_its_rows(
    conn: headrace.Connection, awaited: Callable[[Any], Awaitable[Any]]
) -> None:
    for read in (conn.stream, conn.cursor):
        async with asyncio.timeout(PATIENCE), conn.transaction():
            found = [await awaited(conn.fetchval("SELECT 1")) async for _ in read(SERIES, 20, prefetch=3)]
        assert len(found) == 20


async def test_in_a_transaction_other_queries_run_between_its_rows(conn: headrace.Connection) -> None:
    async with conn.transaction():
        found = []
        async for row in conn.stream(SERIES, 200, prefetch=10):
            found.append(await conn.fetchval("SELECT $1::int * 2", row["n"]))
    assert found == list(range(2, 401, 2))


async def test_it_takes_along_a_begin_that_was_put_off(conn: headrace.Connection) -> None:
    async with conn.transaction():
        assert [row[0] async for row in conn.stream("SELECT pg_current_xact_id()::text = pg_current_xact_id()::text")]
        assert conn._driver.session.commands.status == "T"


async def test_behind_the_end_of_its_transaction_it_cannot_go_on(conn: headrace.Connection) -> None:
    async with conn.transaction():
        rows = conn.stream(SERIES, 1000, prefetch=2)
        assert await anext(rows) == (1,)
    assert await anext(rows) == (2,)
    with pytest.raises(headrace.NoActiveSQLTransactionError, match="has ended"):
        await anext(rows)


async def test_inside_a_transaction_of_a_lease_that_was_given_back(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection, connection.transaction():
        rows = connection.stream(SERIES, 1000, prefetch=1)
        assert await anext(rows) == (1,)
    async with made.acquire() as connection, connection.transaction():
        await connection.execute("SELECT 1")
        with pytest.raises(headrace.InterfaceError, match="released"):
            await anext(rows)


async def test_of_a_lease_that_was_given_back(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection:
        begun, unused = connection.stream(ENDLESS), connection.stream(SERIES, 3)
        assert (await anext(begun))["n"] == 1
    assert await made.fetchval("SELECT 1") == 1
    with pytest.raises(headrace.InterfaceError, match="released"):
        async for _ in begun:
            pass
    with pytest.raises(headrace.InterfaceError, match="released"):
        await anext(unused)


async def test_a_lease_that_is_given_back_while_another_task_reads(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)

    async def read(rows: Stream[Any]) -> None:
        async for _ in rows:
            await asyncio.sleep(0)

    async with made.acquire() as connection:
        rows = connection.stream(ENDLESS)
        await anext(rows)
        reader = asyncio.create_task(read(rows))
        await asyncio.sleep(0)
    with pytest.raises(headrace.InterfaceError, match="released"):
        await reader
    assert await made.fetchval("SELECT 1") == 1


# Errors in the middle


@pytest.mark.parametrize("in_block", [False, True])
async def test_an_error_of_the_server_comes_behind_the_rows_before_it(
    conn: headrace.Connection, in_block: bool
) -> None:
    query = "SELECT 1 / (70000 - n) AS q, n FROM generate_series(1, 100000) AS n"
    seen = 0
    transaction = conn.transaction()
    if in_block:
        await transaction.start()
    with pytest.raises(headrace.DivisionByZeroError):
        async for row in conn.stream(query, prefetch=1 if in_block and seen else None):
            seen += 1
            assert row["n"] == seen
    if in_block:
        # Rows of the batch that fails never come.
        assert 68_900 < seen < 70_000
        await transaction.rollback()
    else:
        assert seen == 69_999
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_value_that_cannot_be_read_comes_behind_the_rows_before_it(conn: headrace.Connection) -> None:
    query = (
        "SELECT CASE n WHEN 70000 THEN 'infinity'::timestamp - interval '0' ELSE now()::timestamp END AS t, n "
        "FROM generate_series(1, 1000000) AS n"
    )

    def decoded(text: str) -> str:
        if text == "infinity":
            raise LookupError("far away")
        return text

    await conn.set_type_codec("timestamp", schema="pg_catalog", encoder=str, decoder=decoded, format="text")
    seen = 0
    with pytest.raises(LookupError, match="far away"):
        async for row in conn.stream(query):
            seen += 1
            assert row["n"] == seen
    assert seen == 69_999
    assert await conn.fetchval("SELECT 1") == 1


async def test_stop_async_iteration_of_a_codec_is_not_the_end(conn: headrace.Connection) -> None:
    def decoded(text: str) -> str:
        raise StopAsyncIteration

    await conn.set_type_codec("text", schema="pg_catalog", encoder=str, decoder=decoded)
    with pytest.raises(RuntimeError, match="StopAsyncIteration"):
        async for _ in conn.stream("SELECT 'a'::text"):
            pass
    assert await conn.fetchval("SELECT 1") == 1


async def test_statement_timeout_runs_while_the_reader_is_slow(conn: headrace.Connection) -> None:
    await conn.execute("SET statement_timeout = '100ms'")
    seen = 0
    with pytest.raises(headrace.QueryCanceledError, match="statement timeout"):
        async for _ in conn.stream(ENDLESS):
            if seen == 0:
                # The server cannot send what it has. It is past its time limit when it goes on.
                await asyncio.sleep(0.3)
            seen += 1
    assert seen > 1
    assert await conn.fetchval("SELECT 1") == 1


async def test_the_snapshot_is_that_of_its_begin(conn: headrace.Connection, connect: Connect) -> None:
    writer = await connect()
    await writer.execute("CREATE TABLE seen AS SELECT n, repeat('x', 1000) AS text FROM generate_series(1, 20000) AS n")
    try:
        seen = 0
        async for _ in conn.stream("SELECT n, text FROM seen"):
            if seen == 0:
                await writer.execute("DELETE FROM seen")
            seen += 1
        assert seen == 20_000
    finally:
        await writer.execute("DROP TABLE seen")


async def test_a_lost_connection_comes_behind_the_rows_that_have_come(
    conn: headrace.Connection, server: Cluster
) -> None:
    pid = conn.get_server_pid()
    seen = 0
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        async for _ in conn.stream(ENDLESS):
            seen += 1
            if seen == 1:
                server.sql(f"SELECT pg_terminate_backend({pid})")
    assert seen > 1
    assert conn.is_closed()


@pytest.mark.parametrize("in_block", [False, True])
async def test_a_connection_that_the_network_cuts(proxy: Proxy, connect: Connect, in_block: bool) -> None:
    connection = await connect(host="127.0.0.1", port=proxy.port)
    transaction = connection.transaction()
    if in_block:
        await transaction.start()
    seen = 0
    with pytest.raises(headrace.ConnectionDoesNotExistError) as caught:
        async for _ in connection.stream(ENDLESS):
            seen += 1
            if seen == 1:
                proxy.reset()
    assert seen >= 1
    assert not headrace.is_safe_to_retry(caught.value), "rows were seen"


# Left early


Leave = Callable[[Any], Awaitable[None]]


async def by_break(source: Any) -> None:
    async for row in source.stream(ENDLESS):
        if row["n"] == 5:
            break


async def by_exception(source: Any) -> None:
    with pytest.raises(LookupError):
        async for _ in source.stream(ENDLESS):
            raise LookupError


async def by_block(source: Any) -> None:
    async with source.stream(ENDLESS) as rows:
        await anext(rows)


async def by_block_unread(source: Any) -> None:
    async with source.stream(ENDLESS):
        pass


async def by_aclose(source: Any) -> None:
    rows = source.stream(ENDLESS)
    await anext(rows)
    await rows.aclose()
    await rows.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


async def by_cancellation_in_the_loop(source: Any) -> None:
    reached = asyncio.Event()

    async def read() -> None:
        async for _ in source.stream(ENDLESS):
            reached.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_cancellation_at_a_wait(source: Any) -> None:
    rows = source.stream("SELECT pg_sleep(60)")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await anext(rows)
    with pytest.raises(StopAsyncIteration):
        await anext(rows)


async def by_wait_for(source: Any) -> None:
    rows = source.stream("SELECT pg_sleep(60)")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(anext(rows), 0.05)


async def by_its_own_time_limit(source: Any) -> None:
    with pytest.raises(TimeoutError, match=r"timed out after 0\.05 seconds"):
        async for _ in source.stream("SELECT pg_sleep(60)", timeout=0.05):
            pass


async def by_garbage_collection(source: Any) -> None:
    class Keeper:
        pass

    keeper: Any = Keeper()
    keeper.itself = keeper
    keeper.rows = source.stream(ENDLESS)
    await anext(keeper.rows)
    del keeper
    gc.collect()


async def by_closed_coroutine(source: Any) -> None:
    async def read() -> None:
        async for _ in source.stream("SELECT pg_sleep(60)"):
            pass

    coroutine = read()
    task = asyncio.current_task()
    assert task is not None
    # Driven by hand up to its first wait for rows, and thrown away.
    for _ in range(3):
        try:
            future: Any = coroutine.send(None)
        except StopIteration:
            raise AssertionError("it has ended") from None
        future._asyncio_future_blocking = False
        while not future.done():
            await asyncio.sleep(0)
            if source_is_busy(source):
                break
        if source_is_busy(source):
            break
    coroutine.close()


def source_is_busy(source: Any) -> bool:
    if isinstance(source, headrace.Connection):
        return bool(in_flight(source))
    return any(in_flight(each.connection) for each in source._scheduler.connections.values())


LEFT = [
    by_break, by_exception, by_block, by_block_unread, by_aclose, by_cancellation_in_the_loop,
    by_cancellation_at_a_wait, by_wait_for, by_its_own_time_limit, by_garbage_collection, by_closed_coroutine,
]  # fmt: skip


@pytest.mark.parametrize("leave", LEFT)
async def test_left_early_a_connection_is_free_at_once(
    conn: headrace.Connection, server: Cluster, leave: Leave
) -> None:
    for _ in range(3):
        await leave(conn)
        async with asyncio.timeout(PATIENCE):
            assert await conn.fetchval("SELECT 1") == 1
    assert running(server) == 0


def running(server: Cluster) -> int:
    """How many streams the server works on."""
    ((count,),) = server.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND backend_type = 'client backend' "
        "AND pid <> pg_backend_pid() AND (query LIKE '%generate_series%' OR query LIKE '%pg_sleep%')"
    )
    return int(count)


@pytest.mark.parametrize("leave", LEFT)
async def test_left_early_a_lease_goes_back_clean(pool: MakePool, server: Cluster, leave: Leave) -> None:
    made = await pool(min_size=1, max_size=1)
    pid = await made.fetchval("SELECT pg_backend_pid()")
    for _ in range(3):
        await leave(made)
        async with asyncio.timeout(PATIENCE):
            assert await made.fetchval("SELECT 1") == 1
    assert await made.fetchval("SELECT pg_backend_pid()") == pid
    assert running(server) == 0
    async with made.acquire() as connection:
        assert await connection.fetchval("SELECT count(*) FROM pg_cursors WHERE name <> ''") == 0


@pytest.mark.parametrize("leave", [by_break, by_exception, by_block, by_aclose, by_cancellation_in_the_loop])
async def test_left_early_in_a_transaction_that_goes_on(conn: headrace.Connection, leave: Leave) -> None:
    async with conn.transaction():
        await leave(conn)
        assert await conn.fetchval("SELECT count(*) FROM pg_cursors WHERE name LIKE 'headrace%'") == 0


async def test_a_write_that_is_left_early_is_done_whole_or_not_at_all(conn: headrace.Connection) -> None:
    """PostgreSQL has done all of it before it sends the first row."""
    await conn.execute("CREATE TEMP TABLE written (n int, text text)")
    query = "INSERT INTO written SELECT n, repeat('x', 1000) FROM generate_series(1, 10000) AS n RETURNING *"
    async for _ in conn.stream(query):
        break
    assert await conn.fetchval("SELECT count(*) FROM written") in (0, 10_000)


async def test_cancelled_in_the_wait_for_a_lease(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire():
        task: asyncio.Task[Any] = asyncio.create_task(anext(made.stream(SERIES, 1)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(TimeoutError):
            await anext(made.stream(SERIES, 1, timeout=0.01))
    assert await made.fetchval("SELECT 1") == 1


async def test_the_lease_has_ended_when_the_loop_has(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    async for _ in made.stream(SERIES, 3):
        assert made.get_idle_size() == 0
    assert made.get_idle_size() == 1
    with pytest.raises(headrace.DivisionByZeroError):
        async for _ in made.stream("SELECT 1 / 0"):
            pass
    assert made.get_idle_size() == 1


async def test_a_lease_goes_back_with_its_first_settings(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    assert [row[0] async for row in made.stream("SELECT set_config('work_mem', '64MB', false)")] == ["64MB"]
    assert await made.fetchval("SHOW work_mem") == "4MB"
    with pytest.raises(headrace.InterfaceError, match="lastval"):
        await anext(made.stream("SELECT lastval()"))


async def test_streams_on_all_connections_of_a_pool_are_reported_once(
    pool: MakePool, caplog: pytest.LogCaptureFixture
) -> None:
    made = await pool(min_size=2, max_size=2)
    async with made.stream(SERIES, 3):
        assert not caplog.records
    for _ in range(3):
        async with made.stream(SERIES, 3), made.stream(SERIES, 3):
            (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "all 2 connections of a pool are leased to streams" in record.message
    assert "max_size=" in record.message
    assert len(caplog.records) == 1


@pytest.mark.parametrize("used_before", [False, True])
async def test_on_a_lease_on_demand(pool: MakePool, used_before: bool) -> None:
    made = await pool(min_size=1, max_size=2, lazy_acquire=True)
    async with made.acquire() as connection:
        rows = connection.stream(SERIES, 3)
        if used_before:
            await connection.execute("SET work_mem = '64MB'")
        assert [row["n"] async for row in rows] == [1, 2, 3]
        pid = connection.get_server_pid()
        async with connection.transaction():
            query = "SELECT pg_backend_pid() FROM generate_series(1, 3)"
            assert [row[0] async for row in connection.stream(query)] == [pid] * 3
    async with made.acquire() as connection:
        rows = connection.stream(SERIES, 3)
    with pytest.raises(headrace.InterfaceError, match="released"):
        await anext(rows)
    assert [row["n"] async for row in made.stream(SERIES, 3)] == [1, 2, 3]


async def test_a_stream_that_is_never_read_costs_nothing(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    made.stream(SERIES, 1)
    await made.stream(SERIES, 1).aclose()
    assert made.get_idle_size() == 1


async def test_cancelled_at_every_step(conn: headrace.Connection, pool: MakePool) -> None:
    """The loop goes on by one tick after the other until the stream has come to its end."""
    shared = await pool(min_size=1, max_size=1)

    async def read_rows(source: Any) -> int:
        return len([row async for row in source.stream(SERIES, 30_000)])

    async def read_batches(source: Any) -> int:
        return sum([len(batch) async for batch in source.stream_arrow(SERIES, 30_000, batch_rows=1000)])

    for source, read in ((conn, read_rows), (shared, read_rows), (conn, read_batches), (shared, read_batches)):
        for ticks in range(200):
            task = asyncio.create_task(read(source))
            for _ in range(ticks):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with asyncio.timeout(PATIENCE):
                assert await source.fetchval("SELECT $1::int", ticks) == ticks
        assert await read(source) == 30_000


async def test_a_server_that_does_not_confirm_the_cancellation_costs_the_connection(
    connect: Connect, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headrace._core.pipeline.cancel, "CANCEL_TIMEOUT", 0.2)
    connection = await connect(host="127.0.0.1", port=proxy.port)
    async for _ in connection.stream(ENDLESS):
        proxy.freeze()
        break
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        async with asyncio.timeout(PATIENCE):
            await connection.fetchval("SELECT 1")
    assert connection.is_closed()


async def test_closed_in_the_middle_the_reader_learns_of_it(connect: Connect) -> None:
    connection = await connect()
    rows = connection.stream(ENDLESS)
    await anext(rows)
    closing = asyncio.create_task(connection.close())
    with pytest.raises((headrace.InterfaceError, headrace.QueryCanceledError)):
        async with asyncio.timeout(PATIENCE):
            async for _ in rows:
                await asyncio.sleep(0)
    await closing


async def test_terminated_in_the_middle_the_reader_learns_of_it(connect: Connect) -> None:
    connection = await connect()
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        async for _ in connection.stream(ENDLESS):
            connection.terminate()


# Memory


async def test_a_slow_reader_slows_the_server_down(proxy: Proxy, connect: Connect) -> None:
    """The proxy counts what the server has sent: far less than it has to send."""
    connection = await connect(host="127.0.0.1", port=proxy.port)
    async with connection.stream(ENDLESS) as rows:
        for _ in range(3):
            for _ in range(10):
                await anext(rows)
            request: Any
            (request,) = connection._driver.session.sent
            still = 0
            received = request.received
            while still < 200:
                await asyncio.sleep(0)
                still = still + 1 if request.received == received else 0
                received = request.received
            assert request.backlog < 1 << 20
            assert received < MOST_READ
    assert await connection.fetchval("SELECT 1") == 1
