"""Random programs end with headrace as they end with asyncpg, and come to the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.compat.random_programs import compared

if TYPE_CHECKING:
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=41)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_a_random_program_comes_to_the_same(seed: int, server: Cluster, database: str) -> None:
    assert compared(seed, server, database) == []
