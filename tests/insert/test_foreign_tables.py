"""insert_records() into foreign tables: the rows come back in the order of the records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.servers import SUPERUSER, Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect

TABLES = """
CREATE EXTENSION postgres_fdw;
CREATE TABLE here (a int, b text[] DEFAULT '{{x}}');
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw
    OPTIONS (host '{host}', port '{port}', dbname '{database}', batch_size '100');
CREATE USER MAPPING FOR {user} SERVER loopback OPTIONS (user '{user}');
CREATE FOREIGN TABLE there (a int, b text[]) SERVER loopback OPTIONS (table_name 'here');
"""


@pytest.fixture
def tables(server: Cluster, database: str) -> Iterator[None]:
    """The tables, if the server has postgres_fdw."""
    if not server.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'")[0][0]:
        pytest.skip(f"{server.name} has no postgres_fdw")
    script = TABLES.format(host=server.host(), port=server.port, database=database, user=SUPERUSER)
    server.sql(script, database=database)
    yield
    # Its connection to itself would keep the database from being dropped.
    server.sql("DROP EXTENSION postgres_fdw CASCADE; DROP TABLE here", database=database)


@pytest.mark.usefixtures("tables")
async def test_a_foreign_table(connect: Connect) -> None:
    conn = await connect()
    records = [((i * 7919) % 1000, ["y", None]) for i in range(1000)]
    assert await conn.insert_records("there", records) == 1000
    rows = await conn.insert_records("there", records, returning="*")
    assert [tuple(row) for row in rows] == records
    assert len(await conn.insert_records("there", records, returning="a", ordered=False)) == 1000
    assert await conn.fetchval("SELECT count(*) FROM here") == 3000
    with pytest.raises(headrace.ArgumentError):
        await conn.insert_records("there", [*records, (1, 5)])
    assert await conn.fetchval("SELECT count(*) FROM here") == 3000
    await conn.close()
