"""Sources for the data of a COPY FROM STDIN."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable
from inspect import isawaitable
from typing import Any, Protocol

from headrace.copy.files import in_thread, may_block, opened
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

CHUNK = 1 << 18
"""Bytes read from a file at a time, and the most sent in one message."""

Data = bytes | bytearray | memoryview


class NotBytesError(InterfaceError, TypeError):
    """A source returned something other than bytes, usually text."""


class Readable(Protocol):
    """A file-like object, synchronous or not."""

    def read(self, size: int, /) -> Data | Awaitable[Data]:
        """Return up to `size` bytes; none at the end."""


Source = (
    str
    | os.PathLike[str]
    | Data
    | Readable
    | AsyncIterable[Data]
    | Iterable[Data]
    | Callable[[], Data | Awaitable[Data]]
)


def chunks(source: Source) -> AsyncGenerator[bytes, None]:
    """Return the data in chunks that are neither long nor empty.

    A path is opened and read in a thread, and so is a file from `open()`, including pipes and compressed files. For any
    other object read() is called in the event loop, and awaited if it returns an awaitable. A callable is called until
    it returns no bytes. Raises TypeError for anything else, before anything is read.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _pieces(source)
    if isinstance(source, (str, os.PathLike)):
        return _path(source)
    if hasattr(source, "read"):
        return _file(source)
    if isinstance(source, AsyncIterable):
        return _iterated(source)
    try:
        view = memoryview(source)  # type: ignore[arg-type]
    except TypeError:
        pass
    else:
        return _pieces(view)
    if isinstance(source, Iterable):
        return _iterated(_asynchronous(source))
    if callable(source):
        return _called(source, "source()")
    raise TypeError(
        "source is expected to be a path-like object, a file-like object, bytes, an iterable or asynchronous iterable "
        f"of bytes, or a callable that returns bytes, not {type(source).__name__}"
    )


async def _pieces(data: Data) -> AsyncGenerator[bytes, None]:
    view = memoryview(data).cast("B")
    for start in range(0, len(view), CHUNK):
        yield bytes(view[start : start + CHUNK])


async def _path(path: str | os.PathLike[str]) -> AsyncGenerator[bytes, None]:
    async with opened(path, "rb") as file:
        while data := await file.read(CHUNK):
            yield data


def _file(file: Any) -> AsyncGenerator[bytes, None]:
    if may_block(file):
        return _called(lambda: in_thread(file.read, CHUNK), "source.read()")
    return _called(lambda: file.read(CHUNK), "source.read()")


async def _called(function: Callable[[], Any], where: str) -> AsyncGenerator[bytes, None]:
    while True:
        data = function()
        if isawaitable(data):
            data = await data
        if not len(_checked(data, where)):
            return
        async for piece in _pieces(data):
            yield piece


async def _iterated(iterable: AsyncIterable[Any]) -> AsyncGenerator[bytes, None]:
    async for data in iterable:
        async for piece in _pieces(_checked(data, "source")):
            yield piece


async def _asynchronous(iterable: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for data in iterable:
        yield data


def _checked(data: Any, where: str) -> Data:
    if isinstance(data, (bytes, bytearray, memoryview)):
        return data
    hint = "Open the file in binary mode, or encode the text." if isinstance(data, str) else None
    raise NotBytesError(f"{where} is expected to give bytes, got {type(data).__name__} {shown(data)}", hint=hint)
