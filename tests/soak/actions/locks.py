"""Locks, slow statements and full pipelines: what stands still must not hold up the others."""

from __future__ import annotations

import asyncio

from tests.soak.actions.echoes import echo
from tests.soak.turn import Turn, settled

LOCK = "SELECT pg_advisory_xact_lock($1)"

PROCEDURE = (
    "CREATE PROCEDURE soak_mark() LANGUAGE plpgsql"
    " AS $$ BEGIN PERFORM set_config('soak.mark', 'left behind', false); END $$",
)

MARKS = (
    "CALL soak_mark()",
    "DO $$ BEGIN PERFORM set_config('soak.mark', 'left behind', false); END $$",
    "DO $$ BEGIN SET work_mem = '5MB'; END $$",
    "DO $$ BEGIN PERFORM pg_advisory_lock_shared(7); END $$",
)


async def holder_asks_the_pool(turn: Turn) -> None:
    """A lease holds a lock that a call through the pool waits for, and awaits other calls through the pool."""
    pool = turn.route.pool
    key, number = turn.rng.getrandbits(31), turn.rng.randrange(1, 6)
    waits = pool.get_max_size() > 2
    # Two holders could keep all connections of the pool, and wait for another one for ever.
    async with turn.route.holder, turn.lease() as connection:
        waiting: list[asyncio.Task[object]] = []
        try:
            async with connection.transaction():
                await connection.fetchval(LOCK, key)
                if waits:
                    waiting.append(asyncio.create_task(pool.fetchval(LOCK, key)))
                    await asyncio.sleep(0)
                await turn.together([echo(turn, pool) for _ in range(number)])
            await asyncio.gather(*waiting)
        finally:
            for task in waiting:
                task.cancel()
            await settled(waiting)
            for task in waiting:
                if not task.cancelled():
                    task.exception()
    turn.figures.count("holders that asked the pool")


async def slow(turn: Turn) -> None:
    """A slow statement through the pool, with quick ones beside it."""
    seconds, pool = turn.rng.uniform(0.05, 0.4), turn.route.pool
    await turn.together([_sleep(turn, seconds), *(echo(turn, pool) for _ in range(4))])


async def _sleep(turn: Turn, seconds: float) -> None:
    token = turn.token()
    text = "SELECT $1::text FROM pg_sleep($2)"
    turn.same(await turn.route.pool.fetchval(text, token, seconds), token, "a slow statement")
    turn.figures.count("slow statements")


async def full_pipeline(turn: Turn) -> None:
    """More plain reads at once than go on one connection, and writes that wait for their ends."""
    await turn.together([*(_read(turn) for _ in range(150)), *(_write(turn) for _ in range(3))])
    turn.figures.count("full pipelines")


async def _read(turn: Turn) -> None:
    token = turn.token()
    turn.same(await turn.route.pool.fetchval("SELECT $1::text", token), token, "one of many reads")


async def _write(turn: Turn) -> None:
    token = turn.token()
    call = turn.route.pool.execute("INSERT INTO ledger (token) VALUES ($1)", token)
    turn.same(await turn.write(call, [token]), "INSERT 0 1", "a write behind many reads")


async def changed_by_a_body(turn: Turn) -> None:
    """CALL and DO through the pool's own methods: the text does not show what they do to their session."""
    await turn.route.pool.execute(turn.rng.choice(MARKS))
    turn.figures.count("sessions changed")
