"""Queries alone, in crowds, with victims among them and with errors between them."""

from __future__ import annotations

import pytest

from headrace.exceptions import DivisionByZeroError, InterfaceError, PostgresSyntaxError, UndefinedTableError
from tests.soak.actions.echoes import echo
from tests.soak.turn import Target, Turn


async def one(turn: Turn) -> None:
    """One query."""
    async with turn.target() as target:
        await echo(turn, target)


async def row_after_row(turn: Turn) -> None:
    """Queries one after the other on one connection."""
    async with turn.session() as connection:
        for _ in range(turn.rng.randrange(2, 12)):
            await echo(turn, connection)


async def crowd(turn: Turn) -> None:
    """Many queries at once, some of which are cancelled: the others get their own replies."""
    async with turn.target() as target:
        number = turn.rng.randrange(2, 30)
        victims = turn.rng.sample(range(number), turn.rng.randrange(0, 1 + number // 2))
        when = {victim: int(turn.rng.expovariate(1 / 10)) for victim in victims}
        await turn.together([echo(turn, target) for _ in range(number)], when)


async def running_head(turn: Turn) -> None:
    """A slow query is cancelled as others wait behind it."""
    async with turn.target() as target:
        calls = [_sleep(target, turn.rng.uniform(0.001, 0.2)), *(echo(turn, target) for _ in range(8))]
        await turn.together(calls, {0: turn.rng.randrange(40), 3: turn.rng.randrange(40)})


async def late_cancel(turn: Turn) -> None:
    """A query is cancelled about when it ends, and its neighbours take their time: the signal may hit them instead.

    They are such as can be run again unseen, or scripts and batches, which cannot.
    """
    async with turn.session() as connection:
        for _ in range(6):
            calls = [_sleep(connection, turn.rng.uniform(0.0005, 0.02))]
            others = turn.rng.choice(((_drowsy,), (_drowsy,), (_drowsy_script, _drowsy_batch)))
            calls += [turn.rng.choice(others)(turn, connection) for _ in range(4)]
            await turn.together(calls, {0: 1 + int(turn.rng.expovariate(1 / 4))})


async def _drowsy(turn: Turn, target: Target) -> None:
    token = turn.token()
    turn.same(await target.fetchval("SELECT $1::text FROM pg_sleep(0.002)", token), token, "a slow query")


async def _drowsy_script(turn: Turn, target: Target) -> None:
    turn.same(await target.execute("SELECT pg_sleep(0.002); SELECT 1, 2"), "SELECT 1", "execute of a slow script")


async def _drowsy_batch(turn: Turn, target: Target) -> None:
    tokens = turn.tokens(3)
    rows = await target.fetchmany("SELECT $1::text FROM pg_sleep(0.001)", [(token,) for token in tokens])
    turn.same([row[0] for row in rows], tokens, "fetchmany of a slow query")


async def _sleep(target: Target, seconds: float) -> None:
    await target.fetchval("SELECT pg_sleep($1)", seconds)


async def errors_between(turn: Turn) -> None:
    """Queries that fail among those that do not: each settles its own."""
    async with turn.target() as target:
        wrong = turn.rng.sample(range(12), turn.rng.randrange(1, 6))
        await turn.together([_fails(turn, target) if i in wrong else echo(turn, target) for i in range(12)])


async def _fails(turn: Turn, target: Target) -> None:
    zero, table, arguments = turn.rng.choice(
        ((DivisionByZeroError, "SELECT 1 / $1::int", (0,)), (UndefinedTableError, "SELECT * FROM not_there", ()),
         (PostgresSyntaxError, "SELEKT 1", ()), (InterfaceError, "SELECT $1::int", ("text",)))
    )  # fmt: skip
    with pytest.raises(zero):
        await target.fetch(table, *arguments)
    turn.figures.count("errors asked for")
