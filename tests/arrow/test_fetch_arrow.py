"""fetch_arrow() of connections, pools and prepared statements: everything that holds for a query."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pyarrow
import pytest

import headrace
from headrace import arrow
from headrace.exceptions import (
    DataError,
    DivisionByZeroError,
    InterfaceError,
    OutdatedSchemaCacheError,
    UnrepresentableValueError,
)

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

MANY = "SELECT g, 'row ' || g AS t FROM generate_series(1, $1::int) AS g"


async def rows(awaitable: Any) -> list[tuple[Any, ...]]:
    table = pyarrow.table(await awaitable)
    table.validate(full=True)
    return [tuple(row.values()) for row in table.to_pylist()]


async def test_all_rows_as_columns(conn: headrace.Connection) -> None:
    found = await conn.fetch_arrow(MANY, 3)
    assert isinstance(found, arrow.ArrowTable)
    assert (found.num_rows, found.column_names) == (3, ["g", "t"])
    assert pyarrow.table(found).to_pylist() == [{"g": i, "t": f"row {i}"} for i in (1, 2, 3)]


async def test_many_rows(conn: headrace.Connection) -> None:
    table = pyarrow.table(await conn.fetch_arrow(MANY, 300_000))
    assert table.column("g").to_pylist() == list(range(1, 300_001))
    assert table.column("t")[299_999].as_py() == "row 300000"


@pytest.mark.any_server
async def test_a_result_without_rows_has_its_columns(conn: headrace.Connection) -> None:
    table = pyarrow.table(await conn.fetch_arrow(MANY, 0))
    assert table.schema == pyarrow.schema([("g", pyarrow.int32()), ("t", pyarrow.string())])
    assert table.num_rows == 0


@pytest.mark.any_server
async def test_results_without_columns(conn: headrace.Connection) -> None:
    found = await conn.fetch_arrow("SELECT FROM generate_series(1, 3)")
    assert (found.num_rows, found.num_columns) == (3, 0)
    for statement in ("CREATE TEMPORARY TABLE t (n int)", "INSERT INTO t VALUES (1)"):
        found = await conn.fetch_arrow(statement)
        assert (found.num_rows, found.num_columns) == (0, 0)
    assert await rows(conn.fetch_arrow("INSERT INTO t VALUES (2) RETURNING n")) == [(2,)]


@pytest.mark.any_server
async def test_named_parameters(conn: headrace.Connection) -> None:
    assert await rows(conn.fetch_arrow(headrace.sql("SELECT :a::int AS a", a=5))) == [(5,)]


@pytest.mark.any_server
async def test_a_value_without_a_place_fails_its_query_alone(conn: headrace.Connection) -> None:
    price = "CASE g WHEN 700 THEN 'NaN' ELSE g::numeric END::numeric(9, 2)"
    query = f"SELECT {price} AS price FROM generate_series(1, 1000) AS g"
    before, failed, after = await asyncio.gather(
        conn.fetchval("SELECT 1"), conn.fetch_arrow(query), conn.fetchval("SELECT 2"), return_exceptions=True
    )
    assert (before, after) == (1, 2)
    assert isinstance(failed, UnrepresentableValueError)
    assert isinstance(failed, DataError)
    assert failed.args[0] == "row 700, column 'price' of type numeric: NaN does not fit decimal128(9, 2)"
    found = await rows(conn.fetch_arrow(query, out_of_range="null"))
    assert found[699] == (None,)


@pytest.mark.any_server
async def test_options_that_make_no_sense_send_nothing(conn: headrace.Connection) -> None:
    sent = conn._driver.request_count
    with pytest.raises(ValueError, match="decimal is expected to be"):
        await conn.fetch_arrow("SELECT 1", decimal=(0, 1))
    with pytest.raises(ValueError, match="out_of_range is expected to be"):
        await conn.fetch_arrow("SELECT 1", out_of_range="ignore")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid timeout"):
        await conn.fetch_arrow("SELECT 1", timeout="soon")  # type: ignore[arg-type]
    assert conn._driver.request_count == sent


@pytest.mark.any_server
async def test_one_statement_gives_rows_and_columns_by_turns(conn: headrace.Connection) -> None:
    query = "SELECT 1.5::numeric(5, 2) AS n, '1.2.3.4'::inet AS i, 2.5 AS m"
    for _ in range(3):
        assert len(await conn.fetch(query)) == 1
        assert [str(value) for value in (await rows(conn.fetch_arrow(query)))[0]] == ["1.50", "1.2.3.4", "2.5"]
        assert [str(value) for value in (await rows(conn.fetch_arrow(query, decimal=(9, 3))))[0]] == [
            "1.50",
            "1.2.3.4",
            "2.500",
        ]


@pytest.mark.any_server
async def test_codecs_that_users_set_play_no_part(connect: Connect) -> None:
    conn = await connect(json=True)
    await conn.set_type_codec("int4", schema="pg_catalog", encoder=str, decoder=lambda text: f"<{text}>", format="text")
    assert await rows(conn.fetch_arrow("""SELECT 1::int4 AS n, '{"a": 1}'::jsonb AS j""")) == [(1, '{"a": 1}')]
    assert await conn.fetchval("SELECT 1::int4") == "<1>"


@pytest.mark.any_server
async def test_an_error_of_the_server_leaves_the_connection_usable(conn: headrace.Connection) -> None:
    with pytest.raises(DivisionByZeroError):
        await conn.fetch_arrow("SELECT 1 / (g - 900) FROM generate_series(1, 1000) AS g")
    assert await rows(conn.fetch_arrow("SELECT 1 AS a")) == [(1,)]


@pytest.mark.any_server
async def test_copy_is_refused(conn: headrace.Connection) -> None:
    with pytest.raises(InterfaceError, match="COPY"):
        await conn.fetch_arrow("COPY (SELECT 1) TO STDOUT")


@pytest.mark.any_server
async def test_a_time_limit_and_a_cancellation(conn: headrace.Connection) -> None:
    with pytest.raises(TimeoutError):
        await conn.fetch_arrow("SELECT pg_sleep(600)", timeout=0.01)
    task = asyncio.create_task(conn.fetch_arrow("SELECT generate_series(1, 1000000000) AS g"))
    while not conn._driver.pending:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(conn.fetch_arrow("SELECT 1 AS a")) == [(1,)]


@pytest.mark.any_server
async def test_other_queries_are_pipelined_beside_it(conn: headrace.Connection) -> None:
    found = await asyncio.gather(
        *(
            rows(conn.fetch_arrow("SELECT $1::int AS a", i)) if i % 2 else conn.fetchval("SELECT $1::int", i)
            for i in range(50)
        )
    )
    assert found == [[(i,)] if i % 2 else i for i in range(50)]


@pytest.mark.any_server
async def test_a_transaction(conn: headrace.Connection) -> None:
    async with conn.transaction():
        await conn.execute("CREATE TEMPORARY TABLE t (n int)")
        assert await rows(conn.fetch_arrow("INSERT INTO t VALUES (1) RETURNING n")) == [(1,)]
        with pytest.raises(UnrepresentableValueError):
            await conn.fetch_arrow("SELECT 'infinity'::date AS d")
        assert await rows(conn.fetch_arrow("SELECT n FROM t")) == [(1,)], "the server has seen no error"


@pytest.mark.any_server
async def test_a_prepared_statement(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT $1::int AS a, $1::numeric AS n")
    assert await rows(statement.fetch_arrow(5)) == [(5, "5")]
    assert statement.get_statusmsg() == "SELECT 1"
    assert [str(row[1]) for row in await rows(statement.fetch_arrow(6, decimal=(4, 1)))] == ["6.0"]
    with pytest.raises(InterfaceError, match="the server expects 1 argument"):
        await statement.fetch_arrow()


@pytest.mark.any_server
@pytest.mark.parametrize("mode", ["named", "unnamed"])
async def test_a_table_that_is_altered(connect: Connect, mode: Any) -> None:
    conn, other = await connect(statement_mode=mode), await connect()
    await conn.execute(
        "DROP TABLE IF EXISTS altered; CREATE TABLE altered (n numeric(5, 2)); INSERT INTO altered VALUES (1.5)"
    )
    query = "SELECT n FROM altered"
    assert str(pyarrow.schema(await conn.fetch_arrow(query)).field("n").type) == "decimal128(5, 2)"
    await other.execute("ALTER TABLE altered ALTER n TYPE numeric(9, 4)")
    assert str(pyarrow.schema(await conn.fetch_arrow(query)).field("n").type) == "decimal128(9, 4)"
    await other.execute("ALTER TABLE altered ALTER n TYPE text")
    try:
        found = await rows(conn.fetch_arrow(query))
    except OutdatedSchemaCacheError:
        assert mode == "unnamed"
        found = await rows(conn.fetch_arrow(query))
    assert found == [("1.5000",)]


@pytest.mark.any_server
async def test_a_composite_and_an_enumerated_type_that_are_altered(connect: Connect) -> None:
    conn, other = await connect(), await connect()
    await conn.execute("""
        DROP TYPE IF EXISTS altered_mood, altered_pair CASCADE;
        CREATE TYPE altered_mood AS ENUM ('sad', 'ok'); CREATE TYPE altered_pair AS (a int)
    """)
    query = "SELECT $1::text::altered_mood AS mood, $2::text::altered_pair AS pair"
    found = pyarrow.table(await conn.fetch_arrow(query, "ok", "(1)"))
    assert found.column("mood").chunk(0).dictionary.to_pylist() == ["sad", "ok"]
    await other.execute("ALTER TYPE altered_mood ADD VALUE 'angry' BEFORE 'sad'")
    assert (await rows(conn.fetch_arrow(query, "angry", "(1)")))[0][0] == "angry"
    await other.execute("ALTER TYPE altered_pair ALTER ATTRIBUTE a TYPE text")
    with pytest.raises(OutdatedSchemaCacheError, match="altered_pair has been altered"):
        await conn.fetch_arrow(query, "ok", "(1)")
    assert (await rows(conn.fetch_arrow(query, "ok", "(1)")))[0][1] == {"a": "1"}


@pytest.mark.any_server
async def test_without_a_statement_cache(connect: Connect) -> None:
    conn = await connect(statement_cache_size=0)
    for _ in range(2):
        assert await rows(conn.fetch_arrow("SELECT 1 AS a, 'x' AS b WHERE $1", False)) == []
        assert await rows(conn.fetch_arrow("SELECT 1 AS a, '1.2.3.4'::inet AS b")) == [(1, "1.2.3.4")]


@pytest.mark.any_server
async def test_query_loggers_see_it(conn: headrace.Connection) -> None:
    seen: list[str] = []
    with conn.query_logger(lambda record: seen.append(record.query)):
        await conn.fetch_arrow("SELECT 1 AS a")
        async for _ in conn.stream_arrow("SELECT 2 AS a"):
            pass
    assert seen == ["SELECT 1 AS a", "SELECT 2 AS a"]


# -- pools -------------------------------------------------------------------------------------------------------------


@pytest.mark.any_server
async def test_a_pool(pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=2)
    assert await rows(shared.fetch_arrow("SELECT $1::int AS a", 1)) == [(1,)]
    found = await asyncio.gather(*(rows(shared.fetch_arrow("SELECT $1::int AS a", i)) for i in range(20)))
    assert found == [[(i,)] for i in range(20)]
    assert (await shared.fetch_arrow("SET work_mem = '1MB'")).num_columns == 0, "on a lease"
    assert await shared.fetchval("SHOW work_mem") != "1MB"
    with pytest.raises(UnrepresentableValueError):
        await shared.fetch_arrow("SELECT 'infinity'::date AS d")


@pytest.mark.any_server
async def test_a_pool_sends_it_to_an_idle_connection(pool: MakePool) -> None:
    shared = await pool(min_size=2, max_size=2)
    read = "SELECT 1 AS a"
    for _ in range(3):
        await shared.fetchval(read)
        await shared.fetch_arrow(read)
    busy = [asyncio.ensure_future(shared.fetchval(read)) for _ in range(2)]
    await asyncio.sleep(0)
    call = shared.fetch_arrow(read)
    task = asyncio.ensure_future(call)
    await asyncio.sleep(0)
    assert shared._scheduler.waiting == 1, "it is sent behind no other request, although this is a quick plain read"
    await asyncio.gather(*busy)
    assert await rows(task) == [(1,)]


@pytest.mark.any_server
async def test_a_lease_on_demand(pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=1, lazy_acquire=True)
    async with shared.acquire() as conn:
        assert await rows(conn.fetch_arrow("SELECT 1 AS a")) == [(1,)]
        assert await rows(conn.fetch_arrow("SELECT 1.5 AS a", decimal=(3, 1))) != []
        assert [batch.num_rows async for batch in conn.stream_arrow("SELECT 1 AS a")] == [1]
    async with shared.acquire() as conn:
        assert [batch.num_rows async for batch in conn.stream_arrow("SELECT 1 AS a")] == [1]
