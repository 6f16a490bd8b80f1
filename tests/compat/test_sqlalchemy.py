"""SQLAlchemy's own asyncpg dialect on headrace, as people use it: each of programs/sqlalchemy_*_program.py says how.

All but the first are run by asyncpg as well, and what they come to is compared.
"""

from __future__ import annotations

import pytest

from tests.compat.programs import compare, compare_dialects, run
from tests.servers import SUPERUSER, Cluster

pytestmark = pytest.mark.slow


def test_engine_and_orm(server: Cluster) -> None:
    with server.database() as name:
        run("sqlalchemy", f"postgresql+asyncpg://{SUPERUSER}@{server.host()}:{server.port}/{name}")


@pytest.mark.parametrize("subject", ["types", "results", "errors", "schema"])
def test_both_drivers_come_to_the_same(server: Cluster, subject: str) -> None:
    compare(f"sqlalchemy_{subject}", server)


# The note of a program -> the reason for which the own dialect differs.
OTHER = {
    "types": {},
    "results": {
        "INSERT INTO price (id, amount)": "executemany() with RETURNING is one statement, with the count of all rows",
        "MERGE INTO item": "the count of MERGE is told",
        "sent": "executemany() with RETURNING is one statement",
        "after the transaction": "an error of a stream is one of SQLAlchemy's, too",
        "SELECT 1 / (g - 150)": "an error of a stream is one of SQLAlchemy's, too",
        "savepoint in it": "SAVEPOINT is a simple query: the error comes from another place in the server",
    },
    "errors": {"READ UNCOMMITTED": "the level is known"},
    "schema": {},
}  # fmt: skip


@pytest.mark.parametrize("subject", ["types", "results", "errors", "schema"])
def test_both_dialects_come_to_the_same(server: Cluster, subject: str) -> None:
    compare_dialects(f"sqlalchemy_{subject}", server, set(OTHER[subject]))
