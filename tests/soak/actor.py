"""An actor: takes its turns, and judges how each of them ended."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.soak.actions import ACTIONS, WEIGHTS
from tests.soak.decision import Decision, decide, source
from tests.soak.figures import Figures
from tests.soak.routes import PLANS
from tests.soak.turn import Turn

if TYPE_CHECKING:
    from tests.soak.interruption import Ending
    from tests.soak.ledger import Ledger
    from tests.soak.routes import Route
    from tests.soak.watchdog import Watchdog
    from tests.soak.weather import Weather

BY_NAME = {name: WEIGHTS[action] for name, action in ACTIONS.items()}
ROUTES = {name: plan.weight for name, plan in PLANS.items()}


class Actor:
    """One of many tasks that use the driver at once."""

    def __init__(
        self,
        seed: int,
        number: int,
        routes: Mapping[str, Route],
        ledger: Ledger,
        figures: Figures,
        watchdog: Watchdog,
        weather: Weather,
    ) -> None:
        self._seed = seed
        self._number = number
        self._routes = routes
        self._ledger = ledger
        self._figures = figures
        self._watchdog = watchdog
        self._weather = weather

    async def take_turns(self, numbers: range) -> None:
        """Take these turns, one after the other."""
        for number in numbers:
            await self._take(number)
            self._weather.turned()

    async def _take(self, number: int) -> None:
        rng = source(self._seed, self._number, number)
        decision = decide(rng, BY_NAME, ROUTES)
        route = self._routes[decision.route]
        name = f"{self._number}.{number}"
        turn = Turn(name, rng, route, self._routes, self._ledger, self._figures)
        described = f"{decision.action} of {name} on {decision.route}, {decision.interruption}"
        self._figures.count("turns")

        async def act() -> None:
            await ACTIONS[decision.action](turn)

        with self._watchdog.over(described):
            ending = await decision.interruption.carry_out(act(), described)
        self._judge(turn, decision, described, ending)

    def _judge(self, turn: Turn, decision: Decision, described: str, ending: Ending) -> None:
        error, figures = ending.error, self._figures
        if ending.was_cancelled:
            figures.count("cancellations")
        if error is None:
            if ending.was_cancelled:
                figures.find("swallowed", f"{described}: cancelled as it ran, and ended as if it had not been")
        elif isinstance(error, asyncio.CancelledError):
            if not ending.was_cancelled:
                figures.find("error", f"{described}: was cancelled, and nobody had asked for that")
        elif isinstance(error, TimeoutError) and decision.interruption.kind == "time-out":
            figures.count("time-outs")
        elif turn.excuses(error):
            figures.count("time-outs" if isinstance(error, TimeoutError) else f"{type(error).__name__} excused")
        else:
            figures.find_error(described, error)
