"""What grows when something is done again and again: blocks of memory, bytes of malloc(), references to shared objects.

A leak of one block, byte or reference each time shows in every window; what a cache takes, or an allocator keeps, shows
in some. So the least growth of several windows counts.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator, Mapping

REPEATS = 40
WINDOWS = 30
"""At most: what warms up slowly, such as interned strings and free lists, takes its time."""


class _MallInfo(ctypes.Structure):
    """struct mallinfo2 of glibc."""

    _fields_ = [(f"field{number}", ctypes.c_size_t) for number in range(10)]


def _malloc_bytes() -> Callable[[], int]:
    """Return a function for the bytes that malloc() has handed out; 0 where the C library does not tell."""
    try:
        info = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError):
        return lambda: 0
    info.restype = _MallInfo
    return lambda: int(info().field7) + int(info().field4)  # uordblks and hblkhd


malloc_bytes = _malloc_bytes()

SHARED: Mapping[str, object] = {
    "None": None,
    "True": True,
    "False": False,
    "()": (),
    "''": "",
    "b''": b"",
    "0": 0,
    "1": 1,
}


class Growth:
    """Measures windows of runs: `for window in growth: for _ in window: action()`, and then look at `left`."""

    def __init__(
        self, shared: Mapping[str, object] = SHARED, *, repeats: int = REPEATS, bytes_between: int = 0
    ) -> None:
        """`bytes_between`: what malloc() may hold more at the end of a window than at its start, for there is input and
        output under way whose buffers come and go."""
        self.repeats = repeats
        # Fewer than one in two runs is none: a frame or two, or what one run frees and another takes.
        self._none = repeats / 2
        self._none_of_bytes = max(bytes_between, repeats / 2)
        self._shared = shared
        self._least: list[int] = []

    def __iter__(self) -> Iterator[range]:
        objects = list(self._shared.values())
        collecting = gc.isenabled()
        gc.disable()
        try:
            yield range(5)
            for _ in range(WINDOWS):
                before = _count(objects)
                yield range(self.repeats)
                grown = [after - was for after, was in zip(_count(objects), before, strict=True)]
                self._least = [min(pair) for pair in zip(self._least or grown, grown, strict=True)]
                if not self.left:
                    break
        finally:
            if collecting:
                gc.enable()

    @property
    def left(self) -> dict[str, float]:
        """What each run leaves behind, for whatever is not 0: the least of the windows, a run."""
        names = ["blocks", "bytes of malloc()", *(f"references to {name}" for name in self._shared)]
        return {
            name: count / self.repeats
            for name, count in zip(names, self._least, strict=True)
            if count >= (self._none_of_bytes if name == names[1] else self._none)
        }


def growth(
    action: Callable[[], object], shared: Mapping[str, object] = SHARED, *, repeats: int = REPEATS
) -> dict[str, float]:
    """Return what each run of `action` leaves behind."""
    measured = Growth(shared, repeats=repeats)
    for window in measured:
        for _ in window:
            action()
    return measured.left


def _count(objects: list[object]) -> list[int]:
    gc.collect()
    return [sys.getallocatedblocks(), malloc_bytes(), *map(sys.getrefcount, objects)]
