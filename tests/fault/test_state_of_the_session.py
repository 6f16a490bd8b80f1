"""Fault 39: what changes the session, through the pool's own methods: the next user finds it pristine."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import TYPE_CHECKING

import pytest

import headrace

if TYPE_CHECKING:
    from tests.fixtures import MakePool
    from tests.servers import Cluster

pytestmark = pytest.mark.fault(number=39)

PATIENCE = 10.0

LOOK = """
    SELECT current_setting('work_mem') AS work_mem, current_setting('search_path') AS search_path,
           current_user = session_user AS is_self,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
           (SELECT count(*) FROM pg_listening_channels()) AS channels,
           (SELECT count(*) FROM pg_cursors WHERE name <> '') AS cursors
"""

CHANGES = [
    "SET work_mem = '1234kB'",
    "SET SESSION search_path TO pg_catalog",
    "SELECT set_config('work_mem', '1234kB', false)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(2)",
    "LISTEN somewhere",
    "BEGIN",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
    "BEGIN; SET LOCAL work_mem = '1234kB'; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "/* a comment */ set work_mem to '1234kB'",
    "DO $$ BEGIN PERFORM set_config('work_mem', '1234kB', false); END $$",
]


@pytest.mark.parametrize("change", CHANGES)
async def test_the_next_user_finds_a_pristine_session(pool: MakePool, change: str) -> None:
    """True if the change stood alone or among others' queries, shared or leased."""
    made = await pool(min_size=1, max_size=1)
    pristine = await made.fetchrow(LOOK)
    before = await made.fetchval("SELECT pg_backend_pid()")
    for _ in range(2):
        results = await asyncio.gather(
            *(made.fetchval("SELECT $1::int", i) for i in range(5)),
            made.execute(change),
            *(made.fetchrow(LOOK) for _ in range(5)),
        )
        assert results[:5] == list(range(5))
        assert results[6:] == [pristine] * 5
        async with made.acquire() as lease:
            assert await lease.fetchrow(LOOK) == pristine
            assert not lease.is_in_transaction()
            await lease.execute(change)
        assert await made.fetchrow(LOOK) == pristine
    assert await made.fetchval("SELECT pg_backend_pid()") == before


@pytest.mark.parametrize(
    "change",
    [
        "SET ROLE pg_monitor",
        "SET SESSION AUTHORIZATION pg_monitor",
        "SELECT set_config('role', 'pg_monitor', false)",
        "CREATE TEMP TABLE mine (a int)",
        "SELECT 1 AS a INTO TEMP mine",
        "BEGIN; CREATE TEMP VIEW mine AS SELECT 1; COMMIT",
        "PREPARE mine AS SELECT 1",
        "SELECT setseed(0.5)",
        "SET seed = 0.5",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "DEALLOCATE ALL",
        "DISCARD ALL",
        "SELECT U&\"set_config\"('role', 'pg_monitor', false)",
        "SELECT * FROM ts_stat('select to_tsvector(set_config(''role'', ''pg_monitor'', false))')",
        "SELECT ('0.5'::float8).setseed",
        "CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1 case; END; DROP FUNCTION g; SET ROLE pg_monitor",
    ],
)
async def test_what_a_reset_does_not_undo_ends_its_connection(pool: MakePool, change: str) -> None:
    """RESET ALL leaves the role alone, and nothing of it knows of temporary tables."""
    look = """
        SELECT current_user, session_user, to_regclass('mine') AS mine, pg_my_temp_schema() AS schema,
               (SELECT count(*) FROM pg_prepared_statements WHERE from_sql) AS prepared
    """
    made = await pool(min_size=1, max_size=1)
    pristine = await made.fetchrow(look)
    for number in (1, 2):
        results = await asyncio.gather(
            *(made.fetchval("SELECT $1::int", i) for i in range(5)),
            made.execute(change),
            *(made.fetchrow(look) for _ in range(5)),
        )
        assert results[:5] == list(range(5))
        assert results[6:] == [pristine] * 5
        assert made.stats().closed == {"not_resettable": number}


async def test_a_role_that_init_sets_is_kept(pool: MakePool) -> None:
    """A reset that went back to the role of the login would give everybody more rights than was meant."""

    async def init(connection: headrace.Connection) -> None:
        await connection.execute("SET ROLE pg_monitor; CREATE TEMP TABLE IF NOT EXISTS mine (a int)")

    made = await pool(min_size=1, max_size=1, init=init)
    for _ in range(2):
        async with made.acquire() as lease:
            assert await lease.fetchval("SELECT current_user") == "pg_monitor"
            await lease.execute("SET work_mem = '1234kB'")
        assert await made.fetchval("SELECT current_user") == "pg_monitor"
        # One that leaves its role for another is replaced by a connection that init has seen to.
        for change in ("SET ROLE pg_read_all_stats", "RESET ROLE", "RESET SESSION AUTHORIZATION", "DISCARD ALL"):
            await made.execute(change)
            assert await made.fetchval("SELECT current_user") == "pg_monitor"


@pytest.mark.parametrize("query", ["SELECT lastval()", "SELECT currval('numbers')", "VALUES (currval('numbers'))"])
async def test_the_last_value_of_a_sequence_would_be_that_of_another_caller(pool: MakePool, query: str) -> None:
    made = await pool(min_size=1, max_size=1)
    await made.execute("CREATE SEQUENCE IF NOT EXISTS numbers")
    assert await made.fetchval("SELECT nextval('numbers')") > 0
    for method in (made.fetchval, made.fetchrow, made.fetch, made.execute):
        with pytest.raises(headrace.InterfaceError, match=r"another caller[\s\S]*pool\.acquire\(\)"):
            await method(query)  # type: ignore[operator]
    assert await made.fetchval("SELECT nextval('numbers') - currval('numbers')") == 0
    async with made.acquire() as lease:
        assert await lease.fetchval("SELECT nextval('numbers')") == await lease.fetchval(query)


async def test_a_transaction_that_a_lexer_cannot_see(pool: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were one left open on the shared path all the same, the connection is closed, and not used for anybody else."""
    from headrace.pool import dispatcher

    made = await pool(min_size=1, max_size=1)
    backend = await made.fetchval("SELECT pg_backend_pid()")
    unseen = dispatcher.classify("SELECT 1")
    monkeypatch.setattr(dispatcher, "classify", lambda query: unseen)
    await made.execute("BEGIN")
    monkeypatch.undo()
    async with asyncio.timeout(PATIENCE):
        assert await made.fetchval("SELECT pg_backend_pid()") != backend
    assert made.stats().quarantined == 1
    assert made.stats().closed == {"quarantined": 1}


async def test_a_reset_under_way_is_not_taken_for_a_transaction(pool: MakePool) -> None:
    """Callers who give up between a lease with BEGIN and its reset: the connection is not to blame."""
    made = await pool(min_size=1, max_size=1)
    for _ in range(20):
        async with made.acquire() as lease:
            await lease.execute("BEGIN")
        gone = asyncio.create_task(made.fetchval("SELECT 1"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert await made.fetchval("SELECT 2") == 2
    assert made.stats().opened == 1
    assert made.stats().quarantined == 0


async def test_a_reset_that_fails_ends_the_connection(pool: MakePool, server: Cluster, database: str) -> None:
    """What came right behind the reset ran in an unclean session: its result is not given to anybody."""

    class Unclean(headrace.Connection):
        def get_reset_query(self) -> str:
            return "SELECT 1/0"

    made = await pool(min_size=1, max_size=1, connection_class=Unclean)
    async with made.acquire() as lease:
        before = lease.get_server_pid()
        await lease.execute("SET work_mem = '1234kB'")
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                assert await made.fetchval("SHOW work_mem") != "1234kB"
                break
            except headrace.ConnectionDoesNotExistError:
                continue
    assert await made.fetchval("SELECT pg_backend_pid()") != before
    server.sql("SELECT 1", database=database)


async def test_a_connection_never_given_back_is_reported(pool: MakePool, caplog: pytest.LogCaptureFixture) -> None:
    made = await pool(min_size=1, max_size=1)

    async def take() -> None:
        await made.acquire()

    with caplog.at_level(logging.WARNING, "headrace.pool"):
        await take()
        gc.collect()
        async with asyncio.timeout(PATIENCE):
            assert await made.fetchval("SELECT 1") == 1
    assert any("never given back" in each and f"{__file__}:" in each for each in caplog.messages)
