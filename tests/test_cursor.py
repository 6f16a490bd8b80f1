"""Cursors: iteration with prefetch, and by hand; inside a transaction, on a shared connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import headrace

SERIES = "SELECT i FROM generate_series(0, $1::int - 1) AS i"


@pytest.mark.parametrize("prefetch", [None, 1, 7, 50, 1000])
@pytest.mark.parametrize("count", [0, 1, 50, 51, 333])
async def test_iteration(conn: headrace.Connection, prefetch: int | None, count: int) -> None:
    async with conn.transaction():
        assert [row["i"] async for row in conn.cursor(SERIES, count, prefetch=prefetch)] == list(range(count))


async def test_awaited(conn: headrace.Connection) -> None:
    async with conn.transaction():
        cursor = await conn.cursor(SERIES, 10)
        assert await cursor.fetchrow() == (0,)
        assert await cursor.fetch(3) == [(1,), (2,), (3,)]
        assert await cursor.forward(4) == 4
        assert await cursor.fetch(10) == [(8,), (9,)]
        assert await cursor.fetch(10) == []
        assert await cursor.fetchrow() is None
        assert await cursor.forward(1) == 0


async def test_forward_past_the_end(conn: headrace.Connection) -> None:
    async with conn.transaction():
        cursor = await conn.cursor(SERIES, 10)
        assert await cursor.forward(500) == 10
        assert await cursor.fetchrow() is None


async def test_two_cursors_side_by_side(conn: headrace.Connection) -> None:
    async def total(step: int) -> int:
        return sum([row["i"] * step async for row in conn.cursor(SERIES, 200, prefetch=9)])

    async with conn.transaction():
        assert list(await asyncio.gather(total(1), total(2))) == [19900, 39800]


async def test_a_prepared_statements_cursor(conn: headrace.Connection) -> None:
    statement = await conn.prepare(SERIES)
    async with conn.transaction():
        assert [row[0] async for row in statement.cursor(3)] == [0, 1, 2]
        cursor = await statement.cursor(3)
        assert await cursor.fetch(5) == [(0,), (1,), (2,)]


async def test_a_cursor_needs_a_transaction(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.NoActiveSQLTransactionError, match="outside of a transaction"):
        async for _ in conn.cursor(SERIES, 3):
            pass
    with pytest.raises(headrace.NoActiveSQLTransactionError):
        await conn.cursor(SERIES, 3)


async def test_bad_arguments(conn: headrace.Connection) -> None:
    for prefetch in (0, -1, "many", True):
        with pytest.raises(headrace.InterfaceError, match="greater than zero"):
            conn.cursor(SERIES, 3, prefetch=prefetch)  # type: ignore[arg-type]
    async with conn.transaction():
        with pytest.raises(headrace.InterfaceError, match="iterable cursor"):
            await conn.cursor(SERIES, 3, prefetch=5)
        cursor = await conn.cursor(SERIES, 3)
        for n in (0, -5):
            with pytest.raises(headrace.InterfaceError, match="greater than zero"):
                await cursor.fetch(n)
    async with conn.transaction():
        with pytest.raises(headrace.DataError):
            async for _ in conn.cursor(SERIES, "three"):
                pass


async def test_an_abandoned_cursor_gives_back_its_portal(conn: headrace.Connection) -> None:
    async with conn.transaction():
        async for row in conn.cursor(SERIES, 1000):
            if row["i"] == 10:
                break
        assert await conn.fetchval("SELECT count(*) FROM pg_cursors WHERE name LIKE 'headrace%'") == 0


async def test_an_error_in_the_middle_of_a_stream(conn: headrace.Connection) -> None:
    seen: list[int] = []
    with pytest.raises(headrace.DivisionByZeroError):
        async with conn.transaction():
            async for row in conn.cursor("SELECT 10 / (5 - i) AS q FROM generate_series(1, 9) AS i", prefetch=2):
                seen.append(row["q"])
    assert seen == [2, 3, 5, 10]
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_cursor_of_a_lease_given_back(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection, connection.transaction():
        cursor = await connection.cursor(SERIES, 3)
    with pytest.raises(headrace.InterfaceError, match="released back to the pool"):
        await cursor.fetch(1)


async def test_a_cursor_shows_its_query(conn: headrace.Connection) -> None:
    async with conn.transaction():
        assert ' "SELECT 1" 0x' in repr(await conn.cursor("SELECT 1"))
        assert ' "SELECT 1, 2, 3, 4, 5, 6, 7,..." 0x' in repr(await conn.cursor("SELECT 1, 2, 3, 4, 5, 6, 7, 8, 9"))


async def test_a_cursor_at_its_end_needs_its_transaction_too(conn: headrace.Connection) -> None:
    async with conn.transaction():
        cursor = await conn.cursor("SELECT 1")
        assert await cursor.fetch(2) == [(1,)]
        assert await cursor.fetch(1) == []
        assert await cursor.forward(1) == 0
    for call in (cursor.fetchrow(), cursor.fetch(1), cursor.forward(1)):
        with pytest.raises(headrace.NoActiveSQLTransactionError):
            await call


# How many rows at a time


async def batches(conn: headrace.Connection, query: str, **options: Any) -> list[int]:
    """Return how many rows each batch of an iteration has had."""
    sizes: list[int] = []

    def fetched(record: headrace.LoggedQuery) -> None:
        if record.query == query:
            sizes.append(0)

    with conn.query_logger(fetched):
        async with conn.transaction():
            async for _ in conn.cursor(query, **options):
                sizes[-1] += 1
    return sizes


async def test_batches_of_small_rows_grow_to_a_thousand(conn: headrace.Connection) -> None:
    assert await batches(conn, "SELECT generate_series(1, 4000)") == [50, 200, 800, 1000, 1000, 950]


async def test_batches_of_longer_rows_grow_to_128_kilobytes(conn: headrace.Connection) -> None:
    sizes = await batches(conn, "SELECT repeat('x', 1024 - 6) FROM generate_series(1, 400)")
    assert sizes == [50, 128, 128, 94]


async def test_batches_of_large_rows_stay_small(conn: headrace.Connection) -> None:
    assert await batches(conn, "SELECT repeat('x', 10000) FROM generate_series(1, 120)") == [50, 50, 20]


async def test_batches_become_small_again_behind_larger_rows(conn: headrace.Connection) -> None:
    sizes = await batches(
        conn, "SELECT repeat('x', CASE WHEN n > 1050 THEN 10000 ELSE 1 END) FROM generate_series(1, 2190) n"
    )
    assert sizes == [50, 200, 800, 1000, 50, 50, 40]


@pytest.mark.parametrize("prefetch", [7, 50, 2000])
async def test_a_number_that_is_given_is_kept(conn: headrace.Connection, prefetch: int) -> None:
    sizes = await batches(conn, "SELECT generate_series(1, 4200)", prefetch=prefetch)
    assert sizes == [prefetch] * (4200 // prefetch) + ([4200 % prefetch] if 4200 % prefetch else [0])
