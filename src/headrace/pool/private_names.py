"""The values of asyncpg's private names that monitoring programs read: `pool._holders` and `pool._queue`.

asyncpg has a holder for each connection that may be open, and a queue of the free ones. Here both are read-only
snapshots. `Pool.stats()` has the same facts and more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace._core.pipeline.workload import Claim
    from headrace.connection import Connection
    from headrace.pool.scheduler import Scheduler


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """A snapshot of a connection that is open or may be opened."""

    _con: Connection | None
    """The connection, None if none is open."""
    _in_use: object
    """The proxy of its lease, None if it is not leased."""
    _generation: int

    def is_connected(self) -> bool:
        """Return whether there is a connection."""
        return self._con is not None and not self._con.is_closed()

    def is_idle(self) -> bool:
        """Return whether it is not leased."""
        return self._in_use is None


@dataclass(frozen=True, slots=True, eq=False)
class Free:
    """A snapshot of the holders that are not leased, and of the claims that wait for one."""

    _queue: list[Holder]
    _getters: list[Claim]
    maxsize: int

    def qsize(self) -> int:
        """Return how many are free."""
        return len(self._queue)

    def empty(self) -> bool:
        """Return whether none is free."""
        return not self._queue


def holders(scheduler: Scheduler) -> list[Holder]:
    """Return a holder for each connection that the pool has or may open."""
    found = [
        Holder(pooled.connection, (pooled.proxy and pooled.proxy()) if pooled.leased else None, pooled.generation)
        for pooled in scheduler.connections.values()
    ]
    missing = scheduler.limits.max_size - len(found)
    return found + [Holder(None, None, scheduler.generation) for _ in range(missing)]


def free(scheduler: Scheduler) -> Free:
    """Return the holders that are not leased."""
    idle = [holder for holder in holders(scheduler) if holder.is_idle()]
    return Free(idle, scheduler.claims(), scheduler.limits.max_size)
