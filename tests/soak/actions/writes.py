"""Writes that are transactions by themselves, singly and in batches."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.exceptions import DivisionByZeroError
from tests.soak.figures import Finding
from tests.soak.turn import Target, Turn

INSERT = "INSERT INTO ledger (token) VALUES ($1)"


async def single(turn: Turn) -> None:
    """One row, by one method or another."""
    async with turn.target() as target:
        token, limit = turn.token(), turn.limit()
        how = turn.rng.randrange(4)
        if how == 0:
            tag = await turn.write(target.execute(INSERT, token, timeout=limit), [token])
            turn.same(tag, "INSERT 0 1", "execute of an INSERT")
        elif how == 1:
            text = f"INSERT INTO ledger (token) VALUES ('{token}')"
            turn.same(await turn.write(target.execute(text, timeout=limit), [token]), "INSERT 0 1", "execute")
        elif how == 2:
            call = target.fetchval(f"{INSERT} RETURNING token", token, timeout=limit)
            turn.same(await turn.write(call, [token]), token, "INSERT ... RETURNING")
        else:
            await _script(turn, target, limit)


async def _script(turn: Turn, target: Target, limit: float | None) -> None:
    tokens = turn.tokens(3)
    text = "; ".join(f"INSERT INTO ledger (token) VALUES ('{token}')" for token in tokens)
    turn.same(await turn.write(target.execute(text, timeout=limit), tokens), "INSERT 0 1", "execute of a script")


async def batch(turn: Turn) -> None:
    """executemany and fetchmany: all or nothing."""
    async with turn.target() as target:
        tokens, limit = turn.tokens(turn.rng.choice((1, 3, 20, 200))), turn.limit()
        if turn.chance(0.7):
            await turn.write(target.executemany(INSERT, [(token,) for token in tokens], timeout=limit), tokens)
            turn.figures.count("queries")
        else:
            call = target.fetchmany(f"{INSERT} RETURNING token", [(token,) for token in tokens], timeout=limit)
            turn.same([row[0] for row in await turn.write(call, tokens)], tokens, "fetchmany of INSERT ... RETURNING")


async def batch_that_fails(turn: Turn) -> None:
    """A batch with a row that the server refuses, or a source that raises: nothing is kept."""
    async with turn.target() as target:
        tokens = turn.tokens(turn.rng.choice((2, 30, 300)))
        bad = turn.rng.randrange(len(tokens))
        turn.ledger.write(tokens)
        try:
            if turn.chance(0.5):
                rows = [(token, int(number != bad)) for number, token in enumerate(tokens)]
                await target.executemany("INSERT INTO ledger (token, amount) VALUES ($1, 1 / $2::int)", rows)
            else:
                await target.executemany(INSERT, _broken(tokens, bad))
        except (DivisionByZeroError, BrokenSource):
            turn.figures.count("errors asked for")
        else:
            raise Finding("a batch with an error in it went through")
        finally:
            turn.ledger.refuse(tokens)


class BrokenSource(Exception):
    """What the sources of this program raise."""


def _broken(tokens: list[str], at: int) -> Iterator[tuple[str]]:
    for number, token in enumerate(tokens):
        if number == at:
            raise BrokenSource
        yield (token,)


async def at_once(turn: Turn) -> None:
    """Many writes at once, some of which are cancelled."""
    async with turn.target() as target:
        tokens = turn.tokens(12)
        victims = {victim: turn.rng.randrange(20) for victim in turn.rng.sample(range(12), 4)}
        await turn.together([_insert(turn, target, token) for token in tokens], victims)


async def _insert(turn: Turn, target: Target, token: str) -> None:
    turn.same(await turn.write(target.execute(INSERT, token), [token]), "INSERT 0 1", "execute of an INSERT")
