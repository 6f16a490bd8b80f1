"""What is asked through a pool's own methods never runs inside a transaction of somebody's lease.

Else the lease's ROLLBACK would undo what was acknowledged.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

TABLE = "CREATE TABLE kept (a int)"
INSERT = "INSERT INTO kept (a) VALUES ($1) RETURNING *"


async def test_a_statement_met_for_the_first_time_runs_before_the_lease(pool: MakePool) -> None:
    """It waits for its preparation meanwhile, and holds back nobody but the lease."""
    made = await pool(min_size=1, max_size=1)
    await made.execute(TABLE)
    shared = asyncio.create_task(made.fetchrow(INSERT, 1))
    await asyncio.sleep(0)
    async with made.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await shared == (1,)
        await transaction.rollback()
    assert await made.fetchval("SELECT count(*) FROM kept") == 1
    await made.execute("DROP TABLE kept")


async def test_a_stale_statement_runs_outside_of_the_lease(pool: MakePool, connect: Connect) -> None:
    made = await pool(min_size=2, max_size=2)
    await made.execute(TABLE)
    await asyncio.gather(*(made.fetchrow(INSERT, i) for i in range(2)))
    await (await connect()).execute("ALTER TABLE kept ADD COLUMN b int")
    shared = [asyncio.create_task(made.fetchrow(INSERT, i)) for i in range(2, 4)]
    await asyncio.sleep(0)
    async with made.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await asyncio.gather(*shared) == [(2, None), (3, None)]
        await transaction.rollback()
    assert await made.fetchval("SELECT count(*) FROM kept") == 4
    await made.execute("DROP TABLE kept")


async def test_a_batch_of_a_stale_statement_runs_outside_of_the_lease(pool: MakePool, connect: Connect) -> None:
    made = await pool(min_size=2, max_size=2)
    await made.execute(TABLE)
    await asyncio.gather(*(made.fetchmany(INSERT, [(i,)]) for i in range(2)))
    await (await connect()).execute("ALTER TABLE kept ADD COLUMN b int")
    shared = [asyncio.create_task(made.fetchmany(INSERT, [(i,), (i,)])) for i in range(2, 4)]
    await asyncio.sleep(0)
    async with made.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert await asyncio.gather(*shared) == [[(2, None)] * 2, [(3, None)] * 2]
        await transaction.rollback()
    assert await made.fetchval("SELECT count(*) FROM kept") == 6
    await made.execute("DROP TABLE kept")


async def test_a_lease_that_is_taken_ahead_of_who_was_given_the_connection_to_share(pool: MakePool) -> None:
    """Given back, the connection goes to who waits to share it; before that task has its turn it is leased again."""
    made = await pool(min_size=1, max_size=1)
    await made.execute(TABLE)
    lease = await made.acquire()
    shared = asyncio.create_task(made.fetchrow(INSERT, 1))
    while not made.stats().waiting:
        await asyncio.sleep(0)
    await made.release(lease)
    async with made.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetchval("SELECT 1")
        await transaction.rollback()
    assert await shared == (1,)
    assert await made.fetchval("SELECT count(*) FROM kept") == 1
    await made.execute("DROP TABLE kept")


async def test_a_call_of_the_pool_waits_while_every_connection_is_leased(pool: MakePool) -> None:
    """So a holder of a lease that awaits the pool waits for ever if no other connection is left."""
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection, connection.transaction():
        call = asyncio.create_task(made.fetchval("SELECT 1"))
        await connection.fetchval("SELECT 1")
        assert made.stats().waiting == 1
        assert not call.done()
    assert await call == 1
