"""Transactions: context managers and by hand, savepoints, isolation, failures, cancellation while they begin or end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import headrace


@pytest.fixture
async def table(conn: headrace.Connection) -> str:
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY)")
    return "t"


async def rows(conn: headrace.Connection) -> list[int]:
    return [row[0] for row in await conn.fetch("SELECT a FROM t ORDER BY a")]


async def test_commit_and_rollback(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction() as nothing:
        assert nothing is None
        assert conn.is_in_transaction()
        await conn.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(RuntimeError, match="undo"):
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (2)")
            raise RuntimeError("undo")
    assert not conn.is_in_transaction()
    assert await rows(conn) == [1]


async def test_nested_transactions_are_savepoints(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(headrace.UniqueViolationError):
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (2)")
                async with conn.transaction():
                    await conn.execute("INSERT INTO t VALUES (3)")
                await conn.execute("INSERT INTO t VALUES (1)")
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (4)")
    assert await rows(conn) == [1, 4]


async def test_by_hand(conn: headrace.Connection, table: str) -> None:
    transaction = conn.transaction()
    with pytest.raises(headrace.InterfaceError, match="not yet started"):
        await transaction.commit()
    await transaction.start()
    with pytest.raises(headrace.InterfaceError, match="already started"):
        await transaction.start()
    await conn.execute("INSERT INTO t VALUES (1)")
    await transaction.rollback()
    with pytest.raises(headrace.InterfaceError, match="already rolled back"):
        await transaction.commit()
    other = conn.transaction()
    await other.start()
    await conn.execute("INSERT INTO t VALUES (2)")
    await other.commit()
    with pytest.raises(headrace.InterfaceError, match="already committed"):
        await other.rollback()
    assert await rows(conn) == [2]


async def test_a_managed_transaction_is_not_ended_by_hand(conn: headrace.Connection) -> None:
    transaction = conn.transaction()
    with pytest.raises(headrace.InterfaceError, match="from within an `async with` block"):
        async with transaction:
            await transaction.commit()
    assert not conn.is_in_transaction()


@pytest.mark.parametrize("isolation", ["serializable", "repeatable_read", "read_committed", "read_uncommitted"])
async def test_isolation_levels(conn: headrace.Connection, isolation: str) -> None:
    async with conn.transaction(isolation=isolation):
        assert await conn.fetchval("SHOW transaction_isolation") == isolation.replace("_", " ")
        async with conn.transaction(isolation=isolation):
            pass
        with pytest.raises(headrace.InterfaceError, match="different isolation level"):
            async with conn.transaction(isolation="serializable" if isolation != "serializable" else "read_committed"):
                pass


async def test_readonly_and_deferrable(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction(isolation="serializable", readonly=True, deferrable=True):
        assert await conn.fetchval("SHOW transaction_read_only") == "on"
        assert await conn.fetchval("SHOW transaction_deferrable") == "on"
    with pytest.raises(headrace.ReadOnlySQLTransactionError):
        async with conn.transaction(readonly=True):
            await conn.execute("CREATE TABLE no (a int)")


async def test_an_unknown_isolation_level(conn: headrace.Connection) -> None:
    with pytest.raises(ValueError, match="isolation is expected to be either of"):
        conn.transaction(isolation="chaos")


async def test_calls_inside_a_transaction_may_run_at_once(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction():
        await asyncio.gather(*(conn.execute("INSERT INTO t VALUES ($1)", i) for i in range(100)))
    assert await rows(conn) == list(range(100))


async def test_a_commit_answered_by_rollback_raises(conn: headrace.Connection, table: str) -> None:
    with pytest.raises(headrace.InFailedSQLTransactionError, match="ROLLBACK") as caught:
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (1)")
            with pytest.raises(headrace.DivisionByZeroError):
                await conn.execute("SELECT 1 / 0")
    assert isinstance(caught.value.__cause__, headrace.DivisionByZeroError)
    assert await rows(conn) == []
    await conn.execute("BEGIN")
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("SELECT 1 / 0")
    with pytest.raises(headrace.InFailedSQLTransactionError):
        await conn.execute("COMMIT")
    assert not conn.is_in_transaction()


async def test_a_deferred_constraint_fails_the_commit(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE d (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(headrace.UniqueViolationError):
        async with conn.transaction():
            await conn.execute("INSERT INTO d VALUES (1), (1)")
    assert not conn.is_in_transaction()
    async with conn.transaction():
        await conn.execute("INSERT INTO d VALUES (1)")


async def test_a_transaction_begun_by_text_is_seen(conn: headrace.Connection) -> None:
    await conn.execute("BEGIN")
    assert conn.is_in_transaction()
    with pytest.raises(headrace.InterfaceError, match="manually started transaction"):
        await conn.transaction().start()
    await conn.execute("ROLLBACK")
    assert not conn.is_in_transaction()


@pytest.mark.parametrize("turns", range(6))
async def test_cancellation_while_it_begins_leaves_no_transaction(conn: headrace.Connection, turns: int) -> None:
    async def work() -> None:
        async with conn.transaction():
            await conn.execute("SELECT 1")

    task = asyncio.create_task(work())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await conn.fetchval("SELECT 1") == 1
    assert not conn.is_in_transaction()
    async with conn.transaction():
        pass


@pytest.mark.parametrize("turns", range(6))
async def test_cancellation_while_it_commits_leaves_it_committed_or_not_at_all(
    conn: headrace.Connection, table: str, turns: int
) -> None:
    transaction = conn.transaction()
    await transaction.start()
    await conn.execute("INSERT INTO t VALUES (1)")
    task = asyncio.create_task(transaction.commit())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    (outcome,) = await asyncio.gather(task, return_exceptions=True)
    if turns == 0:
        # Never begun: the transaction is as it was.
        assert conn.is_in_transaction()
        await transaction.rollback()
    else:
        assert outcome is None or isinstance(outcome, asyncio.CancelledError)
    await rows(conn)
    assert not conn.is_in_transaction()


async def test_a_query_cancelled_inside_rolls_back(conn: headrace.Connection, table: str) -> None:
    async def work() -> None:
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (1)")
            await conn.execute("SELECT pg_sleep(600)")

    task = asyncio.create_task(work())
    while await_state(conn) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await rows(conn) == []
    assert not conn.is_in_transaction()


def await_state(conn: headrace.Connection) -> int:
    """2 once the statement inside the transaction is all that is in flight."""
    session: Any = conn._driver.session
    in_flight = [request.query for request in session.sent]
    return 2 if in_flight == ["SELECT pg_sleep(600)"] else 0
