"""Statistics of a pool, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from headrace.pool.dispatcher import BOUNDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from headrace.pool.dispatcher import Dispatcher
    from headrace.pool.scheduler import Reason, Scheduler


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram of durations. `itertools.accumulate` makes cumulative buckets of its counts."""

    bounds: tuple[float, ...]
    """Inclusive upper bounds of the buckets in seconds. The last bucket has no bound."""
    counts: tuple[int, ...]
    """Number of durations in each bucket: one count per bound, and one for everything longer."""
    total: float
    """Sum of all durations, in seconds."""

    @property
    def count(self) -> int:
        """Number of durations."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The state of a pool at one moment, and its counters since it was opened."""

    size: int
    """Connections that can be used: idle, busy with shared calls, or leased."""
    idle: int
    """Connections with nothing in flight that are not leased."""
    leased: int
    """Connections that are acquired now."""
    draining: int
    """Connections that close once their requests in flight are done. They count towards `max_size`."""
    opening: int
    """Connections that are being opened."""
    min_size: int
    max_size: int
    in_flight: int
    """Requests that were sent and have not been answered."""
    queued: int
    """Requests that were given to a connection and have not been sent."""
    waiting: int
    """Callers in the wait queue."""
    wait_time: Histogram
    """Time that callers spent in the wait queue, also if they gave up. Calls that did not wait are left out."""
    acquire_count: int
    """Number of leases so far."""
    opened: int
    """Number of connections opened."""
    connect_errors: int
    """Number of failed attempts to open a connection."""
    closed: Mapping[str, int]
    """Number of connections closed, by `Reason`."""
    quarantined: int
    """Number of connections closed because a shared call left them inside a transaction."""
    leaked: int
    """Number of leases that were never released and ended because nothing referred to them any more."""


@dataclass(slots=True)
class Counts:
    """The counters of a pool."""

    acquire_count: int = 0
    opened: int = 0
    connect_errors: int = 0
    leaked: int = 0
    closed: Counter[Reason] = field(default_factory=Counter)

    def stats(self, scheduler: Scheduler, dispatcher: Dispatcher) -> PoolStats:
        """Return the counters together with the present state of the pool."""
        sessions = [driver.session for driver in (*scheduler.connections, *scheduler.draining)]
        in_flight = sum(session.sent.count for session in sessions)
        return PoolStats(
            size=len(scheduler.connections),
            idle=scheduler.idle_size(),
            leased=scheduler.leases(),
            draining=len(scheduler.draining),
            opening=len(scheduler.opening),
            min_size=scheduler.limits.min_size,
            max_size=scheduler.limits.max_size,
            in_flight=in_flight,
            queued=sum(session.count_pending() for session in sessions) - in_flight,
            waiting=scheduler.waiting,
            wait_time=Histogram(BOUNDS, dispatcher.wait_counts(), dispatcher.seconds_waited),
            acquire_count=self.acquire_count,
            opened=self.opened,
            connect_errors=self.connect_errors,
            closed={str(reason): count for reason, count in self.closed.items()},
            quarantined=self.closed["quarantined"],  # type: ignore[index]
            leaked=self.leaked,
        )
