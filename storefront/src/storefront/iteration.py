"""Helpers for asynchronous iterables."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

T = TypeVar("T")


async def take(n: int, iterable: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yield the first `n` items of an asynchronous iterable, or all of them if there are fewer.

    Only the items that are yielded are requested, so a cursor can continue with the next one. Raises ValueError if `n`
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
