"""SQLAlchemy's own asyncpg dialect on headrace, as people use it: programs/sqlalchemy_program.py says what that is."""

from __future__ import annotations

import pytest

from tests.compat.programs import run
from tests.servers import SUPERUSER, Cluster

pytestmark = pytest.mark.slow


def test_engine_and_orm(server: Cluster) -> None:
    with server.database() as name:
        run("sqlalchemy", f"postgresql+asyncpg://{SUPERUSER}@{server.host()}:{server.port}/{name}")
