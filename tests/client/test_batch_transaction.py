"""executemany() and fetchmany() with `transaction=True`: BEGIN and COMMIT travel with the batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

import headrace

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.peers.proxy import Proxy
    from tests.poolers import StartPgBouncer

INSERT = "INSERT INTO t (a) VALUES ($1)"
LOCK = "LOCK TABLE t"
"""The server refuses it outside of a transaction block."""
LONG = "x" * 1000


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    await conn.execute("CREATE TEMP TABLE t (a int CHECK (a <> -1), b text, UNIQUE (a) DEFERRABLE INITIALLY DEFERRED)")
    return conn


@pytest.fixture
async def kept(connect: Connect) -> AsyncIterator[str]:
    """A table that all connections see."""
    connection = await connect()
    await connection.execute("CREATE TABLE kept (a int CHECK (a <> -1))")
    yield "kept"
    await connection.execute("DROP TABLE kept")


async def numbers(conn: headrace.Connection) -> list[int]:
    return [row[0] for row in await conn.fetch("SELECT a FROM t ORDER BY a")]


# In a transaction of its own


async def test_the_batch_runs_in_a_transaction_block(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.NoActiveSQLTransactionError):
        await conn.executemany(LOCK, [()])
    await conn.executemany(LOCK, [()], transaction=True)
    assert not conn.is_in_transaction()


async def test_all_of_it_is_kept(conn: headrace.Connection) -> None:
    await conn.executemany(INSERT, [(1,), (2,), (3,)], transaction=True)
    rows = await conn.fetchmany(f"{INSERT} RETURNING a, txid_current()", [(4,), (5,)], transaction=True)
    assert [row["a"] for row in rows] == [4, 5]
    assert rows[0][1] == rows[1][1]
    assert await numbers(conn) == [1, 2, 3, 4, 5]


async def test_no_element_is_a_transaction_without_statements(conn: headrace.Connection) -> None:
    await conn.executemany(INSERT, [], transaction=True)
    assert await conn.fetchmany(f"{INSERT} RETURNING a", [], transaction=True) == []
    assert not conn.is_in_transaction()


async def test_named_parameters(conn: headrace.Connection) -> None:
    await conn.executemany(headrace.sql("INSERT INTO t (a) VALUES (:a)"), [{"a": 1}, {"a": 2}], transaction=True)
    assert await numbers(conn) == [1, 2]


async def test_a_prepared_statement(conn: headrace.Connection) -> None:
    statement = await conn.prepare(f"{INSERT} RETURNING a")
    assert await statement.fetchmany([(1,), (2,)], transaction=True) == [(1,), (2,)]
    assert statement.get_statusmsg() == "INSERT 0 1"
    await statement.executemany([(3,)], transaction=True)
    with pytest.raises(headrace.CheckViolationError):
        await statement.executemany([(4,), (-1,)], transaction=True)
    lock = await conn.prepare(LOCK)
    await lock.executemany([()], transaction=True)
    assert await numbers(conn) == [1, 2, 3]


@pytest.mark.parametrize("wrong", [1, "yes", None])
async def test_anything_but_true_and_false_is_refused(conn: headrace.Connection, wrong: Any) -> None:
    statement = await conn.prepare(INSERT)
    for call in (
        conn.executemany(INSERT, [(1,)], transaction=wrong),
        conn.fetchmany(INSERT, [(1,)], transaction=wrong),
        statement.executemany([(1,)], transaction=wrong),
    ):
        with pytest.raises(ValueError, match="transaction is expected to be True or False"):
            await call
    assert await numbers(conn) == []


# Errors


async def test_an_error_in_the_middle_undoes_all_and_disturbs_no_other_call(conn: headrace.Connection) -> None:
    outcomes = await asyncio.gather(
        conn.fetchval("SELECT 1"),
        conn.executemany(INSERT, [(1,), (-1,), (2,)], transaction=True),
        conn.execute("INSERT INTO t (a) VALUES (7)"),
        conn.fetchval("SELECT 2"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], headrace.CheckViolationError)
    assert [outcomes[0], *outcomes[2:]] == [1, "INSERT 0 1", 2]
    assert not conn.is_in_transaction()
    assert await numbers(conn) == [7]


async def test_the_connection_is_idle_when_the_error_is_raised(conn: headrace.Connection) -> None:
    await conn.fetchval("SELECT 1")
    with pytest.raises(headrace.CheckViolationError):
        await conn.executemany(INSERT, [(-1,)], transaction=True)
    assert not conn.is_in_transaction()
    async with conn.transaction():
        await conn.execute("INSERT INTO t (a) VALUES (8)")
    assert await numbers(conn) == [8]


async def test_a_statement_that_cannot_be_prepared(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.UndefinedTableError):
        await conn.executemany("INSERT INTO nowhere VALUES ($1)", [(1,)], transaction=True)
    assert not conn.is_in_transaction()
    assert await conn.fetchval("SELECT 1") == 1


async def test_the_error_of_commit_is_raised(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.UniqueViolationError):
        await conn.executemany(INSERT, [(1,), (1,)], transaction=True)
    assert not conn.is_in_transaction()
    assert await numbers(conn) == []


@pytest.mark.parametrize("known", [False, True])
async def test_an_argument_that_does_not_fit(conn: headrace.Connection, known: bool) -> None:
    if known:
        await conn.executemany(INSERT, [], transaction=True)
    with pytest.raises(headrace.ArgumentError):
        await conn.executemany(INSERT, [("one",), (2,)], transaction=True)
    assert await conn.fetchval("SELECT 1") == 1
    assert not conn.is_in_transaction()
    assert await numbers(conn) == []


async def test_an_argument_that_does_not_fit_after_some_were_sent(conn: headrace.Connection) -> None:
    elements: list[tuple[Any, str]] = [(number, LONG) for number in range(500)]
    with pytest.raises(headrace.ArgumentError):
        await conn.executemany("INSERT INTO t VALUES ($1, $2)", [*elements, ("last", "")], transaction=True)
    assert not conn.is_in_transaction()
    assert await numbers(conn) == []


async def test_a_statement_that_has_become_stale_is_run_again(conn: headrace.Connection, connect: Connect) -> None:
    other = await connect()
    await other.execute("CREATE TABLE changing (a int)")
    try:
        query = "INSERT INTO changing (a) VALUES ($1) RETURNING *"
        assert await conn.fetchmany(query, [(1,)], transaction=True) == [(1,)]
        await other.execute("ALTER TABLE changing ADD COLUMN b text DEFAULT 'new'")
        assert await conn.fetchmany(query, [(2,), (3,)], transaction=True) == [(2, "new"), (3, "new")]
        await conn.execute("DO $$BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END$$")
        assert await conn.fetchmany(query, [(4,)], transaction=True) == [(4, "new")]
        assert await other.fetchval("SELECT array_agg(a ORDER BY a) FROM changing") == [1, 2, 3, 4]
        await conn.execute("DO $$BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END$$")
        with pytest.raises(headrace.InvalidSQLStatementNameError):
            # An iterator cannot be read again.
            await conn.fetchmany(query, iter([(5,)]), transaction=True)
        assert await conn.fetchmany(query, iter([(6,)]), transaction=True) == [(6, "new")]
    finally:
        await other.execute("DROP TABLE changing")


# In a transaction that is open already


async def test_in_a_transaction_it_is_a_part_of_that(conn: headrace.Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        async with conn.transaction():
            await conn.executemany(INSERT, [(1,)], transaction=True)
            assert conn.is_in_transaction()
            async with conn.transaction():
                await conn.executemany(INSERT, [(2,)], transaction=True)
            raise ZeroDivisionError
    assert await numbers(conn) == []


async def test_in_a_transaction_that_was_begun_by_hand(conn: headrace.Connection) -> None:
    await conn.execute("BEGIN")
    await conn.executemany(INSERT, [(1,)], transaction=True)
    await conn.execute("ROLLBACK")
    assert await numbers(conn) == []


async def test_behind_a_begin_that_is_under_way(conn: headrace.Connection) -> None:
    await asyncio.gather(conn.execute("BEGIN"), conn.executemany(INSERT, [(1,)], transaction=True))
    assert conn.is_in_transaction()
    await conn.execute("ROLLBACK")
    assert await numbers(conn) == []


async def test_in_a_failed_transaction(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.InFailedSQLTransactionError):
        async with conn.transaction():
            with pytest.raises(headrace.DivisionByZeroError):
                await conn.execute("SELECT 1/0")
            await conn.executemany(INSERT, [(1,)], transaction=True)
    assert await numbers(conn) == []


async def test_an_error_in_a_transaction_fails_it(conn: headrace.Connection) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO t (a) VALUES (1)")
        with pytest.raises(headrace.CheckViolationError):
            async with conn.transaction():
                await conn.executemany(INSERT, [(2,), (-1,)], transaction=True)
    assert await numbers(conn) == [1]


# Round trips


@pytest.fixture
async def through(proxy: Proxy, connect: Connect) -> headrace.Connection:
    """A connection through the proxy that counts."""
    connection = await connect(host=proxy.host, port=proxy.port, ssl=False)
    await connection.execute("CREATE TEMP TABLE t (a int CHECK (a <> -1))")
    await connection.executemany(INSERT, [(0,)])
    return connection


async def test_it_costs_one_round_trip(through: headrace.Connection, proxy: Proxy) -> None:
    with proxy.counting() as trips:
        await through.executemany(INSERT, [(1,), (2,)], transaction=True)
    assert trips.count == 1
    with proxy.counting() as trips, pytest.raises(headrace.CheckViolationError):
        await through.executemany(INSERT, [(3,), (-1,)], transaction=True)
    assert trips.count == 1
    assert await numbers(through) == [0, 1, 2]


async def test_several_at_once_cost_one_round_trip(through: headrace.Connection, proxy: Proxy) -> None:
    with proxy.counting() as trips:
        outcomes = await asyncio.gather(
            *(through.executemany(INSERT, [(n,), (n if n != 4 else -1,)], transaction=True) for n in range(1, 6)),
            return_exceptions=True,
        )
    assert trips.count == 1
    assert [type(outcome) for outcome in outcomes] == [
        headrace.CheckViolationError if n == 4 else type(None) for n in range(1, 6)
    ]
    assert await numbers(through) == [0, 1, 1, 2, 2, 3, 3, 5, 5]


async def test_in_a_transaction_it_costs_what_it_costs_without(through: headrace.Connection, proxy: Proxy) -> None:
    async with through.transaction():
        await through.execute("SELECT 1")
        with proxy.counting() as trips:
            await through.executemany(INSERT, [(1,), (2,)], transaction=True)
        assert trips.count == 1


# Asynchronous iterables


async def elements(count: int, end: BaseException | None = None) -> AsyncIterator[tuple[int, str]]:
    for number in range(count):
        if number % 50 == 0:
            await asyncio.sleep(0)
        yield number, LONG
    if end is not None:
        raise end


@pytest.mark.parametrize("count", [0, 3, 1_000])
async def test_elements_that_come_one_by_one(conn: headrace.Connection, count: int) -> None:
    await conn.executemany("INSERT INTO t VALUES ($1, $2)", elements(count), transaction=True)
    assert await numbers(conn) == list(range(count))
    assert not conn.is_in_transaction()


@pytest.mark.parametrize("count", [3, 1_000])
async def test_an_error_of_the_iterable_undoes_all(conn: headrace.Connection, count: int) -> None:
    with pytest.raises(ZeroDivisionError):
        await conn.executemany("INSERT INTO t VALUES ($1, $2)", elements(count, ZeroDivisionError()), transaction=True)
    assert await numbers(conn) == []
    assert not conn.is_in_transaction()


async def test_an_error_of_the_server_ends_the_iterable(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.CheckViolationError):
        await conn.executemany("INSERT INTO t VALUES ($1 - 1, $2)", elements(1_000), transaction=True)
    assert await numbers(conn) == []
    assert not conn.is_in_transaction()


async def test_an_iterable_in_a_transaction(conn: headrace.Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        async with conn.transaction():
            await conn.executemany("INSERT INTO t VALUES ($1, $2)", elements(500), transaction=True)
            raise ZeroDivisionError
    assert await numbers(conn) == []


# Time limits and lost connections


async def test_a_time_out_rolls_back(connect: Connect, kept: str) -> None:
    holder, conn = await connect(), await connect()
    async with holder.transaction():
        await holder.execute(f"LOCK TABLE {kept}")
        with pytest.raises(TimeoutError):
            await conn.executemany(f"INSERT INTO {kept} VALUES ($1)", [(1,)], transaction=True, timeout=0.2)
    assert await conn.fetchval(f"SELECT count(*) FROM {kept}") == 0
    assert not conn.is_in_transaction()


async def test_the_outcome_after_a_lost_connection_is_unknown(connect: Connect, kept: str) -> None:
    holder, conn = await connect(), await connect()
    pid = conn.get_server_pid()
    async with holder.transaction():
        await holder.execute(f"LOCK TABLE {kept}")
        task = asyncio.create_task(conn.executemany(f"INSERT INTO {kept} VALUES ($1)", [(1,)], transaction=True))
        while not await holder.fetchval("SELECT count(*) FROM pg_locks WHERE pid = $1 AND NOT granted", pid):
            await asyncio.sleep(0.01)
        await holder.execute(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises((headrace.PostgresError, ConnectionError)) as raised:
            await task
    assert not headrace.is_safe_to_retry(raised.value)
    assert await holder.fetchval(f"SELECT count(*) FROM {kept}") == 0


# Pools


async def test_a_pool_takes_a_lease(pool: MakePool, kept: str) -> None:
    made = await pool(min_size=1, max_size=1)
    insert = f"INSERT INTO {kept} VALUES ($1)"
    await made.executemany(insert, [(1,), (2,)], transaction=True)
    rows = await made.fetchmany(f"{insert} RETURNING a", [(3,)], transaction=True)
    assert [row["a"] for row in rows] == [3]
    with pytest.raises(headrace.CheckViolationError):
        await made.executemany(insert, [(4,), (-1,)], transaction=True)
    await made.executemany(f"LOCK TABLE {kept}", [()], transaction=True)
    assert await made.fetchval(f"SELECT count(*) FROM {kept}") == 3
    async with made.acquire() as connection:
        assert not connection.is_in_transaction()


async def test_a_lease(pool: MakePool, kept: str) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection:
        await connection.executemany(f"INSERT INTO {kept} VALUES ($1)", [(1,)], transaction=True)
        async with connection.transaction():
            await connection.executemany(f"INSERT INTO {kept} VALUES ($1)", [(2,)], transaction=True)
    assert await made.fetchval(f"SELECT count(*) FROM {kept}") == 2


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"max_prepared_statements": 0}, {"statement_mode": "unnamed"}),
        ({"max_prepared_statements": 0}, {"statement_mode": "describe"}),
        ({"max_prepared_statements": 0}, {}),
        ({"max_prepared_statements": 20}, {}),
    ],
    ids=["unnamed", "describe", "named without support", "named"],
)
async def test_pgbouncer_in_transaction_mode(
    kept: str, pgbouncer: StartPgBouncer, pool: MakePool, database: str, settings: Any, options: Any
) -> None:
    pooler = pgbouncer(default_pool_size=2, **settings)
    made = await pool(**pooler.kwargs(database), min_size=4, max_size=4, **options)
    insert = f"INSERT INTO {kept} VALUES ($1)"

    async def work(number: int) -> None:
        await made.executemany(insert, [(number,), (number + 100,)], transaction=True)
        with pytest.raises(headrace.CheckViolationError):
            await made.executemany(insert, [(number,), (-1,)], transaction=True)

    await asyncio.gather(*(work(number) for number in range(20)))
    assert await made.fetchval(f"SELECT count(*) FROM {kept}") == 40
