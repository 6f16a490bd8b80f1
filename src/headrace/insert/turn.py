"""The order of insertions on one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class Turn:
    """Has the insertions of several tasks on one connection run one after another, each in a transaction of its own.

    A source of records may insert others itself: these belong to the insertion that reads it.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[Any] | None = None

    @asynccontextmanager
    async def taken(self) -> AsyncIterator[None]:
        """Wait for the turn, and have it for the time of the block."""
        task = asyncio.current_task()
        if task is self._task:
            yield
            return
        async with self._lock:
            self._task = task
            try:
                yield
            finally:
                self._task = None
