"""Rows of Python values into tables by copy_records_to_table: types, columns, and rows that do not fit."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import json
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

import headrace
from tests.servers import Cluster, until

if TYPE_CHECKING:
    from tests.fixtures import Connect


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    """A connection with a table `t` of its own."""
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")
    return conn


async def rows_in(conn: headrace.Connection) -> list[Any]:
    rows = await conn.fetch("SELECT * FROM t ORDER BY a")
    await conn.execute("TRUNCATE t")
    return [tuple(row) for row in rows]


async def test_rows_of_every_kind(conn: headrace.Connection) -> None:
    record = await conn.fetchrow("SELECT 4 AS x, 'four' AS y")
    rows: list[Any] = [(1, "one"), [2, None], record]

    class Pair:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, i: int) -> Any:
            return (7, "seven")[i]

    rows.append(Pair())
    assert await conn.copy_records_to_table("t", records=rows) == "COPY 4"
    assert await rows_in(conn) == [(1, "one"), (2, None), (4, "four"), (7, "seven")]


async def test_iterables_of_every_kind(conn: headrace.Connection) -> None:
    def generator() -> Iterator[tuple[int, str]]:
        yield from ((i, "x") for i in range(10_000))

    async def asynchronous() -> AsyncIterator[tuple[int, str]]:
        for row in generator():
            yield row

    for records in (generator(), asynchronous(), iter(list(generator())), dict.fromkeys(generator())):
        assert await conn.copy_records_to_table("t", records=records) == "COPY 10000"
        assert len(await rows_in(conn)) == 10_000
    assert await conn.copy_records_to_table("t", records=[]) == "COPY 0"


async def test_columns_and_where(conn: headrace.Connection) -> None:
    records = [("x", 1), ("y", 2)]
    assert await conn.copy_records_to_table("t", records=records, columns=("b", "a"), where="a = 2") == "COPY 1"
    assert await conn.copy_records_to_table("t", records=[("z",)], columns=iter(["b"])) == "COPY 1"
    assert await rows_in(conn) == [(2, "y"), (None, "z")]


async def test_a_value_of_every_type(conn: headrace.Connection) -> None:
    values: dict[str, Any] = {
        "bool": True,
        "int2": -1,
        "int8": 2**62,
        "float4": 1.5,
        "numeric": decimal.Decimal("-12.3400"),
        "text": "ünïcödé",
        "bytea": b"\0\xff",
        "uuid": uuid.uuid4(),
        "json": '{"a": 1}',
        "jsonb": '{"a": 1}',
        "date": datetime.date(2024, 2, 29),
        "time": datetime.time(1, 2, 3),
        "timestamp": datetime.datetime(2024, 2, 29),
        "timestamptz": datetime.datetime(2024, 2, 29, tzinfo=datetime.UTC),
        "interval": datetime.timedelta(1, 2, 3),
        "int4[]": [[1, None], [3, 4]],
        "int4range": headrace.Range(1, 5),
        "point": headrace.Point(1, 2),
        "varbit": headrace.BitString("101"),
    }
    columns = ", ".join(f"c{i} {name}" for i, name in enumerate(values))
    await conn.execute(f"CREATE TEMP TABLE every ({columns})")
    row = tuple(values.values())
    assert await conn.copy_records_to_table("every", records=[row, (None,) * len(row)]) == "COPY 2"
    assert [tuple(each) for each in await conn.fetch("SELECT * FROM every")] == [row, (None,) * len(row)]


async def test_types_of_the_database(conn: headrace.Connection) -> None:
    await conn.execute(
        """CREATE TYPE mood AS ENUM ('fine', 'bad'); CREATE DOMAIN small AS int CHECK (VALUE < 10);
        CREATE TYPE pair AS (n small, m mood);
        CREATE TABLE of_types (m mood, s small, p pair, ms mood[], ss small[], ps pair[])"""
    )
    try:
        row = ("fine", 5, (1, "bad"), ["bad", None], [1, 2], [(3, "fine"), (None, None)])
        assert await conn.copy_records_to_table("of_types", records=[row]) == "COPY 1"
        assert await conn.fetchrow("SELECT * FROM of_types") == row
        with pytest.raises(headrace.CheckViolationError):
            await conn.copy_records_to_table("of_types", records=[(None, 11, None, None, None, None)])
    finally:
        await conn.execute("DROP TABLE of_types; DROP TYPE pair; DROP TYPE small; DROP TYPE mood")


async def test_custom_codecs(conn: headrace.Connection) -> None:
    await conn.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await conn.set_type_codec(
        "int4",
        schema="pg_catalog",
        format="binary",
        encoder=lambda text: int(text, 16).to_bytes(4, "big"),
        decoder=lambda data: data.hex(),
    )
    await conn.execute("CREATE TEMP TABLE custom (a json, b jsonb, c int, d int[], e jsonb[])")
    row = ({"x": [1]}, {"y": None}, "0000abcd", ["00000001"], [{"z": 1}])
    assert await conn.copy_records_to_table("custom", records=[row]) == "COPY 1"
    assert await conn.fetchrow("SELECT * FROM custom") == row

    with pytest.raises(headrace.DataError, match=r"row 2, column 'c': 'zz' \(invalid literal for int"):
        await conn.copy_records_to_table("custom", records=[("1",), ("zz",)], columns=["c"])


async def test_a_codec_in_text(conn: headrace.Connection) -> None:
    await conn.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=float)
    await conn.execute("CREATE TEMP TABLE textual (a int, b numeric, c point)")
    assert await conn.copy_records_to_table("textual", records=[(1, 2.5, (0, 1))]) == "COPY 1"
    assert await conn.fetchval("SELECT b::text FROM textual") == "2.5"


AT = datetime.datetime(2024, 1, 2, 3, 4, 5, 678, datetime.UTC)


async def test_types_that_travel_as_text_alone(conn: headrace.Connection) -> None:
    await conn.execute(
        "CREATE TEMP TABLE textual (id int, name text, words tsvector, price money, kind regtype[], at timestamptz, "
        "data bytea, doc jsonb, list int[])"
    )
    rows = [
        (1, "a\tb\\N\n\r\\.", "'fat':1 'it''s\\\\':2", "$1.00", ["integer", None], AT, b"\\\n\0", '"\\n"', [1, None]),
        (2, "", "", "$0.00", [], AT, b"", "{}", []),
        (3, *[None] * 8),
        (4, "\\.", *[None] * 7),
    ]
    assert await conn.copy_records_to_table("textual", records=rows) == "COPY 4"
    assert [tuple(row) for row in await conn.fetch("SELECT * FROM textual ORDER BY id")] == rows
    with pytest.raises(headrace.DataError, match=r"row 2, column 'id': 'x' .*an integer is required"):
        await conn.copy_records_to_table("textual", records=[rows[0], ("x", *rows[1][1:])])
    with pytest.raises(headrace.InvalidTextRepresentationError):
        await conn.copy_records_to_table("textual", records=[("$x",)], columns=["price"])


async def test_what_has_no_common_format_is_refused_with_a_way_out(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE textual (a point, b tsvector)")
    assert await conn.copy_records_to_table("textual", records=[((0, 1), "'x'")]) == "COPY 1"
    await conn.set_type_codec("point", schema="pg_catalog", encoder=bytes, decoder=bytes, format="binary")
    message = r"textual.*column 'b' \(type tsvector\) travel as text, those of column 'a' \(type point\) in binary"
    with pytest.raises(headrace.InterfaceError, match=message) as caught:
        await conn.copy_records_to_table("textual", records=[(b"", "'x'")])
    assert "format='binary'" in str(caught.value)
    assert "executemany" in str(caught.value)
    assert await conn.copy_records_to_table("textual", records=[(bytes(16),)], columns=["a"]) == "COPY 1"


async def test_computed_and_dropped_columns_are_left_out(conn: headrace.Connection) -> None:
    await conn.execute(
        """CREATE TEMP TABLE partly (
            id int GENERATED ALWAYS AS IDENTITY, gone int, a int, twice int GENERATED ALWAYS AS (a * 2) STORED, b text);
        ALTER TABLE partly DROP COLUMN gone"""
    )
    assert await conn.copy_records_to_table("partly", records=[(10, 1, "x")]) == "COPY 1"
    assert await conn.copy_records_to_table("partly", records=[(2, "y")], columns=["a", "b"]) == "COPY 1"
    rows = await conn.fetch("SELECT id, a, twice, b FROM partly ORDER BY a")
    assert [tuple(row) for row in rows] == [(10, 1, 2, "x"), (1, 2, 4, "y")]
    with pytest.raises(headrace.InvalidColumnReferenceError):
        await conn.copy_records_to_table("partly", records=[(1,)], columns=["twice"])


async def test_a_table_altered_between_two_copies(conn: headrace.Connection) -> None:
    assert await conn.copy_records_to_table("t", records=[(1, "x")]) == "COPY 1"
    # Both are four bytes: binary values for the former type would be taken for the latter's.
    await conn.execute("ALTER TABLE t ALTER a TYPE float4")
    assert await conn.copy_records_to_table("t", records=[(2.5, "y")]) == "COPY 1"
    assert await rows_in(conn) == [(1.0, "x"), (2.5, "y")]


@pytest.fixture
async def moved(connect: Connect) -> AsyncIterator[headrace.Connection]:
    """A connection, with a table whose column is a float8."""
    conn = await connect()
    await conn.execute("CREATE TABLE moved (a float8)")
    yield conn
    await conn.execute("DROP TABLE moved")


async def copy_alone(conn: headrace.Connection) -> None:
    await conn.copy_records_to_table("moved", records=[(2,)])


async def copy_in_a_transaction(conn: headrace.Connection) -> None:
    async with conn.transaction():
        await conn.copy_records_to_table("moved", records=[(2,)])


async def copy_behind_a_query(conn: headrace.Connection) -> None:
    async with conn.transaction():
        await conn.fetchval("SELECT 1")
        await conn.copy_records_to_table("moved", records=[(2,)], columns=["a"])


async def copy_row_by_row(conn: headrace.Connection) -> None:
    async with conn.copy_in("moved") as copy:
        await copy.write_row((2,))


async def insert(conn: headrace.Connection) -> None:
    await conn.insert_records("moved", [(2,)])


async def copy_behind_a_lock(conn: headrace.Connection) -> None:
    async with conn.transaction(isolation="repeatable_read"):
        await conn.execute("LOCK TABLE ONLY moved IN ROW EXCLUSIVE MODE")
        await conn.copy_records_to_table("moved", records=[(2,)])


@pytest.mark.parametrize(
    "copy", [copy_alone, copy_in_a_transaction, copy_behind_a_query, copy_row_by_row, insert, copy_behind_a_lock]
)
async def test_a_copy_that_waits_for_an_alter_table_knows_the_new_types(
    moved: headrace.Connection,
    connect: Connect,
    server: Cluster,
    copy: Callable[[headrace.Connection], Coroutine[Any, Any, None]],
) -> None:
    """If it asked for the types before the wait, it would send eight bytes of a float8 for an int8."""
    other = await connect()
    altering = other.transaction()
    await altering.start()
    await other.execute("ALTER TABLE moved ALTER a TYPE int8")
    copying = asyncio.create_task(copy(moved))
    pid = moved.get_server_pid()
    await asyncio.to_thread(until, lambda: server.waits_for(pid) == "relation", "it waits for the lock")
    await altering.commit()
    await copying
    assert await moved.fetch("TABLE moved") == [(2,)]


async def test_in_a_transaction_nobody_alters_the_table_between_the_question_and_the_copy(
    moved: headrace.Connection, server: Cluster, database: str
) -> None:
    def records() -> Iterator[tuple[float]]:
        # It is asked for its first rows once the types are known.
        with pytest.raises(psycopg.errors.LockNotAvailable):
            server.sql(
                "LOCK TABLE moved IN ACCESS EXCLUSIVE MODE NOWAIT; ALTER TABLE moved ALTER a TYPE int8",
                database=database,
            )
        yield (2.0,)

    async with moved.transaction():
        await moved.copy_records_to_table("moved", records=records())
    assert await moved.fetch("TABLE moved") == [(2.0,)]


@pytest.mark.parametrize("table", ["whole", "partly", "secured", "apart", "seen"])
async def test_a_role_that_may_only_insert_copies_into_everything_that_copy_takes(connect: Connect, table: str) -> None:
    conn = await connect()
    await conn.execute("""
        CREATE ROLE inserting;
        CREATE TABLE whole (a int); GRANT INSERT ON whole TO inserting;
        CREATE TABLE partly (a int, b int); GRANT INSERT (a) ON partly TO inserting;
        CREATE TABLE apart (a int) PARTITION BY RANGE (a); GRANT INSERT ON apart TO inserting;
        CREATE TABLE apart_1 PARTITION OF apart DEFAULT;
        CREATE TABLE secured (a int); GRANT INSERT ON secured TO inserting;
        ALTER TABLE secured ENABLE ROW LEVEL SECURITY;
        CREATE VIEW seen AS SELECT a FROM whole; GRANT INSERT ON seen TO inserting;
        CREATE FUNCTION redirect() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
            'BEGIN INSERT INTO whole VALUES (NEW.a); RETURN NEW; END';
        CREATE TRIGGER redirect INSTEAD OF INSERT ON seen FOR EACH ROW EXECUTE FUNCTION redirect()""")
    try:
        await conn.execute("SET ROLE inserting")
        copy = conn.copy_records_to_table(table, records=[(1,)], columns=["a"])
        if table == "secured":
            with pytest.raises(headrace.FeatureNotSupportedError, match="row-level security"):
                await copy
        else:
            assert await copy == "COPY 1"
            async with conn.transaction():
                assert await conn.copy_records_to_table(table, records=[(1,)], columns=["a"]) == "COPY 1"
    finally:
        await conn.execute("""
            RESET ROLE; DROP VIEW seen; DROP TABLE whole, partly, secured, apart; DROP FUNCTION redirect;
            DROP ROLE inserting""")


async def test_a_view_with_a_trigger(conn: headrace.Connection) -> None:
    await conn.execute(
        """CREATE TEMP VIEW v AS SELECT a FROM t;
        CREATE FUNCTION pg_temp.redirect() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN INSERT INTO t VALUES (NEW.a, ''by view''); RETURN NEW; END';
        CREATE TRIGGER redirect INSTEAD OF INSERT ON v FOR EACH ROW EXECUTE FUNCTION pg_temp.redirect()"""
    )
    assert await conn.copy_records_to_table("v", records=[(5,)]) == "COPY 1"
    assert await rows_in(conn) == [(5, "by view")]


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([(1, "x"), (2,)], r"row 2: 1 value for 2 columns: \(2,\)"),
        ([(1, "x", 2)], "row 1: 3 values for 2 columns"),
        ([(1, "x"), ("y", "z")], r"row 2, column 'a': 'y' \(an integer is required.*\) \[int4 column, str given\]"),
        ([(1, 2)], r"row 1, column 'b': 2 \(expected str, got int\) \[text column, int given\]"),
        ([(2**31, "x")], "row 1, column 'a': 2147483648 .*out of int32 range"),
        ([(1, "a\0b")], "row 1, column 'b': .*NUL"),
        ([1], "row 1: expected a sequence of values, got int 1"),
        (["ab"], "row 1: expected a sequence of values, got str 'ab'"),
        ([{"a": 1, "b": "x"}], "row 1: expected a sequence of values, got dict"),
        ([{1, 2}], "row 1: expected a sequence of values, got set"),
    ],
)
async def test_a_row_that_does_not_fit_is_named_and_nothing_is_copied(
    conn: headrace.Connection, records: list[Any], message: str
) -> None:
    async def asynchronous(rows: list[Any]) -> AsyncIterator[Any]:
        for row in rows:
            yield row

    with pytest.raises(headrace.DataError, match=message) as caught:
        await conn.copy_records_to_table("t", records=records)
    assert "HINT:  Pass" in str(caught.value)
    assert isinstance(caught.value, headrace.InterfaceError)
    with pytest.raises(headrace.DataError, match=message):
        await conn.copy_records_to_table("t", records=asynchronous(records))
    assert await rows_in(conn) == []


async def test_a_late_row_that_does_not_fit_undoes_all_rows_before_it(conn: headrace.Connection) -> None:
    records = [(i, "x" * 50) for i in range(50_000)]
    with pytest.raises(headrace.DataError, match="row 50001, column 'a': 'late'"):
        await conn.copy_records_to_table("t", records=[*records, ("late", "x"), *records])
    assert await rows_in(conn) == []


async def test_an_early_row_that_does_not_fit_costs_an_open_transaction_nothing(conn: headrace.Connection) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (1, 'kept')")
        with pytest.raises(headrace.DataError):
            await conn.copy_records_to_table("t", records=[(1, "x"), ("y", "z")])
    assert await rows_in(conn) == [(1, "kept")]


async def test_a_late_error_is_the_cause_of_what_the_transaction_says_next(conn: headrace.Connection) -> None:
    records = [*((i, "x" * 50) for i in range(50_000)), ("late", "x")]
    transaction = conn.transaction()
    await transaction.start()
    with pytest.raises(headrace.DataError, match="row 50001") as first:
        await conn.copy_records_to_table("t", records=records)
    with pytest.raises(headrace.InFailedSQLTransactionError) as second:
        await conn.fetch("SELECT 1")
    assert second.value.__cause__ is first.value
    await transaction.rollback()


async def test_what_is_no_table_column_or_iterable(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.UndefinedTableError, match='"missing" does not exist'):
        await conn.copy_records_to_table("missing", records=[(1,)])
    with pytest.raises((headrace.InvalidSchemaNameError, headrace.UndefinedTableError)):
        await conn.copy_records_to_table("t", schema_name="missing", records=[(1,)])
    with pytest.raises(headrace.UndefinedColumnError, match='column "z" does not exist'):
        await conn.copy_records_to_table("t", records=[(1,)], columns=["z"])
    with pytest.raises(headrace.DuplicateColumnError):
        await conn.copy_records_to_table("t", records=[(1, 2)], columns=["a", "a"])
    with pytest.raises(TypeError, match="records is expected to be an iterable or asynchronous iterable of rows"):
        await conn.copy_records_to_table("t", records=5)  # type: ignore[arg-type]
    with pytest.raises(headrace.InterfaceError, match="table_name is expected to be a str, got NoneType"):
        await conn.copy_records_to_table(None, records=[])  # type: ignore[arg-type]
    assert await rows_in(conn) == []


async def test_a_constraint_violated_undoes_all(conn: headrace.Connection) -> None:
    await conn.execute("ALTER TABLE t ADD PRIMARY KEY (a)")
    with pytest.raises(headrace.UniqueViolationError) as caught:
        await conn.copy_records_to_table("t", records=[(i % 900, "x") for i in range(1000)])
    assert caught.value.table_name == "t"
    assert "line 901" in (caught.value.context or "")
    assert await rows_in(conn) == []
