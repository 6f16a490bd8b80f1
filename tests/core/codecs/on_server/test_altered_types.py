"""Types that change under statements which are in use: altered, or dropped and made again, on another connection.

What the server has sent is read by what the types are by now: nothing is executed twice for that. A Bind that the
server refuses for them is run again, but not within a transaction, which has failed by then: the next one is as good as
ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest

import headrace

SCHEMA = "CREATE SCHEMA altered; CREATE SEQUENCE altered.calls"
HERE = {"search_path": "altered"}


@pytest.fixture
async def other(connect: Any) -> AsyncIterator[headrace.Connection]:
    """The connection that alters types."""
    connection: headrace.Connection = await connect(server_settings=HERE)
    await connection.execute(SCHEMA)
    yield connection
    await connection.execute("DROP SCHEMA altered CASCADE")


@pytest.fixture
async def conn(other: headrace.Connection, connect: Any) -> headrace.Connection:
    """The connection that uses them."""
    connection: headrace.Connection = await connect(server_settings=HERE)
    return connection


def plain(value: Any) -> Any:
    """Return Records as dicts, however deep."""
    if isinstance(value, headrace.Record):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


ROWS = "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2)"
ALTERED = [
    ("ALTER TABLE t ADD COLUMN b text", [{"a": 1, "b": None}, {"a": 2, "b": None}]),
    ("ALTER TABLE t ADD COLUMN b text, DROP COLUMN a", [{"b": None}, {"b": None}]),
    ("ALTER TABLE t ALTER a TYPE numeric", [{"a": Decimal(1)}, {"a": Decimal(2)}]),
    ("CREATE TYPE mood AS ENUM ('x'); ALTER TABLE t ADD COLUMN m mood[]", [{"a": 1, "m": None}, {"a": 2, "m": None}]),
]


async def test_attributes_renamed_on_the_same_connection(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TYPE pair AS (a int, b int)")
    query = "SELECT ROW(1, 2)::pair"
    assert plain(await conn.fetchval(query)) == {"a": 1, "b": 2}
    await conn.execute("ALTER TYPE pair RENAME ATTRIBUTE a TO z")
    assert plain(await conn.fetchval(query)) == {"z": 1, "b": 2}
    assert plain(await conn.fetchval("SELECT $1::pair", {"z": 5})) == {"z": 5, "b": None}


@pytest.mark.parametrize(("change", "rows"), ALTERED)
@pytest.mark.parametrize("isolated", [False, True])
async def test_rows_of_a_table_that_was_altered(
    conn: headrace.Connection, other: headrace.Connection, change: str, rows: Any, isolated: bool
) -> None:
    await other.execute(ROWS)
    queries = ("SELECT t FROM t", "SELECT array_agg(t) FROM t", "SELECT row(t, 5) FROM t")
    for query in queries:
        await conn.fetch(query)
    await other.execute(change)

    async def check() -> None:
        assert [plain(row["t"]) for row in await conn.fetch(queries[0])] == rows
        assert plain(await conn.fetchval(queries[1])) == rows
        assert [(plain(row), n) for ((row, n),) in await conn.fetch(queries[2])] == [(row, 5) for row in rows]

    if isolated:
        async with conn.transaction():
            await check()
    else:
        await check()


async def test_a_column_that_makes_text_of_the_whole_row(conn: headrace.Connection, other: headrace.Connection) -> None:
    await other.execute(ROWS)
    await conn.fetch("SELECT t FROM t")
    await other.execute("ALTER TABLE t ADD COLUMN k regtype DEFAULT 'int'")
    # What was asked for in binary has come in binary, which for a regtype is its OID.
    assert plain(await conn.fetchval("SELECT t FROM t")) == {"a": 1, "k": "23"}
    assert plain(await conn.fetchval("SELECT t FROM t")) == {"a": 1, "k": "integer"}


async def test_nothing_is_executed_twice(conn: headrace.Connection, other: headrace.Connection) -> None:
    await other.execute(ROWS)
    query = "INSERT INTO t VALUES (nextval('calls')) RETURNING t"
    await conn.fetch(query)
    await other.execute("ALTER TABLE t ADD COLUMN b text")
    assert plain(await conn.fetchval(query)) == {"a": 2, "b": None}
    assert await conn.fetchval("SELECT last_value FROM calls") == 2


async def test_many_at_once(conn: headrace.Connection, other: headrace.Connection) -> None:
    await other.execute(ROWS)
    await conn.fetch("SELECT t FROM t")
    await other.execute("ALTER TABLE t ADD COLUMN b text")
    queries = [conn.fetchval("SELECT t FROM t WHERE a = 2") for _ in range(20)]
    numbers = [conn.fetchval("SELECT $1::int", n) for n in range(20)]
    results = await asyncio.gather(*queries, *numbers)
    assert plain(results[:20]) == [{"a": 2, "b": None}] * 20
    assert results[20:] == list(range(20))


async def test_rows_of_other_classes(conn: headrace.Connection, other: headrace.Connection) -> None:
    @dataclass
    class Row:
        t: Any

    await other.execute(ROWS)
    assert plain((await conn.fetchrow("SELECT t FROM t", row=Row)).t) == {"a": 1}  # type: ignore[union-attr]
    await other.execute("ALTER TABLE t ADD COLUMN b text")
    assert [plain(row.t["b"]) for row in await conn.fetch("SELECT t FROM t", row=Row)] == [None, None]


async def test_cursors_and_prepared_statements(conn: headrace.Connection, other: headrace.Connection) -> None:
    await other.execute(ROWS)
    statement = await conn.prepare("SELECT t FROM t")
    assert plain(await statement.fetchval()) == {"a": 1}
    await other.execute("ALTER TABLE t ADD COLUMN b text")
    async with conn.transaction():
        assert [plain(row["t"]["b"]) async for row in statement.cursor(prefetch=1)] == [None, None]
    assert plain(await statement.fetchval()) == {"a": 1, "b": None}


async def test_what_does_not_heal_by_itself_fails_once(conn: headrace.Connection, other: headrace.Connection) -> None:
    await other.execute(ROWS)
    query = "SELECT t FROM t WHERE a >= $1"
    await conn.fetchmany(query, [(1,)])
    await other.execute("ALTER TABLE t ADD COLUMN b text")
    with pytest.raises(headrace.OutdatedSchemaCacheError, match="altered.t has been altered"):
        await conn.fetchmany(query, [(1,), (2,)])
    assert len(await conn.fetchmany(query, [(1,), (2,)])) == 3
    await other.execute("ALTER TABLE t ADD COLUMN c text")
    with pytest.raises(headrace.OutdatedSchemaCacheError, match="altered.t has been altered"):
        assert [row async for row in conn.copy_out("SELECT t FROM t")]
    rows = [row async for row in conn.copy_out("SELECT t FROM t")]
    assert [plain(row["t"]) for row in rows] == [{"a": 1, "b": None, "c": None}, {"a": 2, "b": None, "c": None}]


@dataclass
class Change:
    """A type p, what happens to it, a query with arguments before and after, and what that returns after."""

    made: str
    change: str
    query: str
    before: Any
    after: Any
    result: Any


PAIR = "CREATE TYPE p AS (a int, b text)"
CHANGES = [
    Change(PAIR, "ALTER TYPE p ADD ATTRIBUTE c int", "SELECT ($1::p)::text", {"b": "x"}, {"b": "x"}, "(,x,)"),
    Change(PAIR, "ALTER TYPE p DROP ATTRIBUTE a", "SELECT ($1::p).b", {"b": "x"}, {"b": "x"}, "x"),
    Change(PAIR, "ALTER TYPE p ALTER ATTRIBUTE b TYPE int", "SELECT ($1::p)::text", {"a": 1}, {"a": 1}, "(1,)"),
    Change(PAIR, "ALTER TYPE p ADD ATTRIBUTE c int", "SELECT $1::p[]::text", [{"a": 1}], [{"a": 1}], '{"(1,,)"}'),
    Change(PAIR, "DROP TYPE p; CREATE TYPE p AS (b int)", "SELECT ($1::p).b::int", {"a": 1}, {"b": 1}, 1),
    Change("CREATE TYPE p AS ENUM ('a')", "DROP TYPE p; CREATE TYPE p AS ENUM ('b')", "SELECT $1::p", "a", "b", "b"),
    Change(
        "CREATE TYPE p AS ENUM ('a')", "DROP TYPE p; CREATE TYPE p AS ENUM ('b')", "SELECT $1::p[]", [], ["b"], ["b"]
    ),
    Change("CREATE TYPE p AS ENUM ('a')", "ALTER TYPE p ADD VALUE 'b'", "SELECT $1::p", "a", "b", "b"),
    Change("CREATE DOMAIN p AS int", "DROP DOMAIN p; CREATE DOMAIN p AS text", "SELECT $1::p", 1, "x", "x"),
    Change(
        "CREATE TYPE p AS RANGE (subtype = float8)",
        "DROP TYPE p; CREATE TYPE p AS RANGE (subtype = float8)",
        "SELECT lower($1::p)",
        (1.0, 2.0),
        (1.5, 2.0),
        1.5,
    ),
]


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: f"{case.change} {case.query}")
async def test_parameters_of_a_type_that_changed(
    conn: headrace.Connection, other: headrace.Connection, case: Change
) -> None:
    await other.execute(case.made)
    await conn.fetchval(case.query, case.before)
    await other.execute(case.change)
    try:
        found = await conn.fetchval(case.query, case.after)
    except headrace.DataError:
        # What does not fit the type as it was is refused before anything is sent; then the type is looked up again.
        found = await conn.fetchval(case.query, case.after)
    assert found == case.result


@pytest.mark.parametrize("case", CHANGES, ids=lambda case: f"{case.change} {case.query}")
async def test_within_a_transaction_it_fails_once_at_most(
    conn: headrace.Connection, other: headrace.Connection, case: Change
) -> None:
    await other.execute(case.made)
    await conn.fetchval(case.query, case.before)
    await other.execute(case.change)
    try:
        async with conn.transaction():
            assert await conn.fetchval(case.query, case.after) == case.result
    except (headrace.DatatypeMismatchError, headrace.InternalServerError, headrace.DataError):
        async with conn.transaction():
            assert await conn.fetchval(case.query, case.after) == case.result


async def test_a_value_that_never_fits_is_refused_as_such(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    await other.execute(PAIR)
    await conn.fetchval("SELECT $1::p", (1, "x"))
    await other.execute("ALTER TYPE p ADD ATTRIBUTE c int")
    with pytest.raises(headrace.DataError, match=r"expected 3 elements for composite type p \(a, b, c\), got 2"):
        await conn.fetchval("SELECT $1::p", (1, "x"))
    assert plain(await conn.fetchval("SELECT $1::p", (1, "x", 2))) == {"a": 1, "b": "x", "c": 2}


async def test_executemany(conn: headrace.Connection, other: headrace.Connection) -> None:
    await other.execute(f"{PAIR}; CREATE TABLE t (v p)")
    query = "INSERT INTO t VALUES ($1)"
    await conn.executemany(query, [({"a": 1},)])
    await other.execute("ALTER TYPE p DROP ATTRIBUTE b CASCADE")
    await conn.executemany(query, [({"a": 2},), ({"a": 3},)])
    assert [row["v"]["a"] for row in await conn.fetch("SELECT v FROM t")] == [1, 2, 3]


async def test_reload_schema_state_learns_of_names_as_well(
    conn: headrace.Connection, other: headrace.Connection
) -> None:
    await other.execute(ROWS)
    assert plain(await conn.fetchval("SELECT t FROM t")) == {"a": 1}
    # A new name is no part of the values: nothing tells of it.
    await other.execute("ALTER TABLE t RENAME a TO z")
    assert plain(await conn.fetchval("SELECT t FROM t")) == {"a": 1}
    await conn.reload_schema_state()
    assert plain(await conn.fetchval("SELECT t FROM t")) == {"z": 1}
