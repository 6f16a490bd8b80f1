"""The state and the counters of a cluster, for metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.cluster.hosts import Role
    from headrace.cluster.position import Position
    from headrace.cluster.topology import State
    from headrace.pool import PoolStats


@dataclass(frozen=True, slots=True)
class HostInfo:
    """The state of one host at one moment."""

    host: str
    port: int
    hostaddr: str | None
    """The IP address that is connected to, if it was given or discovered beside the name."""
    role: Role | None
    """The role that it has in the cluster; None if it has none, or was never seen."""
    state: State
    """"up", or why it is not used: "unknown", "down", "lagging", "former primary", "read-only", "split", "foreign" (of
    another cluster) or "duplicate" (of another host of the list)."""
    reason: str
    """The state in more words; "" if there is nothing to say."""
    lag: float | None
    """The lag of a replica in seconds, to about `check_interval`; None if it is not known."""
    position: Position | None
    """The position at the last check: up to which a replica has replayed, or at which a primary writes."""
    in_flight: int
    """Calls that wait or are in flight, leases included."""
    pool: PoolStats | None
    """The statistics of its pool since that was opened; None if there is no pool."""


@dataclass(frozen=True, slots=True)
class ClusterStats:
    """The counters of a cluster since it was opened."""

    checks: int
    """Checks of the present hosts."""
    missed: int
    """Checks without an answer in time."""
    primary_changes: int
    """How often a host has become the primary, the first one included."""
    waiting: int
    """Calls that wait for a host now."""
    waits: int
    """Waits of calls for a host."""
    moved: int
    """Calls that had waited for a host that was lost, or were plain reads there, and went to another host."""
    fallbacks: int
    """Calls of `replicas` that went to the primary because no replica could answer."""
    reads_known: int
    """Calls of `replicas.after()` on a replica that was known to have replayed the position."""
    reads_probed: int
    """Calls of `replicas.after()` on a replica that was asked."""
    reads_discarded: int
    """Answers that were thrown away because the replica had not replayed the position."""
    reads_primary: int
    """Calls of `replicas.after()` that went to the primary."""
    discovery_errors: int
    """Failures of `discover`."""


@dataclass(slots=True)
class Counts:
    """The counters of a cluster."""

    missed: int = 0
    primary_changes: int = 0
    waits: int = 0
    moved: int = 0
    fallbacks: int = 0
    reads_known: int = 0
    reads_probed: int = 0
    reads_discarded: int = 0
    reads_primary: int = 0
    discovery_errors: int = 0

    def stats(self, checks: int, waiters: int, strays: int) -> ClusterStats:
        """Return the counters together with the present state."""
        return ClusterStats(
            checks=checks,
            missed=self.missed,
            primary_changes=self.primary_changes,
            waiting=waiters + strays,
            waits=self.waits,
            moved=self.moved,
            fallbacks=self.fallbacks,
            reads_known=self.reads_known,
            reads_probed=self.reads_probed,
            reads_discarded=self.reads_discarded,
            reads_primary=self.reads_primary,
            discovery_errors=self.discovery_errors,
        )
