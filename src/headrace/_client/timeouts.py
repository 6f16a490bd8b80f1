"""Time limits as callers give them, and functions that pass for coroutine functions."""

from __future__ import annotations

import asyncio
import asyncio.coroutines
import inspect
import sys
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any, TypeVar

from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from types import TracebackType

F = TypeVar("F", bound=Callable[..., Any])


def returns_coroutine(function: F) -> F:
    """Mark a plain function that returns a coroutine, so that `iscoroutinefunction()` is true of it.

    unittest.mock chooses the class of a mock by that, and frameworks decide by it whether to await a result.
    """
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


def checked_timeout(timeout: object) -> float | None:
    """Return the seconds to wait, None for no limit; raises ValueError for anything but a number.

    Everything that float() takes is a number, such as a Decimal, or the text of an environment variable. Call it before
    anything is sent: a request with a bad time limit must not have any effect.
    """
    if timeout is None:
        return None
    seconds = as_seconds(timeout)
    if seconds is None:
        raise ValueError(f"invalid timeout value: expected a number of seconds or None, got {shown(timeout)}")
    return seconds if seconds != inf else None


def checked_command_timeout(value: object) -> float | None:
    """Return the default time limit for every call, None for none; raises ValueError for a bad value."""
    if value is None:
        return None
    seconds = as_seconds(value)
    if seconds is None or seconds <= 0:
        raise ValueError(f"invalid command_timeout value: expected greater than 0 float (got {shown(value)})")
    return seconds


def as_seconds(value: object) -> float | None:
    """Return a number of seconds as a float, None for anything but a number."""
    if isinstance(value, bool):
        return None
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    # NaN is the only number that differs from itself.
    return seconds if seconds == seconds else None


class time_limit:  # noqa: N801  a context manager like asyncio.timeout()
    """Limit a block to some seconds, None for no limit: asyncio.timeout() whose error says what took too long."""

    __slots__ = ("_scope", "_seconds", "_what")

    def __init__(self, seconds: float | None, what: str) -> None:
        self._scope = asyncio.timeout(seconds)
        self._seconds = seconds
        self._what = what

    async def __aenter__(self) -> asyncio.Timeout:
        return await self._scope.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._scope.__aexit__(kind, error, traceback)
        except TimeoutError as late:
            if self._seconds is not None:
                late.args = (f"{self._what} timed out after {max(self._seconds, 0):g} seconds",)
            raise
