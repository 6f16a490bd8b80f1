"""Transactions of a pool: a lease with a transaction, and functions that run again after a conflict."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.watching import until_closed

if TYPE_CHECKING:
    from tests.fixtures import MakePool

TABLE = """
    DROP TABLE IF EXISTS account;
    CREATE TABLE account (id int PRIMARY KEY, amount int NOT NULL);
    INSERT INTO account VALUES (1, 100), (2, 100)
"""
CREDIT = "UPDATE account SET amount = amount + $2 WHERE id = $1"
AMOUNT = "SELECT amount FROM account WHERE id = $1"


@pytest.fixture
async def bank(pool: MakePool) -> Any:
    made = await pool(min_size=1, max_size=3)
    await made.execute(TABLE)
    return made


class Failing:
    """A function for `run()`: credits account 1 and then fails, in its first `times` calls."""

    def __init__(self, error: str, times: int = 1) -> None:
        self.error = error
        self.times = times
        self.calls = 0

    async def __call__(self, connection: headrace.Connection, amount: int = 1) -> str:
        self.calls += 1
        await connection.execute(CREDIT, 1, amount)
        if self.calls <= self.times:
            await connection.execute(f"DO $$BEGIN RAISE EXCEPTION SQLSTATE '{self.error}'; END$$")
        return "done"


# -- pool.transaction() ---------------------------------------------------------------------------------------------


async def test_a_block_is_committed_and_its_connection_given_back(bank: headrace.Pool) -> None:
    async with bank.transaction() as connection:
        assert connection.is_in_transaction()
        await connection.execute(CREDIT, 1, 5)
        assert bank.stats().leased == 1
    assert bank.stats().leased == 0
    assert await bank.fetchval(AMOUNT, 1) == 105


async def test_a_block_that_raises_is_rolled_back(bank: headrace.Pool) -> None:
    with pytest.raises(LookupError):
        async with bank.transaction() as connection:
            await connection.execute(CREDIT, 1, 5)
            raise LookupError
    assert bank.stats().leased == 0
    assert await bank.fetchval(AMOUNT, 1) == 100


async def test_the_mode_is_that_of_the_arguments(bank: headrace.Pool) -> None:
    mode = "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    async with bank.transaction(isolation="serializable", readonly=True) as connection:
        assert await connection.fetchrow(mode) == ("serializable", "on")


async def test_an_unknown_isolation_takes_no_connection(bank: headrace.Pool) -> None:
    with pytest.raises(ValueError, match="isolation is expected to be"):
        bank.transaction(isolation="total")
    with pytest.raises(ValueError, match="isolation is expected to be"):
        await bank.run(Failing("40001"), isolation="total")


async def test_a_transaction_that_cannot_begin_gives_its_connection_back(pool: MakePool) -> None:
    async def by_hand(connection: Any) -> None:
        await connection.execute("BEGIN")

    made = await pool(min_size=1, max_size=1, setup=by_hand)
    with pytest.raises(headrace.InterfaceError, match="manually started"):
        async with made.transaction():
            pass
    assert made.stats().leased == 0


async def test_the_wait_for_a_connection_has_a_limit(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.transaction():
        with pytest.raises(TimeoutError, match="acquire"):
            async with made.transaction(timeout=0):
                pass


async def test_a_cancelled_block_is_rolled_back(bank: headrace.Pool) -> None:
    inside = asyncio.Event()

    async def stay() -> None:
        async with bank.transaction() as connection:
            await connection.execute(CREDIT, 1, 5)
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert bank.stats().leased == 0
    assert await bank.fetchval(AMOUNT, 1) == 100


async def test_a_pool_with_leases_on_demand_has_them_too(pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=2, lazy_acquire=True)
    await made.execute(TABLE)
    async with made.transaction() as connection:
        await connection.execute(CREDIT, 1, 5)
    assert await made.run(Failing("40001")) == "done"
    assert await made.fetchval(AMOUNT, 1) == 106


# -- pool.run() -----------------------------------------------------------------------------------------------------


async def test_the_result_of_the_function_is_returned_after_commit(bank: headrace.Pool) -> None:
    async def credit(connection: headrace.Connection, account: int, amount: int) -> int:
        await connection.execute(CREDIT, account, amount)
        balance: int = await connection.fetchval(AMOUNT, account)
        return balance

    assert await bank.run(credit, 2, 11) == 111
    assert await bank.fetchval(AMOUNT, 2) == 111


@pytest.mark.parametrize("error", ["40001", "40P01"])
async def test_a_conflict_is_rolled_back_and_tried_again(bank: headrace.Pool, error: str) -> None:
    function = Failing(error, times=2)
    assert await bank.run(function, 7) == "done"
    assert function.calls == 3
    assert await bank.fetchval(AMOUNT, 1) == 107


async def test_serializable_transactions_that_conflict_all_succeed(bank: headrace.Pool) -> None:
    """Each reads both accounts and writes one, which fails for some of them if they run at once."""

    async def move(connection: headrace.Connection, account: int) -> None:
        total = await connection.fetchval("SELECT sum(amount) FROM account")
        await connection.execute(CREDIT, account, 1 if total >= 200 else 0)

    moves = (bank.run(move, 1 + number % 2, isolation="serializable", attempts=100) for number in range(20))
    await asyncio.gather(*moves)
    assert await bank.fetchval("SELECT sum(amount) FROM account") == 220


async def test_a_conflict_that_shows_at_commit_is_tried_again(bank: headrace.Pool) -> None:
    """Two transactions read what the other one writes: the second COMMIT fails."""
    calls = 0

    async def skew(connection: headrace.Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.fetchval(AMOUNT, 2)
        await connection.execute(CREDIT, 1, 1)
        if calls == 1:
            async with bank.transaction(isolation="serializable") as other:
                await other.fetchval(AMOUNT, 1)
                await other.execute(CREDIT, 2, 1)

    await bank.run(skew, isolation="serializable")
    assert calls == 2
    assert await bank.fetch("SELECT amount FROM account ORDER BY id") == [(101,), (101,)]


async def test_a_conflict_that_the_function_has_caught_is_tried_again(bank: headrace.Pool) -> None:
    failing = Failing("40001")

    async def careless(connection: headrace.Connection) -> None:
        with suppress(headrace.PostgresError):
            await failing(connection)

    await bank.run(careless)
    assert failing.calls == 2
    assert await bank.fetchval(AMOUNT, 1) == 101


async def test_a_conflict_in_a_group_of_tasks_is_tried_again(bank: headrace.Pool) -> None:
    failing = Failing("40001")

    async def at_once(connection: headrace.Connection) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(failing(connection))
            group.create_task(connection.fetch("SELECT 1"))

    await bank.run(at_once)
    assert failing.calls == 2


async def test_the_last_error_is_raised_when_the_attempts_are_over(bank: headrace.Pool) -> None:
    function = Failing("40001", times=9)
    with pytest.raises(headrace.SerializationError) as raised:
        await bank.run(function, attempts=3)
    assert function.calls == 3
    assert "Pool.run() has made 3 attempts." in raised.value.__notes__
    assert await bank.fetchval(AMOUNT, 1) == 100


@pytest.mark.parametrize("error", ["23505", "55P03", "57014", "40003"])
async def test_any_other_error_is_raised_at_once(bank: headrace.Pool, error: str) -> None:
    function = Failing(error)
    with pytest.raises(headrace.PostgresError):
        await bank.run(function)
    assert function.calls == 1
    assert await bank.fetchval(AMOUNT, 1) == 100


async def test_an_error_of_the_program_is_raised_at_once(bank: headrace.Pool) -> None:
    calls = 0

    async def fail(connection: headrace.Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute(CREDIT, 1, 1)
        connection.terminate()
        raise LookupError

    with pytest.raises(LookupError):
        await bank.run(fail)
    assert calls == 1


async def test_a_connection_lost_before_commit_is_replaced(bank: headrace.Pool) -> None:
    calls = 0

    async def credit(connection: headrace.Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute(CREDIT, 1, 1)
        if calls == 1:
            await bank.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
        await connection.execute(CREDIT, 2, 1)

    await bank.run(credit)
    assert calls == 2
    assert await bank.fetch("SELECT amount FROM account ORDER BY id") == [(101,), (101,)]


async def test_a_connection_lost_behind_the_last_statement_is_replaced(bank: headrace.Pool) -> None:
    """The function has returned, and COMMIT is not sent, because the loss has been noticed."""
    calls = 0

    async def credit(connection: headrace.Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute(CREDIT, 1, 1)
        if calls == 1:
            await bank.execute("SELECT pg_terminate_backend($1)", connection.get_server_pid())
            await until_closed(connection)

    await bank.run(credit)
    assert calls == 2
    assert await bank.fetchval(AMOUNT, 1) == 101


async def test_a_connection_lost_in_commit_is_not_tried_again(bank: headrace.Pool) -> None:
    await bank.execute("""
        CREATE OR REPLACE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END$$;
        CREATE CONSTRAINT TRIGGER die AFTER UPDATE ON account DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION die()
    """)
    function = Failing("40001", times=0)
    with pytest.raises(headrace.ConnectionDoesNotExistError, match="whether the transaction was committed is unknown"):
        await bank.run(function)
    assert function.calls == 1


async def test_a_cancelled_run_is_rolled_back_and_not_tried_again(bank: headrace.Pool) -> None:
    inside = asyncio.Event()
    calls = 0

    async def stay(connection: headrace.Connection) -> None:
        nonlocal calls
        calls += 1
        await connection.execute(CREDIT, 1, 5)
        inside.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(bank.run(stay))
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert calls == 1
    assert await bank.fetchval(AMOUNT, 1) == 100


@pytest.mark.parametrize("attempts", [0, -1, True, 2.5, "3", None])
async def test_attempts_are_a_number_from_1(bank: headrace.Pool, attempts: Any) -> None:
    with pytest.raises(ValueError, match="attempts is expected to be a whole number from 1, got"):
        await bank.run(Failing("40001"), attempts=attempts)


async def test_a_function_that_is_not_async_is_refused(bank: headrace.Pool) -> None:
    def credit(connection: headrace.Connection) -> int:
        return 1

    with pytest.raises(TypeError, match=r"expected to be `async def`, but .*credit returned 1"):
        await bank.run(credit)  # type: ignore[arg-type]
    assert bank.stats().leased == 0
