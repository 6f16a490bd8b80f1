"""SQLAlchemy's own asyncpg dialect on headrace, as people use it: each of programs/sqlalchemy_*_program.py says how.

All but the first are run by asyncpg as well, and what they come to is compared.
"""

from __future__ import annotations

import pytest

from tests.compat.programs import compare, run
from tests.servers import SUPERUSER, Cluster

pytestmark = pytest.mark.slow


def test_engine_and_orm(server: Cluster) -> None:
    with server.database() as name:
        run("sqlalchemy", f"postgresql+asyncpg://{SUPERUSER}@{server.host()}:{server.port}/{name}")


@pytest.mark.parametrize("subject", ["types", "results", "errors", "schema"])
def test_both_drivers_come_to_the_same(server: Cluster, subject: str) -> None:
    compare(f"sqlalchemy_{subject}", server)
