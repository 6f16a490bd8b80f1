"""Transactions: context managers and by hand, savepoints, isolation, failures, cancellation while they begin or end."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.watching import until_in_flight

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

PATIENCE = 10.0


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


@pytest.fixture
async def waiting(connect: Connect) -> headrace.Connection:
    """A connection whose transactions wait for the reply to BEGIN, as behind a pooler that switches backends."""
    connection = await connect(statement_mode="unnamed")
    await connection.execute("CREATE TEMP TABLE t (a int PRIMARY KEY)")
    return connection


@pytest.mark.parametrize("nested", [False, True], ids=["BEGIN", "SAVEPOINT"])
async def test_what_another_task_has_done_meanwhile_survives_the_cancellation_of_a_start(
    waiting: headrace.Connection, nested: bool
) -> None:
    """Its query runs behind the BEGIN or SAVEPOINT, because it was asked later."""
    conn = waiting
    outer = conn.transaction()
    if nested:
        await outer.start()
    start = asyncio.create_task(conn.transaction().start())
    insert = asyncio.create_task(conn.execute("INSERT INTO t VALUES (1)"))
    await until_in_flight(conn, 2)
    start.cancel()
    assert await insert == "INSERT 0 1"
    with pytest.raises(asyncio.CancelledError):
        await start
    if nested:
        await outer.commit()
    assert await rows(conn) == [1]
    assert not conn.is_in_transaction()


async def test_a_query_that_fails_behind_the_savepoint_of_a_cancelled_start_fails_the_transaction(
    waiting: headrace.Connection,
) -> None:
    """As it would without the savepoint."""
    conn = waiting
    outer = conn.transaction()
    await outer.start()
    start = asyncio.create_task(conn.transaction().start())
    failing = asyncio.create_task(conn.execute("SELECT 1 / 0"))
    await until_in_flight(conn, 2)
    start.cancel()
    with pytest.raises(headrace.DivisionByZeroError):
        await failing
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        await outer.commit()
    assert isinstance(caught.value.__cause__, headrace.DivisionByZeroError)
    await asyncio.gather(start, return_exceptions=True)


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


async def failed_transaction(conn: headrace.Connection) -> BaseException:
    """Have a transaction begun by text fail; return what it failed by."""
    await conn.execute("BEGIN")
    with pytest.raises(headrace.DivisionByZeroError) as caught:
        await conn.execute("SELECT 1 / 0")
    return caught.value


async def run_prepared(conn: headrace.Connection, query: str) -> object:
    return await (await conn.prepare(query)).fetch()


KEEPING = ["COMMIT", "END", "commit and chain", "/* keep it */ COMMIT WORK", "PREPARE TRANSACTION 'kept'"]


@pytest.mark.parametrize("query", KEEPING)
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda conn, query: conn.execute(query), id="execute"),
        pytest.param(lambda conn, query: conn.fetch(query), id="fetch"),
        pytest.param(lambda conn, query: conn.fetchrow(query), id="fetchrow"),
        pytest.param(lambda conn, query: conn.fetchval(query), id="fetchval"),
        pytest.param(run_prepared, id="prepared"),
        pytest.param(lambda conn, query: conn.executemany(query, [()]), id="executemany"),
    ],
)
async def test_whatever_would_keep_a_failed_transaction_raises(
    conn: headrace.Connection, query: str, run: Callable[[headrace.Connection, str], Awaitable[object]]
) -> None:
    cause = await failed_transaction(conn)
    with pytest.raises(headrace.InFailedSQLTransactionError, match="was answered by ROLLBACK") as caught:
        await run(conn, query)
    assert caught.value.__cause__ is cause
    assert caught.value.query == query
    if "chain" in query:
        await conn.execute("COMMIT")
    assert not conn.is_in_transaction()


@pytest.mark.parametrize("query", ["COMMIT; SELECT 1", "COMMIT; BEGIN; COMMIT", "END; ROLLBACK"])
async def test_a_refused_commit_with_other_statements_behind_it(conn: headrace.Connection, query: str) -> None:
    cause = await failed_transaction(conn)
    with pytest.raises(headrace.InFailedSQLTransactionError, match="COMMIT was answered by ROLLBACK") as caught:
        await conn.execute(query)
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize("query", ["ROLLBACK", "ABORT", "ROLLBACK; BEGIN; COMMIT", "rollback and chain; commit"])
async def test_a_rollback_that_was_asked_for_is_none_of_that(conn: headrace.Connection, query: str) -> None:
    await failed_transaction(conn)
    assert await conn.execute(query) in ("ROLLBACK", "COMMIT")
    assert not conn.is_in_transaction()


async def test_a_savepoint_that_was_returned_to_can_be_committed(conn: headrace.Connection, table: str) -> None:
    await conn.execute("BEGIN; INSERT INTO t VALUES (1); SAVEPOINT s")
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("SELECT 1 / 0")
    assert await conn.execute("ROLLBACK TO s; COMMIT") == "COMMIT"
    assert await rows(conn) == [1]


async def test_the_cause_of_a_refused_commit_after_a_time_out(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.InFailedSQLTransactionError, match="COMMIT was answered by ROLLBACK") as caught:
        async with conn.transaction():
            with pytest.raises(TimeoutError):
                await conn.execute("SELECT pg_sleep(600)", timeout=0.01)
    assert "had been cancelled because its call had timed out" in str(caught.value)
    cause = caught.value.__cause__
    assert isinstance(cause, headrace.QueryCanceledError)
    assert isinstance(cause.__cause__, TimeoutError)
    assert cause.query == "SELECT pg_sleep(600)"
    assert not conn.is_in_transaction()


async def test_the_cause_of_a_refused_commit_after_a_preparation_has_timed_out(
    conn: headrace.Connection, connect: Connect
) -> None:
    other = await connect()
    async with other.transaction():
        await other.execute("CREATE TABLE waited (a int)")
    async with other.transaction():
        await other.execute("LOCK TABLE waited")
        with pytest.raises(headrace.InFailedSQLTransactionError, match="because its call had timed out") as caught:
            async with conn.transaction():
                with pytest.raises(TimeoutError):
                    await conn.fetch("SELECT * FROM waited", timeout=0.01)
                session: Any = conn._driver.session
                async with asyncio.timeout(PATIENCE):
                    while session.count_pending():
                        await asyncio.sleep(0.01)
    await other.execute("DROP TABLE waited")
    assert isinstance(caught.value.__cause__, headrace.QueryCanceledError)


async def test_the_cause_of_a_refused_commit_after_a_late_bad_element_of_a_batch(
    conn: headrace.Connection, table: str
) -> None:
    elements = [(i,) for i in range(10_000)] + [("no number",)]
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        async with conn.transaction():
            with pytest.raises(headrace.ArgumentError) as failed:
                await conn.executemany("INSERT INTO t VALUES ($1)", elements)
    assert caught.value.__cause__ is failed.value


@pytest.mark.parametrize("query", ["COMMIT", "END"])
async def test_a_refused_commit_by_a_cursor(conn: headrace.Connection, query: str) -> None:
    transaction = conn.transaction()
    await transaction.start()
    cursor = conn.cursor(query)
    failing = asyncio.create_task(conn.fetch("SELECT 1 / 0"))
    await asyncio.sleep(0)
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        async for _ in cursor:
            pass
    with pytest.raises(headrace.DivisionByZeroError) as failed:
        await failing
    assert caught.value.__cause__ is failed.value
    with suppress(headrace.InterfaceError):
        await transaction.rollback()
    assert not conn.is_in_transaction()


async def test_the_cause_of_a_refused_commit_after_a_cancellation(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.InFailedSQLTransactionError, match="COMMIT was answered by ROLLBACK") as caught:
        async with conn.transaction():
            call = asyncio.create_task(conn.fetch("SELECT pg_sleep(600)"))
            await until_in_flight(conn)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
    assert "had been cancelled because its call had been cancelled" in str(caught.value)
    assert isinstance(caught.value.__cause__, headrace.QueryCanceledError)
    assert "The call had been cancelled" in str(caught.value.__cause__)


async def test_the_cause_of_a_refused_commit_after_a_concurrent_call(conn: headrace.Connection) -> None:
    transaction = conn.transaction()
    await transaction.start()
    failing = asyncio.create_task(conn.fetch("SELECT 1 / 0"))
    await asyncio.sleep(0)
    with pytest.raises(headrace.InFailedSQLTransactionError, match="COMMIT was answered by ROLLBACK") as caught:
        await transaction.commit()
    with pytest.raises(headrace.DivisionByZeroError) as failed:
        await failing
    assert caught.value.__cause__ is failed.value
    with pytest.raises(headrace.InterfaceError, match="already rolled back"):
        await transaction.rollback()


async def test_a_reset_inside_a_transaction_is_the_end_of_it(conn: headrace.Connection, table: str) -> None:
    with pytest.raises(headrace.InterfaceError, match="no longer open"):
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (1)")
            await conn.reset()
    assert await rows(conn) == []


Reports = list[dict[str, Any]]


@pytest.fixture
async def reports() -> AsyncIterator[Reports]:
    """What the loop's exception handler is told."""
    loop, told = asyncio.get_running_loop(), Reports()
    loop.set_exception_handler(lambda _, context: told.append(context))
    yield told
    loop.set_exception_handler(None)


async def test_a_generator_that_is_left_inside_its_transaction_is_not_reported(
    pool: MakePool, reports: Reports
) -> None:
    """The lease ends before the generator does: its block is going to end the transaction, only later."""
    leases = await pool(min_size=1, max_size=1)

    async def numbers(connection: headrace.Connection) -> AsyncIterator[int]:
        async with connection.transaction():
            async for row in connection.cursor("SELECT generate_series(1, 1000)"):
                yield row[0]

    async with leases.acquire() as connection:
        generator = numbers(connection)
        async for number in generator:
            assert number == 1
            break
    async with leases.acquire() as connection:
        assert not connection.is_in_transaction()
        await generator.aclose()  # type: ignore[attr-defined]
        async with connection.transaction():
            assert await connection.fetchval("SELECT 1") == 1
    assert reports == []


async def test_a_managed_transaction_is_not_reported_by_a_reset(conn: headrace.Connection, reports: Reports) -> None:
    with pytest.raises(RuntimeError, match="own"):
        async with conn.transaction():
            await conn.reset()
            raise RuntimeError("own")
    assert reports == []


@pytest.mark.parametrize("begin", ["by hand", "by text"])
async def test_a_transaction_that_was_left_open_is_reported(pool: MakePool, reports: Reports, begin: str) -> None:
    leases = await pool(min_size=1, max_size=1)
    for _ in range(2):
        async with leases.acquire() as connection:
            # A managed transaction of an earlier lease is of no account.
            async with connection.transaction():
                await connection.fetchval("SELECT 1")
            await (connection.execute("BEGIN") if begin == "by text" else connection.transaction().start())
    assert len(reports) == 2
    assert all("Resetting connection with an active transaction" in report["message"] for report in reports)


@pytest.mark.parametrize("managed", [False, True])
async def test_a_forgotten_lease_with_an_open_transaction_is_taken_back(
    pool: MakePool, reports: Reports, managed: bool
) -> None:
    """Neither the connection nor the context of a task keeps a transaction alive that its program has forgotten."""
    leases = await pool(min_size=1, max_size=1)

    async def forget() -> None:
        transaction = (await leases.acquire()).transaction()
        await (transaction.__aenter__() if managed else transaction.start())

    await forget()
    gc.collect()
    async with leases.acquire(timeout=10) as connection:
        assert not connection.is_in_transaction()
    assert leases.stats().leaked == 1
    assert len(reports) == (0 if managed else 1)
