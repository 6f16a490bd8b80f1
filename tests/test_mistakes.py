"""Mistakes of beginners, as a table: the call, what its error says, and the call that follows the hint literally.

The hint of each row is followed, on a server, and must work. A right query that looks like a mistake gets no hint.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

import headrace
from tests.servers import Cluster

TABLE = """
CREATE TEMP TABLE item (
    id int, name text, note varchar(20), price numeric, made date, at timestamp, seen timestamptz, big int8, data jsonb,
    tags text[]
);
INSERT INTO item (id, name, note, price, made, at, seen, big)
VALUES (1, 'one', 'one', 1, '2020-01-01', '2020-01-01', '2020-01-01 00:00+00', 1)"""

AWARE = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Wrong:
    """A query with arguments that is wrong."""

    query: str
    args: tuple[Any, ...]
    says: str
    """A part of the message."""
    write: str = ""
    """The text that the hint says to write in the query."""
    right: str = ""
    """The query with that written, if it does not simply take the place of $1. WHOLE: it is the query."""
    value: str = ""
    """The value that the hint says to pass, as Python that is evaluated: `value` is the last argument."""
    hint: str = ""
    """Other words of the hint."""
    right_args: tuple[Any, ...] | None = None
    gives: Any = ...
    """The first value of the first row, if it matters."""

    def __str__(self) -> str:
        return self.query


WHOLE = "*"
PARAMETERS = "Parameters are written $1, $2, ..."
ID_1 = "SELECT id FROM item WHERE id = $1"
SYNTAX = "syntax error at "
NONE_EXPECTED = "the server expects 0 arguments for this query"

QUERIES = [
    # Placeholders of other drivers.
    Wrong("SELECT id FROM item WHERE id = :id", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id = %s", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id = %(id)s", (1,), SYNTAX, "$1", ID_1, hint='headrace.sql("... :id"', gives=1),
    Wrong("SELECT id FROM item WHERE id = ?", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id=? AND 1=1", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong(
        "SELECT id FROM item WHERE id = ? + 0", (1,), "does not exist", "$1", f"{ID_1} + 0", hint=PARAMETERS, gives=1
    ),
    Wrong("SELECT id FROM item WHERE id IN (?)", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item LIMIT ?", (1,), SYNTAX, "$1", "SELECT id FROM item LIMIT $1", hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id = {}", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id = {id}", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id = $id", (1,), SYNTAX, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT id FROM item WHERE id = @id", (1,), NONE_EXPECTED, "$1", ID_1, hint=PARAMETERS, gives=1),
    Wrong("SELECT $0", ("a",), "there is no parameter $0", "$1", "SELECT $1", gives="a"),
    Wrong(
        "SELECT $2::int", (1, 2), "could not determine", "$1", "SELECT $1::int", hint="gap", right_args=(2,), gives=2
    ),
    # Quotes.
    Wrong(
        "SELECT id FROM item WHERE name LIKE '%$1%'",
        ("n",),
        NONE_EXPECTED,
        "'%' || $1 || '%'",
        "SELECT id FROM item WHERE name LIKE '%' || $1 || '%'",
        gives=1,
    ),
    Wrong(
        "SELECT id FROM item WHERE name LIKE %$1%",
        ("n",),
        SYNTAX,
        "'%' || $1 || '%'",
        "SELECT id FROM item WHERE name LIKE '%' || $1 || '%'",
        gives=1,
    ),
    Wrong(
        "SELECT id FROM item WHERE name LIKE %n%",
        (),
        SYNTAX,
        "'%n%'",
        "SELECT id FROM item WHERE name LIKE '%n%'",
        gives=1,
    ),
    Wrong(
        "SELECT at - interval '$1 days' FROM item",
        (1,),
        "",
        "$1 * interval '1 days'",
        "SELECT at - $1 * interval '1 days' FROM item",
        gives=dt.datetime(2019, 12, 31),
    ),
    Wrong("SELECT date '$1'", (dt.date.min,), "invalid input syntax", "$1::date", "SELECT $1::date", gives=dt.date.min),
    Wrong("SELECT id FROM item WHERE id = '$1'", (1,), "invalid input syntax", "$1", ID_1, hint="'$1'", gives=1),
    Wrong(
        "SELECT interval $1", (dt.timedelta(1),), SYNTAX, "$1::interval", "SELECT $1::interval", gives=dt.timedelta(1)
    ),
    Wrong(
        "SELECT id FROM item WHERE name = '%s'",
        ("one",),
        NONE_EXPECTED,
        "$1",
        "SELECT id FROM item WHERE name = $1",
        gives=1,
    ),
    Wrong(
        'SELECT id FROM item WHERE name = "one"',
        (),
        "does not exist",
        "'one'",
        "SELECT id FROM item WHERE name = 'one'",
        gives=1,
    ),
    Wrong(
        'SELECT id FROM item WHERE name = "it\'s"',
        (),
        "does not exist",
        "'it''s'",
        "SELECT id FROM item WHERE name = 'it''s'",
    ),
    Wrong(
        "SELECT id FROM item WHERE name = one",
        (),
        "does not exist",
        "$1",
        "SELECT id FROM item WHERE name = $1",
        right_args=("one",),
        gives=1,
    ),
    Wrong(
        'SELECT relname FROM "pg_catalog.pg_class"',
        (),
        "does not exist",
        '"pg_catalog"."pg_class"',
        'SELECT relname FROM "pg_catalog"."pg_class"',
    ),
    Wrong("SELECT `id` FROM item", (), SYNTAX, '"name"', 'SELECT "id" FROM item', hint="`name`", gives=1),
    # Parameters in places that take none.
    Wrong("SET work_mem = $1", ("8MB",), SYNTAX, "SELECT set_config('work_mem', $1, false)", WHOLE, gives="8MB"),
    Wrong(
        "SET LOCAL search_path TO $1", ("x",), SYNTAX, "SELECT set_config('search_path', $1, true)", WHOLE, gives="x"
    ),
    Wrong("SET TIME ZONE $1", ("UTC",), SYNTAX, "SELECT set_config('TimeZone', $1, false)", WHOLE, gives="UTC"),
    Wrong("NOTIFY News, $1", ("x",), SYNTAX, "SELECT pg_notify('news', $1)", WHOLE),
    Wrong(
        "INSERT INTO item (id) VALUES $1",
        (2,),
        SYNTAX,
        "VALUES ($1, ...)",
        "INSERT INTO item (id) VALUES ($1)",
        hint="parentheses",
    ),
    # Types.
    Wrong("SELECT $1", (5,), "expected str, got int", "$1::int8", gives=5),
    Wrong("SELECT $1::text", ("a\0b",), "NUL character", value=r'value.replace("\0", "")', gives="ab"),
    Wrong(
        "SELECT $1::text", ("a\ud800b",), "surrogate", value='value.encode("utf-8", "replace").decode()', gives="a?b"
    ),
    Wrong("SELECT $1 IS NULL", ("a",), "could not determine", "$1::text", gives=False),
    Wrong("SELECT jsonb_build_object('a', $1)", (5,), "could not determine", "$1::int8", gives='{"a": 5}'),
    Wrong("INSERT INTO item (id, big) VALUES ($1, $1)", (5,), "inconsistent types", "$1::bigint"),
    Wrong("SELECT id FROM item WHERE made = $1", ("2020-01-01",), "got str", "$1::text::date", gives=1),
    Wrong(
        "SELECT id FROM item WHERE made = $1",
        ("2020-01-01",),
        "got str",
        value="datetime.date.fromisoformat(value)",
        gives=1,
    ),
    Wrong("SELECT id FROM item WHERE made = $1", ("Jan 1, 2020",), "got str", "$1::text::date", gives=1),
    Wrong("SELECT id FROM item WHERE seen > $1", ("2019-01-01",), "got 'str'", "$1::text::timestamptz", gives=1),
    Wrong(
        "SELECT id FROM item WHERE seen > $1",
        (1e9,),
        "got 'float'",
        value="datetime.datetime.fromtimestamp(value, datetime.timezone.utc)",
        gives=1,
    ),
    Wrong("SELECT id FROM item WHERE id = $1", ("1",), "an integer is required", "$1::text::int4", gives=1),
    Wrong("SELECT id FROM item LIMIT $1", ("1",), "an integer is required", value="int(value)", gives=1),
    Wrong(
        "SELECT at + $1 FROM item",
        (1,),
        "timedelta",
        value="datetime.timedelta(days=value)",
        gives=dt.datetime(2020, 1, 2),
    ),
    Wrong(
        "SELECT $1::interval",
        ("1 day",),
        "timedelta",
        "$1::text::interval",
        "SELECT $1::text::interval",
        gives=dt.timedelta(1),
    ),
    Wrong("SELECT $1::bool", ("yes",), "boolean is required", "$1::text::bool", "SELECT $1::text::bool", gives=True),
    Wrong("SELECT $1::bool", (1,), "boolean is required", value="bool(value)", gives=True),
    Wrong("SELECT $1::bytea", ("a",), "bytes-like", value="value.encode()", gives=b"a"),
    Wrong("SELECT id FROM item WHERE name = $1", (b"one",), "got bytes", value="value.decode()", gives=1),
    Wrong("SELECT id FROM item WHERE note = $1", (1,), "got int", value="str(value)"),
    Wrong("SELECT id FROM item WHERE note = $1", (1,), "got int", "$1::int8::text"),
    Wrong("SELECT id FROM item WHERE id = $1", (1.5,), "whole number", value="round(value)"),
    Wrong("SELECT id FROM item WHERE id = $1", (2**40,), "out of int32 range", "$1::int8"),
    Wrong("SELECT $1::int", (2**40,), "out of int32 range", "$1::int8", "SELECT $1::int8", gives=2**40),
    Wrong("SELECT $1::bigint", (2**70,), "out of int64 range", "$1::numeric", "SELECT $1::numeric", gives=2**70),
    Wrong("SELECT id FROM item WHERE at = $1", (AWARE,), "time zone", value="value.replace(tzinfo=None)", gives=1),
    Wrong("INSERT INTO item (id, data) VALUES (2, $1)", ({"a": 1},), "got dict", value="json.dumps(value)"),
    Wrong("INSERT INTO item (id, name) VALUES (2, $1)", ({"a": 1},), "got dict", value="json.dumps(value)"),
    Wrong(
        'SELECT $1::mistakes."Mood"[]',
        ("{good}",),
        "sized iterable",
        '$1::text::mistakes."Mood"[]',
        'SELECT $1::text::mistakes."Mood"[]',
        gives=["good"],
    ),
    Wrong('SELECT $1::mistakes."Mood"[]', ("good",), "sized iterable", value="[value]", gives=["good"]),
    Wrong("SELECT $1::text[]", ("a",), "sized iterable", value="[value]", gives=["a"]),
    Wrong(
        "SELECT $1::int4range",
        ("[1,5)",),
        "",
        "$1::text::int4range",
        "SELECT $1::text::int4range",
        gives=headrace.Range(1, 5),
    ),
    Wrong("SELECT $1::jsonb[]", ([{"a": 1}],), "got dict", value="[json.dumps(each) for each in value]"),
    # Lists.
    Wrong(
        "SELECT id FROM item WHERE id IN ($1)",
        ([1, 2],),
        "list",
        "= ANY($1)",
        "SELECT id FROM item WHERE id = ANY($1)",
        gives=1,
    ),
    Wrong(
        "SELECT id FROM item WHERE id IN $1",
        ([1, 2],),
        SYNTAX,
        "= ANY($1)",
        "SELECT id FROM item WHERE id = ANY($1)",
        gives=1,
    ),
    Wrong(
        "SELECT id FROM item WHERE price = $1",
        ([1, 2],),
        "list",
        "= ANY($1)",
        "SELECT id FROM item WHERE price = ANY($1)",
        gives=1,
    ),
    Wrong(
        "SELECT id FROM item WHERE name <> $1",
        (["a"],),
        "list",
        "<> ALL($1)",
        "SELECT id FROM item WHERE name <> ALL($1)",
        gives=1,
    ),
    Wrong("SELECT id FROM item WHERE id = ANY($1)", (1,), "sized iterable", value="[value]", gives=1),
    Wrong(
        "SELECT id FROM item WHERE id = ANY $1",
        ([1],),
        SYNTAX,
        "ANY($1)",
        "SELECT id FROM item WHERE id = ANY($1)",
        gives=1,
    ),
    Wrong(
        "SELECT $1::int + $2::int",
        ([1, 2],),
        "expects 2 arguments",
        hint="fetch(query, *values)",
        right_args=(1, 2),
        gives=3,
    ),
    Wrong("SELECT $1::int", ((1,),), "tuple", hint="fetch(query, *values)", right_args=(1,), gives=1),
    # Slips.
    Wrong(
        "SELECT id, FROM item", (), SYNTAX, hint="Remove the comma before FROM", right="SELECT id FROM item", gives=1
    ),
    Wrong(
        "INSERT INTO item (id) VALUES (2,)",
        (),
        SYNTAX,
        hint="Remove the comma before )",
        right="INSERT INTO item (id) VALUES (2)",
    ),
    Wrong("CREATE TEMP TABLE order (id int)", (), SYNTAX, '"order"', 'CREATE TEMP TABLE "order" (id int)'),
    Wrong("SELECT 1; SELECT 2", (), "cannot insert multiple commands", hint="one by one", right="SELECT 1", gives=1),
]


@pytest.fixture
async def table(conn: headrace.Connection) -> headrace.Connection:
    """A connection with the table of the mistakes, and a type in a schema of its own."""
    await conn.execute(TABLE)
    await conn.execute(
        'CREATE SCHEMA IF NOT EXISTS mistakes; DROP TYPE IF EXISTS mistakes."Mood"; '
        "CREATE TYPE mistakes.\"Mood\" AS ENUM ('good', 'bad')"
    )
    return conn


@pytest.mark.parametrize("row", QUERIES, ids=str)
async def test_the_hint_for_a_query_works(row: Wrong, table: headrace.Connection) -> None:
    with pytest.raises((headrace.PostgresError, headrace.InterfaceError)) as caught:
        await table.fetch(row.query, *row.args)
    print(f"{row.query}  {row.args}\n{caught.value}\n")
    hint = getattr(caught.value, "hint", None) or ""
    assert row.says in str(caught.value).partition("\n")[0]
    assert row.write in hint
    assert row.value in hint
    assert row.hint in hint
    right = (
        row.write
        if row.right == WHOLE
        else row.right or (row.query.replace("$1", row.write) if row.write else row.query)
    )
    args = row.args if row.right_args is None else row.right_args
    if row.write and "..." not in row.write and row.write != '"name"':
        assert row.write in right
    if row.value:
        args = (*args[:-1], eval(row.value, {"value": args[-1], "datetime": dt, "json": json}))
    rows = await table.fetch(right, *args)
    if row.gives is not ...:
        assert rows[0][0] == row.gives


@pytest.mark.parametrize(
    ("query", "args"),
    [
        ("SELECT '{\"a\": 1}'::jsonb ? 'a' FORM x", ()),
        ("SELECT data FROM item WHERE data ? FORM", ()),
        ("SELECT 5 % s FORM x", ()),
        ("SELECT (5) %s FORM x", ()),
        ("SELECT tags[1:id] FORM item", ()),
        ("SELECT id::int FORM item", ()),
        ("SELECT ':id', '?', '%s' FORM item x", ()),
        ("SELECT id /* ? :id %s */ FORM item x", ()),
        ("SELECT '$1' FORM item x", ()),
        ("SELECT 'a'::date", ()),
        ("SELECT x'$1'", ()),
        ("SELECT zzzzz FROM item", ()),
        ("SELECT item.zzzzz FROM item WHERE id = item.zzzzz", ()),
        ("SELECT * FROM nope", ()),
        ("SELECT * FROM WHERE id = 1", ()),
        ("SELECT * FROM order by 1", ()),
        ("SELECT id FROM item WHERE id ==", ()),
        ("UPDATE item SET id = WHERE id = 1", ()),
    ],
)
async def test_what_only_looks_like_a_mistake_gets_no_hint(
    query: str, args: tuple[object, ...], table: headrace.Connection
) -> None:
    with pytest.raises(headrace.PostgresError) as caught:
        await table.fetch(query, *args)
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("query", "args", "no"),
    [
        ("SELECT id FROM item WHERE made = $1", ("no date",), "$1::"),
        ("SELECT id FROM item WHERE id = $1", ("one",), "$1::"),
        ("SELECT id FROM item WHERE id = $1", ("99999999999",), "$1::text::int4"),
        ("SELECT id FROM item WHERE price = $1", ("one",), "$1::"),
        ("INSERT INTO item (id) VALUES ($1)", (2**40,), "$1::"),
        ("UPDATE item SET id = $1", (2**40,), "$1::"),
        ("UPDATE item SET id = $1", ([1],), "ANY"),
        ("INSERT INTO item (price) VALUES ($1)", ([1],), "$1::"),
        ("INSERT INTO item (data) VALUES ($1)", ({},), "$1::"),
        ("INSERT INTO item (data) VALUES ($1)", ([],), "$1::"),
        ("SELECT id FROM item WHERE at = $1", (AWARE,), "$1::"),
    ],
)  # fmt: skip
async def test_no_cast_is_recommended_that_does_not_help(
    query: str, args: tuple[object, ...], no: str, table: headrace.Connection
) -> None:
    with pytest.raises(headrace.ArgumentError) as caught:
        await table.fetch(query, *args)
    assert caught.value.hint
    assert no not in caught.value.hint


# Mistakes with methods: a function for what is wrong, and one that does what the hint says.


@dataclass
class Scene:
    """A connection with the table, and a pool."""

    conn: headrace.Connection
    pool: headrace.Pool
    dsn: str


@dataclass(frozen=True)
class Misuse:
    """A call that is wrong."""

    name: str
    wrong: Callable[[Scene], Any]
    error: type[Exception]
    says: str
    hint: str
    """The words of the error that say what to do."""
    right: Callable[[Scene], Any]
    gives: Any = ...

    def __str__(self) -> str:
        return self.name


async def formatted(scene: Scene, template: str, *values: str) -> str:
    text = await scene.conn.fetchval(template, *values)
    return await scene.conn.execute(text)


async def connect_as_context_manager(scene: Scene) -> None:
    async with headrace.connect(scene.dsn):  # type: ignore[attr-defined]
        pass


async def forgotten_await(scene: Scene) -> object:
    connecting = headrace.connect(scene.dsn)
    try:
        return await connecting.fetch("SELECT 1")  # type: ignore[attr-defined]
    finally:
        connecting.close()


async def connect_and_close(scene: Scene) -> object:
    connection = await headrace.connect(scene.dsn)
    try:
        return await connection.fetchval("SELECT 1")
    finally:
        await connection.close()


async def unopened_pool(scene: Scene) -> object:
    return await headrace.create_pool(scene.dsn).fetchval("SELECT 1")


async def opened_pool(scene: Scene) -> object:
    async with headrace.create_pool(scene.dsn, min_size=1) as pool:
        return await pool.fetchval("SELECT 1")


async def acquired_without_await(scene: Scene) -> object:
    return await scene.pool.acquire().fetchval("SELECT 1")  # type: ignore[attr-defined]


async def acquired(scene: Scene) -> object:
    async with scene.pool.acquire() as connection:
        return await connection.fetchval("SELECT 1")


async def pool_prepare(scene: Scene) -> object:
    return await scene.pool.prepare("SELECT 1")  # type: ignore[attr-defined]


async def prepare_on_a_lease(scene: Scene) -> object:
    async with scene.pool.acquire() as connection:
        return await (await connection.prepare("SELECT 1")).fetchval()


async def released(scene: Scene) -> object:
    async with scene.pool.acquire() as connection:
        pass
    return await connection.fetchval("SELECT 1")


async def released_cursor(scene: Scene) -> None:
    async with scene.pool.acquire() as connection, connection.transaction():
        cursor = connection.cursor("SELECT 1")
    async for _ in cursor:
        pass


async def cursor_in_its_lease(scene: Scene) -> object:
    async with scene.pool.acquire() as connection, connection.transaction():
        return [row[0] async for row in connection.cursor("SELECT 1")]


async def cursor_without_transaction(scene: Scene) -> None:
    async for _ in scene.conn.cursor("SELECT 1"):
        pass


async def cursor_in_transaction(scene: Scene) -> object:
    async with scene.conn.transaction():
        return [row[0] async for row in scene.conn.cursor("SELECT 1")]


async def stream_in_place_of_a_cursor(scene: Scene) -> object:
    return [row[0] async for row in scene.conn.stream("SELECT 1")]


async def stream_awaited(scene: Scene) -> None:
    await scene.conn.stream("SELECT 1")


async def stream_in_a_plain_loop(scene: Scene) -> None:
    for _ in scene.conn.stream("SELECT 1"):
        pass


async def query_in_the_loop_over_a_stream(scene: Scene) -> None:
    async for _ in scene.conn.stream("SELECT 1"):
        await scene.conn.fetchval("SELECT 1")


async def query_beside_a_stream_of_a_pool(scene: Scene) -> object:
    return [await scene.conn.fetchval("SELECT 1") async for _ in scene.pool.stream("SELECT 1")]


async def query_in_the_loop_over_a_stream_in_a_transaction(scene: Scene) -> object:
    async with scene.conn.transaction():
        return [await scene.conn.fetchval("SELECT 1") async for _ in scene.conn.stream("SELECT 1")]


async def query_behind_a_stream_that_was_closed(scene: Scene) -> object:
    async with scene.conn.stream("SELECT 1") as rows:
        await anext(rows)
    return await scene.conn.fetchval("SELECT 1")


async def going_on_after_a_failure(scene: Scene) -> None:
    async with scene.conn.transaction():
        with suppress(headrace.DivisionByZeroError):
            await scene.conn.execute("SELECT 1 / 0")
        await scene.conn.execute("SELECT 1")


async def failure_in_a_savepoint(scene: Scene) -> object:
    async with scene.conn.transaction():
        with suppress(headrace.DivisionByZeroError):
            async with scene.conn.transaction():
                await scene.conn.execute("SELECT 1 / 0")
        return await scene.conn.fetchval("SELECT 1")


async def vacuum_in_a_transaction(scene: Scene) -> None:
    async with scene.conn.transaction():
        await scene.conn.execute("VACUUM item")


async def in_isolation(scene: Scene, level: Any) -> object:
    async with scene.conn.transaction(isolation=level):
        return await scene.conn.fetchval("SHOW transaction_isolation")


async def set_codec(scene: Scene, name: str, **where: Any) -> None:
    await scene.conn.set_type_codec(name, encoder=str, decoder=str, **where)


async def small_pool(scene: Scene, **sizes: Any) -> object:
    async with headrace.create_pool(scene.dsn, **sizes) as pool:
        return pool.get_size()


async def connected(dsn: str, **arguments: Any) -> None:
    await (await headrace.connect(dsn, **arguments)).close()


async def with_json(scene: Scene) -> object:
    connection = await headrace.connect(scene.dsn, json=True)
    try:
        return await connection.fetchval("SELECT $1::jsonb", {"a": [1]})
    finally:
        await connection.close()


async def first_row(scene: Scene, column: str) -> object:
    return (await scene.conn.fetch("SELECT id, name FROM item"))[0][column]


ELEMENTS = [{"id": 2, "name": "two"}, {"id": 3, "name": "three"}]
SINGLE: Any = [2, 3]
INSERT = "INSERT INTO item (id, name) VALUES ($1, $2)"
NAMED_TEXT = "INSERT INTO item (id, name) VALUES (:id, :name)"
NAMED = headrace.sql(NAMED_TEXT)
ROLE = "SELECT format('CREATE ROLE mistaken PASSWORD %L', $1::text)"
VIEW = "SELECT format('CREATE TEMP VIEW v AS SELECT id FROM item WHERE id = %L', $1::text)"
DEFAULT = "SELECT format('ALTER TABLE item ALTER COLUMN name SET DEFAULT %L', $1::text)"
DROP = "SELECT format('DROP TABLE %I', $1::text)"
FROM = 'headrace.sql("... FROM :name", name=headrace.identifier(name))'

CALLS = [
    Misuse(
        "CREATE VIEW with a parameter",
        lambda scene: scene.conn.fetch("CREATE TEMP VIEW v AS SELECT id FROM item WHERE id = $1", 1),
        headrace.InterfaceError, NONE_EXPECTED, VIEW,
        lambda scene: formatted(scene, VIEW, "1"), "CREATE VIEW",
    ),
    Misuse(
        "CREATE VIEW with a parameter, by execute() without arguments",
        lambda scene: scene.conn.execute("CREATE TEMP VIEW v AS SELECT id FROM item WHERE id = $1"),
        headrace.UndefinedParameterError, "there is no parameter $1", VIEW,
        lambda scene: formatted(scene, VIEW, "1"), "CREATE VIEW",
    ),
    Misuse(
        "DEFAULT with a parameter",
        lambda scene: scene.conn.execute("ALTER TABLE item ALTER COLUMN name SET DEFAULT $1", "it's"),
        headrace.InterfaceError, NONE_EXPECTED, DEFAULT,
        lambda scene: formatted(scene, DEFAULT, "it's"), "ALTER TABLE",
    ),
    Misuse(
        "PASSWORD with a parameter",
        lambda scene: scene.conn.execute("CREATE ROLE mistaken PASSWORD $1", "s"),
        headrace.PostgresSyntaxError, "$1", ROLE,
        lambda scene: formatted(scene, f"{ROLE} || '; DROP ROLE mistaken'", "s"), "DROP ROLE",
    ),
    Misuse(
        "DROP TABLE with a parameter",
        lambda scene: scene.conn.execute("DROP TABLE $1", "item"),
        headrace.PostgresSyntaxError, "$1", DROP,
        lambda scene: formatted(scene, DROP, "item"), "DROP TABLE",
    ),
    Misuse(
        "DO with a parameter",
        lambda scene: scene.conn.execute("DO $$ BEGIN PERFORM $1; END $$", "x"),
        headrace.InterfaceError, NONE_EXPECTED, "SELECT format() with %L for each value",
        lambda scene: formatted(scene, "SELECT format('DO $$ BEGIN PERFORM %L; END $$', $1::text)", "x"), "DO",
    ),
    Misuse(
        "a table as a parameter",
        lambda scene: scene.conn.fetchval("SELECT id FROM $1", "item"),
        headrace.PostgresSyntaxError, "$1", FROM,
        lambda scene: scene.conn.fetchval(headrace.sql("SELECT id FROM :name", name=headrace.identifier("item"))), 1,
    ),
    Misuse(
        "LISTEN with a parameter",
        lambda scene: scene.conn.execute("LISTEN $1", "news"),
        headrace.PostgresSyntaxError, "$1", "connection.add_listener(channel, callback)",
        lambda scene: scene.conn.add_listener("news", print),
    ),
    Misuse(
        "execute() without the arguments",
        lambda scene: scene.conn.execute("SELECT id FROM item WHERE id = $1"),
        headrace.UndefinedParameterError, "there is no parameter $1", "execute(query, value)",
        lambda scene: scene.conn.execute("SELECT id FROM item WHERE id = $1", 1), "SELECT 1",
    ),
    Misuse(
        "a pool's execute() without the arguments",
        lambda scene: scene.pool.execute("SELECT $1::int"),
        headrace.UndefinedParameterError, "$1", "execute(query, value)",
        lambda scene: scene.pool.execute("SELECT $1::int", 1), "SELECT 1",
    ),
    Misuse(
        "names in a dict",
        lambda scene: scene.conn.execute(INSERT, ELEMENTS[0]),
        headrace.InterfaceError, "expects 2 arguments", 'headrace.sql("... :name", **values)',
        lambda scene: scene.conn.execute(headrace.sql(NAMED_TEXT, **ELEMENTS[0])),
        "INSERT 0 1",
    ),
    Misuse(
        "executemany() with dicts",
        lambda scene: scene.conn.executemany(INSERT, ELEMENTS),
        headrace.ArgumentError, "expected a sequence, got dict", "[tuple(each.values()) for each in elements]",
        lambda scene: scene.conn.executemany(INSERT, [tuple(each.values()) for each in ELEMENTS]),
    ),
    Misuse(
        "executemany() with dicts, named",
        lambda scene: scene.conn.executemany(INSERT, ELEMENTS),
        headrace.ArgumentError, "expected a sequence, got dict", 'executemany(headrace.sql("... :name"), elements)',
        lambda scene: scene.conn.executemany(NAMED, ELEMENTS),
    ),
    Misuse(
        "executemany() with single values",
        lambda scene: scene.conn.executemany("INSERT INTO item (id) VALUES ($1)", SINGLE),
        headrace.ArgumentError, "expected a sequence, got int", "[(value,) for value in elements]",
        lambda scene: scene.conn.executemany("INSERT INTO item (id) VALUES ($1)", [(value,) for value in SINGLE]),
    ),
    Misuse(
        "COPY of rows to a name with a schema",
        lambda scene: scene.conn.copy_records_to_table("mistakes.copied", records=[(1,)]),
        headrace.UndefinedTableError, "does not exist", 'table_name="copied", schema_name="mistakes"',
        lambda scene: scene.conn.copy_records_to_table(table_name="copied", schema_name="mistakes", records=[(1,)]),
        "COPY 1",
    ),
    Misuse(
        "COPY of data to a name with a schema",
        lambda scene: scene.conn.copy_to_table("mistakes.copied", source=b"1\n"),
        headrace.UndefinedTableError, "does not exist", 'table_name="copied", schema_name="mistakes"',
        lambda scene: scene.conn.copy_to_table(table_name="copied", schema_name="mistakes", source=b"1\n"), "COPY 1",
    ),
    Misuse(
        "COPY to a name in upper case",
        lambda scene: scene.conn.copy_records_to_table("Item", records=[(1,)], columns=["id"]),
        headrace.UndefinedTableError, "does not exist", 'is called "item"',
        lambda scene: scene.conn.copy_records_to_table("item", records=[(1,)], columns=["id"]), "COPY 1",
    ),
    Misuse(
        "COPY of a dict for jsonb",
        lambda scene: scene.conn.copy_records_to_table("item", records=[({},)], columns=["data"]),
        headrace.ArgumentError, "got dict", "json.dumps(value)",
        lambda scene: scene.conn.copy_records_to_table("item", records=[(json.dumps({}),)], columns=["data"]), "COPY 1",
    ),
    Misuse(
        "a dict for jsonb, as an object",
        lambda scene: scene.conn.fetchval("SELECT $1::jsonb", {"a": [1]}),
        headrace.ArgumentError, "got dict", "connect with json=True",
        with_json, {"a": [1]},
    ),
    Misuse(
        "a codec for json without its schema",
        lambda scene: set_codec(scene, "json"),
        ValueError, "unknown type: public.json", "schema='pg_catalog'",
        lambda scene: set_codec(scene, "json", schema="pg_catalog"),
    ),
    Misuse(
        "a codec for a type in another schema",
        lambda scene: set_codec(scene, "Mood"),
        ValueError, "unknown type: public.Mood", "schema='mistakes'",
        lambda scene: set_codec(scene, "Mood", schema="mistakes"),
    ),
    Misuse(
        "a column that the row does not have",
        lambda scene: first_row(scene, "nam"),
        KeyError, "'nam'", "The columns are: id, name",
        lambda scene: first_row(scene, "name"), "one",
    ),
    Misuse(
        "a column that fetchval() does not have",
        lambda scene: scene.conn.fetchval("SELECT id, name FROM item", column="nam"),
        KeyError, "'nam'", "The columns are: id, name",
        lambda scene: scene.conn.fetchval("SELECT id, name FROM item", column="name"), "one",
    ),
    Misuse("async with connect()", connect_as_context_manager, TypeError, "no context manager",
           "connection = await headrace.connect(...)", connect_and_close, 1),
    Misuse("connect() without await", forgotten_await, AttributeError, "not awaited",
           "connection = await headrace.connect(...)", connect_and_close, 1),
    Misuse("create_pool() without await", unopened_pool, headrace.InterfaceError, "not initialized",
           "async with create_pool(...) as pool", opened_pool, 1),
    Misuse("acquire() without await", acquired_without_await, AttributeError, "fetchval",
           "async with pool.acquire() as connection", acquired, 1),
    Misuse("pool.prepare()", pool_prepare, AttributeError, "'prepare'",
           "async with pool.acquire() as connection", prepare_on_a_lease, 1),
    Misuse("a connection that was released", released, headrace.InterfaceError, "released",
           "inside the `async with pool.acquire()` block", acquired, 1),
    Misuse("a cursor of a connection that was released", released_cursor, headrace.InterfaceError, "released",
           "inside the `async with pool.acquire()` block", cursor_in_its_lease, [1]),
    Misuse("a cursor outside of a transaction", cursor_without_transaction, headrace.NoActiveSQLTransactionError,
           "outside of a transaction", "async with connection.transaction()", cursor_in_transaction, [1]),
    Misuse("a cursor outside of a transaction, streamed", cursor_without_transaction,
           headrace.NoActiveSQLTransactionError, "outside of a transaction", "connection.stream(...)",
           stream_in_place_of_a_cursor, [1]),
    Misuse("a stream that is awaited", stream_awaited, headrace.InterfaceError, "is not awaited",
           "async for row in connection.stream(...)", stream_in_place_of_a_cursor, [1]),
    Misuse("a stream in a plain loop", stream_in_a_plain_loop, headrace.InterfaceError, "got `for`",
           "async for row in connection.stream(...)", stream_in_place_of_a_cursor, [1]),
    Misuse("a query in the loop over a stream", query_in_the_loop_over_a_stream, headrace.InterfaceError,
           "this task has a stream", "pool.stream()", query_beside_a_stream_of_a_pool, [1]),
    Misuse("a query in the loop over a stream, without a pool", query_in_the_loop_over_a_stream,
           headrace.InterfaceError, "this task has a stream", "async with connection.transaction()",
           query_in_the_loop_over_a_stream_in_a_transaction, [1]),
    Misuse("a query behind a stream that is still open", query_in_the_loop_over_a_stream, headrace.InterfaceError,
           "this task has a stream", "async with connection.stream(...) as rows",
           query_behind_a_stream_that_was_closed, 1),
    Misuse("a statement after one that failed", going_on_after_a_failure, headrace.InFailedSQLTransactionError,
           "aborted", "`async with connection.transaction()` is a savepoint", failure_in_a_savepoint, 1),
    Misuse("VACUUM inside of a transaction", vacuum_in_a_transaction, headrace.ActiveSQLTransactionError,
           "transaction block", "outside of `async with connection.transaction()`",
           lambda scene: scene.conn.execute("VACUUM item"), "VACUUM"),
    Misuse("VACUUM with another statement", lambda scene: scene.conn.execute("VACUUM item; SELECT 1"),
           headrace.ActiveSQLTransactionError, "transaction block", "the only statement of its text",
           lambda scene: scene.conn.execute("VACUUM item"), "VACUUM"),
    Misuse("an isolation level in SQL's words", lambda scene: in_isolation(scene, "REPEATABLE READ "), ValueError,
           "isolation", "write 'repeatable_read'",
           lambda scene: in_isolation(scene, "repeatable_read"), "repeatable read"),
    Misuse("create_pool(max_size=5)",
           lambda scene: small_pool(scene, max_size=5), ValueError, "10 > 5", "pass min_size=5",
           lambda scene: small_pool(scene, max_size=5, min_size=5), 5),
    Misuse("?ssl= in a DSN", lambda scene: connected(f"{scene.dsn}&ssl=disable"), headrace.ClientConfigurationError,
           '"ssl"', 'Write "sslmode"', lambda scene: connected(f"{scene.dsn}&sslmode=disable")),
    Misuse("?timeout= in a DSN", lambda scene: connected(f"{scene.dsn}&timeout=5"), headrace.ClientConfigurationError,
           '"timeout"', "connect(dsn, timeout=...)", lambda scene: connected(scene.dsn, timeout=5)),
    Misuse("?schema= in a DSN", lambda scene: connected(f"{scene.dsn}&schema=x"), headrace.ClientConfigurationError,
           '"schema"', "options=-csearch_path%3D", lambda scene: connected(f"{scene.dsn}&options=-csearch_path%3Dx")),
    Misuse("an argument by another name", lambda scene: connected(scene.dsn, username="x"), TypeError, "'username'",
           "'user'", lambda scene: connected(scene.dsn, user="postgres")),
    Misuse("an option of a pool for a connection", lambda scene: connected(scene.dsn, max_size=5), TypeError,
           "'max_size'", "create_pool(dsn, max_size=...)", lambda scene: small_pool(scene, min_size=1, max_size=5), 1),
]  # fmt: skip


@pytest.mark.parametrize("row", CALLS, ids=str)
async def test_the_hint_for_a_call_works(
    row: Misuse,
    table: headrace.Connection,
    pool: Callable[..., Awaitable[headrace.Pool]],
    server: Cluster,
    database: str,
) -> None:
    await table.execute("CREATE TABLE IF NOT EXISTS mistakes.copied (a int)")
    dsn = server.dsn(database)
    scene = Scene(table, await pool(min_size=1), dsn if "?" in dsn else f"{dsn}?application_name=mistakes")
    with pytest.raises(row.error) as caught:
        await row.wrong(scene)
    text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
    print(f"{row.name}\n{type(caught.value).__name__}: {text}\n")
    assert row.says in text.partition("\n")[0]
    assert row.hint in text
    result = await row.right(scene)
    if row.gives is not ...:
        assert result == row.gives


def test_there_are_enough_rows() -> None:
    assert len(QUERIES) + len(CALLS) >= 100


async def test_an_error_of_an_encoder_is_not_taken_for_a_number_that_is_too_big(table: headrace.Connection) -> None:
    def refuse(value: object) -> str:
        raise ValueError("refused")

    await table.set_type_codec("int4", schema="pg_catalog", encoder=refuse, decoder=int)
    with pytest.raises(headrace.ArgumentError, match="refused") as caught:
        await table.fetch("SELECT $1::int4", 5)
    assert "int2" not in (caught.value.hint or "")


async def test_a_very_long_query_gets_no_hint(table: headrace.Connection) -> None:
    with pytest.raises(headrace.PostgresError) as caught:
        await table.fetch(f"SELECT :id /* {'x' * 100_000} */")
    assert caught.value.hint is None
