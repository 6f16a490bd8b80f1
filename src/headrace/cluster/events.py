"""The events of a cluster, as its listeners get them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.cluster.hosts import Host, Role


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """The base class of all events."""


@dataclass(frozen=True, slots=True)
class HostUp(ClusterEvent):
    """A host answers, for the first time or again."""

    host: Host
    role: Role


@dataclass(frozen=True, slots=True)
class HostDown(ClusterEvent):
    """A host does not answer any more. Its connections were dropped."""

    host: Host
    reason: str


@dataclass(frozen=True, slots=True)
class RoleChanged(ClusterEvent):
    """A host that answers has another role than before. A promotion makes a replica a primary."""

    host: Host
    before: Role
    after: Role


@dataclass(frozen=True, slots=True)
class PrimaryChanged(ClusterEvent):
    """Writes go to another host than before; None means that they wait for a primary."""

    before: Host | None
    after: Host | None
    reason: str
    """Why there is no primary; "" if there is one."""


@dataclass(frozen=True, slots=True)
class Split(ClusterEvent):
    """It is not certain which host is the primary, so no write is sent. An operator has to decide."""

    hosts: tuple[Host, ...]
    """The hosts that claim to be the primary."""
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaLagging(ClusterEvent):
    """A replica is further behind than `max_lag`, so it gets no reads."""

    host: Host
    lag: float | None
    """Seconds; None if the lag is not known."""


@dataclass(frozen=True, slots=True)
class ReplicaCaughtUp(ClusterEvent):
    """A replica is no further behind than `max_lag` again."""

    host: Host
    lag: float | None


@dataclass(frozen=True, slots=True)
class HostDiscovered(ClusterEvent):
    """`discover` has found a host that was not known."""

    host: Host


@dataclass(frozen=True, slots=True)
class HostRemoved(ClusterEvent):
    """`discover` does not list a host any more. Its connections are closed when their work is done."""

    host: Host


@dataclass(frozen=True, slots=True)
class DiscoveryFailed(ClusterEvent):
    """`discover` has raised, has taken too long or has returned nonsense. The list of hosts stays as it is."""

    error: BaseException
