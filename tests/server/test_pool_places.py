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
