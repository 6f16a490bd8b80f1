"""Prepared statements, and cached ones under DDL."""

from __future__ import annotations

from headrace.exceptions import DuplicateColumnError, InvalidCachedStatementError, UndefinedColumnError
from tests.soak.actions.echoes import echo
from tests.soak.turn import Turn

SHAPES = 4
"""How many tables there are whose columns come and go."""

CREATE = tuple(
    f"CREATE TABLE shape_{i} (number int PRIMARY KEY); INSERT INTO shape_{i} VALUES (1)" for i in range(SHAPES)
)


async def prepared(turn: Turn) -> None:
    """A statement of one's own, run many times, some at once; then forgotten."""
    async with turn.session() as connection:
        text = f"SELECT $1::text, $2::int, {turn.rng.randrange(20)} AS n"
        statement = await connection.prepare(text, timeout=turn.limit())
        turn.figures.count("statements prepared")
        for number in range(turn.rng.randrange(1, 6)):
            token = turn.token()
            turn.same(tuple(await statement.fetchrow(token, number) or ())[:2], (token, number), "a prepared statement")
        tokens = turn.tokens(6)
        rows = await statement.fetchmany([(token, 0) for token in tokens])
        turn.same([row[0] for row in rows], tokens, "fetchmany of a prepared statement")
        if turn.chance(0.5):
            other = await connection.prepare(text)
            del statement
            token = turn.token()
            turn.same(await other.fetchval(token, 1), token, "a statement prepared twice")
        await echo(turn, connection)


async def of_a_changing_table(turn: Turn) -> None:
    """All columns of a table that others change: prepared again unseen, but inside a transaction."""
    table = turn.rng.randrange(SHAPES)
    query = f"SELECT $1::text AS token, * FROM shape_{table}"
    if turn.chance(0.7):
        async with turn.target() as target:
            for _ in range(3):
                token = turn.token()
                row = await target.fetchrow(query, token)
                turn.same(row and (row["token"], row["number"]), (token, 1), "a row of a changing table")
        return
    async with turn.session() as connection:
        try:
            async with connection.transaction():
                token = turn.token()
                row = await connection.fetchrow(query, token)
                turn.same(row and (row["token"], row["number"]), (token, 1), "a row of a changing table")
        except InvalidCachedStatementError:
            turn.figures.count("stale statements in transactions")
            token = turn.token()
            row = await connection.fetchrow(query, token)
            turn.same(row and (row["token"], row["number"]), (token, 1), "a row of a changed table")


async def change_a_table(turn: Turn) -> None:
    """DDL under the statements of all others."""
    table, column = turn.rng.randrange(SHAPES), turn.rng.choice(("a", "b"))
    text = turn.rng.choice(
        (
            f"ALTER TABLE shape_{table} ADD COLUMN {column} text DEFAULT 'x'",
            f"ALTER TABLE shape_{table} DROP COLUMN {column}",
            f"ALTER TABLE shape_{table} ALTER COLUMN number TYPE {turn.rng.choice(('int', 'bigint'))}",
        )
    )
    async with turn.target() as target:
        try:
            await target.execute(text)
        except (DuplicateColumnError, UndefinedColumnError):
            turn.figures.count("errors asked for")
        else:
            turn.figures.count("tables changed")


async def discard(turn: Turn) -> None:
    """DEALLOCATE ALL or DISCARD ALL under one's own cached statements."""
    async with turn.lease() as connection:
        await echo(turn, connection)
        await connection.execute(turn.rng.choice(("DEALLOCATE ALL", "DISCARD ALL")))
        await echo(turn, connection)
        await echo(turn, connection)
