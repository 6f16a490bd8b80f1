"""Round trips: how many each thing costs, and that the first run of a statement gives what a prepared one gives."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace import exceptions
from tests import round_trips
from tests.servers import Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.peers.proxy import Proxy


async def test_the_page_has_the_table_as_it_is_counted(server: Cluster) -> None:
    with server.database() as database:
        table = await round_trips.table(server, database)
    present = round_trips.TARGET.read_text(encoding="utf-8")
    assert round_trips.render(present, table) == present


@pytest.fixture
async def through(proxy: Proxy, connect: Connect) -> headrace.Connection:
    """A connection through the proxy that counts."""
    return await connect(host=proxy.host, port=proxy.port, ssl=False)


QUERIES: list[tuple[str, tuple[Any, ...]]] = [
    ("SELECT 1, 'x'::text, NULL::date, 1.5::numeric, now() > 'epoch'", ()),
    ("SELECT n FROM generate_series(1, 1000) AS n", ()),
    ("SELECT 1 WHERE false", ()),
    ("SELECT", ()),
    ("VALUES ($1::int, CAST($2 AS text)), (2, 'b')", (1, "a")),
    ("SELECT $1::numeric(5, 2), $2::varchar(3), $3::bit(4), $4::char(5)", ("1.234", "abcdef", "10101", "ab")),
    ("SELECT $1::int[], $2::text[][], $3::int array[3]", ([1, 2], [["a"], ["b"]], [1, None, 3])),
    ("SELECT $1::timestamptz, $1::timestamp with time zone(3)", ("2024-01-01",)),
    ("SELECT $1::float(53), $1::float(53) + 1", (1.5,)),
    ("SELECT $1::double precision + $1::double precision, $2::real", (1.5, 2.5)),
    ("SELECT $1::interval second(0), $2::time(0) with time zone", ("1 second", "10:00:00.5+01")),
    ("SELECT $1::jsonb -> 'a', $2::json, $3::uuid, $4::bytea", ('{"a": 1}', "[1]", "0" * 32, b"\0x")),
    ("SELECT id, $1::int % 2 FROM (VALUES (1), (2)) AS t (id) WHERE id = ANY ($2::int8[])", (5, [2])),
    ("SELECT '$1::int', $$ $2::int $$, E'\\' $3::int', \"$4\" FROM (SELECT $1::int) AS t (\"$4\") -- $5", (1,)),
    ("SELECT $1::int::text || $2::pg_catalog.text", (1, "x")),
    ('SELECT count(*) FROM pg_class WHERE relname = $1::name COLLATE "C" LIMIT $2::bigint', ("pg_class", 1)),
]


@pytest.mark.parametrize(("query", "args"), QUERIES)
async def test_the_first_run_gives_what_a_prepared_statement_gives(
    connect: Connect, query: str, args: tuple[Any, ...]
) -> None:
    prepared, conn = await connect(), await connect()

    async def outcome(asking: Any) -> object:
        try:
            return await asking
        except headrace.PostgresError as error:
            return type(error), str(error), error.hint, error.position
        except headrace.InterfaceError as error:
            return type(error), str(error)

    async def described_first() -> object:
        return await (await prepared.prepare(query)).fetch(*args)

    expected = await outcome(described_first())
    assert await outcome(conn.fetch(query, *args)) == expected
    assert await outcome(conn.fetch(query, *args)) == expected


ERRORS: list[tuple[str, tuple[Any, ...]]] = [
    ("SELECT * FROM nowhere", ()),
    ("SELECT nothing FROM pg_class WHERE relname = $1::text", ("x",)),
    ("SELECT upper($1::int)", (1,)),
    ("SELECT lower(relname, $1::text) FROM pg_class", ("x",)),
    ("SELECT $1::int + $2::date + $3::date", (1, None, None)),
    ("SELEC 1", ()),
    ("SELECT 1 / ($1::int - 1)", (1,)),
    ("SELECT $1::int", ("x",)),
    ("SELECT $1::uuid", ("x",)),
    ("SELECT $1::int", (2**40,)),
    ("SELECT $1::text", ("\0",)),
    ("SELECT $1::int", (1, 2)),
    ("SELECT 1", (1,)),
    ("SELECT $1::int, $3::int", (1, 2, 3)),
    ("SELECT ($1::text)::int", ("x",)),
    ("COPY pg_class TO STDOUT", ()),
]


@pytest.mark.parametrize(("query", "args"), ERRORS)
async def test_errors_are_those_of_a_statement_that_is_described_first(
    connect: Connect, query: str, args: tuple[Any, ...]
) -> None:
    prepared, conn = await connect(), await connect()

    async def described_first() -> None:
        await (await prepared.prepare(query)).fetch(*args)

    with pytest.raises((headrace.PostgresError, headrace.InterfaceError)) as expected:
        await described_first()
    for _ in range(2):
        with pytest.raises(type(expected.value)) as found:
            await conn.fetch(query, *args)
        assert type(found.value) is type(expected.value)
        assert str(found.value) == str(expected.value)
        for attribute in ("sqlstate", "hint", "position", "detail", "query"):
            assert getattr(found.value, attribute, None) == getattr(expected.value, attribute, None)
    assert await conn.fetchval("SELECT 1") == 1


async def test_columns_of_every_type_can_be_read_at_once(connect: Connect) -> None:
    conn, other = await connect(), await connect()
    types = await other.fetch(
        "SELECT oid::regtype::text FROM pg_type WHERE typtype IN ('b', 'e', 'r', 'm') AND typnamespace = 11"
    )
    assert len(types) > 100
    for (name,) in types:
        query = f"SELECT NULL::{name} AS value"
        assert await conn.fetch(query) == await conn.fetch(query) == [(None,)], name


VALUES = [
    "'1.50'::money",
    "'a b'::tsvector",
    "'a & b'::tsquery",
    "'=r/postgres'::aclitem",
    "ARRAY['=r/postgres'::aclitem]",
    "'pg_class'::regclass",
    "'(1,2)'::tid",
    "'10:20:'::txid_snapshot",
    "ROW(1, '2'::money)",
    "ARRAY['1.50'::money]",
    "'1 day'::interval",
    "'{}'::jsonb",
    "'(1,2),(3,4)'::box",
    "'[1,2)'::int4range",
    "'{[1,2)}'::int4multirange",
]


@pytest.mark.parametrize("value", VALUES)
async def test_values_are_those_of_a_known_statement(connect: Connect, value: str) -> None:
    conn = await connect()
    query = f"SELECT {value} AS value, 1"
    assert await conn.fetch(query) == await conn.fetch(query)
    assert await conn.fetchrow(f"{query}, 2") == await conn.fetchrow(f"{query}, 2")
    assert await conn.fetchval(f"{query}, 3") == await conn.fetchval(f"{query}, 3")


# Types by the names of core types


@pytest.mark.parametrize("definition", ["ENUM ('a', 'b')", "(x text)", "RANGE (subtype = text)"])
@pytest.mark.parametrize("name", ["int4", "text", "date", "uuid", "jsonb"])
async def test_a_type_that_has_the_name_of_a_core_type(connect: Connect, name: str, definition: str) -> None:
    conn = await connect()
    reports_path = conn.get_server_version() >= (18,)
    await conn.execute(f"CREATE SCHEMA early; CREATE TYPE early.{name} AS {definition}")
    try:
        value = {"E": "a", "(": ("b",), "R": headrace.Range("a", "b")}[definition[0]]
        late, early = await connect(), await connect(server_settings={"search_path": "early, pg_catalog"})
        assert await early.fetchval(f"SELECT $1::{name}", value) == value
        if reports_path or value != ("b",):
            # A list of tuples is an array of text as well.
            assert await early.fetchval(f"SELECT $1::{name}[]", [value]) == [value]
        assert await early.execute(f"SELECT $1::{name}, 1", value) == "SELECT 1"
        async with early.transaction():
            assert await early.fetchval(f"SELECT $1::{name}, 2", value) == value
            assert await early.execute(f"SELECT $1::{name}, 3", value) == "SELECT 1"
        assert await late.fetchval(f"SELECT $1::{name}", None) is None
    finally:
        await conn.execute("DROP SCHEMA early CASCADE")


async def test_a_temporary_table_that_has_the_name_of_a_core_type(connect: Connect) -> None:
    conn = await connect()
    await conn.execute("CREATE TEMPORARY TABLE date (day int)")
    assert await conn.fetchval("SELECT ($1::date).day", (5,)) == 5
    assert await conn.fetchval("SELECT $1::date IS NULL", None) is True


async def test_a_domain_that_has_the_name_of_a_core_type(connect: Connect) -> None:
    conn = await connect()
    await conn.execute("CREATE SCHEMA early; CREATE DOMAIN early.uuid AS text CHECK (value <> 'bad')")
    try:
        early = await connect(server_settings={"search_path": "early, pg_catalog"})
        assert await early.fetchval("SELECT $1::uuid", "no uuid") == "no uuid"
        with pytest.raises(exceptions.CheckViolationError):
            await early.fetchval("SELECT $1::uuid, 2", "bad")
        assert await early.fetchval("SELECT $1::uuid, 3", "0" * 32) is not None
        assert await early.fetchval("SELECT $1::uuid, 3", "no uuid") == "no uuid"
    finally:
        await conn.execute("DROP SCHEMA early CASCADE")


# Round trips of what the table does not have


async def trips(proxy: Proxy, asking: Any) -> int:
    with proxy.counting() as counted:
        with suppress(headrace.PostgresError, headrace.InterfaceError):
            await asking
    return counted.count


async def test_an_error_costs_one_round_trip(proxy: Proxy, through: headrace.Connection) -> None:
    for query in (
        "SELECT * FROM nowhere",
        "SELECT 1 / 0",
        "SELEC 1",
        "SELECT $1::int",
        "SELECT * FROM nowhere WHERE a = $1::text",
    ):
        assert await trips(proxy, through.fetch(query, *(["x"] if "text" in query else []))) == 1, query


async def test_an_argument_that_does_not_fit_costs_nothing(proxy: Proxy, through: headrace.Connection) -> None:
    assert await trips(proxy, through.fetch("SELECT $1::int", "x")) == 0
    assert await trips(proxy, through.fetch("SELECT $1::int4", "x")) == 1, "int4 may be another type"


async def test_statements_that_are_not_cached(proxy: Proxy, connect: Connect) -> None:
    conn = await connect(host=proxy.host, port=proxy.port, ssl=False, statement_cache_size=0)
    for _ in range(2):
        assert await trips(proxy, conn.fetch("SELECT $1::int", 1)) == 1
        assert await trips(proxy, conn.fetch("SELECT $1 || 'x'", "y")) == 2


@dataclass
class Number:
    """One row."""

    n: int


async def test_rows_as_objects(proxy: Proxy, through: headrace.Connection) -> None:
    assert await through.fetch("SELECT 1 AS n", row=Number) == [Number(1)]
    assert await through.fetchrow("SELECT 2 AS n", row=Number) == Number(2)
    with pytest.raises(headrace.InterfaceError, match="rows of this query cannot become Number"):
        await through.fetch("SELECT 1 AS m", row=Number)
    assert proxy.trips == 4


# Faults


async def test_a_first_run_is_cancelled_on_the_server(connect: Connect) -> None:
    conn, other = await connect(), await connect()
    pid = conn.get_server_pid()
    with pytest.raises(TimeoutError):
        await conn.fetch("SELECT pg_sleep(60)", timeout=0.2)
    assert await conn.fetchval("SELECT 1") == 1
    assert await other.fetchval("SELECT query FROM pg_stat_activity WHERE pid = $1", pid) == "SELECT 1"


async def test_a_backend_that_is_killed_in_a_first_run(server: Cluster, connect: Connect) -> None:
    conn = await connect()
    call = asyncio.ensure_future(conn.fetch("SELECT pg_sleep(60)"))
    while not server.sql(
        f"SELECT 1 FROM pg_stat_activity WHERE pid = {conn.get_server_pid()} AND wait_event = 'PgSleep'"
    ):
        await asyncio.sleep(0.01)
    server.sql(f"SELECT pg_terminate_backend({conn.get_server_pid()})")
    with pytest.raises(exceptions.AdminShutdownError) as lost:
        await call
    assert headrace.is_safe_to_retry(lost.value)


async def test_a_pool_repeats_a_read_whose_backend_is_killed_in_its_first_run(server: Cluster, pool: MakePool) -> None:
    made = await pool(min_size=1, max_size=1)
    pid = await made.fetchval("SELECT pg_backend_pid()")
    query = "SELECT 7 FROM pg_sleep(1.0)"
    call = asyncio.ensure_future(made.fetchval(query))
    while not server.sql(
        f"SELECT 1 FROM pg_stat_activity WHERE pid = {pid} AND query = '{query}' AND state = 'active'"
    ):
        await asyncio.sleep(0.01)
    server.sql(f"SELECT pg_terminate_backend({pid})")
    assert await call == 7


async def test_calls_of_a_pool_at_once(pool: MakePool) -> None:
    made = await pool(min_size=2, max_size=2)
    queries = [f"SELECT {n % 5}, $1::int" for n in range(50)]
    results = await asyncio.gather(*(made.fetchrow(query, n) for n, query in enumerate(queries)))
    assert results == [(n % 5, n) for n in range(50)]
    results = await asyncio.gather(*(made.fetchval(f"SELECT '{n % 7}'::money") for n in range(50)))
    assert results == [f"${n % 7}.00" for n in range(50)]


async def test_order_of_the_calls(connect: Connect) -> None:
    conn = await connect()
    await conn.execute("CREATE TEMPORARY TABLE t (n money)")
    _, before, _, after = await asyncio.gather(
        conn.execute("INSERT INTO t VALUES (1)"),
        conn.fetchval("SELECT sum(n) FROM t"),
        conn.execute("INSERT INTO t VALUES (2)"),
        conn.fetchval("SELECT sum(n), 2 FROM t"),
    )
    assert (before, after) == ("$1.00", "$3.00")
