"""How much memory this process holds, as Linux tells."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

needs_linux = pytest.mark.skipif(
    not os.access("/proc/self/clear_refs", os.W_OK) or "ASAN_OPTIONS" in os.environ,
    reason="how much was held is told by Linux, and not under AddressSanitizer, which keeps what was freed",
)

MOST = 16 * 1024
"""Kilobytes that the process may grow by."""


def kilobytes(name: str) -> int:
    """Return a figure of this process: VmRSS is what it holds, VmHWM the most that it has held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))


@contextmanager
def little_memory() -> Iterator[None]:
    """Check that a block never makes the process hold much more than it did before."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # proc(5): the most that it has held is counted anew
    before = kilobytes("VmRSS")
    yield
    grown = kilobytes("VmHWM") - before
    assert grown < MOST, f"{grown} kB"
