"""What pytest loads for any test of the repository, the driver's in tests/ and the storefront's alike."""

import os

import pytest
from hypothesis import settings

pytest_plugins = ("tests.fixtures", "tests.guards", "tests.poolers", "tests.secure", "tests.time_limit")

# A longer search than that of every day: `make test TEST_ARGS='--hypothesis-profile long'`.
settings.register_profile("long", max_examples=2000)

# Under sanitizers everything takes several times as long: `make asan`.
settings.register_profile("sanitized", deadline=None, max_examples=25)

MOST_WORKERS = 8
"""Each starts servers of its own; with more of them starting takes longer than it saves."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many workers `-n auto` means: one for each processor that this process may use."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(usable, MOST_WORKERS)
