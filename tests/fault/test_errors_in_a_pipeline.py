"""Fault 37: one of several fails. It alone does, unless they were to hold together."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

import headrace

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

pytestmark = pytest.mark.fault(number=37)


@pytest.mark.parametrize("warm", [False, True], ids=["never seen", "prepared"])
async def test_only_the_middle_fails(conn: headrace.Connection, warm: bool) -> None:
    if warm:
        await conn.fetchval("SELECT 10 / $1::int", 1)
    for _ in range(20):
        before, middle, after = await asyncio.gather(
            *(conn.fetchval("SELECT 10 / $1::int", divisor) for divisor in (2, 0, 5)), return_exceptions=True
        )
        assert (before, after) == (5, 2)
        assert type(middle) is headrace.DivisionByZeroError
        assert middle.__cause__ is None


async def test_each_of_many_gets_its_own_error(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    texts = ["SELECT 1 / $1::int", "SELECT ($1::int)::text::int[]", "SELECT * FROM missing_$1", "SELECT $1::int"]
    outcomes = await asyncio.gather(*(made.fetchval(texts[i % 4], i) for i in range(200)), return_exceptions=True)
    kinds = [type(each) for each in outcomes]
    assert kinds[0] is headrace.DivisionByZeroError
    assert set(kinds[1::4]) == {headrace.InvalidTextRepresentationError}
    assert set(kinds[2::4]) <= {headrace.PostgresSyntaxError, headrace.UndefinedTableError}
    assert outcomes[3::4] == list(range(3, 200, 4))
    # No two callers share an exception: each may add notes to its own.
    errors = [each for each in outcomes if isinstance(each, Exception)]
    assert len({id(each) for each in errors}) == len(errors)


@pytest.mark.parametrize("bad", [0, 1, 4999, 9999])
async def test_executemany_with_one_bad_row_keeps_nothing(conn: headrace.Connection, bad: int) -> None:
    await conn.execute("CREATE TEMP TABLE kept (a int CHECK (a >= 0))")
    rows = [(-1 if i == bad else i,) for i in range(10_000)]
    outcomes = await asyncio.gather(
        conn.execute("INSERT INTO kept VALUES (1)"),
        conn.executemany("INSERT INTO kept VALUES ($1)", rows),
        conn.execute("INSERT INTO kept VALUES (2)"),
        return_exceptions=True,
    )
    assert [type(each) for each in outcomes] == [str, headrace.CheckViolationError, str]
    assert await conn.fetch("SELECT a FROM kept") == [(1,), (2,)]


@pytest.mark.parametrize("bad", [0, 1, 9999])
async def test_executemany_with_a_row_that_cannot_be_encoded(conn: headrace.Connection, bad: int) -> None:
    """Most of it may be at the server by then: it is rolled back there."""
    await conn.execute("CREATE TEMP TABLE kept (a int)")
    await conn.executemany("INSERT INTO kept VALUES ($1)", [(0,)])
    rows = ((object() if i == bad else i,) for i in range(10_000))
    with pytest.raises(headrace.DataError, match=f"element #{bad}"):
        await conn.executemany("INSERT INTO kept VALUES ($1)", rows)
    assert await conn.fetchval("SELECT count(*) FROM kept") == 1


async def test_commit_answered_by_rollback_raises(conn: headrace.Connection) -> None:
    """The failure that was passed over is the cause: nothing was kept."""
    await conn.execute("CREATE TEMP TABLE kept (a int)")
    with pytest.raises(headrace.InFailedSQLTransactionError, match="COMMIT was answered by ROLLBACK") as raised:
        async with conn.transaction():
            await conn.execute("INSERT INTO kept VALUES (1)")
            with pytest.raises(headrace.DivisionByZeroError):
                await conn.fetchval("SELECT 1 / 0")
    assert type(raised.value.__cause__) is headrace.DivisionByZeroError
    assert await conn.fetchval("SELECT count(*) FROM kept") == 0

    await conn.execute("BEGIN")
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("SELECT 1 / 0")
    with pytest.raises(headrace.InFailedSQLTransactionError):
        await conn.execute("COMMIT")
    assert not conn.is_in_transaction()


async def test_a_deferred_constraint_fails_the_commit(connect: Connect) -> None:
    conn = await connect()
    await conn.execute("CREATE TEMP TABLE t (a int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(headrace.UniqueViolationError):
        async with conn.transaction():
            await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (1,)])
    assert not conn.is_in_transaction()
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


async def test_what_follows_in_a_failed_transaction_names_the_root_cause(conn: headrace.Connection) -> None:
    await conn.fetchval("SELECT $1::int", 1)
    transaction = conn.transaction()
    await transaction.start()
    first, *rest = await asyncio.gather(
        conn.execute("SELECT 1 / 0"),
        *(conn.fetchval("SELECT $1::int", i) for i in range(5)),
        return_exceptions=True,
    )
    assert type(first) is headrace.DivisionByZeroError
    assert [type(each) for each in rest] == [headrace.InFailedSQLTransactionError] * 5
    assert all(each.__cause__ is first for each in rest)
    await transaction.rollback()
    assert await conn.fetchval("SELECT $1::int", 3) == 3
