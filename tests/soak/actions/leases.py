"""Leases: sessions that are changed and come back as they were, waits in line, connections of one's own."""

from __future__ import annotations

import asyncio

import headrace
from tests.soak.actions.echoes import echo
from tests.soak.turn import Turn, settled

PRISTINE = """SELECT
    coalesce(current_setting('soak.mark', true), '') || current_setting('work_mem')
    || (SELECT count(*) FROM pg_listening_channels())
    || (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
    || (SELECT count(*) FROM pg_cursors WHERE name <> '')"""
"""What a lease may have left behind, as one text; a WITH HOLD cursor is one of pg_cursors."""

CLEAN = "4MB000"

MARKS = (
    "SET soak.mark = 'left behind'",
    "SET work_mem = '5MB'",
    "LISTEN left_behind",
    "SELECT pg_advisory_lock_shared(7)",
    "BEGIN; DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "BEGIN",
)


async def marked(turn: Turn) -> None:
    """A session is changed and given back."""
    async with turn.lease() as connection:
        for mark in turn.rng.sample(MARKS, 2):
            await connection.execute(mark)
        if turn.chance(0.5):
            await echo(turn, connection)
    turn.figures.count("sessions changed")


async def marked_through_the_pool(turn: Turn) -> None:
    """The same through the pool's own methods, which have to see it."""
    mark = turn.rng.choice(MARKS[:4])
    await turn.route.pool.execute(mark)
    turn.figures.count("sessions changed")


async def pristine(turn: Turn) -> None:
    """Whoever gets a connection finds it as new."""
    if turn.chance(0.5):
        async with turn.lease() as connection:
            turn.same(await connection.fetchval(PRISTINE), CLEAN, "the state of a leased session")
            turn.same(connection.is_in_transaction(), False, "the transaction status of a leased session")
    else:
        turn.same(await turn.route.pool.fetchval(PRISTINE), CLEAN, "the state of a shared session")


async def in_line(turn: Turn) -> None:
    """Many wait for a lease, and some of them give up."""
    victims = {victim: turn.rng.randrange(15) for victim in turn.rng.sample(range(8), 3)}
    await turn.together([_leased(turn) for _ in range(8)], victims)


async def _leased(turn: Turn) -> None:
    async with turn.lease() as connection:
        await echo(turn, connection)


async def impatient(turn: Turn) -> None:
    """A wait in line with a time limit."""
    turn.has_limits = True
    async with turn.route.pool.acquire(timeout=turn.rng.uniform(0, 0.05)) as connection:
        await echo(turn, connection)


async def expired(turn: Turn) -> None:
    """All connections of the pool are replaced while they are in use."""
    if turn.chance(0.3):
        await turn.route.pool.expire_connections()
        turn.figures.count("pools expired")
    await echo(turn, turn.route.pool)


async def closed_under_way(turn: Turn) -> None:
    """close() of a connection on which others still wait: each of them learns of it."""
    async with turn.route.places:
        connection = await headrace.connect(**turn.route.arguments)
        turn.figures.count("connections")
        calls = [asyncio.create_task(connection.fetchval("SELECT pg_sleep(0.01)")) for _ in range(4)]
        try:
            for _ in range(turn.rng.randrange(6)):
                await asyncio.sleep(0)
            if turn.chance(0.5):
                await connection.close()
            else:
                connection.terminate()
        finally:
            connection.terminate()
            # None of them hangs: that they settle is what counts.
            try:
                await settled(calls)
            finally:
                for call in calls:
                    if not call.cancelled():
                        call.exception()
