"""The choice among replicas, on the model of hosts that `replica_simulation` has: calls and work are counted."""

from __future__ import annotations

import pytest

from tests.cluster.replica_simulation import at_random, by_turns, least_loaded, simulate

SECONDS = 0.5


@pytest.mark.parametrize("seed", range(3))
def test_equal_hosts_get_equal_shares(seed: int) -> None:
    figures = simulate([1.0, 1.0, 1.0], tasks=36, seconds=SECONDS, seed=seed)
    assert max(figures.answered) <= 1.15 * min(figures.answered)


@pytest.mark.parametrize("seed", range(3))
def test_calls_one_by_one_are_spread_evenly(seed: int) -> None:
    """Without load, hosts are equal, and take turns."""
    figures = simulate([1.0, 1.0, 1.0], tasks=1, seconds=SECONDS, seed=seed)
    assert max(figures.answered) - min(figures.answered) <= 1


@pytest.mark.parametrize("seed", range(3))
def test_three_hosts_do_three_times_the_work(seed: int) -> None:
    one = simulate([1.0], tasks=48, seconds=SECONDS, seed=seed)
    three = simulate([1.0, 1.0, 1.0], tasks=48, seconds=SECONDS, seed=seed)
    assert three.total > 2.7 * one.total
    assert min(three.busy) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_a_slow_host_gets_fewer_calls_and_holds_nobody_up(seed: int) -> None:
    hosts = [1.0, 1.0, 3.0]
    figures = simulate(hosts, least_loaded, seconds=SECONDS, seed=seed)
    assert figures.answered[2] < 0.6 * min(figures.answered[:2])
    for policy in (by_turns, at_random):
        other = simulate(hosts, policy, seconds=SECONDS, seed=seed)
        assert figures.total > 1.15 * other.total
        assert figures.percentile(0.99) < other.percentile(0.99)
