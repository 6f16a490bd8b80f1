"""A cluster of servers: a primary and its replicas, found and followed by themselves."""

from headrace.cluster import discover as discover
from headrace.cluster.after import AfterView, Session, SessionReplicas
from headrace.cluster.cluster import Cluster, PrimaryView, ReplicaView, create_cluster
from headrace.cluster.events import (
    ClusterEvent,
    DiscoveryFailed,
    HostDiscovered,
    HostDown,
    HostRemoved,
    HostUp,
    PrimaryChanged,
    ReplicaCaughtUp,
    ReplicaLagging,
    RoleChanged,
    Split,
)
from headrace.cluster.hosts import Host
from headrace.cluster.position import Position
from headrace.cluster.stats import ClusterStats, HostInfo
from headrace.cluster.view import View

__all__ = [
    "AfterView",
    "Cluster",
    "ClusterEvent",
    "ClusterStats",
    "DiscoveryFailed",
    "Host",
    "HostDiscovered",
    "HostDown",
    "HostInfo",
    "HostRemoved",
    "HostUp",
    "Position",
    "PrimaryChanged",
    "PrimaryView",
    "ReplicaCaughtUp",
    "ReplicaLagging",
    "ReplicaView",
    "RoleChanged",
    "Session",
    "SessionReplicas",
    "Split",
    "View",
    "create_cluster",
    "discover",
]
