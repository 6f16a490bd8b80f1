"""Connections opened and closed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.peers.peer import Peer
from bench.workloads.workload import AtLeast, Job, Limit, Scale, Workload


def workloads(scale: Scale) -> list[Workload]:
    """Return the workloads of this subject."""
    return [
        Workload(
            "connect",
            "connect and close, one after another",
            "connections/s",
            "connections",
            _connect,
            requirement=AtLeast(1.0),
            # The script has no statement: pgbench connects for the transaction, has nothing to send, and closes.
            limit=Limit("\\set nothing 1\n", clients=1, queries=scale.lookups // 50, reconnect=True),
        )
    ]


@asynccontextmanager
async def _connect(peer: Peer, dsn: str) -> AsyncIterator[Job]:
    async def check(_: object) -> None:
        """Do nothing: a failed connection raises an error."""

    yield Job(run=lambda count: peer.connect_each(dsn, count), check=check)
