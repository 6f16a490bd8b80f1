"""insert_records() on every way into a table: COPY, arrays, one by one, a temporary table."""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import json
import re
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import headrace
import headrace.insert.methods

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.servers import Cluster

PLAIN = "CREATE TABLE t (a int, b text DEFAULT 'none')"
WAYS = {
    "copy": PLAIN,
    "arrays": "CREATE TABLE t (a int, b text DEFAULT 'none') PARTITION BY RANGE (a);"
    "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (MINVALUE) TO (5);"
    "CREATE TABLE t_high PARTITION OF t FOR VALUES FROM (5) TO (MAXVALUE)",
    "one by one": PLAIN + "; CREATE RULE r AS ON DELETE TO t DO ALSO NOTHING",
}


@pytest.fixture(params=WAYS)
async def t(conn: headrace.Connection, request: pytest.FixtureRequest) -> AsyncIterator[headrace.Connection]:
    """A connection with a table `t`, which records enter by one of the ways."""
    await conn.execute(WAYS[request.param])
    yield conn
    await conn.execute("DROP TABLE t")


async def rows_of(conn: headrace.Connection, table: str = "t") -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await conn.fetch(f"SELECT * FROM {table} ORDER BY a")]


# Records


async def test_records_of_every_kind(t: headrace.Connection) -> None:
    record = await t.fetchrow("SELECT 3 AS x, 'three' AS y")
    assert await t.insert_records("t", [(1, "one"), [2, None], record]) == 3
    assert await t.insert_records("t", [{"b": "four", "a": 4}, OrderedDict(a=5, b="five")]) == 2
    assert await rows_of(t) == [(1, "one"), (2, None), (3, "three"), (4, "four"), (5, "five")]


async def test_iterables_of_every_kind(t: headrace.Connection) -> None:
    def generator() -> Iterator[tuple[int, str]]:
        yield from ((i, "x") for i in range(5000))

    async def asynchronous() -> AsyncIterator[tuple[int, str]]:
        for row in generator():
            yield row

    for records in (generator(), asynchronous(), iter(list(generator())), set(generator())):
        assert await t.insert_records("t", records) == 5000
        assert [a for a, _ in await rows_of(t)] == list(range(5000))
        await t.execute("TRUNCATE t")


async def test_no_records(t: headrace.Connection) -> None:
    async def none() -> AsyncIterator[Any]:
        return
        yield

    assert await t.insert_records("t", []) == 0
    assert await t.insert_records("t", none()) == 0
    assert await t.insert_records("t", [], returning="*") == []


async def test_columns_that_are_not_named_get_their_defaults(t: headrace.Connection) -> None:
    assert await t.insert_records("t", [(1,), [2]], columns=["a"]) == 2
    assert await t.insert_records("t", [("x", 3)], columns=iter(["b", "a"])) == 1
    assert await t.insert_records("t", [{"a": 4}, {"a": 5}]) == 2
    assert await t.insert_records("t", [(6, "six")], columns=[]) == 1
    assert await rows_of(t) == [(1, "none"), (2, "none"), (3, "x"), (4, "none"), (5, "none"), (6, "six")]


async def test_returning_in_the_order_of_the_records(t: headrace.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headrace.insert.methods, "CHUNK_ROWS", 7)
    numbers = [(i * 7919) % 1000 for i in range(1000)]
    rows = await t.insert_records("t", [(n,) for n in numbers], columns=["a"], returning=["a", "b"])
    assert [tuple(row) for row in rows] == [(n, "none") for n in numbers]
    assert (await t.insert_records("t", [(5, "x")], returning="a + 1 AS next, *"))[0] == (6, 5, "x")


@dataclass
class Item:
    a: int
    b: str


class Mine(headrace.Record):
    pass


async def test_rows_of_a_class(t: headrace.Connection) -> None:
    assert await t.insert_records("t", [(1, "x")], returning="*", row=Item) == [Item(1, "x")]
    (mine,) = await t.insert_records("t", [(1, "x")], returning="*", record_class=Mine)
    assert type(mine) is Mine


async def test_progress(t: headrace.Connection) -> None:
    seen: list[int] = []
    await t.insert_records("t", ((i, "x") for i in range(5000)), progress=seen.append)
    assert len(seen) > 2
    assert seen == sorted(set(seen))
    assert seen[-1] == 5000
    await t.execute("TRUNCATE t")
    with pytest.raises(ZeroDivisionError):
        await t.insert_records("t", ((i, "x") for i in range(5000)), progress=lambda n: n // 0)
    assert await rows_of(t) == []


async def test_inside_a_transaction_only_its_own_records_are_undone(t: headrace.Connection) -> None:
    async with t.transaction():
        await t.insert_records("t", [(1, "one")])
        for _ in range(2):
            with pytest.raises(headrace.ArgumentError):
                await t.insert_records("t", [*([(2, "x")] * 3000), (3, 3)])
            with pytest.raises(headrace.UndefinedColumnError):
                await t.insert_records("t", [(2,)], columns=["none"])
        await t.insert_records("t", [(4, "four")])
    assert await rows_of(t) == [(1, "one"), (4, "four")]


async def test_inside_a_transaction_begun_by_a_statement(t: headrace.Connection) -> None:
    await t.execute("BEGIN")
    await t.insert_records("t", [(1, "one")])
    with pytest.raises(headrace.ArgumentError):
        await t.insert_records("t", [(2, 2)])
    await t.insert_records("t", [(4, "four")])
    await t.execute("COMMIT")
    assert await rows_of(t) == [(1, "one"), (4, "four")]
    await t.execute("BEGIN")
    with pytest.raises(headrace.DivisionByZeroError):
        await t.execute("SELECT 1 / 0")
    with pytest.raises(headrace.InFailedSQLTransactionError):
        await t.insert_records("t", [(1, "one")])
    await t.execute("ROLLBACK")


async def test_on_a_pool(t: headrace.Connection, pool: MakePool) -> None:
    shared = await pool(min_size=1, max_size=2)
    assert await asyncio.gather(*(shared.insert_records("t", [(i, "x")]) for i in range(10))) == [1] * 10
    rows = await shared.insert_records("t", [(10, "x")], schema_name="public", returning=["a"])
    assert rows[0]["a"] == 10
    async with shared.acquire() as connection, connection.transaction():
        assert await connection.insert_records("t", [{"a": 11}]) == 1
    assert [a for a, _ in await rows_of(t)] == list(range(12))


# Records that do not fit


@pytest.mark.parametrize("number", [1, 4500])
@pytest.mark.parametrize(
    ("record", "message"),
    [
        ((1,), r"row {}: 1 value for 2 columns: \(1,\)"),
        ((1, "x", 2), "row {}: 3 values for 2 columns"),
        (("one", "x"), r"row {}, column 'a': 'one' .*\[int4 column, str given\]"),
        ((1, 2), r"row {}, column 'b': 2 \(expected str, got int\) \[text column, int given\]"),
        ("ab", "row {}: expected a sequence of values, got str 'ab'"),
        (7, "row {}: expected a sequence of values, got int 7"),
    ],
)
async def test_a_record_that_does_not_fit(t: headrace.Connection, number: int, record: Any, message: str) -> None:
    records = [(0, "x")] * (number - 1) + [record] + [(1, "x")] * 10
    with pytest.raises(headrace.ArgumentError, match=message.format(number)):
        await t.insert_records("t", records)
    assert await rows_of(t) == []


async def test_a_mapping_that_does_not_fit(t: headrace.Connection) -> None:
    with pytest.raises(headrace.ArgumentError, match="row 2: the mapping has no b and also c"):
        await t.insert_records("t", [{"a": 1, "b": "x"}, {"a": 1, "c": "x"}])
    with pytest.raises(headrace.ArgumentError, match="row 1: the mapping has also b"):
        await t.insert_records("t", [{"a": 1, "b": "x"}], columns=["a"])
    assert await rows_of(t) == []


async def test_a_source_that_raises_in_the_middle(t: headrace.Connection) -> None:
    def synchronous() -> Iterator[Any]:
        yield from [(1, "x")] * 5000
        raise LookupError("no more")

    async def asynchronous() -> AsyncIterator[Any]:
        for record in synchronous():
            yield record

    for source in (synchronous, asynchronous):
        with pytest.raises(LookupError, match="no more"):
            await t.insert_records("t", source())
    assert await rows_of(t) == []


async def test_what_is_no_iterable_of_records(conn: headrace.Connection) -> None:
    for records in (5, "text", b"bytes", {"a": 1}, None):
        with pytest.raises(TypeError, match="records is expected to be an iterable"):
            await conn.insert_records("t", records)  # type: ignore[call-overload]


async def test_arguments_that_do_not_go_together(conn: headrace.Connection) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"row": Item}, "pass returning="),
        ({"ordered": True}, "pass returning="),
        ({"returning": "*", "on_conflict": "ignore"}, "do not correspond to the records"),
        ({"returning": []}, "at least one column"),
        ({"returning": " "}, "at least one column"),
        ({"returning": 5}, "columns is expected|iterable"),
        ({"columns": "ab"}, "list of column names, got str 'ab'"),
        ({"progress": 5}, "progress is expected to be a function"),
        ({"returning": "*", "row": Item, "record_class": Mine}, "cannot both be given"),
    ]
    for arguments, message in wrong:
        with pytest.raises((headrace.InterfaceError, TypeError), match=message):
            await conn.insert_records("t", [(1, "x")], **arguments)


async def test_names_that_do_not_exist(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.UndefinedTableError, match='relation "none" does not exist'):
        await conn.insert_records("none", [(1,)])
    with pytest.raises(headrace.UndefinedTableError):
        await conn.insert_records("t", [(1,)], schema_name="none")
    await conn.execute("CREATE TEMP TABLE t (a int)")
    with pytest.raises(headrace.UndefinedColumnError, match='column "A" of relation "t" does not exist'):
        await conn.insert_records("t", [(1,)], columns=["A"])
    with pytest.raises(headrace.UndefinedColumnError):
        await conn.insert_records("t", [{"zzz": 1}])
    with pytest.raises(headrace.DuplicateColumnError):
        await conn.insert_records("t", [(1, 2)], columns=["a", "a"])
    with pytest.raises(headrace.UndefinedColumnError):
        await conn.insert_records("t", [(1,)], returning=["none"])


async def test_names_are_quoted(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE TEMP TABLE "T""; drop" ("a b" int, "ord" int, "c1" int UNIQUE)""")
    columns = ["ord", "c1", "a b"]
    assert await conn.insert_records('T"; drop', [(1, 2, 3)], columns=columns, returning=columns) == [(1, 2, 3)]
    assert await conn.insert_records('T"; drop', [(4, 2, 6)], columns=columns, on_conflict=("update", ["c1"])) == 1
    assert tuple(await conn.fetchrow('SELECT * FROM "T""; drop"') or ()) == (6, 4, 2)


async def test_sql_of_the_caller_stays_inside_the_statement(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)")
    for arguments in ({"where": "true); DROP TABLE t; --"}, {"update": {"b": "1); DROP TABLE t; --"}}):
        with pytest.raises(headrace.InterfaceError, match="one statement"):
            await conn.insert_records("t", [(1, "x")], on_conflict=("update", ["a"]), **arguments)
    with pytest.raises(headrace.InterfaceError, match="one statement"):
        await conn.insert_records("t", [(1, "x")], returning="a; DROP TABLE t")
    assert await rows_of(conn) == []


# Types and tables


async def test_values_of_every_kind_of_type(conn: headrace.Connection) -> None:
    await conn.execute("""
        CREATE TYPE pg_temp.mood AS ENUM ('low', 'high');
        CREATE DOMAIN pg_temp.even AS int CHECK (VALUE % 2 = 0);
        CREATE TYPE pg_temp.inside AS (x int, words text[]);
        CREATE TEMP TABLE t (a int, gone int, numbers int[], grid int[], doc jsonb, mood mood, even even, pair inside,
            pairs inside[], evens even[], days daterange, money money, words tsvector, code varchar(3), raw bytea);
        ALTER TABLE t DROP COLUMN gone""")
    values = (
        [1, None, 2], [[1, 2], [3, 4]], '{"a": [1]}', "high", 4, (1, ["x", None]), [(2, []), None], [2, 4],
        headrace.Range(datetime.date(2024, 1, 1), datetime.date(2024, 2, 1)), "$1.00", "'x'", "abc", b"\0\xff",
    )  # fmt: skip
    records = [(i, *values) for i in range(3)] + [(3, *[None] * len(values))]
    await conn.insert_records("t", records, returning="a")
    by_arrays = await rows_of(conn)
    await conn.execute("TRUNCATE t")
    await conn.insert_records("t", records)
    assert by_arrays == await rows_of(conn)
    await conn.execute("TRUNCATE t")
    await conn.executemany(f"INSERT INTO t VALUES ({', '.join(f'${i + 1}' for i in range(14))})", records)
    assert by_arrays == await rows_of(conn)
    for bad, error in (((5, 3), headrace.CheckViolationError), ((5, None), None)):
        if error is not None:
            with pytest.raises(error):
                await conn.insert_records("t", [bad], columns=["a", "even"], returning="a")
    with pytest.raises(headrace.StringDataRightTruncationError):
        await conn.insert_records("t", [("four",)], columns=["code"], returning="a")


async def test_codecs_of_the_user(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, doc jsonb, docs jsonb[], money money)")
    await conn.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    document = [{"x": [1, 2]}, "y"]
    rows = await conn.insert_records("t", [(1, document, [document], "$2.00")], returning="*")
    assert tuple(rows[0]) == (1, document, [document], "$2.00")
    assert await conn.insert_records("t", [(2, document, [document], "$2.00")]) == 1
    await conn.set_type_codec(
        "int4", encoder=lambda n: n.to_bytes(4, "big"), decoder=lambda b: int.from_bytes(b, "big"), format="binary",
        schema="pg_catalog",
    )  # fmt: skip
    # Neither COPY nor an array has a format for both a binary codec and a type of text alone.
    assert await conn.insert_records("t", [(3, document, None, "$2.00")]) == 1
    assert await conn.fetchval("SELECT count(*)::int8 FROM t") == 3


async def test_a_table_that_was_altered_meanwhile(conn: headrace.Connection, connect: Connect) -> None:
    """int8 and float8 have the same size: a value of one would pass for the other."""
    await conn.execute("CREATE TABLE altered (a int8)")
    try:
        assert await conn.insert_records("altered", [(1,)], returning="a") == [(1,)]
        other = await connect()
        await other.execute("ALTER TABLE altered ALTER a TYPE float8, ADD b text")
        assert await conn.insert_records("altered", [(2, "x")], returning="*") == [(2.0, "x")]
        assert await conn.insert_records("altered", [(3, "x")]) == 1
        assert await rows_of(conn, "altered") == [(1.0, None), (2.0, "x"), (3.0, "x")]
        await other.execute("ALTER TABLE altered ALTER a TYPE int8 USING a::int8")
        assert await conn.insert_records("altered", [(4, "x")], returning="*") == [(4, "x")]
    finally:
        await conn.execute("DROP TABLE altered")


async def test_columns_that_the_server_computes(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE TEMP TABLE t (
        a int GENERATED ALWAYS AS IDENTITY, n int, twice int GENERATED ALWAYS AS (n * 2) STORED)""")
    assert await conn.insert_records("t", [(5,), (6,)]) == 2
    assert await conn.insert_records("t", [(7,)], returning="*") == [(3, 7, 14)]
    for columns in (["a", "n"], ["n", "twice"]):
        for arguments in ({}, {"returning": "a"}):
            with pytest.raises(headrace.GeneratedAlwaysError):
                await conn.insert_records("t", [(1, 2)], columns=columns, **arguments)
    assert await rows_of(conn) == [(1, 5, 10), (2, 6, 12), (3, 7, 14)]


async def test_a_domain_that_refuses_null_in_a_column_with_a_default(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE DOMAIN pg_temp.code AS text CHECK (VALUE IS NOT NULL);
        CREATE TEMP TABLE t (a int, c code DEFAULT 'x')""")
    assert await conn.insert_records("t", [(1,), (2,)], columns=["a"], returning="*") == [(1, "x"), (2, "x")]


async def test_a_domain_that_refuses_null_in_a_column_without_a_value(conn: headrace.Connection) -> None:
    """COPY leaves out the check of the domain if the column is not among its own."""
    await conn.execute("""CREATE DOMAIN pg_temp.code AS text CHECK (VALUE <> '');
        CREATE DOMAIN pg_temp.number AS int NOT NULL;
        CREATE TEMP TABLE t (n number, a int, c code)""")
    for columns in (["a"], ["a", "c"]):
        records = [(1, "x")[: len(columns)]]
        for arguments in ({}, {"returning": "a"}, {"on_conflict": "ignore"}):
            with pytest.raises(headrace.NotNullViolationError, match="domain number does not allow null values"):
                await conn.insert_records("t", records, columns=columns, **arguments)
        assert await conn.insert_records("t", [], columns=columns) == 0
    await conn.execute("ALTER DOMAIN number SET DEFAULT 5")
    assert await conn.insert_records("t", [{"a": 1}, [2]]) == 2
    await conn.execute("ALTER DOMAIN number DROP DEFAULT")
    assert await conn.insert_records("t", [(3, 6), [4, 7]], columns=["a", "n"]) == 2
    with pytest.raises(headrace.ArgumentError, match="row 2: 1 value for 2 columns") as raised:
        await conn.insert_records("t", [(3, 6), [4]], columns=["a", "n"])
    assert raised.value.hint == "Pass one value for each of (a, n), or name the columns meant by columns=."
    assert await rows_of(conn) == [(5, 1, None), (5, 2, None), (6, 3, None), (7, 4, None)]


async def test_a_column_without_a_value_into_which_a_role_may_not_insert(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE DOMAIN pg_temp.code AS text CHECK (VALUE <> '');
        CREATE TEMP TABLE t (a int, c code);
        CREATE ROLE narrow;
        GRANT INSERT (a), SELECT ON t TO narrow;
        SET ROLE narrow""")
    try:
        assert await conn.insert_records("t", [(1,), (2,)], columns=["a"]) == 2
        with pytest.raises(headrace.InsufficientPrivilegeError):
            await conn.insert_records("t", [(1, "x")])
        assert await rows_of(conn) == [(1, None), (2, None)]
    finally:
        await conn.execute("RESET ROLE; DROP OWNED BY narrow; DROP ROLE narrow")


async def test_triggers(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE TEMP TABLE t (a int, b text);
        CREATE FUNCTION pg_temp.odd() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF NEW.a % 2 = 0 THEN RETURN NULL; END IF; NEW.b := 'odd'; RETURN NEW; END $$;
        CREATE TRIGGER odd BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pg_temp.odd()""")
    records = [(i, "x") for i in range(10)]
    assert await conn.insert_records("t", records) == 5
    with pytest.raises(headrace.InterfaceError, match="returned 5 rows for the records 1 to 10"):
        await conn.insert_records("t", records, returning="a")
    assert len(await rows_of(conn)) == 5
    assert len(await conn.insert_records("t", records, returning="a", ordered=False)) == 5


async def test_views(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE TEMP TABLE t (a int, b text DEFAULT 'table');
        CREATE TEMP VIEW updatable AS SELECT a, b FROM t WHERE a > 0 WITH CHECK OPTION;
        CREATE TEMP VIEW other AS SELECT a, b || '!' AS b FROM t;
        CREATE FUNCTION pg_temp.instead() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO t VALUES (NEW.a, NEW.b); RETURN NEW; END $$;
        CREATE TRIGGER instead INSTEAD OF INSERT ON other FOR EACH ROW EXECUTE FUNCTION pg_temp.instead()""")
    assert await conn.insert_records("updatable", [(1,), (2,)], columns=["a"], returning="*") == [
        (1, "table"),
        (2, "table"),
    ]
    assert await conn.insert_records("other", [(3, "x"), (4, "y")]) == 2
    with pytest.raises(headrace.WithCheckOptionViolationError):
        await conn.insert_records("updatable", [(5, "x"), (-1, "y")])
    assert await rows_of(conn) == [(1, "table"), (2, "table"), (3, "x"), (4, "y")]


async def test_rules(conn: headrace.Connection) -> None:
    await conn.execute("""CREATE TEMP TABLE t (a int, b text); CREATE TEMP TABLE log (a int);
        CREATE RULE also AS ON INSERT TO t DO ALSO INSERT INTO log VALUES (NEW.a)""")
    assert await conn.insert_records("t", [(i, "x") for i in range(300)]) == 300
    assert [a for (a,) in await rows_of(conn, "log")] == list(range(300))
    with pytest.raises(headrace.FeatureNotSupportedError):
        await conn.insert_records("t", [(1, "x")], on_conflict="ignore")


async def test_a_rule_sees_the_records_before(conn: headrace.Connection) -> None:
    """In one statement it would see none of them."""
    await conn.execute("""CREATE TEMP TABLE t (a int, b text);
        CREATE RULE once AS ON INSERT TO t WHERE EXISTS (SELECT FROM t WHERE a = NEW.a) DO INSTEAD NOTHING""")
    assert await conn.insert_records("t", [(1, "x"), (1, "y"), (2, "z")]) == 2
    assert await rows_of(conn) == [(1, "x"), (2, "z")]


async def test_a_table_that_was_altered_as_another_connection_of_the_pool_knows(pool: MakePool) -> None:
    """The connections of a pool share what they know of types, but not the statements that they have prepared."""
    shared = await pool(min_size=2, max_size=2)
    async with shared.acquire() as one, shared.acquire() as other:
        await other.execute("CREATE TABLE altered (a int8)")
        try:
            assert await one.insert_records("altered", [(1,)], returning="*") == [(1,)]
            await other.execute("ALTER TABLE altered ALTER a TYPE float8")
            assert await other.insert_records("altered", [(2,)], returning="*") == [(2.0,)]
            assert await one.insert_records("altered", [(3,)], returning="*") == [(3.0,)]
        finally:
            await other.execute("DROP TABLE altered")


async def test_inheritance_and_partitions(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, b text); CREATE TEMP TABLE child (c int) INHERITS (t)")
    assert await conn.insert_records("child", [(1, "x", 2)], returning="*") == [(1, "x", 2)]
    assert await conn.insert_records("t", [(2, "y")]) == 1
    assert await rows_of(conn) == [(1, "x"), (2, "y")]


async def test_permissions(conn: headrace.Connection, server: Cluster, connect: Connect) -> None:
    await conn.execute("""CREATE ROLE clerk LOGIN; CREATE TABLE public.desk (a int UNIQUE, b text, c text DEFAULT 'c');
        GRANT INSERT (a, b) ON desk TO clerk""")
    try:
        clerk = await connect(user="clerk")
        for arguments in ({}, {"on_conflict": "ignore"}):
            assert await clerk.insert_records("desk", [(len(arguments), "x")], columns=["a", "b"], **arguments) == 1
            with pytest.raises(headrace.InsufficientPrivilegeError):
                await clerk.insert_records("desk", [(5, "x", "y")], **arguments)
        with pytest.raises(headrace.InsufficientPrivilegeError):
            await clerk.insert_records("desk", [(5, "x")], columns=["a", "b"], returning="c")
        await conn.execute("""ALTER TABLE desk ENABLE ROW LEVEL SECURITY;
            CREATE POLICY small ON desk FOR INSERT TO clerk WITH CHECK (a < 10)""")
        assert await clerk.insert_records("desk", [(6, "x")], columns=["a", "b"]) == 1
        with pytest.raises(headrace.InsufficientPrivilegeError, match="row-level security"):
            await clerk.insert_records("desk", [(7, "x"), (11, "x")], columns=["a", "b"])
        assert sorted(row[0] for row in server.sql("SELECT a FROM desk", database=conn._params.database)) == [0, 1, 6]
        await clerk.close()
    finally:
        await conn.execute("DROP TABLE desk; DROP ROLE clerk")


# Conflicts


@pytest.fixture
async def keyed(conn: headrace.Connection, monkeypatch: pytest.MonkeyPatch) -> headrace.Connection:
    """A connection with a table of unique keys, and chunks of ten records."""
    monkeypatch.setattr(headrace.insert.methods, "CHUNK_ROWS", 10)
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text, n int DEFAULT 0)")
    await conn.execute("INSERT INTO t VALUES (1, 'old', 5)")
    return conn


async def test_a_conflict_is_an_error(keyed: headrace.Connection) -> None:
    for arguments in ({}, {"returning": "a"}):
        with pytest.raises(headrace.UniqueViolationError):
            await keyed.insert_records("t", [(i, "new") for i in range(100, 0, -1)], columns=["a", "b"], **arguments)
    assert await rows_of(keyed) == [(1, "old", 5)]


async def test_a_conflict_is_ignored(keyed: headrace.Connection) -> None:
    records = [(i % 30, f"new {i}") for i in range(100)]
    assert await keyed.insert_records("t", records, columns=["a", "b"], on_conflict="ignore") == 29
    assert (await rows_of(keyed))[:3] == [(0, "new 0", 0), (1, "old", 5), (2, "new 2", 0)]


async def test_a_conflict_updates_all_columns_that_are_given(keyed: headrace.Connection) -> None:
    records = [(i, f"new {i}") for i in range(100)]
    assert await keyed.insert_records("t", records, columns=["a", "b"], on_conflict=("update", ["a"])) == 100
    assert (await rows_of(keyed))[:2] == [(0, "new 0", 0), (1, "new 1", 5)]
    assert await keyed.insert_records("t", [(1,)], columns=["a"], on_conflict=("update", ["a"])) == 0


@pytest.mark.parametrize("distinct", [1, 3, 9, 10, 25, 99])
async def test_of_several_records_of_one_row_the_last_one_wins(keyed: headrace.Connection, distinct: int) -> None:
    records = [(i % distinct, f"new {i}") for i in range(100)]
    assert await keyed.insert_records("t", records, columns=["a", "b"], on_conflict=("update", ["a"])) == 100
    expected = dict(records)
    assert {a: b for a, b, _ in await rows_of(keyed) if b != "old"} == expected


async def test_an_update_by_expressions_sees_the_records_in_turn(keyed: headrace.Connection) -> None:
    records = [(i % 7, 1) for i in range(100)]
    update = {"n": "t.n + EXCLUDED.n", "b": "'seen'"}
    await keyed.insert_records("t", records, columns=["a", "n"], on_conflict=("update", ["a"]), update=update)
    assert [n for _, _, n in await rows_of(keyed)] == [15, 20, 14, 14, 14, 14, 14]
    assert {b for _, b, _ in await rows_of(keyed)} == {"seen"}


@pytest.mark.parametrize("apart", [1, 95])
async def test_several_records_of_one_row_are_an_error_if_wanted(keyed: headrace.Connection, apart: int) -> None:
    """It does not matter whether they come in one chunk."""
    records = [(i if i != 1 + apart else 1, f"new {i}") for i in range(100)]
    for arguments in ({}, {"returning": "a", "ordered": False}):
        with pytest.raises(headrace.CardinalityViolationError) as caught:
            await keyed.insert_records(
                "t", records, columns=["a", "b"], on_conflict=("update", ["a"]), on_duplicate="error", **arguments
            )
        assert "Two of the records are of the same row" in str(caught.value)
    assert await rows_of(keyed) == [(1, "old", 5)]
    async with keyed.transaction():
        for _ in range(2):
            rows = await keyed.insert_records(
                "t", records[:50:2], columns=["a", "b"], on_conflict=("update", ["a"]), on_duplicate="error",
                returning="*", ordered=False,
            )  # fmt: skip
            assert len(rows) == 25
    with pytest.raises(headrace.ArgumentError, match="row 2: 1 value for 2 columns"):
        await keyed.insert_records(
            "t", [(1, "x"), (1,)], columns=["a", "b"], on_conflict=("update", ["a"]), on_duplicate="error"
        )


async def test_a_constraint_and_a_partial_index(keyed: headrace.Connection) -> None:
    assert await keyed.insert_records("t", [(1, "new", 6)], on_conflict="update", constraint="t_pkey") == 1
    await keyed.execute("CREATE UNIQUE INDEX ON t (n) WHERE b <> 'free'")
    assert await keyed.insert_records("t", [(9, "x", 6)], on_conflict=("ignore", ["n"]), where="b <> 'free'") == 0
    with pytest.raises(headrace.InvalidColumnReferenceError) as caught:
        await keyed.insert_records("t", [(9, "x", 6)], on_conflict=("ignore", ["n"]))
    assert "a partial index also needs its condition as where=" in str(caught.value)
    assert await rows_of(keyed) == [(1, "new", 6)]


async def test_rows_of_a_conflict_come_without_order(keyed: headrace.Connection) -> None:
    rows = await keyed.insert_records(
        "t", [(1, "x"), (2, "y")], columns=["a", "b"], on_conflict="ignore", returning="a", ordered=False
    )
    assert rows == [(2,)]


# Several tasks


async def test_concurrent_calls_on_one_connection(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")
    results = await asyncio.gather(
        *(conn.insert_records("t", [(i, "x")]) for i in range(10)),
        *(conn.insert_records("t", [(i, "x")], returning="a") for i in range(10, 20)),
    )
    assert results == [1] * 10 + [[(i,)] for i in range(10, 20)]
    with pytest.raises(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(conn.insert_records("t", [(20, "x")], returning="a"))
            group.create_task(conn.insert_records("t", [(21, 5)], returning="a"))
    assert [a for a, _ in await rows_of(conn)][:20] == list(range(20))


async def test_a_source_that_inserts_on_the_same_connection(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")

    async def source() -> AsyncIterator[Any]:
        yield (1, "x")
        await conn.insert_records("t", [(2, "y")], returning="a")
        yield (3, "z")

    assert await conn.insert_records("t", source(), returning="a") == [(1,), (3,)]
    assert await rows_of(conn) == [(1, "x"), (2, "y"), (3, "z")]


async def test_a_warning_about_an_open_transaction_of_another_task_names_the_program(
    conn: headrace.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")

    async def insert() -> None:
        await conn.insert_records("t", [(1,)], returning="a")

    async with conn.transaction():
        await contextvars.Context().run(asyncio.create_task, insert())
    assert re.findall(r"made at \S+/(\w+\.py):\d+, in (?:\S+\.)?(\w+)[ :]", caplog.text) == [
        ("test_methods.py", "insert"),
        ("test_methods.py", "test_a_warning_about_an_open_transaction_of_another_task_names_the_program"),
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"statement_cache_size": 0},
        {"max_pipeline": 1},
        {"statement_mode": "unnamed"},
        {"statement_mode": "describe"},
        {"max_cacheable_statement_size": 50},
    ],
    ids=str,
)
async def test_connections_of_every_mode(connect: Connect, options: dict[str, Any], monkeypatch: Any) -> None:
    monkeypatch.setattr(headrace.insert.methods, "CHUNK_ROWS", 10)
    conn = await connect(**options)
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)")
    records = [(i, "x") for i in range(95)]
    assert await conn.insert_records("t", records[:50]) == 50
    assert len(await conn.insert_records("t", records[50:], returning="a")) == 45
    assert await conn.insert_records("t", [(i % 20, "y") for i in range(95)], on_conflict=("update", ["a"])) == 95
    assert await conn.insert_records("t", records, on_conflict=("update", ["a"]), on_duplicate="error") == 95
    assert await rows_of(conn) == records
    with pytest.raises(headrace.UniqueViolationError):
        await conn.insert_records("t", records, returning="a")
    left = await conn.fetchval("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'headrace_records%'")
    assert left == 0, "the statements of these calls are closed"


async def test_hints_for_names_that_do_not_exist(conn: headrace.Connection) -> None:
    """They are about the arguments of the call: the text that the error shows is not the program's."""
    await conn.execute("CREATE TABLE named (id int, day date)")
    calls = (conn.insert_records, conn.copy_records_to_table)
    for call in calls:
        with pytest.raises(headrace.UndefinedTableError) as missing:
            await call("public.named", records=[(1,)])
        assert missing.value.hint == 'Pass the schema separately: table_name="named", schema_name="public".'
        with pytest.raises(headrace.UndefinedColumnError) as unknown:
            await call("named", records=[(1,)], columns=["ID"])
        assert unknown.value.hint == (
            "Names are taken as they are, upper and lower case too. The columns are 'id', 'day'."
        )
    await conn.execute("DROP TABLE named")
