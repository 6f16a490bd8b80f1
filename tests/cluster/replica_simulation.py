"""The choice among replicas, without servers: the real balancer and the real schedulers, on hosts with given speeds.

    python -m tests.cluster.replica_simulation

A host has a pool of connections, and each of them answers one call after the other. The time that a call takes is
random, with the mean of its host. Tasks call as soon as their last call was answered. The clock is a number, so the
figures are those of a model. They show where calls go, and not how fast a driver or a server is.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from headrace.pool.scheduler import Balancer
from tests.pool.scheduler_model import Call, Shared, Statement, World

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONNECTIONS: Final = 4
SECONDS: Final = 4.0
MILLISECOND: Final = 0.001


class Host:
    """A host of the model: its pool, the mean time of a call, and the work that was counted."""

    def __init__(self, world: World, milliseconds: float) -> None:
        self.mean = milliseconds * MILLISECOND
        self.pool = Shared(world, CONNECTIONS)
        self.pool.learn("read", self.mean)
        self.answered = 0
        self.worked = 0.0


@dataclass(frozen=True)
class Figures:
    """The outcome of a simulation."""

    answered: list[int]
    """Calls, for each host."""
    busy: list[float]
    """The share of the time that the connections of each host have worked."""
    waits: list[float]
    """Seconds that each call took, in ascending order."""

    @property
    def total(self) -> int:
        return sum(self.answered)

    @property
    def mean(self) -> float:
        return sum(self.waits) / len(self.waits)

    def percentile(self, share: float) -> float:
        return self.waits[int(share * (len(self.waits) - 1))]


def least_loaded(hosts: list[Host], _: random.Random) -> Callable[[], Host]:
    """Choose as `cluster.replicas` does."""
    choose = Balancer([host.pool.scheduler for host in hosts], hosts).choose

    def chosen() -> Host:
        host = choose()
        assert host is not None
        return host

    return chosen


def by_turns(hosts: list[Host], _: random.Random) -> Callable[[], Host]:
    """Choose each host in turn, for comparison."""
    turn = iter(range(1 << 40))
    return lambda: hosts[next(turn) % len(hosts)]


def at_random(hosts: list[Host], seed: random.Random) -> Callable[[], Host]:
    """Choose any host for each call, for comparison."""
    return lambda: seed.choice(hosts)


POLICIES: Final = {"least loaded": least_loaded, "by turns": by_turns, "at random": at_random}


def simulate(
    milliseconds: Sequence[float],
    policy: Callable[[list[Host], random.Random], Callable[[], Host]] = least_loaded,
    *,
    tasks: int = 36,
    seconds: float = SECONDS,
    seed: int = 1,
) -> Figures:
    """Let tasks call hosts with these mean times of a call, for some seconds of the model's clock."""
    world = World()
    chance = random.Random(seed)
    hosts = [Host(world, each) for each in milliseconds]
    choose = policy(hosts, chance)
    waits: list[float] = []

    def ask() -> None:
        if world.now >= seconds:
            return
        host = choose()
        call = Call(Statement("read", chance.expovariate(1 / host.mean), read=True))

        def settled() -> None:
            assert call.outcome == "done", call
            host.answered += 1
            host.worked += call.statement.seconds
            waits.append(call.settled - call.asked)
            world.later(0, ask)

        call.on_settled = settled
        host.pool.ask(call)

    for _ in range(tasks):
        ask()
    world.run()
    return Figures(
        [host.answered for host in hosts],
        [host.worked / (seconds * CONNECTIONS) for host in hosts],
        sorted(waits),
    )


CASES: Final = (
    ("one host", (1.0,)),
    ("two equal hosts", (1.0, 1.0)),
    ("three equal hosts", (1.0, 1.0, 1.0)),
    ("three hosts, one of them slower", (1.0, 1.0, 3.0)),
)


def main() -> None:
    print(f"{CONNECTIONS} connections to each host, 36 tasks, {SECONDS:g} s of the model's clock\n")
    print("| hosts | choice | calls of each host | connections busy | calls/s | mean, ms | 99 %, ms |")
    print("| --- | --- | --- | --- | ---: | ---: | ---: |")
    for name, milliseconds in CASES:
        for policy_name, policy in POLICIES.items():
            if len(milliseconds) == 1 and policy is not least_loaded:
                continue
            figures = simulate(milliseconds, policy)
            print(
                f"| {name} | {policy_name} | {', '.join(f'{count:,}' for count in figures.answered)} "
                f"| {', '.join(f'{share:.0%}' for share in figures.busy)} | {figures.total / SECONDS:,.0f} "
                f"| {figures.mean / MILLISECOND:.1f} | {figures.percentile(0.99) / MILLISECOND:.1f} |"
            )


if __name__ == "__main__":
    main()
