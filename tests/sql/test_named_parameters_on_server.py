"""Named parameters on a real server: every method takes what sql() returns, and one text is one prepared statement."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass
from typing import Any

import pytest

import headrace
from headrace import identifier, sql


@dataclass
class Item:
    id: int
    name: str


@pytest.fixture
async def table(conn: headrace.Connection) -> headrace.Connection:
    """A connection with a table of three items."""
    await conn.execute("CREATE TEMP TABLE item (id int PRIMARY KEY, name text, tags text[], details jsonb)")
    await conn.executemany(
        sql("INSERT INTO item VALUES (:id, :name, :tags, :details)"),
        [
            {"id": n, "name": f"item {n}", "tags": ["a", "b", f"t{n}"], "details": f'{{"size": {n}, "n{n}": 1}}'}
            for n in (1, 2, 3)
        ],
    )
    return conn


async def test_every_method_takes_a_query(table: headrace.Connection) -> None:
    query = sql("SELECT id, name FROM item WHERE id >= :id ORDER BY id", id=2)
    assert await table.execute(query) == "SELECT 2"
    assert await table.fetch(query) == [(2, "item 2"), (3, "item 3")]
    assert await table.fetch(query, row=Item) == [Item(2, "item 2"), Item(3, "item 3")]
    assert await table.fetchrow(query) == (2, "item 2")
    assert await table.fetchval(query, column="name") == "item 2"
    async with table.transaction():
        assert [row["id"] async for row in table.cursor(query)] == [2, 3]
        cursor = await table.cursor(query)
        assert await cursor.fetch(1) == [(2, "item 2")]
    assert [row async for row in table.copy_out(query, row=Item)] == [Item(2, "item 2"), Item(3, "item 3")]
    output = io.BytesIO()
    await table.copy_from_query(query, output=output)
    assert output.getvalue() == b"2\titem 2\n3\titem 3\n"
    many = sql("SELECT name FROM item WHERE id = :id")
    assert await table.fetchmany(many, [{"id": 3}, {"id": 1}]) == [("item 3",), ("item 1",)]
    await table.executemany(sql("UPDATE item SET name = :name WHERE id = :id"), [{"id": 1, "name": "first"}])
    assert await table.fetchval(many.text, 1) == "first"


async def test_every_method_of_a_pool_takes_a_query(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    query = sql("SELECT :a::int AS id, :b AS name", a=1, b="x")
    assert await made.execute(query) == "SELECT 1"
    assert await made.fetch(query, row=Item) == [Item(1, "x")]
    assert await made.fetchrow(query) == (1, "x")
    assert await made.fetchval(query, column=1) == "x"
    assert await made.fetchmany(sql("SELECT :a::int"), [{"a": 1}, {"a": 2}]) == [(1,), (2,)]
    await made.executemany(sql("SELECT :a::int"), [{"a": 1}])
    async with made.acquire() as lease:
        assert await lease.fetchrow(query) == (1, "x")


async def test_a_pool_sees_what_changes_the_session(pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    await made.fetchval(sql("SELECT set_config('work_mem', :value, false)", value="7654kB"))
    assert await made.fetchval("SHOW work_mem") != "7654kB"


async def test_one_text_is_one_prepared_statement(conn: headrace.Connection) -> None:
    for id in range(3):
        assert await conn.fetchval(sql("SELECT :id::int", id=id)) == id
        assert await conn.fetchval(sql("SELECT :a::int + :b", a=sql(":x", x=id), b=1)) == id + 1
    queries = await conn.fetch(
        "SELECT statement FROM pg_prepared_statements WHERE statement LIKE 'SELECT $1%' ORDER BY 1"
    )
    assert [row[0] for row in queries] == ["SELECT $1::int", "SELECT $1::int + $2"]


async def test_the_server_and_sql_agree_on_what_a_parameter_is(table: headrace.Connection) -> None:
    query = sql(
        """
        SELECT :one::int, ':one', E'\\':one', $$:one$$, "x:one", tags[1:2], tags[:low : :high], tags[id:3] -- :one
        FROM (SELECT *, 5 AS "x:one" FROM item) AS item
        WHERE details ? :key AND details ?| :keys AND details @> jsonb_build_object('size', :one::int) /* :one */
        """,
        one=1,
        low=2,
        high=3,
        key="n1",
        keys=["n1", "n2"],
    )
    assert await table.fetchrow(query) == ((1, ":one", "':one", ":one", 5, ["a", "b"], ["b", "t1"], ["a", "b", "t1"]))


async def test_values_are_never_text(table: headrace.Connection) -> None:
    for value in ("'; DROP TABLE item; --", ":id", "$1", "\\", '"', "item 1' OR 'a' = 'a"):
        assert await table.fetch(sql("SELECT * FROM item WHERE name = :name", name=value)) == []
        assert await table.fetchval(sql("SELECT :value", value=value)) == value


async def test_queries_are_put_together(table: headrace.Connection) -> None:
    conditions = [
        sql("id > :least", least=1),
        sql("name LIKE :pattern", pattern="item%"),
        sql("id = ANY(:ids)", ids=[2, 5]),
    ]
    query = sql(
        "SELECT id FROM :table WHERE :conditions ORDER BY :order DESC LIMIT :limit",
        table=identifier("pg_temp", "item"),
        conditions=sql(" AND ").join(conditions),
        order=identifier("id"),
        limit=5,
    )
    assert await table.fetch(query) == [(2,)]


async def test_a_batch_of_mappings_is_atomic(table: headrace.Connection) -> None:
    def elements() -> Any:
        for id in range(10, 20_010):
            yield {"id": id, "name": "x" * 50}
        yield {"id": 1, "nmae": "x"}

    insert = sql("INSERT INTO item (id, name) VALUES (:id, :name)")
    with pytest.raises(headrace.DataError, match="element #20000: no value for the parameter :name"):
        await table.executemany(insert, elements())
    assert await table.fetchval("SELECT count(*) FROM item") == 3


async def test_arguments_are_not_passed_twice(conn: headrace.Connection, pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    query: Any = sql("SELECT :a::int", a=1)
    for connection in (conn, made):
        for ask in (connection.execute, connection.fetch, connection.fetchrow, connection.fetchval):
            with pytest.raises(headrace.InterfaceError, match="brings its arguments along: 1 more was passed"):
                await ask(query, 5)
            with pytest.raises(headrace.InterfaceError, match="no value for the parameter :a"):
                await ask(sql("SELECT :a::int"))
        for ask in (connection.executemany, connection.fetchmany):
            with pytest.raises(headrace.InterfaceError, match="each element has arguments of its own"):
                await ask(query, [(1,)])
    with pytest.raises(headrace.InterfaceError, match=r"prepare\(\) takes a text.*\nHINT:  .*query.text"):
        await conn.prepare(query)
    assert await conn.fetchval(query) == 1


async def test_what_is_no_query(conn: headrace.Connection, pool: Any) -> None:
    made = await pool(min_size=1, max_size=1)
    wrong: Any
    for wrong in (b"SELECT 1", None, 5):
        for connection in (conn, made):
            for ask in (connection.execute, connection.fetch, connection.fetchrow, connection.fetchval):
                with pytest.raises(TypeError, match="query is expected to be a str, or what headrace.sql"):
                    await ask(wrong)
            for ask in (connection.executemany, connection.fetchmany):
                with pytest.raises(TypeError, match="query is expected to be a str, or what headrace.sql"):
                    await ask(wrong, [()])
        with pytest.raises(TypeError, match="query is expected to be a str"):
            await conn.prepare(wrong)
        with pytest.raises(TypeError, match="query is expected to be a str"):
            conn.cursor(wrong)


async def test_loggers_see_text_and_arguments(conn: headrace.Connection) -> None:
    seen: list[Any] = []
    with conn.query_logger(seen.append):
        await conn.fetchval(sql("SELECT :a::int", a=1))
    assert [(record.query, record.args) for record in seen] == [("SELECT $1::int", (1,))]


@pytest.mark.skipif(sys.version_info < (3, 14), reason="this Python has no template literals")
async def test_template_literals(table: headrace.Connection) -> None:
    query = eval('t"SELECT id, name FROM item WHERE id = {n}"', {"n": 2})
    assert await table.fetch(query, row=Item) == [Item(2, "item 2")]
    assert await table.execute(query) == "SELECT 1"
    assert await table.fetchval(sql(query)) == 2
