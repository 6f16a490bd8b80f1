"""Cursors of both kinds, read to the end, left early and forgotten."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import headrace
from tests.soak.actions.echoes import echo
from tests.soak.turn import Turn

SERIES = "SELECT $1::text AS token, i FROM generate_series(1, $2::int) i"


async def iterated(turn: Turn) -> None:
    """`async for`, to the end or not, with other queries in between."""
    async with turn.session() as connection, connection.transaction():
        token, number = turn.token(), turn.rng.randrange(1, 120)
        until = turn.rng.randrange(1, 200)
        at = turn.rng.randrange(1, 60)
        limit = turn.limit()
        came = 0
        async for row in connection.cursor(SERIES, token, number, prefetch=turn.rng.choice((1, 7, 50)), timeout=limit):
            came += 1
            turn.same(tuple(row), (token, came), "a row of a cursor")
            if came == at:
                await echo(turn, connection)
            if came == until:
                break
        else:
            turn.same(came, number, "rows of a cursor")
    turn.figures.count("cursors")


async def streamed(turn: Turn) -> None:
    """A stream, inside or outside of a transaction, to the end or not."""
    async with turn.target() as target:
        token, number, until = turn.token(), turn.rng.choice((5, 200, 5000)), turn.rng.randrange(1, 300)
        came = 0
        async with target.stream(SERIES, token, number, timeout=turn.limit()) as rows:
            async for row in rows:
                came += 1
                turn.same(tuple(row), (token, came), "a row of a stream")
                if came == until:
                    break
            else:
                turn.same(came, number, "rows of a stream")
        turn.figures.count("streams")
        await echo(turn, target)


async def stepwise(turn: Turn) -> None:
    """An open cursor: fetch, fetchrow and forward."""
    async with turn.session() as connection, connection.transaction():
        token, number = turn.token(), 60
        if turn.chance(0.5):
            cursor = await connection.cursor(SERIES, token, number)
        else:
            statement = await connection.prepare(SERIES)
            cursor = await statement.cursor(token, number)
        place = 0
        for _ in range(turn.rng.randrange(1, 8)):
            count = turn.rng.randrange(1, 20)
            how = turn.rng.randrange(3)
            if how == 0:
                rows = await cursor.fetch(count)
                expected = [(token, i) for i in range(place + 1, min(place + count, number) + 1)]
                turn.same([tuple(row) for row in rows], expected, "Cursor.fetch")
                place += len(rows)
            elif how == 1:
                row = await cursor.fetchrow()
                turn.same(row and tuple(row), (token, place + 1) if place < number else None, "Cursor.fetchrow")
                place = min(place + 1, number)
            else:
                skipped = await cursor.forward(count)
                turn.same(skipped, min(count, number - place), "Cursor.forward")
                place += skipped
    turn.figures.count("cursors")


async def two_at_once(turn: Turn) -> None:
    """Two cursors of one connection, read in turns and at once."""
    async with turn.session() as connection, connection.transaction():
        await turn.together([_read(turn, connection) for _ in range(2)])
    turn.figures.count("cursors", 2)


async def _read(turn: Turn, connection: headrace.Connection) -> None:
    token = turn.token()
    came = [tuple(row) async for row in connection.cursor(SERIES, token, 25, prefetch=4)]
    turn.same(came, [(token, i) for i in range(1, 26)], "the rows of one of two cursors")


async def forgotten(turn: Turn) -> None:
    """Asynchronous generators over cursors, left where they stand: nobody closes them."""
    async with turn.session() as connection:
        async with connection.transaction():
            await _first(turn, connection)
            if turn.chance(0.5):
                await echo(turn, connection)
        await echo(turn, connection)
    turn.figures.count("generators abandoned")


async def _first(turn: Turn, connection: headrace.Connection) -> None:
    token = turn.token()
    async for row in _rows(connection, token):
        turn.same(tuple(row), (token, 1), "the first row of a generator")
        break


async def _rows(connection: headrace.Connection, token: str) -> AsyncIterator[Any]:
    async for row in connection.cursor(SERIES, token, 40, prefetch=5):
        yield row
