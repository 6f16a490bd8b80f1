"""Routes: the ways to the server, each with a pool and with calamities of its own.

What can befall a route says which errors its users may see: on one that only they themselves disturb, by cancelling
and by time limits, there are none at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import headrace
from tests.peers.proxy import Proxy
from tests.servers import SUPERUSER, Cluster
from tests.soak.excuses import is_cancellation, is_loss, is_overdue

DIRECT = 4
"""The most connections of a route beside its pool's."""

CONNECT_TIMEOUT = 30.0
"""Seconds that connecting may take, with every other task at work on two cores."""


@dataclass(frozen=True)
class Plan:
    """A route as it is to be."""

    weight: int
    pool: dict[str, Any]
    session: dict[str, Any] = field(default_factory=dict)
    excuses: tuple[Callable[[BaseException], bool], ...] = ()
    proxied: bool = False
    largest: int = 300_000
    """How many characters a value may have here."""


PLANS: dict[str, Plan] = {
    # Nothing befalls these but what their users do: cancellations and time limits.
    "calm": Plan(6, {"min_size": 3, "max_size": 5}),
    "narrow": Plan(3, {"min_size": 1, "max_size": 2}, {"max_pipeline": 8, "statement_cache_size": 10}),
    "lockstep": Plan(1, {"min_size": 0, "max_size": 3}, {"max_pipeline": 1, "statement_cache_size": 0}),
    "slow": Plan(
        2, {"min_size": 2, "max_size": 5}, {"statement_cache_size": 20}, (is_overdue,), proxied=True, largest=5_000
    ),
    # Backends are terminated here, queries cancelled by somebody else, links cut.
    "killed": Plan(3, {"min_size": 2, "max_size": 5}, {"statement_cache_size": 20}, (is_loss,)),
    "cancelled": Plan(2, {"min_size": 2, "max_size": 4}, {"max_pipeline": 30}, (is_cancellation,)),
    # Who holds a connection and asks for another of the same pool may wait for ever: what listeners are told comes by
    # this pool, whose connection nobody leases.
    "news": Plan(0, {"min_size": 1, "max_size": 1}),
    "cut": Plan(2, {"min_size": 2, "max_size": 5}, {}, (is_loss,), proxied=True),
}


class Route:
    """One way to the server."""

    def __init__(self, name: str, plan: Plan, arguments: dict[str, Any], proxy: Proxy | None) -> None:
        self.name = name
        self.application = f"soak_{name}"
        self.proxy = proxy
        self.largest = plan.largest
        self.arguments: dict[str, Any] = {
            **arguments,
            **plan.session,
            "timeout": CONNECT_TIMEOUT,
            "server_settings": {"application_name": self.application},
        }
        self.pool = headrace.create_pool(**plan.pool, **self.arguments)
        self.places = asyncio.Semaphore(DIRECT)
        """Held for each connection beside the pool's."""
        self.holder = asyncio.Semaphore(1)
        """Held by a turn that holds a lock while it asks the pool."""
        self._excuses = plan.excuses

    def __repr__(self) -> str:
        return f"<Route {self.name}>"

    def excuses(self, error: BaseException) -> bool:
        """Return whether what was done to this route explains an error."""
        return any(excuse(error) for excuse in self._excuses)

    @property
    def is_lossy(self) -> bool:
        """True if connections of this route may be lost."""
        return is_loss in self._excuses


@asynccontextmanager
async def routes(cluster: Cluster, database: str) -> AsyncIterator[dict[str, Route]]:
    """Open all routes to a database; closed with the block."""
    async with AsyncExitStack() as stack:
        opened: dict[str, Route] = {}
        for name, plan in PLANS.items():
            host, port, proxy = cluster.host(), cluster.port, None
            if plan.proxied:
                proxy = await stack.enter_async_context(Proxy(host, port))
                host, port = proxy.host, proxy.port
            arguments = {"host": host, "port": port, "user": SUPERUSER, "database": database}
            opened[name] = Route(name, plan, arguments, proxy)
        for route in opened.values():
            await route.pool
            # For where the run has ended before its end; a pool that was closed is left alone.
            stack.callback(route.pool.terminate)
        yield opened
