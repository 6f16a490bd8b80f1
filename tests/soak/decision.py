"""What an actor does in a turn: decided by the seed, the actor and the turn's number, and by nothing else."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from tests.soak.interruption import Interruption


@dataclass(frozen=True)
class Decision:
    """One turn's action and route by name, and what interrupts it."""

    action: str
    route: str
    interruption: Interruption


def source(seed: int, *place: object) -> random.Random:
    """Return the random numbers of one place in the run, the same for the same seed."""
    return random.Random(":".join(map(str, (seed, *place))))


def decide(rng: random.Random, actions: Mapping[str, int], routes: Mapping[str, int]) -> Decision:
    """Draw a turn: an action and a route by their weights, and an interruption."""
    return Decision(
        rng.choices(list(actions), list(actions.values()))[0],
        rng.choices(list(routes), list(routes.values()))[0],
        Interruption.draw(rng),
    )
