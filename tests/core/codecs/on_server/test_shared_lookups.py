"""A pool's connections learn of types together: each type is asked for once, by one of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace
from headrace._core.codecs.introspection import QUERY

COUNT = 6


@pytest.fixture
async def conn(connect: Any) -> AsyncIterator[headrace.Connection]:
    connection: headrace.Connection = await connect()
    await connection.execute(
        "CREATE TYPE shared_mood AS ENUM ('sad'); CREATE TYPE shared_pair AS (a int, b shared_mood)"
    )
    yield connection
    await connection.execute("DROP TYPE shared_pair; DROP TYPE shared_mood")


def questions(server: Any) -> int:
    """Return how often the server was asked about types so far, by its log of statements."""
    log: str = server.postmaster.log.read_text()
    return log.count(QUERY.splitlines()[0])


async def leased(pool: headrace.Pool) -> list[Any]:
    return [await pool.acquire() for _ in range(COUNT)]


async def test_once_for_all_connections(conn: headrace.Connection, pool: Any, server: Any) -> None:
    shared = await pool(min_size=COUNT, max_size=COUNT, server_settings={"log_statement": "all"})
    connections = await leased(shared)
    before = questions(server)
    values = await asyncio.gather(
        *(each.fetchval("SELECT $1::shared_pair", (n, "sad")) for n, each in enumerate(connections))
    )
    assert [tuple(value) for value in values] == [(n, "sad") for n in range(COUNT)]
    assert questions(server) == before + 1
