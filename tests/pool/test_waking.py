"""The tasks that a pool wakes behind a read, and the replies that are read after them."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

    from tests.fixtures import MakePool

LONG = 0.001
"""Seconds that a task runs: longer than tasks may before what is read behind them counts as read late."""


async def test_time_in_tasks_does_not_count_as_the_servers(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the tick is marked, so that the cost of what is read in it is not learnt with that time."""
    made = await pool(min_size=2, max_size=2)
    await made.fetchval("SELECT 1")
    loop = asyncio.get_running_loop()
    scheduled, call_soon = [], loop.call_soon

    def noting(callback: Any, *args: Any, **kwargs: Any) -> asyncio.Handle:
        scheduled.append(getattr(callback, "__name__", ""))
        return call_soon(callback, *args, **kwargs)

    async def ask() -> None:
        await made.fetchval("SELECT 1")
        time.sleep(LONG)
        scheduled.append("woken")

    monkeypatch.setattr(loop, "call_soon", noting, raising=False)
    await asyncio.create_task(ask())
    assert "end_tick" in scheduled[scheduled.index("woken") :]
