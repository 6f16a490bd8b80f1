"""What programs that watch a pool of asyncpg's read of it, although asyncpg calls these names private.

asyncpg keeps a holder for each connection that there may be, and the free ones in a queue. Here both are pictures of
the state of things, made when they are asked for: looking at them is all that can be done with them. What they tell is
in `Pool.stats()` too, and more.
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
    """A place for a connection, as it was when it was asked for."""

    _con: Connection | None
    """The connection, None where none is open."""
    _in_use: object
    """What was leased, None where it is free."""
    _generation: int

    def is_connected(self) -> bool:
        """Return whether there is a connection."""
        return self._con is not None and not self._con.is_closed()

    def is_idle(self) -> bool:
        """Return whether it is not leased."""
        return self._in_use is None


@dataclass(frozen=True, slots=True, eq=False)
class Free:
    """The holders that are not leased, and those who wait for one, as they were when they were asked for."""

    _queue: list[Holder]
    _getters: list[Claim]
    maxsize: int

    def qsize(self) -> int:
        """Return how many are free."""
        return len(self._queue)

    def empty(self) -> bool:
        """Return whether none is free."""
        return not self._queue


class WatchedNames:
    """The names, for a pool to have."""

    _scheduler: Scheduler

    @property
    def _minsize(self) -> int:
        return self._scheduler.limits.min_size

    @property
    def _maxsize(self) -> int:
        return self._scheduler.limits.max_size

    @property
    def _generation(self) -> int:
        return self._scheduler.generation

    @property
    def _holders(self) -> list[Holder]:
        holders = [
            Holder(pooled.connection, (pooled.proxy and pooled.proxy()) if pooled.leased else None, pooled.generation)
            for pooled in self._scheduler.connections.values()
        ]
        missing = self._maxsize - len(holders)
        return holders + [Holder(None, None, self._generation) for _ in range(missing)]

    @property
    def _queue(self) -> Free:
        free = [holder for holder in self._holders if holder.is_idle()]
        return Free(free, self._scheduler.claims(), self._maxsize)
