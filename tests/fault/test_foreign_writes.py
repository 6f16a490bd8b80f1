"""Fault 44: a write through postgres_fdw beside cancelled neighbours is neither doubled nor lost.

The remote server commits before the local one does. A signal that arrives in between rolls back the local transaction
alone: the row is there although the statement has failed with 57014.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

import headrace
from tests.servers import SUPERUSER, Cluster, until

if TYPE_CHECKING:
    from tests.fixtures import Connect, Gate, MakePool
    from tests.peers.proxy import Proxy

pytestmark = pytest.mark.fault(number=44)

SLEEP = "SELECT pg_sleep($1)"
WRITE = "INSERT INTO foreign_tokens VALUES ($1)"

# At COMMIT the remote server takes its time, as one that is far away does.
TABLES = """
CREATE EXTENSION postgres_fdw;
CREATE TABLE tokens (token int);
CREATE FUNCTION commit_slowly() RETURNS trigger LANGUAGE plpgsql
    AS 'BEGIN PERFORM pg_sleep(least(NEW.token, 0) / -10.0); RETURN NULL; END';
CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON tokens DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION commit_slowly();
CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{host}', port '{port}', dbname '{database}');
CREATE USER MAPPING FOR {user} SERVER loopback OPTIONS (user '{user}');
CREATE FOREIGN TABLE foreign_tokens (token int) SERVER loopback OPTIONS (table_name 'tokens');
"""

COMMITTING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = 'postgres_fdw' AND state = 'active' AND query LIKE 'COMMIT%%' AND datname = %s
"""


@pytest.fixture(scope="module")
def tokens(server: Cluster, database: str) -> Iterator[None]:
    """The tables, where the server has postgres_fdw; each test removes its tokens."""
    if not server.sql("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgres_fdw'")[0][0]:
        pytest.skip(f"{server.name} has no postgres_fdw")
    script = TABLES.format(host=server.host(), port=server.port, database=database, user=SUPERUSER)
    server.sql(script, database=database)
    yield
    # Its connection to itself would keep the database from being dropped.
    server.sql("DROP EXTENSION postgres_fdw CASCADE", database=database)


def written(server: Cluster, database: str) -> dict[int, int]:
    """Return how often each token is in the table, once nothing is being committed any more; the table is emptied."""
    until(lambda: server.sql(COMMITTING, database) == [(0,)], "the remote transactions end")
    rows = server.sql("DELETE FROM tokens RETURNING token", database=database)
    found = [token for (token,) in rows]
    return {token: found.count(token) for token in found}


@pytest.mark.usefixtures("tokens")
async def test_a_signal_that_is_late_arrives_while_the_remote_server_commits(
    server: Cluster, database: str, connect: Connect, proxy: Proxy, gate: Gate
) -> None:
    conn = await connect(host=proxy.host, port=proxy.port)
    await conn.fetchval(gate.query)
    assert await conn.execute(WRITE, 1) == "INSERT 0 1"
    assert written(server, database) == {1: 1}
    gate.close()
    head = asyncio.create_task(conn.fetchval(gate.query))
    neighbour = asyncio.create_task(conn.execute(WRITE, -5))
    while len(list(conn._driver.session.sent)) < 2:
        await asyncio.sleep(0)
    # The CancelRequest, if there is one, goes over a connection of its own: it waits for the remote COMMIT.
    proxy.freeze()
    proxy.links[0].thaw()
    head.cancel()
    await asyncio.gather(head, return_exceptions=True)
    gate.open()
    async with asyncio.timeout(60):
        while server.sql(COMMITTING, database) != [(1,)]:
            await asyncio.sleep(0)
    proxy.thaw()
    assert await neighbour == "INSERT 0 1"
    assert written(server, database) == {-5: 1}


@pytest.mark.slow
@pytest.mark.usefixtures("tokens")
async def test_writes_of_a_pool_beside_heads_that_are_cancelled_at_random(
    server: Cluster, database: str, pool: MakePool
) -> None:
    made = await pool(min_size=2, max_size=2)
    dice = random.Random(44)
    tokens = iter(range(1, 10_000))
    acknowledged: list[int] = []
    unknown: list[int] = []

    async def write(token: int) -> None:
        try:
            await made.execute(WRITE, token)
        except headrace.QueryCanceledError:
            # It is said to the caller, who must look.
            unknown.append(token)
        else:
            acknowledged.append(token)

    async def cancelled(seconds: float) -> None:
        head = asyncio.create_task(made.fetchval(SLEEP, 0.002))
        await asyncio.sleep(seconds)
        head.cancel()
        await asyncio.gather(head, return_exceptions=True)

    for _ in range(300):
        async with asyncio.TaskGroup() as group:
            for _ in range(3):
                group.create_task(cancelled(dice.uniform(0, 0.003)))
                group.create_task(write(next(tokens)))
                group.create_task(write(next(tokens)))
    times = written(server, database)
    assert {token: count for token, count in times.items() if count > 1} == {}, "doubled"
    assert set(acknowledged) - set(times) == set(), "lost"
    assert set(times) <= {*acknowledged, *unknown}


@pytest.mark.usefixtures("tokens")
async def test_a_batch_into_a_foreign_table_is_kept_as_a_whole_or_not_at_all(
    server: Cluster, database: str, connect: Connect
) -> None:
    conn = await connect()
    divided = "INSERT INTO foreign_tokens VALUES (60 / $1) RETURNING token"
    for batch in (conn.executemany, conn.fetchmany):
        with pytest.raises(headrace.DivisionByZeroError):
            await batch(divided, [(2,), (3,), (0,)])
        assert written(server, database) == {}
        await batch(divided, [(2,), (3,)])
        assert written(server, database) == {30: 1, 20: 1}
