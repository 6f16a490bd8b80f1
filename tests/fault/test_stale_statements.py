"""Fault 38: the server no longer accepts a cached statement.

Outside of a transaction it is prepared again, once and unseen. Inside one the error is raised, since the transaction is
lost, and the next use is healed. What only looks alike is left as it is.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import headrace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.fixtures import Connect, MakePool

pytestmark = pytest.mark.fault(number=38)

QUERY = "SELECT * FROM changing"

DEALLOCATE = "DO $$BEGIN EXECUTE 'DEALLOCATE ' || 'ALL'; END$$"
"""Unseen by the driver: where it sees a DEALLOCATE ALL it prepares all anew."""


@pytest.fixture
async def other(connect: Connect) -> AsyncIterator[headrace.Connection]:
    """A connection beside the one under test, with the table that changes."""
    connection = await connect()
    await connection.execute("CREATE TABLE changing (a int); INSERT INTO changing VALUES (1)")
    yield connection
    await connection.execute("DROP TABLE changing")


def prepared(connection: headrace.Connection) -> int:
    return connection._driver.session.statements.prepared


async def test_alter_outside_of_a_transaction(conn: headrace.Connection, other: headrace.Connection) -> None:
    assert await conn.fetch(QUERY) == [(1,)]
    await other.execute("ALTER TABLE changing ADD COLUMN b text DEFAULT 'new'")
    before = prepared(conn)
    row = await conn.fetchrow(QUERY)
    assert dict(row) == {"a": 1, "b": "new"}
    assert prepared(conn) == before + 1
    assert await conn.fetch(QUERY) == [(1, "new")]
    assert prepared(conn) == before + 1


async def test_alter_under_a_full_pipeline(conn: headrace.Connection, other: headrace.Connection) -> None:
    """All in flight are refused; they run again in their order, after one preparation."""
    await conn.fetch(QUERY)
    await conn.fetchval("SELECT $1::int", 0)
    await other.execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 2")
    before = prepared(conn)
    calls = []
    for i in range(30):
        calls += [conn.fetch(QUERY), conn.fetchval("SELECT $1::int", i)]
    results = await asyncio.gather(*calls)
    assert results[::2] == [[(1, 2)]] * 30
    assert results[1::2] == list(range(30))
    assert prepared(conn) == before + 1


async def test_alter_inside_a_transaction(conn: headrace.Connection, other: headrace.Connection) -> None:
    await conn.fetch(QUERY)
    await other.execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 2")
    with pytest.raises(headrace.FeatureNotSupportedError) as raised:
        async with conn.transaction():
            await conn.fetch(QUERY)
    assert isinstance(raised.value, headrace.InvalidCachedStatementError)
    # Programs search for either text: the server's, or asyncpg's.
    assert "cached plan must not change result type" in str(raised.value)
    assert "cached statement plan is invalid due to a database schema or configuration change" in str(raised.value)
    async with conn.transaction():
        assert await conn.fetch(QUERY) == [(1, 2)]


@pytest.mark.parametrize("statement", ["DEALLOCATE ALL", "DISCARD ALL", "DISCARD PLANS"])
async def test_statements_deallocated_by_sql(conn: headrace.Connection, statement: str) -> None:
    assert await conn.fetchval("SELECT $1::int", 1) == 1
    await conn.execute(statement)
    before = prepared(conn)
    assert await asyncio.gather(*(conn.fetchval("SELECT $1::int", i) for i in range(20))) == list(range(20))
    assert prepared(conn) <= before + 1


async def test_deallocated_inside_a_transaction(conn: headrace.Connection) -> None:
    await conn.fetchval("SELECT $1::int", 1)
    with pytest.raises(headrace.InvalidSQLStatementNameError):
        async with conn.transaction():
            await conn.execute(DEALLOCATE)
            await conn.fetchval("SELECT $1::int", 2)
    async with conn.transaction():
        assert await conn.fetchval("SELECT $1::int", 3) == 3


@pytest.mark.parametrize("statement", ["DEALLOCATE ALL", "deallocate prepare all", "DISCARD ALL"])
async def test_statements_deallocated_under_the_next_user_of_a_pool(pool: MakePool, statement: str) -> None:
    """What one lease did to the session is no error in the transaction of the next one."""
    made = await pool(min_size=1, max_size=1)
    async with made.acquire() as connection:
        await connection.fetchval("SELECT $1::int", 1)
        await connection.execute(statement)
    async with made.acquire() as connection, connection.transaction():
        assert await connection.fetchval("SELECT $1::int", 2) == 2


async def test_a_prepared_statement_object(conn: headrace.Connection, other: headrace.Connection) -> None:
    statement = await conn.prepare(QUERY)
    assert await statement.fetch() == [(1,)]
    await other.execute("ALTER TABLE changing ADD COLUMN b int DEFAULT 2")
    assert await statement.fetch() == [(1, 2)]
    assert [attribute.name for attribute in statement.get_attributes()] == ["a", "b"]
    await conn.execute(DEALLOCATE)
    assert await statement.fetchrow() == (1, 2)


async def test_a_batch(conn: headrace.Connection, other: headrace.Connection) -> None:
    """Elements in a sequence are bound again; those of an iterator are gone, and the batch fails whole."""
    insert = "INSERT INTO changing (a) VALUES ($1)"
    await conn.executemany(insert, [(2,)])
    await conn.execute(DEALLOCATE)
    await conn.executemany(insert, [(3,), (4,)])
    await conn.execute(DEALLOCATE)
    with pytest.raises(headrace.InvalidSQLStatementNameError):
        await conn.executemany(insert, iter([(5,), (6,)]))
    await conn.executemany(insert, iter([(7,)]))
    assert await other.fetch("SELECT a FROM changing ORDER BY a") == [(1,), (2,), (3,), (4,), (7,)]


async def test_a_change_of_search_path(conn: headrace.Connection) -> None:
    """The same text then means another table, and other columns."""
    await conn.execute(
        "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.here (a int); CREATE TABLE two.here (b text, c text);"
        "INSERT INTO one.here VALUES (1); INSERT INTO two.here VALUES ('b', 'c')"
    )
    for _ in range(3):
        await conn.execute("SET search_path TO one")
        assert await conn.fetch("SELECT * FROM here") == [(1,)]
        await conn.execute("SET search_path TO two")
        assert await conn.fetch("SELECT * FROM here") == [("b", "c")]
    await conn.execute("RESET search_path; DROP SCHEMA one CASCADE; DROP SCHEMA two CASCADE")


TENANTS = """
    CREATE SCHEMA one; CREATE SCHEMA two;
    CREATE TYPE one.mood AS ENUM ('sad'); CREATE TYPE two.mood AS ENUM ('sad', 'merry');
    CREATE TABLE one.here (a int, m one.mood); CREATE TABLE two.here (a int, b text, m two.mood);
    INSERT INTO one.here VALUES (1, 'sad'); INSERT INTO two.here VALUES (2, 'b', 'merry')
"""


@pytest.fixture
async def tenants(connect: Connect) -> AsyncIterator[headrace.Connection]:
    """A connection to a database with two schemas that have the same tables with other columns."""
    connection = await connect()
    if connection.get_server_version().major < 18:
        pytest.skip("PostgreSQL reports search_path from version 18 on")
    await connection.execute(TENANTS)
    yield connection
    await connection.execute("RESET search_path; DROP SCHEMA one CASCADE; DROP SCHEMA two CASCADE")


async def test_a_schema_for_each_tenant(tenants: headrace.Connection) -> None:
    """SET LOCAL, one query text: each value has statements of its own, so none goes stale."""
    by_mood = "SELECT a FROM here WHERE m = $1"
    for _ in range(3):
        before = prepared(tenants)
        for schema, expected, mood in (("one", (1, "sad"), "sad"), ("two", (2, "b", "merry"), "merry")):
            async with tenants.transaction():
                await tenants.execute(f"SET LOCAL search_path TO {schema}")
                assert await tenants.fetch("SELECT * FROM here") == [expected]
                assert await tenants.fetchval(by_mood, mood) == expected[0]
    assert prepared(tenants) == before, "they are prepared once for each value"


async def test_tenants_all_at_once_on_one_connection(tenants: headrace.Connection) -> None:
    calls: list[asyncio.Future[object]] = []
    for _ in range(10):
        for schema in ("one", "two"):
            calls.append(asyncio.ensure_future(tenants.fetchval("SELECT set_config('search_path', $1, false)", schema)))
            calls.append(asyncio.ensure_future(tenants.fetchrow("SELECT * FROM here")))
    results = await asyncio.gather(*calls)
    assert results == ["one", (1, "sad"), "two", (2, "b", "merry")] * 10


async def test_a_search_path_that_a_rollback_restores(tenants: headrace.Connection) -> None:
    await tenants.execute("SET search_path TO one")
    assert await tenants.fetch("SELECT * FROM here") == [(1, "sad")]
    for end in ("ROLLBACK", "ROLLBACK TO s; COMMIT"):
        await tenants.execute("BEGIN; SAVEPOINT s; SET search_path TO two")
        assert await tenants.fetch("SELECT * FROM here") == [(2, "b", "merry")]
        ended, behind = await asyncio.gather(tenants.execute(end), tenants.fetch("SELECT * FROM here"))
        assert ended == end.split()[-1]
        assert behind == [(1, "sad")]


async def test_the_next_lease_finds_the_search_path_of_the_pool(tenants: headrace.Connection, pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1, server_settings={"search_path": "one"})
    before = 0
    for _ in range(3):
        assert await made.fetch("SELECT * FROM here") == [(1, "sad")]
        async with made.acquire() as lease, lease.transaction():
            before = prepared(lease)
            await lease.execute("SET search_path TO two")
            assert await lease.fetch("SELECT * FROM here") == [(2, "b", "merry")]
        assert await made.fetch("SELECT * FROM here") == [(1, "sad")]
    async with made.acquire() as lease:
        assert prepared(lease) == before


@pytest.mark.parametrize("limit", [0, 100])
async def test_tenants_on_a_server_that_reports_no_search_path(connect: Connect, limit: int) -> None:
    """The ways around: no cache, or a comment that makes each tenant's text one of its own."""
    connection = await connect(statement_cache_size=limit)
    await connection.execute(TENANTS)
    for _ in range(3):
        for schema, expected in (("one", (1, "sad")), ("two", (2, "b", "merry"))):
            async with connection.transaction():
                await connection.execute(f"SET LOCAL search_path TO {schema}")
                comment = f"/* {schema} */ " if limit else ""
                assert await connection.fetch(f"{comment}SELECT * FROM here") == [expected]
                assert (
                    await connection.fetchval(f"{comment}SELECT a FROM here WHERE m = $1", expected[-1]) == expected[0]
                )
    await connection.execute("DROP SCHEMA one CASCADE; DROP SCHEMA two CASCADE")


async def test_an_argument_that_another_session_has_made_right(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    insert = "INSERT INTO changing (a) VALUES ($1)"
    await conn.execute(insert, 2)
    await conn.executemany(insert, [(3,)])
    statement = await conn.prepare(insert)
    await other.execute("ALTER TABLE changing ALTER a TYPE text")
    async with conn.transaction():
        await conn.execute(insert, "four")
    await conn.executemany(insert, [("five",), ("six",)])
    await statement.fetch("seven")
    assert await other.fetchval("SELECT array_agg(a) FROM changing") == ["1", "2", "3", "four", "five", "six", "seven"]


async def test_the_first_use_in_a_batch_of_what_another_session_has_altered(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    insert = "INSERT INTO changing (a) VALUES ($1)"
    await conn.executemany(insert, [(2,)])
    await other.execute("ALTER TABLE changing ALTER a TYPE text")
    async with conn.transaction():
        await conn.executemany(insert, [("three",)])
    assert await other.fetch("SELECT a FROM changing") == [("1",), ("2",), ("three",)]


@pytest.mark.parametrize(("type_", "value"), [("uuid", "6c0f2b0a-0000-4000-8000-000000000001"), ("jsonb", "[1]")])
async def test_an_argument_that_fits_the_old_type_and_the_new_one(
    conn: headrace.Connection, other: headrace.Connection, type_: str, value: str
) -> None:
    """The server refuses the statement then: a parameter that was text does not become uuid or jsonb by itself."""
    insert, select = "INSERT INTO changing (b) VALUES ($1)", "SELECT a FROM changing WHERE b = $1"
    await other.execute("ALTER TABLE changing ADD b text")

    async def use(count: int) -> None:
        await conn.execute(insert, value)
        await conn.executemany(insert, [(value,), (value,)])
        assert len(await conn.fetch(select, value)) == count
        assert await conn.fetchmany(select, [(value,)]) == [(None,)] * count

    await use(3)
    await other.execute(f"ALTER TABLE changing ALTER b TYPE {type_} USING b::{type_}")
    await use(6)
    before = prepared(conn)
    await use(9)
    assert prepared(conn) == before


async def test_an_old_type_of_a_parameter_in_a_transaction(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    insert = "INSERT INTO changing (b) VALUES ($1)"
    await other.execute("ALTER TABLE changing ADD b text")
    await conn.execute(insert, "[1]")
    await other.execute("ALTER TABLE changing ALTER b TYPE jsonb USING b::jsonb")
    with pytest.raises(headrace.DatatypeMismatchError):
        async with conn.transaction():
            await conn.execute(insert, "[2]")
    async with conn.transaction():
        await conn.execute(insert, "[3]")
    assert await other.fetchval("SELECT count(*) FROM changing WHERE b IS NOT NULL") == 2


async def test_batches_from_iterators_after_another_session_has_altered_a_table(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    """Their arguments are gone once they were refused. The next call has the statement prepared again."""
    insert = "INSERT INTO changing (a) VALUES ($1)"

    async def arriving(value: Any) -> AsyncIterator[tuple[Any]]:
        yield (value,)

    await conn.executemany(insert, [(2,)])
    await other.execute("ALTER TABLE changing ALTER a TYPE text")
    with pytest.raises(headrace.ArgumentError):
        await conn.executemany(insert, arriving("three"))
    await conn.executemany(insert, arriving("three"))
    await conn.executemany(insert, iter([("four",)]))
    assert await other.fetchval("SELECT array_agg(a) FROM changing") == ["1", "2", "three", "four"]


async def test_an_argument_that_is_wrong_leaves_a_transaction_as_it_was(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    insert = "INSERT INTO changing (a) VALUES ($1)"
    async with conn.transaction():
        await conn.execute(insert, 2)
        with pytest.raises(headrace.ArgumentError, match="'three'"):
            await conn.execute(insert, "three")
    assert await other.fetch("SELECT a FROM changing") == [(1,), (2,)]


async def test_other_refusals_of_features_are_not_repeated(conn: headrace.Connection) -> None:
    """0A000 has many reasons; only RevalidateCachedQuery's is about the statement."""
    await conn.execute("CREATE TEMP TABLE t (a int)")
    await conn.fetchval("SELECT 1")
    before = prepared(conn)
    with pytest.raises(headrace.FeatureNotSupportedError, match="system column"):
        await conn.execute("ALTER TABLE t ALTER COLUMN ctid TYPE text")
    with pytest.raises(headrace.FeatureNotSupportedError):
        await conn.fetch("SELECT count(*) FROM t FOR UPDATE")
    assert prepared(conn) <= before + 2
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_function_that_raises_0a000_is_called_once(conn: headrace.Connection) -> None:
    """It may have done things that no rollback undoes."""
    await conn.execute(
        """
        CREATE SEQUENCE calls;
        CREATE FUNCTION unsupported(a int) RETURNS int LANGUAGE plpgsql AS $$
        BEGIN PERFORM nextval('calls'); RAISE feature_not_supported USING MESSAGE = 'no such luck'; END $$
        """
    )
    for number in (1, 2):
        with pytest.raises(headrace.FeatureNotSupportedError, match="no such luck"):
            await conn.fetchval("SELECT unsupported($1)", 1)
        assert await conn.fetchval("SELECT last_value FROM calls") == number
    await conn.execute("DROP FUNCTION unsupported; DROP SEQUENCE calls")


async def test_ddl_under_load(pool: MakePool, other: headrace.Connection) -> None:
    """A pool whose table changes all the while: outside of transactions nobody sees an error."""
    made = await pool(min_size=3, max_size=3)
    rounds = 0
    changing = True

    async def reading() -> int:
        nonlocal rounds
        while changing:
            row = await made.fetchrow(QUERY)
            assert row["a"] == 1
            assert len(row) == len(list(row.keys()))
            rounds += 1
        return rounds

    readers = [asyncio.create_task(reading()) for _ in range(10)]
    for i in range(25):
        await other.execute(f"ALTER TABLE changing ADD COLUMN c{i} int DEFAULT {i}")
        if i % 3 == 0:
            await other.execute(f"ALTER TABLE changing DROP COLUMN c{i}")
        before = rounds
        async with asyncio.timeout(10):
            while rounds < before + 20:
                await asyncio.sleep(0)
                for reader in readers:
                    if reader.done():
                        reader.result()
    changing = False
    await asyncio.gather(*readers)
