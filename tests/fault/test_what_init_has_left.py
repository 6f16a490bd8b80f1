"""Fault 46: a shared method's statement changes its session: the next caller finds what `init` left.

The next caller's session is compared with that of a new connection on which `init` has run.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

import headrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

    Init = Callable[[Any], Awaitable[None]]

pytestmark = pytest.mark.fault(number=46)

PATIENCE = 10.0

LOOK = """
    SELECT session_user AS login, current_user AS role, current_setting('work_mem') AS work_mem,
           current_setting('search_path') AS search_path, current_setting('TimeZone') AS zone,
           current_setting('DateStyle') AS style, current_setting('application_name') AS application,
           current_setting('default_transaction_read_only') AS read_only,
           current_setting('default_transaction_isolation') AS isolation,
           current_setting('statement_timeout') AS statement_timeout,
           ARRAY(SELECT name || ': ' || statement FROM pg_prepared_statements WHERE from_sql ORDER BY 1) AS prepared,
           ARRAY(SELECT relname::text FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY 1) AS temporary,
           ARRAY(SELECT pg_listening_channels()) AS channels,
           (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()) AS locks,
           (SELECT count(*) FROM pg_cursors WHERE name <> '') AS cursors
"""


async def init(connection: headrace.Connection) -> None:
    """Leave in the session one of each thing that a session can have."""
    await connection.execute(
        """
        SET work_mem = '2MB';
        SET search_path = pg_catalog, public;
        SET TimeZone = 'Asia/Tokyo';
        CREATE TEMP TABLE of_init (a int);
        GRANT ALL ON of_init TO PUBLIC;
        PREPARE of_init AS SELECT 1;
        SET ROLE pg_monitor;
        """
    )


INITS: dict[str, Init | None] = {"without init": None, "with init": init}

# Effects by the statement that has them, where code can run it. The second part of each says whether the server reports
# it by itself: from version 14, if the code is a function's.
EFFECTS = {
    "sets work_mem": ("PERFORM set_config('work_mem', '1234kB', false)", False),
    "resets all": ("RESET ALL", False),
    "sets the zone": ("PERFORM set_config('TimeZone', 'Europe/Rome', false)", True),
    "resets the zone": ("RESET TimeZone", True),
    "sets the style": ("SET DateStyle = 'SQL, DMY'", True),
    "names the application": ("SET application_name = 'another'", True),
    "reads only": ("SET default_transaction_read_only = on", True),
    "sets characteristics": ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", False),
    "sets the path": ("SET search_path = 'somewhere'", False),
    "takes a role": ("SET ROLE pg_read_all_stats", False),
    "goes back to its role": ("RESET ROLE", False),
    "makes a table": ("CREATE TEMP TABLE mine (a int)", False),
    "makes a table into": ("EXECUTE 'SELECT 1 AS a INTO TEMP mine'", False),
    "drops a table": ("DROP TABLE IF EXISTS of_init", False),
    "discards tables": ("DISCARD TEMP", False),
    "prepares": ("EXECUTE 'PREPARE mine AS SELECT 1'", False),
    "prepares another": ("DEALLOCATE ALL; EXECUTE 'PREPARE of_init AS SELECT 2'", False),
    "deallocates": ("DEALLOCATE ALL", False),
    "locks": ("PERFORM pg_advisory_lock(1)", False),
    "listens": ("LISTEN somewhere", False),
    "declares": ("EXECUTE 'DECLARE mine CURSOR WITH HOLD FOR SELECT 1'", False),
    "fails after it": ("SET work_mem = '1234kB'; CREATE TEMP TABLE mine (a int); PERFORM 1/0", False),
}

STATEMENTS = [
    *(effect for effect, _ in EFFECTS.values() if not effect.startswith(("PERFORM", "EXECUTE")) and ";" not in effect),
    "SELECT set_config('work_mem', '1234kB', false)",
    "SELECT set_config('role', 'pg_read_all_stats', false)",
    "SELECT set_config('session_authorization', 'pg_monitor', false)",
    "SELECT U&\"set_config\"('work_mem', '1234kB', false)",
    "UPDATE pg_settings SET setting = '1234' WHERE name = 'work_mem'",
    "UPDATE pg_settings SET setting = 'pg_read_all_stats' WHERE name = 'role'",
    "SET SESSION AUTHORIZATION pg_monitor",
    "SET LOCAL SESSION AUTHORIZATION pg_monitor",
    "RESET SESSION AUTHORIZATION",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SET ROLE NONE",
    "SET role TO DEFAULT",
    "RESET role",
    "SET TIME ZONE 'Europe/Rome'",
    "SET NAMES 'UTF8'",
    "SET seed = 0.5",
    "SELECT setseed(0.5)",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "DISCARD ALL",
    "DISCARD PLANS",
    "DISCARD SEQUENCES",
    "DISCARD TEMPORARY",
    "DEALLOCATE of_init",
    "DEALLOCATE PREPARE ALL",
    "PREPARE mine (int) AS SELECT $1",
    "EXECUTE of_init",
    "EXPLAIN ANALYZE EXECUTE of_init",
    "CREATE TEMP TABLE mine AS EXECUTE of_init",
    "CREATE TEMPORARY VIEW mine AS SELECT 1",
    "CREATE TEMP SEQUENCE mine",
    "CREATE TABLE pg_temp.mine (a int)",
    'CREATE TABLE "pg_temp"."mine" (a int)',
    "SELECT 1 AS a INTO TEMP mine",
    "SELECT 1 AS a INTO pg_temp.mine",
    "EXPLAIN ANALYZE SELECT set_config('work_mem', '1234kB', false)",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_lock_shared(2)",
    "UNLISTEN *",
    "BEGIN",
    "START TRANSACTION READ ONLY",
    "DECLARE mine CURSOR WITH HOLD FOR SELECT 1",
    "CLOSE ALL",
    "LOAD 'plpgsql'",
    "SELECT query_to_xml('select set_config(''work_mem'', ''1234kB'', false)', true, true, '')",
    "SELECT * FROM ts_stat('select to_tsvector(set_config(''role'', ''pg_read_all_stats'', false))')",
    "SELECT * FROM ts_stat('select to_tsvector(f_takes_a_role()::text)')",
]

TEXTS = [
    "SET work_mem = '1234kB'; SET ROLE pg_read_all_stats",
    "BEGIN; SET LOCAL work_mem = '1234kB'; DECLARE mine CURSOR WITH HOLD FOR SELECT 1; COMMIT",
    "BEGIN; SET work_mem = '1234kB'; SELECT 1/0",
    "SELECT 1; CREATE TEMP TABLE mine (a int)",
    "BEGIN; CALL sets_work_mem(); CALL makes_a_table()",
    # In one of its readings this is a single statement.
    "SET standard_conforming_strings = off; SELECT '\\'; SET ROLE pg_read_all_stats; SELECT '\\'",
]

WITH_ARGUMENTS: list[tuple[str, tuple[object, ...]]] = [
    ("SELECT set_config($1, $2, false)", ("work_mem", "1234kB")),
    ("SELECT set_config($1, $2, false)", ("role", "pg_read_all_stats")),
    ("SELECT pg_advisory_lock($1)", (1,)),
    ("SELECT setseed($1)", (0.5,)),
    ("UPDATE pg_settings SET setting = $1 WHERE name = $2", ("1234", "work_mem")),
    ("UPDATE pg_settings SET setting = $1 WHERE name = $2", ("pg_read_all_stats", "role")),
    ("CALL takes_a_role_of($1)", ("pg_read_all_stats",)),
    ("SELECT query_to_xml($1, true, true, '')", ("select set_config('role', 'pg_read_all_stats', false)",)),
    ("SELECT changes_the_zone($1)", ("Europe/Rome",)),
]


def named(name: str) -> str:
    return name.replace(" ", "_")


@pytest.fixture(scope="module")
def routines(server: Cluster, database: str) -> None:
    """A function and a procedure for each effect."""
    for name, (effect, _) in EFFECTS.items():
        body = f"$$ BEGIN {effect}; END $$"
        # The procedure has its name, the function one that begins with "f_".
        server.sql(f"CREATE PROCEDURE {named(name)}() LANGUAGE plpgsql AS {body}", database=database)
        server.sql(f"CREATE FUNCTION f_{named(name)}() RETURNS void LANGUAGE plpgsql AS {body}", database=database)
    for text in (
        "CREATE PROCEDURE takes_a_role_of(name text) LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('role', name, false); END $$",
        "CREATE FUNCTION changes_the_zone(zone text) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN set_config('TimeZone', zone, false); END $$",
        "CREATE PROCEDURE commits() LANGUAGE plpgsql AS"
        " $$ BEGIN CREATE TEMP TABLE mine (a int); COMMIT; PERFORM 1/0; END $$",
        "CREATE PROCEDURE rolls_back() LANGUAGE plpgsql AS"
        " $$ BEGIN CREATE TEMP TABLE mine (a int); SET ROLE pg_read_all_stats; ROLLBACK; END $$",
    ):
        server.sql(text, database=database)


@pytest.fixture
async def fresh(connect: Connect, routines: None) -> Callable[[Init | None], Awaitable[headrace.Record]]:
    """`await fresh(init)`: what LOOK gives on a new connection on which `init` has run."""

    async def fresh(init: Init | None) -> headrace.Record:
        connection = await connect()
        if init is not None:
            await init(connection)
        row = await connection.fetchrow(LOOK)
        assert row is not None
        return row

    return fresh


async def look(pool: headrace.Pool) -> AsyncIterator[headrace.Record | None]:
    """What the next callers see, of a shared method and with a lease."""
    async with asyncio.timeout(PATIENCE):
        yield await pool.fetchrow(LOOK)
        async with pool.acquire() as lease:
            yield await lease.fetchrow(LOOK)
            assert not lease.is_in_transaction()
        yield await pool.fetchrow(LOOK)


async def try_to(call: Awaitable[object]) -> None:
    """Wait for a call that may be refused: a refused one must leave nothing either."""
    with suppress(headrace.PostgresError, headrace.InterfaceError):
        await call


async def check(made: headrace.Pool, expected: headrace.Record, what: str) -> None:
    async for seen in look(made):
        assert dict(seen or {}) == dict(expected), what


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("statement", [*STATEMENTS, *TEXTS])
async def test_a_statement_leaves_what_init_has_left(pool: MakePool, fresh: Any, name: str, statement: str) -> None:
    expected = await fresh(INITS[name])
    made = await pool(min_size=1, max_size=1, init=INITS[name])
    await try_to(made.execute(statement))
    await check(made, expected, "execute")
    if statement not in TEXTS:
        await try_to(made.fetch(statement))
        await check(made, expected, "fetch")


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize(("statement", "args"), WITH_ARGUMENTS, ids=lambda value: str(value))
async def test_a_statement_with_arguments_leaves_what_init_has_left(
    pool: MakePool, fresh: Any, name: str, statement: str, args: tuple[object, ...]
) -> None:
    expected = await fresh(INITS[name])
    made = await pool(min_size=1, max_size=1, init=INITS[name])
    await try_to(made.execute(statement, *args))
    await check(made, expected, "execute")
    await try_to(made.fetch(statement, *args))
    await check(made, expected, "fetch")
    await try_to(made.executemany(statement, [args, args]))
    await check(made, expected, "executemany")


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("effect", EFFECTS)
async def test_code_leaves_what_init_has_left(pool: MakePool, fresh: Any, name: str, effect: str) -> None:
    """The text of DO and CALL does not show what they do, so the server is asked."""
    expected = await fresh(INITS[name])
    made = await pool(min_size=1, max_size=1, init=INITS[name])
    for text in (f"CALL public.{named(effect)}()", f"DO $$ BEGIN {EFFECTS[effect][0]}; END $$"):
        await try_to(made.execute(text))
        await check(made, expected, f"execute {text}")
        await try_to(made.fetch(text))
        await check(made, expected, f"fetch {text}")


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("procedure", ["commits", "rolls_back"])
async def test_a_procedure_that_ends_transactions_leaves_what_init_has_left(
    pool: MakePool, fresh: Any, name: str, procedure: str
) -> None:
    expected = await fresh(INITS[name])
    made = await pool(min_size=1, max_size=1, init=INITS[name])
    await try_to(made.execute(f"CALL public.{procedure}()"))
    await check(made, expected, procedure)


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("effect", [effect for effect, (_, reported) in EFFECTS.items() if reported])
async def test_a_function_that_changes_a_reported_setting(pool: MakePool, fresh: Any, name: str, effect: str) -> None:
    """The text does not show it, but the server does (ParameterStatus)."""
    expected = await fresh(INITS[name])
    made = await pool(min_size=1, max_size=1, init=INITS[name])
    for call in (made.execute, made.fetch):
        await call(f"SELECT public.f_{named(effect)}()")
        await check(made, expected, effect)
    changes = effect != "resets the zone" or name == "with init"
    assert made.stats().closed == ({"settings_changed": 2} if changes else {})


async def test_a_function_that_sets_the_search_path(server: Cluster, pool: MakePool, fresh: Any) -> None:
    """Servers report it from version 18 on."""
    expected = await fresh(init)
    made = await pool(min_size=1, max_size=1, init=init)
    await made.fetch("SELECT public.f_sets_the_path()")
    if server.version >= 18:
        await check(made, expected, "search_path")
        assert made.stats().closed == {"settings_changed": 1}
    else:
        assert made.stats().closed == {}


async def test_a_function_that_takes_a_role_of_other_rights(pool: MakePool, fresh: Any) -> None:
    """A superuser who is none any more is reported."""
    expected = await fresh(None)
    made = await pool(min_size=1, max_size=1)
    await made.fetch("SELECT f_takes_a_role()")
    await check(made, expected, "role")
    assert made.stats().closed == {"settings_changed": 1}


async def test_code_that_leaves_nothing_costs_no_connection(pool: MakePool, routines: None) -> None:
    for each in INITS.values():
        made = await pool(min_size=1, max_size=1, init=each)
        before = await made.fetchval("SELECT pg_backend_pid()")
        for effect in ("sets work_mem", "locks", "listens", "declares", "sets the zone", "resets all"):
            await made.execute(f"CALL public.{named(effect)}()")
            await made.execute("DO $$ BEGIN PERFORM 1; END $$")
        assert await made.fetchval("SELECT pg_backend_pid()") == before
        assert made.stats().closed == {}


async def test_the_caller_of_code_does_not_wait_for_the_comparison(pool: MakePool, routines: None) -> None:
    """The question goes behind the reset; whoever comes next waits for its answer, on one connection."""
    made = await pool(min_size=1, max_size=1)
    await made.execute("CALL makes_a_table()")
    assert made.stats().leased == 1
    assert made.stats().closed == {}
    assert await made.fetchval("SELECT to_regclass('mine')") is None
    assert made.stats().closed == {"not_resettable": 1}


@pytest.mark.parametrize("name", INITS)
async def test_after_a_lease_the_settings_of_init_are_made_again(pool: MakePool, fresh: Any, name: str) -> None:
    """Roles, temporary tables and prepared statements of a lease stay, as in asyncpg."""
    expected = await fresh(INITS[name])
    made = await pool(min_size=1, max_size=1, init=INITS[name])
    before = await made.fetchval("SELECT pg_backend_pid()")
    for change in (
        "SET work_mem = '1234kB'",
        "RESET ALL",
        "SET TimeZone = 'Europe/Rome'",
        "BEGIN; SET search_path = ''",
    ):
        async with made.acquire() as lease:
            await lease.execute(change)
        await check(made, expected, change)
        async with made.acquire() as lease:
            await lease.execute(change)
            await lease.reset()
            assert dict(await lease.fetchrow(LOOK) or {}) == dict(expected)
    assert await made.fetchval("SELECT pg_backend_pid()") == before


async def test_settings_that_the_role_may_not_make_are_no_obstacle(pool: MakePool) -> None:
    """The reset would be refused, and each lease would cost a connection."""

    async def init(connection: headrace.Connection) -> None:
        await connection.execute("SET log_min_duration_statement = 12345; SET work_mem = '2MB'; SET ROLE pg_monitor")

    made = await pool(min_size=1, max_size=1, init=init)
    for _ in range(2):
        async with made.acquire() as lease:
            await lease.execute("SET work_mem = '1234kB'")
        assert await made.fetchval("SHOW work_mem") == "2MB"
    assert made.stats().closed == {}


async def test_a_value_with_any_characters_is_made_again(pool: MakePool) -> None:
    async def init(connection: headrace.Connection) -> None:
        await connection.execute("SELECT set_config('application_name', $1, false)", 'it\'s a \\ "test"')
        await connection.execute("SELECT set_config('search_path', $1, false)", 'public, "a \\b", pg_temp')
        await connection.execute("SET standard_conforming_strings = off")

    made = await pool(min_size=1, max_size=1, init=init)
    for _ in range(2):
        async with made.acquire() as lease:
            assert await lease.fetchval("SHOW application_name") == 'it\'s a \\ "test"'
            assert await lease.fetchval("SHOW search_path") == 'public, "a \\b", pg_temp'
            await lease.execute("SET application_name = ''; SET search_path = ''")
    assert made.stats().closed == {}


async def test_a_codec_that_init_sets_does_not_disturb_the_comparison(pool: MakePool, routines: None) -> None:
    async def init(connection: headrace.Connection) -> None:
        await connection.set_type_codec("text", schema="pg_catalog", encoder=str, decoder=lambda text: f"<{text}>")
        await connection.execute("SET work_mem = '2MB'")

    made = await pool(min_size=1, max_size=1, init=init)
    await made.execute("DO $$ BEGIN END $$")
    await made.execute("CALL makes_a_table()")
    assert await made.fetchval("SHOW work_mem") == "<2MB>"
    assert made.stats().closed == {"not_resettable": 1}


async def test_a_query_logger_does_not_see_the_questions_of_the_pool(pool: MakePool, routines: None) -> None:
    seen: list[str] = []

    async def init(connection: headrace.Connection) -> None:
        connection.add_query_logger(lambda query: seen.append(query.query))

    made = await pool(min_size=1, max_size=1, init=init)
    change = "SELECT changes_the_zone('Europe/Rome')"
    await made.fetchval(change)
    await made.fetchval("SELECT 1")
    await made.execute("DO $$ BEGIN END $$")
    await made.fetchval("SELECT 1")
    assert made.stats().closed == {"settings_changed": 1}
    assert change in seen
    assert [text for text in seen if "pg_settings" in text] == []


async def test_a_reset_that_keeps_settings_has_the_connection_replaced(pool: MakePool) -> None:
    """After code the session is compared, whatever it is reset by."""

    class Lasting(headrace.Connection):
        def get_reset_query(self) -> str:
            return ""

    async def reset(connection: headrace.Connection) -> None:
        await connection.execute("RESET work_mem")

    code = "DO $$ BEGIN PERFORM set_config($1, '1234kB', false); END $$"
    made = await pool(min_size=1, max_size=1, connection_class=Lasting)
    await made.execute(code.replace("$1", "'work_mem'"))
    assert await made.fetchval("SHOW work_mem") != "1234kB"
    assert made.stats().closed == {"not_resettable": 1}
    made = await pool(min_size=1, max_size=1, reset=reset)
    await made.execute(code.replace("$1", "'work_mem'"))
    assert await made.fetchval("SHOW work_mem") != "1234kB"
    assert made.stats().closed == {}
    await made.execute(code.replace("$1", "'temp_buffers'"))
    assert await made.fetchval("SHOW temp_buffers") != "1234kB"
    assert made.stats().closed == {"not_resettable": 1}


async def test_a_backend_that_ends_while_its_session_is_compared(
    server: Cluster, pool: MakePool, routines: None
) -> None:
    made = await pool(min_size=1, max_size=1)
    for _ in range(5):
        pid = await made.fetchval("SELECT pg_backend_pid()")
        await made.execute("CALL makes_a_table()")
        server.sql("SELECT pg_terminate_backend(%s)", pid)
        async with asyncio.timeout(PATIENCE):
            assert await made.fetchval("SELECT to_regclass('mine')") is None
    assert made.stats().leased == 0


async def test_a_pool_that_is_closed_while_a_session_is_compared(pool: MakePool, routines: None) -> None:
    for end in ("close", "terminate"):
        made = await pool(min_size=1, max_size=1)
        await made.execute("CALL makes_a_table()")
        async with asyncio.timeout(PATIENCE):
            if end == "close":
                await made.close()
            else:
                made.terminate()


@pytest.mark.parametrize("name", INITS)
@pytest.mark.parametrize("seed", range(4))
async def test_any_sequence_of_them_leaves_what_init_has_left(pool: MakePool, fresh: Any, name: str, seed: int) -> None:
    """Several callers at once, some of whom give up."""
    chance = random.Random(seed)
    expected = dict(await fresh(INITS[name]))
    made = await pool(min_size=2, max_size=2, init=INITS[name])
    in_leases = [
        "SET work_mem = '1234kB'",
        "RESET ALL",
        "LISTEN somewhere",
        "BEGIN",
        "SELECT pg_advisory_lock_shared(7)",
    ]
    codes = [f"CALL public.{named(effect)}()" for effect in EFFECTS]
    functions = [f"SELECT public.f_{named(effect)}()" for effect, (_, reported) in EFFECTS.items() if reported]
    done: list[str] = []

    async def shared() -> None:
        text = chance.choice([*STATEMENTS, *TEXTS, *codes, *functions])
        done.append(text)
        method = made.execute if text in TEXTS or chance.random() < 0.5 else made.fetch
        limit = None if chance.random() < 0.8 else 0.001
        with suppress(headrace.PostgresError, headrace.InterfaceError, TimeoutError):
            await method(text, timeout=limit)

    async def leased() -> None:
        text = chance.choice(in_leases)
        done.append(f"leased: {text}")
        async with made.acquire() as lease:
            await lease.execute(text)

    for _ in range(12):
        await asyncio.gather(
            *(chance.choice((shared, shared, shared, leased))() for _ in range(chance.randrange(1, 4)))
        )
        async with asyncio.timeout(PATIENCE):
            rows = await asyncio.gather(*(made.fetchrow(LOOK) for _ in range(4)))
            async with made.acquire() as one, made.acquire() as other:
                rows += [await one.fetchrow(LOOK), await other.fetchrow(LOOK)]
        for row in rows:
            assert dict(row or {}) == expected, done
        done.clear()
