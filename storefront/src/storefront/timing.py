"""Log the start of a coroutine function with its arguments, and its end with the seconds it took."""

from __future__ import annotations

import asyncio
import functools
import logging
import reprlib
import time
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any, ParamSpec, TypeVar

logger = logging.getLogger(__name__)

FINISHED = "%s finished in %.3f s"
"""The message at the end of a function, with its name and the seconds."""

P = ParamSpec("P")
R = TypeVar("R")

# Only the first few of 10,000 ids are shown. They are enough to recognise a call.
_short = reprlib.Repr()
_short.maxlist = _short.maxtuple = 4
_short.maxstring = 60
_short.maxother = 80


def timed(function: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Coroutine[Any, Any, R]]:
    """Decorate a coroutine function so that it logs its start, its arguments, its end and the seconds it took.

    Everything is logged by `storefront.timing` at level INFO. That includes failure and cancellation, because the
    exception is raised unchanged and the caller decides what it means. The seconds are wall-clock time from the first
    step of the coroutine to its last.
    """

    @functools.wraps(function)
    async def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        name = function.__name__
        logger.info("%s starts, with %s", name, _arguments(args, kwargs))
        started = time.perf_counter()
        try:
            result = await function(*args, **kwargs)
        except asyncio.CancelledError:
            logger.info("%s was cancelled after %.3f s", name, time.perf_counter() - started)
            raise
        except Exception as error:
            seconds = time.perf_counter() - started
            logger.info("%s failed after %.3f s: %s: %s", name, seconds, type(error).__name__, error)
            raise
        logger.info(FINISHED, name, time.perf_counter() - started)
        return result

    return wrapper


def _arguments(args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    """Return the arguments as in a call. Long values are shortened, and functions are left out."""
    shown = [_show(value) for value in args if not callable(value)]
    shown += [f"{name}={_show(value)}" for name, value in kwargs.items() if not callable(value)]
    return ", ".join(shown) or "no arguments"


def _show(value: object) -> str:
    """Return a value as Python source or, if it has no such form, as "a Connection" or "an Order"."""
    text = _short.repr(value.value if isinstance(value, Enum) else value)
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOU' else 'a'} {name}" if text.startswith("<") else text
