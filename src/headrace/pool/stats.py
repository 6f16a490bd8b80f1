"""What a pool counts, in a form fit for metrics."""

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
    """How long something has taken, how often: cumulative buckets are made of it by `itertools.accumulate`."""

    bounds: tuple[float, ...]
    """Upper bounds of all buckets but the last, in seconds, each inclusive."""
    counts: tuple[int, ...]
    """One for each bound, and one for whatever is longer."""
    total: float
    """The sum of all, in seconds."""

    @property
    def count(self) -> int:
        """How many there are."""
        return sum(self.counts)


@dataclass(frozen=True, slots=True)
class PoolStats:
    """A pool at one moment, and its counts since it was opened."""

    size: int
    """Connections that can be used: idle, at work for the pool's own methods, or leased."""
    idle: int
    """Those that have nothing to do."""
    leased: int
    """Those that somebody has acquired."""
    draining: int
    """Those that are closed once what they have in flight is done; they count towards `max_size`."""
    opening: int
    """Those being opened."""
    min_size: int
    max_size: int
    in_flight: int
    """Requests that a server has and has not answered."""
    queued: int
    """Requests that wait to be sent."""
    waiting: int
    """Callers in line for a connection."""
    waits: Histogram
    """How long callers stood in line, whatever came of it; those served at once are not among them."""
    leases: int
    """How often a connection was acquired."""
    opened: int
    """How many connections were opened."""
    failed: int
    """How many attempts to open one failed."""
    closed: Mapping[str, int]
    """How many were closed, by the `Reason` why."""
    quarantined: int
    """How many came back from the shared path inside a transaction, and were closed for that."""
    leaked: int
    """How many leases were never given back, and were ended because nobody referred to them any more."""


@dataclass(slots=True)
class Counts:
    """What a pool counts as it goes along."""

    leases: int = 0
    opened: int = 0
    failed: int = 0
    leaked: int = 0
    closed: Counter[Reason] = field(default_factory=Counter)

    def stats(self, scheduler: Scheduler, dispatcher: Dispatcher) -> PoolStats:
        """Return the counts together with the state of a pool."""
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
            queued=sum(session.pending for session in sessions) - in_flight,
            waiting=scheduler.waiting,
            waits=Histogram(BOUNDS, dispatcher.wait_counts(), dispatcher.seconds_waited),
            leases=self.leases,
            opened=self.opened,
            failed=self.failed,
            closed={str(reason): count for reason, count in self.closed.items()},
            quarantined=self.closed["quarantined"],  # type: ignore[index]
            leaked=self.leaked,
        )
