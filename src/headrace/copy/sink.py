"""Destinations for the data of a COPY TO STDOUT."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import isawaitable
from typing import Any, Protocol

from headrace.copy.files import in_thread, may_block, opened, write_all


class Writable(Protocol):
    """A file-like object, synchronous or not."""

    def write(self, data: bytes, /) -> object:
        """Write all of the data."""


Sink = str | os.PathLike[str] | Writable | Callable[[bytes], object]
Write = Callable[[bytes], Awaitable[object]]


def writer(output: Sink) -> contextlib.AbstractAsyncContextManager[Write]:
    """Return a context manager that returns a function for writing. It is entered once data is sure to come.

    A path is opened and written in a thread, and so is a file from `open()`. If the COPY fails, a file that was created
    is removed. For any other object write() is called in the event loop, and awaited if it returns an awaitable; so is
    the drain() of an asyncio.StreamWriter, and a callable. Raises TypeError for anything else.
    """
    if isinstance(output, (str, bytes, os.PathLike)):
        return _path(output)
    write = getattr(output, "write", None)
    if callable(write):
        return contextlib.nullcontext(_file(output, write))
    if callable(output):
        return contextlib.nullcontext(_called(output))
    raise TypeError(
        "output is expected to be a file-like object, a path-like object or a coroutine function, "
        f"not {type(output).__name__}"
    )


@contextlib.asynccontextmanager
async def _path(path: str | os.PathLike[str]) -> AsyncIterator[Write]:
    async with opened(path, "wb") as file:
        yield file.write


def _file(file: Any, write: Callable[[bytes], Any]) -> Write:
    if may_block(file):
        return lambda data: in_thread(write_all, file, data)
    drain = getattr(file, "drain", None)
    return _called(write) if drain is None else _drained(write, drain)


def _called(function: Callable[[bytes], object]) -> Write:
    async def write(data: bytes) -> None:
        done = function(data)
        if isawaitable(done):
            await done

    return write


def _drained(write: Callable[[bytes], object], drain: Callable[[], Awaitable[None]]) -> Write:
    async def write_and_drain(data: bytes) -> None:
        write(data)
        await drain()

    return write_and_drain
