"""Streams of record batches hold a few batches, not the result, however their reader ends."""

from __future__ import annotations

import asyncio

import pyarrow
import pytest

import headrace
from tests.memory import little_memory, needs_linux

pytestmark = [pytest.mark.any_server, needs_linux]

ROWS = 64 * 1024
QUERY = f"SELECT g, repeat('x', 1023) AS t FROM generate_series(1, {ROWS}) AS g"
BATCH_ROWS = 2048
"""A batch takes 2 MB, and the result 64 MB."""


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_result_is_read_in_batches(conn: headrace.Connection, in_transaction: bool) -> None:
    if in_transaction:
        await conn.execute("BEGIN")
    await conn.fetch_arrow("SELECT 1 AS a")
    seen = 0
    with little_memory():
        async for batch in conn.stream_arrow(QUERY, batch_rows=BATCH_ROWS):
            seen += pyarrow.record_batch(batch).num_rows
    assert seen == ROWS


@pytest.mark.parametrize("how", ["break", "cancel", "error"])
async def test_a_reader_that_stops_midway_leaves_nothing(conn: headrace.Connection, how: str) -> None:
    async def read(stop: int) -> None:
        seen = 0
        async with conn.stream_arrow(QUERY, batch_rows=BATCH_ROWS) as stream:
            async for _ in stream:
                seen += 1
                if seen == stop:
                    if how == "break":
                        break
                    if how == "error":
                        raise ZeroDivisionError
                    asyncio.current_task().cancel()  # type: ignore[union-attr]

    async def stopped(stop: int) -> None:
        task = asyncio.create_task(read(stop))
        await asyncio.wait([task])
        assert task.cancelled() == (how == "cancel")
        if how == "error":
            assert isinstance(task.exception(), ZeroDivisionError)

    await stopped(1)
    with little_memory():
        for stop in range(1, 25):
            await stopped(stop % 8 + 1)
            assert await conn.fetchval("SELECT $1::int", stop) == stop


async def test_capsules_outlive_everything_else(conn: headrace.Connection) -> None:
    async with conn.stream_arrow(QUERY, batch_rows=BATCH_ROWS) as stream:
        taken = pyarrow.record_batch(await anext(stream))
        untaken = (await anext(stream)).__arrow_c_array__()
    del stream
    assert taken.column("g").to_pylist() == list(range(1, BATCH_ROWS + 1))
    with little_memory():
        del untaken
        for _ in range(32):
            async for batch in conn.stream_arrow(QUERY, batch_rows=BATCH_ROWS):
                batch.__arrow_c_array__()
                batch.__arrow_c_stream__()
                break
