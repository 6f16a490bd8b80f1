"""Other libraries written for asyncpg, on headrace: each runs a small real program of programs/."""

from __future__ import annotations

import pytest

from tests.compat.programs import compare, run
from tests.servers import SUPERUSER, Cluster

pytestmark = pytest.mark.slow


def test_pgqueuer_a_job_queue_by_notify(server: Cluster) -> None:
    with server.database() as name:
        run("pgqueuer", f"postgresql://{SUPERUSER}@{server.host()}:{server.port}/{name}")


def test_tortoise_orm(server: Cluster) -> None:
    with server.database() as name:
        run("tortoise", server.host(), str(server.port), SUPERUSER, name)


@pytest.mark.parametrize("name", ["buildpg", "opentelemetry"])
def test_both_drivers_come_to_the_same(server: Cluster, name: str) -> None:
    compare(name, server)
