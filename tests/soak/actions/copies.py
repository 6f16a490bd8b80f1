"""COPY both ways: whole, and ended by sources, sinks and readers that give up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from tests.soak.actions.echoes import echo
from tests.soak.actions.writes import BrokenSource
from tests.soak.figures import Finding
from tests.soak.turn import Turn

SERIES = "SELECT $1::text || '/' || i AS token FROM generate_series(1, $2::int) AS i"


async def records_in(turn: Turn) -> None:
    """Rows of Python values."""
    async with turn.target() as target:
        tokens = turn.tokens(turn.rng.choice((1, 10, 400)))
        rows = [(token, 1) for token in tokens]
        limit = turn.limit()
        call = target.copy_records_to_table("ledger", records=rows, columns=("token", "amount"), timeout=limit)
        turn.same(await turn.write(call, tokens), f"COPY {len(tokens)}", "copy_records_to_table")
    turn.figures.count("copies")


async def bytes_in(turn: Turn) -> None:
    """Bytes of a generator that takes its time, and may raise before its end."""
    async with turn.target() as target:
        tokens = turn.tokens(30)
        fails = turn.chance(0.4)
        source = _source(tokens, turn.rng.randrange(30) if fails else None, turn.rng.randrange(3))
        call = target.copy_to_table("ledger", source=source, columns=("token",), format="csv")
        if not fails:
            turn.same(await turn.write(call, tokens), "COPY 30", "copy_to_table")
            turn.figures.count("copies")
            return
        turn.ledger.write(tokens)
        try:
            await call
        except BrokenSource:
            turn.figures.count("copies aborted")
        else:
            raise Finding("a COPY from a source that raised went through")
        finally:
            turn.ledger.refuse(tokens)
        if turn.chance(0.5):
            await echo(turn, target)


async def _source(tokens: list[str], fails_at: int | None, pauses: int) -> AsyncIterator[bytes]:
    for number, token in enumerate(tokens):
        if number == fails_at:
            raise BrokenSource
        for _ in range(pauses):
            await asyncio.sleep(0)
        yield f"{token}\n".encode()


async def written(turn: Turn) -> None:
    """copy_in(): rows one by one; left by an exception nothing is kept."""
    async with turn.target() as target:
        tokens = turn.ledger.write(turn.tokens(turn.rng.choice((1, 8, 100))))
        leaves_at = turn.rng.randrange(len(tokens)) if turn.chance(0.3) else None
        ending = False
        try:
            async with target.copy_in("ledger", columns=("token",)) as copy:
                for number, token in enumerate(tokens):
                    if number == leaves_at:
                        raise BrokenSource
                    await copy.write_row((token,))
                ending = True
        except BrokenSource:
            turn.ledger.refuse(tokens)
            turn.figures.count("copies aborted")
        except BaseException:
            if not ending:
                turn.ledger.refuse(tokens)
            raise
        else:
            turn.ledger.acknowledge(tokens)
            turn.same(copy.rows, len(tokens), "rows of a CopyWriter")
            turn.figures.count("copies")


async def bytes_out(turn: Turn) -> None:
    """To a function, which may raise before the end."""
    async with turn.target() as target:
        token, number = turn.token(), turn.rng.choice((1, 50, 3000))
        taken = bytearray()
        fails = turn.chance(0.3)

        async def sink(data: bytes) -> None:
            taken.extend(data)
            await asyncio.sleep(0)
            if fails:
                raise BrokenSource

        try:
            tag = await target.copy_from_query(SERIES, token, number, output=sink, timeout=turn.limit())
        except BrokenSource:
            turn.figures.count("copies aborted")
        else:
            turn.same(tag, f"COPY {number}", "copy_from_query")
            turn.same(bytes(taken), b"".join(b"%s/%d\n" % (token.encode(), i) for i in range(1, number + 1)), "COPY")
            turn.figures.count("copies")
        if turn.chance(0.5):
            await echo(turn, target)


async def rows_out(turn: Turn) -> None:
    """copy_out(): decoded rows, to the end or not."""
    async with turn.target() as target:
        token, number, until = turn.token(), turn.rng.choice((5, 200)), turn.rng.randrange(1, 300)
        came = 0
        async with target.copy_out(SERIES, token, number) as copy:
            async for row in copy:
                came += 1
                turn.same(row["token"], f"{token}/{came}", "a row of copy_out")
                if came == until:
                    break
        turn.figures.count("copies")
        await echo(turn, target)
