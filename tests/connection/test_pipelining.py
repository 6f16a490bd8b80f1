"""Concurrent calls on one connection: they just run, in the order of the calls."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import headrace


async def test_gather_on_one_connection(conn: headrace.Connection) -> None:
    answers = await asyncio.gather(*(conn.fetchval("SELECT $1::int * 2", i) for i in range(1000)))
    assert answers == [2 * i for i in range(1000)]


async def test_a_task_group_of_different_calls(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    async with asyncio.TaskGroup() as group:
        group.create_task(conn.execute("INSERT INTO t VALUES (1)"))
        group.create_task(conn.executemany("INSERT INTO t VALUES ($1)", [(2,), (3,)]))
        count = group.create_task(conn.fetchval("SELECT count(*) FROM t"))
        row = group.create_task(conn.fetchrow("SELECT sum(a) FROM t"))
    assert count.result() == 3
    assert row.result() == (6,)


async def test_an_error_settles_its_own_call_alone(conn: headrace.Connection) -> None:
    good, bad, unknown, after = await asyncio.gather(
        conn.fetchval("SELECT 1"),
        conn.fetchval("SELECT 1 / 0"),
        conn.fetchval("SELECT * FROM missing"),
        conn.fetchval("SELECT 2"),
        return_exceptions=True,
    )
    assert (good, after) == (1, 2)
    assert isinstance(bad, headrace.DivisionByZeroError)
    assert isinstance(unknown, headrace.UndefinedTableError)


async def test_calls_run_in_order_although_some_are_prepared_first(conn: headrace.Connection) -> None:
    """A new statement holds back those behind it: otherwise the table would not be there yet."""
    await conn.fetch("SELECT 1")
    results = await asyncio.gather(
        conn.fetch("CREATE TEMP TABLE ordered (a int)"),
        conn.fetchval("SELECT 1"),
        conn.execute("INSERT INTO ordered VALUES ($1)", 7),
        conn.fetchval("SELECT a FROM ordered"),
        conn.execute("DROP TABLE ordered"),
        conn.fetch("SELECT a FROM ordered"),
        return_exceptions=True,
    )
    assert results[3] == 7
    assert isinstance(results[5], headrace.UndefinedTableError)


async def test_a_new_statement_is_prepared_once_for_all_who_wait(conn: headrace.Connection) -> None:
    before = conn._driver.session.statements.prepared
    assert await asyncio.gather(*(conn.fetchval("SELECT 'single flight'") for _ in range(50))) == ["single flight"] * 50
    assert conn._driver.session.statements.prepared == before + 1


async def test_a_statement_that_fails_to_parse_fails_each_caller_by_itself(conn: headrace.Connection) -> None:
    errors = await asyncio.gather(*(conn.fetch("SELECT * FROM nowhere") for _ in range(3)), return_exceptions=True)
    assert [type(error) for error in errors] == [headrace.UndefinedTableError] * 3
    assert len({id(error) for error in errors}) == 3


@pytest.mark.parametrize("max_pipeline", [1, 2, 100])
async def test_max_pipeline_bounds_what_is_in_flight(connect: Any, max_pipeline: int) -> None:
    connection = await connect(max_pipeline=max_pipeline)
    await connection.fetchval("SELECT $1::int", 0)
    session = connection._driver.session
    calls = [asyncio.ensure_future(connection.fetchval("SELECT $1::int", i)) for i in range(300)]
    most = 0
    while not all(call.done() for call in calls):
        await asyncio.sleep(0)
        most = max(most, session.sent.count)
    assert [call.result() for call in calls] == list(range(300))
    assert 1 <= most <= max_pipeline


async def test_large_requests_and_large_replies_at_once_do_not_deadlock(conn: headrace.Connection) -> None:
    big = "x" * 3_000_000
    answers = await asyncio.gather(*(conn.fetchval("SELECT $1::text || $2", big, str(i)) for i in range(12)))
    assert [answer[3_000_000:] for answer in answers] == [str(i) for i in range(12)]


async def test_query_inside_async_for_on_the_same_connection(conn: headrace.Connection) -> None:
    async with conn.transaction():
        seen = []
        async for row in conn.cursor("SELECT * FROM generate_series(1, 120) AS i"):
            seen.append(await conn.fetchval("SELECT $1::int + 1", row["i"]))
    assert seen == list(range(2, 122))


async def test_followers_in_a_failed_transaction_carry_the_root_cause(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.DivisionByZeroError):
        async with conn.transaction():
            first, second = await asyncio.gather(
                conn.fetchval("SELECT 1 / 0"), conn.fetchval("SELECT 1"), return_exceptions=True
            )
            assert isinstance(second, headrace.InFailedSQLTransactionError)
            assert second.__cause__ is first
            raise first  # type: ignore[misc]


async def test_statements_are_prepared_again_unseen_after_ddl(conn: headrace.Connection, connect: Any) -> None:
    await conn.execute("CREATE TABLE ddl_target (a int)")
    other = await connect()
    await other.execute("INSERT INTO ddl_target VALUES (1)")
    assert await conn.fetchrow("SELECT * FROM ddl_target") == (1,)
    await other.execute("ALTER TABLE ddl_target ADD COLUMN b text DEFAULT 'new'")
    rows = await asyncio.gather(*(conn.fetchrow("SELECT * FROM ddl_target") for _ in range(10)))
    assert rows == [(1, "new")] * 10
    await other.execute("DROP TABLE ddl_target")


async def test_statements_are_prepared_again_after_deallocate_all(conn: headrace.Connection) -> None:
    prepared = await conn.prepare("SELECT $1::int + 1")
    assert await conn.fetchval("SELECT 5") == 5
    await conn.execute("DEALLOCATE ALL")
    assert await conn.fetchval("SELECT 5") == 5
    assert await prepared.fetchval(1) == 2


async def test_a_stale_statement_inside_a_transaction_raises_once_and_is_then_healed(
    conn: headrace.Connection, connect: Any
) -> None:
    other = await connect()
    await other.execute("CREATE TABLE stale (a int); INSERT INTO stale VALUES (1)")
    query = "SELECT * FROM stale"
    assert await conn.fetchrow(query) == (1,)
    await other.execute("ALTER TABLE stale ADD COLUMN b int")
    with pytest.raises(headrace.InvalidCachedStatementError):
        async with conn.transaction():
            await conn.fetchrow(query)
    async with conn.transaction():
        assert await conn.fetchrow(query) == (1, None)
    await other.execute("DROP TABLE stale")
