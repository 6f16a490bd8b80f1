"""Files that a COPY opens itself, and files passed to it: used in threads if reading or writing may block."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

Path = str | os.PathLike[str]


class OwnFile:
    """A file opened for a COPY. Every operation runs in a thread.

    A cancelled operation goes on in its thread; the file is closed when it has finished.
    """

    def __init__(self, file: io.FileIO, created: bool) -> None:
        self._file = file
        self._created = created
        self._last: asyncio.Future[Any] | None = None

    async def read(self, size: int) -> bytes:
        """Return up to `size` bytes, none at the end."""
        return await self._call(self._file.read, size)  # type: ignore[no-any-return]

    async def write(self, data: bytes) -> None:
        """Write all of the data."""
        await self._call(write_all, self._file, data)

    async def close(self) -> None:
        """Close the file. A write error that was delayed until now is raised."""
        await self._call(self._file.close)

    def discard(self) -> None:
        """Close the file, and remove it if it was created here. Nothing is raised."""
        if self._last is None or self._last.done():
            self._remove()
        else:
            self._last.add_done_callback(lambda _: self._remove())

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()
        if self._created:
            with contextlib.suppress(OSError):
                os.unlink(self._file.name)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        self._last = asyncio.get_running_loop().run_in_executor(None, function, *args)
        return await asyncio.shield(self._last)


@contextlib.asynccontextmanager
async def opened(path: Path, mode: str) -> AsyncIterator[OwnFile]:
    """Open a file for the block, 'rb' or 'wb'. If the block raises, a file that was created here is removed."""
    opening = asyncio.get_running_loop().run_in_executor(None, _open, path, mode)
    try:
        file = await asyncio.shield(opening)
    except asyncio.CancelledError:
        opening.add_done_callback(_close_unwanted)
        raise
    try:
        yield file
        await file.close()
    except BaseException:
        file.discard()
        raise


def _open(path: Path, mode: str) -> OwnFile:
    if mode == "wb":
        try:
            return OwnFile(open(path, "xb", buffering=0), True)
        except FileExistsError:
            pass
    return OwnFile(open(path, mode, buffering=0), False)  # type: ignore[arg-type]


def _close_unwanted(opening: asyncio.Future[OwnFile]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        opening.result().discard()


def write_all(file: Any, data: bytes) -> None:
    """Write all data to a file that may accept less at a time; raises BlockingIOError if it accepts nothing."""
    view = memoryview(data)
    while len(view):
        written = file.write(view)
        if written is None:
            raise BlockingIOError("output would block: a file in non-blocking mode cannot receive a COPY")
        view = view[written:]


def may_block(file: object) -> bool:
    """Return whether a file must be used in a thread: a file of `io` that is not in memory."""
    return isinstance(file, (io.RawIOBase, io.BufferedIOBase)) and not isinstance(file, io.BytesIO)


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call the function in a thread; on cancellation it continues there."""
    return await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, function, *args))
