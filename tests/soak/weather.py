"""The weather: what befalls the routes from outside, a new calamity every so many turns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.soak.decision import source

if TYPE_CHECKING:
    from tests.peers.proxy import Side
    from tests.servers import Cluster
    from tests.soak.figures import Figures
    from tests.soak.routes import Route

EVERY = 12
"""How many turns of actors there are to a change in the weather."""

FROZEN = 0.1
"""Seconds that a frozen link stays so: far less than the driver takes for a dead peer."""

SIDES: tuple[Side, Side] = ("client", "server")


class Weather:
    """Changes with every so many turns of the actors; what comes is decided by the seed."""

    def __init__(
        self, seed: int, cluster: Cluster, database: str, routes: Mapping[str, Route], figures: Figures
    ) -> None:
        self._seed = seed
        self._cluster = cluster
        self._database = database
        self._routes = routes
        self._figures = figures
        self._turns = 0

    def turned(self) -> None:
        """Count a turn of an actor, and change where it is time."""
        self._turns += 1
        if self._turns % EVERY == 0:
            rng = source(self._seed, "weather", self._turns)
            rng.choices(
                (self._kill, self._cancel, self._break_a_link, self._slow_down, self._freeze),
                (5, 4, 4, 3, 1),
            )[0](rng)

    def clear_up(self) -> None:
        """Lift all that slows routes down."""
        for route in self._routes.values():
            if route.proxy is not None:
                route.proxy.slice(0)
                route.proxy.delay(0)
                route.proxy.thaw()
                for side in SIDES:
                    route.proxy._change(side, end_after=None)

    def _kill(self, rng: random.Random) -> None:
        """Terminate a backend."""
        if self._signal(rng, "pg_terminate_backend", "soak_killed"):
            self._figures.count("kills")

    def _cancel(self, rng: random.Random) -> None:
        """Cancel a query, as an administrator does: nobody asked for it."""
        if self._signal(rng, "pg_cancel_backend", "soak_cancelled"):
            self._figures.count("cancels from outside")

    def _signal(self, rng: random.Random, function: str, application: str) -> bool:
        # One that is at work, if there is one. In one statement, for the next look may find another.
        rows = self._cluster.sql(
            f"SELECT {function}(pid) FROM (SELECT pid FROM pg_stat_activity WHERE datname = %s"
            " AND application_name = %s ORDER BY state = 'active' DESC, hashint4extended(pid, %s) LIMIT 1) AS victim",
            self._database,
            application,
            rng.getrandbits(31),
        )
        return rows == [(True,)]

    def _break_a_link(self, rng: random.Random) -> None:
        """Cut or reset a connection on its way, now or in the middle of one of the next messages."""
        proxy = self._routes["cut"].proxy
        assert proxy is not None
        proxy.links[:] = [link for link in proxy.links if not link.is_over]
        draw = rng.random()
        if not proxy.links:
            return
        link = proxy.links[int(draw * len(proxy.links))]
        side = rng.choice(SIDES)
        at = link.count(side) + rng.randrange(500)
        rng.choice(
            (link.cut, link.reset, lambda: link.cut_after(at, towards=side), lambda: link.reset_after(at, towards=side))
        )()
        self._figures.count("links broken")

    def _slow_down(self, rng: random.Random) -> None:
        """Cut what passes into small pieces, or delay it, or stop doing so."""
        proxy = self._routes["slow"].proxy
        assert proxy is not None
        proxy.links[:] = [link for link in proxy.links if not link.is_over]
        proxy.slice(rng.choice((0, 0, 13, 37, 512)), towards=rng.choice((None, *SIDES)))
        proxy.delay(rng.choice((0, 0, 0.001, 0.005)), towards=rng.choice((None, *SIDES)))

    def _freeze(self, rng: random.Random) -> None:
        """Stop all that passes for a moment."""
        proxy = self._routes["slow"].proxy
        assert proxy is not None
        proxy.freeze(towards=rng.choice((None, *SIDES)))
        asyncio.get_running_loop().call_later(FROZEN, proxy.thaw)
        self._figures.count("freezes")
