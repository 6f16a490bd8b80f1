"""Helpers for any asynchronous iterator."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def take(n: int, iterable: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the first `n` items of an asynchronous iterable, or all of them where there are fewer.

    Not one item more is asked for than is yielded, so a cursor reads on from the next one. ValueError where n
    is negative.
    """
    if n < 0:
        raise ValueError(f"take: n must be 0 or more, got {n}")
    if n == 0:
        return
    taken = 0
    async for item in iterable:
        yield item
        taken += 1
        if taken == n:
            return
