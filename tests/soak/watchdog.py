"""The watchdog: finds what hangs, and shows where."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import CoroutineType
from typing import Any

PAUSE = 1.0
"""Seconds between two looks."""


class Hung(Exception):
    """Something has not settled in the time that is far more than enough."""


class Watchdog:
    """Knows what is under way and since when; `watch()` raises Hung where something takes too long."""

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._begun: dict[str, float] = {}

    @contextmanager
    def over(self, name: str) -> Iterator[None]:
        """Watch over what the block does."""
        self._begun[name] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._begun[name]

    async def watch(self) -> None:
        """Look again and again."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PAUSE)
            late = [name for name, begun in self._begun.items() if loop.time() - begun > self._patience]
            if late:
                raise Hung(f"not settled after {self._patience:g} s: {', '.join(late)}\n{stacks()}")


def stacks() -> str:
    """Return where each task of the loop waits, innermost last."""
    texts = []
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        texts.append(f"task {task.get_name()}{' (cancelling)' if task.cancelling() else ''}")
        texts.extend(f"  {place}" for place in _places(task.get_coro()))
    return "\n".join(texts)


def _places(awaited: Any) -> Iterator[str]:
    """Yield the line at which each coroutine in a chain of awaits stands."""
    while awaited is not None:
        if isinstance(awaited, CoroutineType):
            frame = awaited.cr_frame
            yield f"{awaited.__qualname__} {frame.f_code.co_filename}:{frame.f_lineno}" if frame else repr(awaited)
            awaited = awaited.cr_await
        elif hasattr(awaited, "ag_await"):
            yield f"{awaited.__qualname__}"
            awaited = awaited.ag_await
        elif hasattr(awaited, "gi_yieldfrom"):
            yield f"{awaited.__qualname__}"
            awaited = awaited.gi_yieldfrom
        else:
            yield repr(awaited)
            return
