"""SIGTERM ends a command as SIGINT does: the transaction is rolled back and the embedded server is stopped."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Terminated(KeyboardInterrupt):
    """SIGTERM was received. Code that handles KeyboardInterrupt handles it too."""


class _Running:
    """The coroutine that `run` runs. The first SIGTERM cancels it, a second one is raised at once."""

    task: asyncio.Task[Any] | None = None
    is_terminated = False
    is_blocking = False
    """True in a `raised_at_once` block."""


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Raise Terminated on SIGTERM, for the time of the `with` block. Only the main thread can do that."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine like asyncio.run, which raises KeyboardInterrupt on SIGINT, and raise Terminated on SIGTERM.

    Either signal cancels the coroutine, which closes its connections before this function raises. SIGTERM has this
    effect only in a `sigterm_interrupts` block.
    """

    async def main() -> T:
        _Running.task = asyncio.current_task()
        return await work

    _Running.is_terminated = False
    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if _Running.is_terminated:
            raise Terminated from None
        raise
    finally:
        _Running.task = None


@contextmanager
def raised_at_once() -> Iterator[None]:
    """Let a signal raise KeyboardInterrupt or Terminated at once, instead of cancelling the coroutine that `run` runs.

    This is for code in the coroutine that may block for a long time, such as reading a pipe: the cancellation would come
    only after it. Outside of `run` it does nothing. Raises CancelledError if the coroutine was cancelled before.
    """
    task = _Running.task
    if task is None:
        yield
        return
    _Running.is_blocking = True
    before = signal.getsignal(signal.SIGINT)
    if callable(before):
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if task.cancelling():
            raise asyncio.CancelledError
        yield
    finally:
        _Running.is_blocking = False
        signal.signal(signal.SIGINT, before)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    task = _Running.task
    if task is None or task.done() or _Running.is_terminated or _Running.is_blocking:
        raise Terminated
    _Running.is_terminated = True
    task.cancel()
    # The loop may wait for a socket. This wakes it, as asyncio.Runner does on SIGINT.
    task.get_loop().call_soon_threadsafe(lambda: None)
