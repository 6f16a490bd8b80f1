"""Queries that give back what they were sent, by every method and in many shapes."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, cast
from zlib import crc32

from headrace import sql
from tests.soak.turn import Target, Turn

Echo = Coroutine[Any, Any, None]

DIFFERENT = 150
"""How many texts of one query there are: more than any cache of statements here holds."""


@dataclass
class Answer:
    """A typed row."""

    token: str
    number: int


def echo(turn: Turn, target: Target) -> Echo:
    """Return the coroutine of a query that checks its own reply; all of it is drawn by now."""
    kind: Callable[..., Echo] = turn.rng.choice(KINDS)
    return kind(target, turn, turn.token(), turn.rng.randrange(1, 40), turn.limit())


async def _value(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    turn.same(await target.fetchval("SELECT $1::text", token, timeout=limit), token, "fetchval")


async def _row(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    row = await target.fetchrow("SELECT $1::text AS token, $2::bigint AS number", token, number, timeout=limit)
    turn.same(row and tuple(row.items()), (("token", token), ("number", number)), "fetchrow")


async def _rows(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    rows = await target.fetch("SELECT $1::text, i FROM generate_series(1, $2::int) i", token, number, timeout=limit)
    turn.same([tuple(row) for row in rows], [(token, i) for i in range(1, number + 1)], "fetch")


async def _typed(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    rows = await target.fetch("SELECT $1::text AS token, $2::int AS number", token, number, row=Answer, timeout=limit)
    turn.same(rows, [Answer(token, number)], "fetch of typed rows")


async def _named(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    query = sql("SELECT ARRAY[:token || ':' || :number, :token]", token=token, number=str(number))
    turn.same(await target.fetchval(query, timeout=limit), [f"{token}:{number}", token], "fetchval of sql()")


async def _many(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    sent = [(f"{token}/{i}", i) for i in range(number)]
    rows = await target.fetchmany("SELECT $1::text, $2::int", sent, timeout=limit)
    turn.same([tuple(row) for row in rows], sent, "fetchmany")


async def _large(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    value = token * (1 + turn.route.largest * number // 40 // len(token))
    turn.same(await target.fetchval("SELECT $1::text", value, timeout=limit), value, "fetchval of a large value")


async def _json(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    sent = {"token": token, "number": [number]}
    came = await target.fetchval("SELECT $1::jsonb", json.dumps(sent), timeout=limit)
    turn.same(json.loads(came), sent, "fetchval of jsonb")


async def _new_text(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    # Half of them are met for the first time, so the statement is prepared first, and drives another from the cache.
    text = f"SELECT $1::text, {crc32(token.encode()) % DIFFERENT} AS n"
    turn.same(await target.fetchval(text, token, timeout=limit), token, "fetchval of a new text")


async def _literal(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    # Its text is used once: nothing of it is of use to anybody again.
    turn.same(await target.fetchval(f"SELECT '{token}'", timeout=limit), token, "fetchval of a literal")


async def _slow(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    pause = number / 4000
    turn.same(
        await target.fetchval("SELECT $1::text FROM pg_sleep($2)", token, pause, timeout=limit), token, "a slow query"
    )


async def _tag(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    tag = await target.execute(f"SELECT '{token}' FROM generate_series(1, {number})", timeout=limit)
    turn.same(tag, f"SELECT {number}", "execute")


async def _array(target: Target, turn: Turn, token: str, number: int, limit: float | None) -> None:
    sent = [f"{token}/{i}" for i in range(number)]
    came = await target.fetchval("SELECT array_agg(v) FROM unnest($1::text[]) AS v", sent, timeout=limit)
    turn.same(came, sent, "fetchval of an array")


KINDS = cast(
    "list[Callable[..., Echo]]",
    [_value, _value, _row, _rows, _typed, _named, _many, _large, _json, _new_text, _literal, _slow, _tag, _array],
)
