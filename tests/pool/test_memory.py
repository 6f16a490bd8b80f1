"""How much memory calls take that wait for a connection of a pool."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fixtures import MakePool

CALLS = 100_000

MOST = 2_000
"""Bytes that a waiting call may take, its task and its coroutines included."""


@pytest.mark.slow
@pytest.mark.any_server
async def test_memory_of_calls_that_wait(pool: MakePool) -> None:
    """A hundred thousand calls wait while the only connection is leased; then each gets its own reply."""
    made = await pool(min_size=1, max_size=1)
    async with made.acquire():
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            calls = [asyncio.create_task(made.fetchval("SELECT $1::int", number)) for number in range(CALLS)]
            while made.stats().waiting < CALLS:
                await asyncio.sleep(0)
            taken = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert taken / CALLS <= MOST
    assert await asyncio.gather(*calls) == list(range(CALLS))
