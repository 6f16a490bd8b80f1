"""Rows into and out of COPY one by one: copy_in and copy_out."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

import headrace


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    """A connection with a table `t` of its own."""
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")
    return conn


async def count(conn: headrace.Connection) -> int:
    return int(await conn.fetchval("SELECT count(*) FROM t"))


# Writing


async def test_rows_written_one_by_one(conn: headrace.Connection) -> None:
    async with conn.copy_in("t", columns=["b", "a"]) as copy:
        assert (copy.rows, copy.status) == (0, "")
        for i in range(10_000):
            await copy.write_row((str(i), i))
            assert copy.rows == i + 1
        sent = copy.bytes_sent
        assert sent > 100_000
        await copy.flush()
        assert copy.bytes_sent > sent
    assert copy.status == "COPY 10000"
    assert await conn.fetchrow("SELECT count(*), sum(a), max(b) FROM t") == (10000, 49995000, "9999")


async def test_rows_written_from_iterables(conn: headrace.Connection) -> None:
    async def asynchronous() -> AsyncIterator[tuple[int, None]]:
        for i in range(5000):
            yield i, None

    async with conn.copy_in("t") as copy:
        await copy.write_rows((i, "x" * 50) for i in range(5000))
        await copy.write_rows(asynchronous())
        assert copy.rows == 10_000
    assert await count(conn) == 10_000


async def test_bytes_written_in_a_format(conn: headrace.Connection) -> None:
    async with conn.copy_in("t", format="csv", header=True, delimiter=";") as copy:
        for piece in (b"a;", bytearray(b"b\n1;on"), memoryview(b'e\n2;"t;w')):
            await copy.write(piece)
        await copy.write(b'o"\n')
    assert copy.status == "COPY 2"
    assert [tuple(row) for row in await conn.fetch("TABLE t")] == [(1, "one"), (2, "t;wo")]


async def test_a_row_that_does_not_fit_can_be_left_out(conn: headrace.Connection) -> None:
    async with conn.copy_in("t") as copy:
        await copy.write_row((1, "one"))
        for row in (("two", "two"), (3,)):
            with pytest.raises(headrace.DataError, match="row 2"):  # the number it would have had
                await copy.write_row(row)
        await copy.write_row((4, "four"))
    assert [tuple(row) for row in await conn.fetch("TABLE t")] == [(1, "one"), (4, "four")]


async def test_an_error_inside_the_block_undoes_the_copy(conn: headrace.Connection) -> None:
    with pytest.raises(RuntimeError, match="inside"):
        async with conn.copy_in("t") as copy:
            await copy.write_rows((i, "x" * 50) for i in range(10_000))
            raise RuntimeError("inside")
    assert copy.status == ""
    assert await count(conn) == 0


async def test_what_the_server_refuses_is_raised_inside_or_at_the_end_of_the_block(conn: headrace.Connection) -> None:
    await conn.execute("ALTER TABLE t ADD CHECK (a > 0)")
    with pytest.raises(headrace.CheckViolationError):
        async with conn.copy_in("t") as copy:
            await copy.write_row((0, "refused"))
    written = 0
    with pytest.raises(headrace.CheckViolationError):
        async with conn.copy_in("t") as copy:
            while written < 10_000_000:
                await copy.write_row((0, "refused"))
                written += 1
    assert written < 10_000_000
    assert await count(conn) == 0


async def test_the_wrong_kind_of_writing_is_refused(conn: headrace.Connection) -> None:
    async with conn.copy_in("t") as copy:
        with pytest.raises(headrace.InterfaceError, match="this COPY takes rows"):
            await copy.write(b"1\tx\n")
        with pytest.raises(headrace.InterfaceError, match="twice"):
            await copy.__aenter__()
    async with conn.copy_in("t", format="text") as copy:
        with pytest.raises(headrace.InterfaceError, match="this COPY takes bytes"):
            await copy.write_row((1, "x"))
        with pytest.raises(headrace.InterfaceError, match="data is expected to be bytes, got str"):
            await copy.write("1\tx\n")  # type: ignore[arg-type]
    with pytest.raises(headrace.InterfaceError, match="the COPY has ended"):
        await copy.write(b"")
    with pytest.raises(headrace.InterfaceError, match="the COPY has not begun"):
        await conn.copy_in("t").write_row((1, "x"))
    with pytest.raises(headrace.InterfaceError, match="delimiter needs a format"):
        async with conn.copy_in("t", delimiter=";"):
            pass
    with pytest.raises(TypeError, match="COPY has no option 'colour'"):
        async with conn.copy_in("t", format="csv", colour="red"):
            pass
    with pytest.raises(headrace.UndefinedTableError):
        async with conn.copy_in("missing"):
            pass
    assert await count(conn) == 0


# Reading


async def test_rows_read_one_by_one(conn: headrace.Connection) -> None:
    rows = [
        row
        async for row in conn.copy_out(
            "SELECT i AS n, 'row ' || i AS name, date '2024-01-01' + i AS day, ARRAY[i, NULL] AS l"
            " FROM generate_series(1, $1) AS i ORDER BY i",
            20_000,
        )
    ]
    assert len(rows) == 20_000
    assert isinstance(rows[0], headrace.Record)
    assert dict(rows[6]) == {"n": 7, "name": "row 7", "day": datetime.date(2024, 1, 8), "l": [7, None]}


async def test_progress_and_the_command_tag(conn: headrace.Connection) -> None:
    async with conn.copy_out("SELECT generate_series(1, 5)") as copy:
        async for row in copy:
            assert copy.rows == row[0]
            assert copy.bytes_received > 0
    assert (copy.rows, copy.status) == (5, "COPY 5")


async def test_record_class(conn: headrace.Connection) -> None:
    class Row(headrace.Record):
        def __getattr__(self, name: str) -> Any:
            return self[name]

    async for row in conn.copy_out("SELECT 1 AS one", record_class=Row):
        assert row.one == 1


async def test_no_rows_and_no_columns(conn: headrace.Connection) -> None:
    assert [row async for row in conn.copy_out("SELECT 1 WHERE false")] == []
    assert [tuple(row) async for row in conn.copy_out("SELECT FROM generate_series(1, 2)")] == [(), ()]


async def test_rows_of_what_changes_the_table(conn: headrace.Connection) -> None:
    query = "INSERT INTO t VALUES ($1, 'new') RETURNING a, b"
    assert [tuple(row) async for row in conn.copy_out(query, 5)] == [(5, "new")]
    assert await count(conn) == 1
    with pytest.raises(headrace.InterfaceError, match="query is expected to return rows"):
        async for _ in conn.copy_out("INSERT INTO t VALUES (6)"):
            pass
    assert await count(conn) == 1


async def test_codecs_that_read_text(conn: headrace.Connection) -> None:
    await conn.set_type_codec("numeric", schema="pg_catalog", encoder=str, decoder=float)
    await conn.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await conn.set_type_codec("inet", schema="pg_catalog", encoder=str, decoder=str)
    query = """SELECT i, i / 4.0 AS n, NULL::numeric AS "null", '{"k": 1}'::jsonb AS j, '12.50'::money AS m,
            inet '10.0.0.1' AS a FROM generate_series(3, 1, -1) AS i"""
    rows = [row async for row in conn.copy_out(query)]
    assert rows == await conn.fetch(query)
    assert tuple(rows[0]) == (3, 0.75, None, {"k": 1}, "$12.50", "10.0.0.1")
    assert list(rows[0].keys()) == ["i", "n", "null", "j", "m", "a"]
    query = "INSERT INTO t VALUES (1) RETURNING a, 1.5::numeric, 2.5::numeric AS n"
    assert [tuple(row) async for row in conn.copy_out(query)] == [(1, 1.5, 2.5)]


async def test_leaving_early_gives_the_connection_back(conn: headrace.Connection) -> None:
    query = "SELECT generate_series(1, 10000000)"
    async for row in conn.copy_out(query):
        if row[0] == 3:
            break
    assert await conn.fetchval("SELECT 1") == 1
    async with conn.copy_out(query) as copy:
        async for _ in copy:
            break
    assert copy.status == ""
    assert await conn.fetchval("SELECT 2") == 2
    with pytest.raises(RuntimeError, match="inside"):
        async with conn.copy_out(query) as copy:
            async for _ in copy:
                raise RuntimeError("inside")
    assert await conn.fetchval("SELECT 3") == 3


async def test_the_servers_error_comes_behind_the_rows_before_it(conn: headrace.Connection) -> None:
    seen = 0
    with pytest.raises(headrace.DivisionByZeroError):
        async for _ in conn.copy_out("SELECT 1 / (50000 - i) FROM generate_series(1, 100000) AS i"):
            seen += 1
    assert 0 < seen < 50_000
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_decoder_that_raises_ends_the_copy_and_nothing_else(conn: headrace.Connection) -> None:
    def decode(text: str) -> int:
        if text == "1000":
            raise LookupError("a thousand")
        return int(text)

    await conn.set_type_codec("int4", schema="pg_catalog", encoder=str, decoder=decode)
    with pytest.raises(LookupError, match="a thousand"):
        async for _ in conn.copy_out("SELECT generate_series(1, 10000000)"):
            pass
    assert await conn.fetchval("SELECT 1") == 1


async def test_wrong_queries_are_refused(conn: headrace.Connection) -> None:
    for query, error in (
        ("SELECT 1; SELECT 2", headrace.InterfaceError),
        ("SELEC", headrace.PostgresSyntaxError),
        ("SELECT * FROM missing", headrace.UndefinedTableError),
    ):
        with pytest.raises(error):
            async for _ in conn.copy_out(query):
                pass
    with pytest.raises(headrace.InterfaceError, match="expects 0 arguments"):
        async for _ in conn.copy_out("SELECT 1", 1):
            pass


# Pools


async def test_a_pool_copies_on_a_lease(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    await shared.execute("CREATE TABLE p (a int)")
    try:
        assert await shared.copy_records_to_table("p", records=[(1,)]) == "COPY 1"
        assert await shared.copy_to_table("p", source=b"2\n") == "COPY 1"
        async with shared.copy_in("p") as copy:
            await copy.write_row((3,))
            assert shared.get_idle_size() == 0
        data: list[bytes] = []
        assert await shared.copy_from_table("p", output=data.append) == "COPY 3"
        assert await shared.copy_from_query("SELECT $1::int", 4, output=data.append) == "COPY 1"
        assert b"".join(data) == b"1\n2\n3\n4\n"
        assert [row[0] async for row in shared.copy_out("TABLE p")] == [1, 2, 3]
        async for _ in shared.copy_out("SELECT generate_series(1, 10000000)"):
            break
        assert await asyncio.wait_for(shared.fetchval("SELECT 1"), 10) == 1
    finally:
        await shared.execute("DROP TABLE p")
