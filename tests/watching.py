"""Looking into a connection: what it has sent, and what still waits, for tests that act at a certain point."""

from __future__ import annotations

import asyncio
import resource
import sys
from pathlib import Path

import headrace

PATIENCE = 10.0


def in_flight(connection: headrace.Connection) -> list[str]:
    """Return the texts of the queries that were sent and are not answered; preparations are left out."""
    return [each.query for each in connection._driver.session.sent if type(each).__name__ != "Prepare"]


async def until_in_flight(connection: headrace.Connection, count: int = 1) -> None:
    """Wait until so many queries are in flight; TimeoutError after PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        while len(in_flight(connection)) < count:
            await asyncio.sleep(0)


async def until_closed(connection: headrace.Connection) -> None:
    """Wait until a connection is closed, whoever closes it; TimeoutError after PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        while not connection.is_closed():
            await asyncio.sleep(0)


class PeakMemory:
    """How far the memory of this process grows from here on, in bytes.

    On Linux the kernel is told to forget the peak there was before; elsewhere only what exceeds it is seen.
    """

    def __init__(self) -> None:
        if sys.platform == "linux":
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        self._before = self._peak()

    @staticmethod
    def _peak() -> int:
        if sys.platform == "linux":
            status = Path("/proc/self/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    @property
    def growth(self) -> int:
        """Return by how much the peak since then exceeds what there was."""
        return self._peak() - self._before
