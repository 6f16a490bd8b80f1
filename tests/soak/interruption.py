"""Interruptions: a turn is cancelled, once or twice, or runs into a time-out."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["none", "cancel", "cancel twice", "time-out"]

KINDS: dict[Kind, int] = {"none": 70, "cancel": 17, "cancel twice": 5, "time-out": 8}
"""How often each comes."""

LONGEST = 0.05
"""Seconds within which an interruption comes."""


@dataclass(frozen=True)
class Interruption:
    """When and how a turn is interrupted."""

    kind: Kind
    turns: int
    """Turns of the event loop before a cancellation, or between two of them."""
    seconds: float
    """The time limit, or the time until the first cancellation; 0 where loop turns say when."""

    @classmethod
    def draw(cls, rng: random.Random) -> Interruption:
        """Draw an interruption: often early, where a turn is still being set up, sometimes late."""
        kind = rng.choices(list(KINDS), list(KINDS.values()))[0]
        turns = int(rng.expovariate(1 / 12))
        seconds = LONGEST * rng.random() ** 2 if kind == "time-out" or rng.random() < 0.5 else 0.0
        return cls(kind, turns, seconds)

    async def carry_out(self, work: Coroutine[Any, Any, None], name: str) -> Ending:
        """Run the work in a task of its own, interrupted; returns how it ended."""
        if self.kind == "time-out":
            work = _limited(work, self.seconds)
        task = asyncio.create_task(work, name=name)
        cancelled = False
        try:
            if self.kind.startswith("cancel"):
                if self.seconds:
                    await asyncio.wait([task], timeout=self.seconds)
                else:
                    await _turns(self.turns)
                cancelled = task.cancel("interrupted by the soak")
                if cancelled and self.kind == "cancel twice":
                    await _turns(self.turns // 4)
                    task.cancel("interrupted by the soak again")
            await asyncio.wait([task])
        finally:
            task.cancel()
        if task.cancelled():
            return Ending(cancelled, asyncio.CancelledError())
        return Ending(cancelled, task.exception())


@dataclass(frozen=True)
class Ending:
    """How a turn ended."""

    was_cancelled: bool
    """True if it was running when it was cancelled: it may not have ended as if nothing had been."""
    error: BaseException | None


async def _limited(work: Coroutine[Any, Any, None], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await work


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)
