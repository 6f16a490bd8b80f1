"""Threads that hash passwords, so that the event loop does not.

They are the driver's own: in the loop's default executor a hash would wait behind whatever the program runs there,
and many at once would leave the loop no processor. One processor stays free of them.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

_executor: ThreadPoolExecutor | None = None


def hashers() -> ThreadPoolExecutor:
    """Return the executor, which starts its threads when there is something to hash."""
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "headrace-hashing")
    return _executor


def _forget() -> None:
    """Start anew in a forked child: threads stay behind in the parent."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
