"""The code that has a connection to itself, by a stream, a COPY or a batch: its requests would wait for themselves.

This is a task, and the tasks that were made in its context since. `asyncio.gather()` and, on Python 3.11,
`asyncio.wait_for()` run what they are given in such a task, and the code around waits for it.
"""

from __future__ import annotations

from asyncio import current_task
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final
from weakref import ref

if TYPE_CHECKING:
    from asyncio import Task


class Mark:
    """Marks the context in which it was made, and the contexts that are copied from that later."""

    __slots__ = ("__weakref__",)

    def __init__(self) -> None:
        # A context must not keep what has ended, and cannot be cleaned from another one.
        _MARKS.set((*(mark for mark in _MARKS.get() if mark() is not None), ref(self)))

    def is_here(self) -> bool:
        """Return whether the current context is marked."""
        return any(mark() is self for mark in _MARKS.get())


_MARKS: Final[ContextVar[tuple[ref[Mark], ...]]] = ContextVar("_MARKS", default=())


class Holder:
    """The current task, from now on, and the tasks that it makes from now on.

    `origin` marks the context in which a stream was made. If each row is read in a task of its own, as by
    `wait_for(anext(rows))` on Python 3.11, no task of the reader is left between two rows. Then it is this context.
    """

    __slots__ = ("_mark", "_origin", "_task")

    def __init__(self, origin: Mark | None = None) -> None:
        task: Task[object] | None = current_task()
        # A task that is forgotten must not be kept alive by the stream that would end with it.
        self._task = ref(task) if task is not None else None
        self._mark = Mark()
        self._origin = origin

    def passed_on(self) -> Holder:
        """Return the holder for a stream that the current task reads from now on."""
        return Holder(self._origin)

    def is_current_task(self) -> bool:
        """Return whether the current task is that of the holder."""
        return self._task is not None and self._task() is current_task()

    def caller(self) -> str | None:
        """Return how an error calls the current task if it belongs to the holder, or None."""
        if self.is_current_task():
            return "this task"
        if self._mark.is_here():
            return "the task that has made this one"
        task = None if self._task is None else self._task()
        if self._origin is not None and (task is None or task.done()) and self._origin.is_here():
            return "this task"
        return None
