"""Random lives of a session with a small PostgreSQL in memory: nobody waits for ever, and every reply is its caller's.

Among the things that happen in random order: cold, shared, failing and stale statements, evictions, transactions,
batches, calls given up, CancelRequests that arrive early, late and twice, and reads of any size.
"""

from __future__ import annotations

import pytest

from tests.core.pipeline.simulation import Life


@pytest.mark.parametrize("max_pipeline", [1, 3, 100])
@pytest.mark.parametrize("cache", [0, 1, 3, 100])
def test_random_lives(max_pipeline: int, cache: int) -> None:
    for seed in range(25):
        Life(seed, max_pipeline, cache, plain=seed % 2 == 0).live()


@pytest.mark.slow
@pytest.mark.parametrize("max_pipeline", [1, 2, 7, 100])
@pytest.mark.parametrize("cache", [0, 1, 3, 100])
def test_many_random_lives(max_pipeline: int, cache: int) -> None:
    for seed in range(1000, 2000):
        Life(seed, max_pipeline, cache, plain=seed % 2 == 0).live()


@pytest.mark.parametrize("max_pipeline", [1, 3, 100])
def test_random_lives_of_a_session_that_keeps_no_statements_on_the_server(max_pipeline: int) -> None:
    for seed in range(25):
        Life(seed, max_pipeline, unnamed=True, plain=seed % 2 == 0).live()
