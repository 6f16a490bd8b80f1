"""Threads that hash passwords, to keep the work off the event loop.

The driver has an executor of its own. In the loop's default executor a hash would wait behind the program's work, and
many hashes at once would leave no processor for the loop. One processor is left free.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

_executor: ThreadPoolExecutor | None = None


def hashers() -> ThreadPoolExecutor:
    """Return the executor. It starts its threads on demand."""
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), "headrace-hashing")
    return _executor


def _forget() -> None:
    """Forget the executor in a forked child: its threads exist only in the parent."""
    global _executor
    _executor = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
