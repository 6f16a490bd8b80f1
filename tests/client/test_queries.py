"""execute, executemany, fetch, fetchrow, fetchval, fetchmany: results, and errors that leave the connection usable."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import headrace


async def test_execute_returns_the_last_command_tag(conn: headrace.Connection) -> None:
    assert await conn.execute("CREATE TEMP TABLE t (a int)") == "CREATE TABLE"
    assert await conn.execute("INSERT INTO t VALUES (1); INSERT INTO t VALUES (2), (3)") == "INSERT 0 2"
    assert await conn.execute("INSERT INTO t VALUES ($1)", 4) == "INSERT 0 1"
    assert await conn.execute("") == ""
    assert await conn.fetchval("SELECT count(*) FROM t") == 4


async def test_several_statements_are_one_implicit_transaction(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("INSERT INTO t VALUES (1); SELECT 1/0")
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


async def test_fetch_gives_records(conn: headrace.Connection) -> None:
    rows = await conn.fetch("SELECT i AS a, i * 2 AS b FROM generate_series(1, 3) AS i")
    assert rows == [(1, 2), (2, 4), (3, 6)]
    assert dict(rows[0]) == {"a": 1, "b": 2}
    assert rows[0]["b"] == rows[0][1] == rows[0][-1] == 2
    assert repr(rows[0]) == "<Record a=1 b=2>"
    assert await conn.fetch("SELECT 1 WHERE false") == []
    assert await conn.fetch("CREATE TEMP TABLE t (a int)") == []


async def test_fetchrow_and_fetchval(conn: headrace.Connection) -> None:
    assert await conn.fetchrow("SELECT 1 AS a, 2 AS b") == (1, 2)
    assert await conn.fetchrow("SELECT 1 WHERE false") is None
    assert await conn.fetchval("SELECT 1, 2", column=1) == 2
    assert await conn.fetchval("SELECT 1 AS a, 2 AS b", column="b") == 2
    assert await conn.fetchval("SELECT 1 WHERE false") is None
    assert await conn.fetchval("SELECT NULL::int") is None
    with pytest.raises(IndexError):
        await conn.fetchval("SELECT 1", column=5)
    assert await conn.fetchval("SELECT 3") == 3


async def test_fetchmany_returns_the_rows_of_all_executions(conn: headrace.Connection) -> None:
    rows = await conn.fetchmany("SELECT $1::int + 1", [(i,) for i in range(5)])
    assert [row[0] for row in rows] == [1, 2, 3, 4, 5]


async def test_record_class(conn: headrace.Connection, connect: Any) -> None:
    class Row(headrace.Record):
        def __getattr__(self, name: str) -> Any:
            return self[name]

    row = await conn.fetchrow("SELECT 1 AS a", record_class=Row)
    assert type(row) is Row
    assert row.a == 1
    other = await connect(record_class=Row)
    assert (await other.fetch("SELECT 2 AS b"))[0].b == 2
    with pytest.raises(headrace.InterfaceError, match="subclass of headrace.Record"):
        await conn.fetch("SELECT 1", record_class=dict)  # type: ignore[arg-type]


async def test_executemany_is_atomic(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY)")
    await conn.executemany("INSERT INTO t VALUES ($1)", [(i,) for i in range(1000)])
    assert await conn.fetchval("SELECT count(*) FROM t") == 1000
    with pytest.raises(headrace.UniqueViolationError):
        await conn.executemany("INSERT INTO t VALUES ($1)", [(1000,), (1001,), (1,), (1002,)])
    assert await conn.fetchval("SELECT count(*) FROM t") == 1000


async def test_executemany_undoes_all_where_a_late_element_cannot_be_encoded(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")

    def elements() -> Any:
        for i in range(30_000):
            yield i, "x" * 50
        yield "thirty thousand", ""

    with pytest.raises(headrace.DataError, match=r"argument \$1 in element #30000"):
        await conn.executemany("INSERT INTO t VALUES ($1, $2)", elements())
    assert await conn.fetchval("SELECT count(*) FROM t") == 0
    assert not conn.is_in_transaction()


async def test_executemany_where_the_iterable_itself_raises(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a text)")

    def elements() -> Any:
        for _ in range(5_000):
            yield ("x" * 100,)
        raise RuntimeError("no more rows")

    with pytest.raises(RuntimeError, match="no more rows"):
        await conn.executemany("INSERT INTO t VALUES ($1)", elements())
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


async def test_executemany_of_nothing(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    assert await conn.executemany("INSERT INTO t VALUES ($1)", []) is None


async def test_executemany_with_elements_that_are_no_sequences(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a text)")
    with pytest.raises(headrace.DataError, match="element #1: expected a sequence"):
        await conn.executemany("INSERT INTO t VALUES ($1)", [("a",), "b"])
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize(
    ("query", "args", "error", "text"),
    [
        ("SELECT $1::int", (), headrace.InterfaceError, "expects 1 argument for this query, 0 were passed"),
        ("SELECT $1::int, $2::int", (1,), headrace.InterfaceError, "expects 2 arguments.*1 was passed"),
        ("SELECT $1::int", ("a",), headrace.DataError, r"query argument \$1: 'a'.*an integer is required"),
        ("SELECT $1::text", (1,), headrace.DataError, r"query argument \$1: 1 .*expected str, got int"),
        ("SELECT $1::int2", (40_000,), headrace.DataError, r"query argument \$1: 40000"),
        ("SELECT 1 WHERE 1 IN ($1)", ([1, 2],), headrace.DataError, r"= ANY\(\$1"),
        ("SELEC 1", (), headrace.PostgresSyntaxError, "syntax error"),
        ("SELECT * FROM missing", (), headrace.UndefinedTableError, "missing"),
        ("SELECT 1\0", (), (headrace.InterfaceError, ValueError), "NUL"),
        ("COPY pg_class TO STDOUT", (), headrace.InterfaceError, "COPY"),
    ],
)
async def test_bad_input_is_refused_clearly_and_the_connection_stays_usable(
    conn: headrace.Connection, query: str, args: tuple[Any, ...], error: Any, text: str
) -> None:
    with pytest.raises(error, match=text):
        await conn.fetch(query, *args)
    assert await conn.fetchval("SELECT 1") == 1


async def test_copy_typed_into_execute_is_refused_before_the_wire_is_blocked(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    for query in ("COPY t FROM STDIN", "SELECT 1; COPY t FROM STDIN", "/* */ copy t to stdout"):
        with pytest.raises(headrace.InterfaceError, match="COPY"):
            await conn.execute(query)
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_wrong_argument_names_position_type_and_remedy(conn: headrace.Connection) -> None:
    with pytest.raises(headrace.DataError) as caught:
        await conn.fetch("SELECT $1::int, $2::date", 1, "today")
    message = str(caught.value)
    assert "$2" in message
    assert "date" in message
    assert "str" in message
    assert "HINT" in message


async def test_a_closed_connection(conn: headrace.Connection) -> None:
    await conn.close()
    assert conn.is_closed()
    for call in (conn.fetch("SELECT 1"), conn.execute("SELECT 1"), conn.prepare("SELECT 1"), conn.reset()):
        with pytest.raises(headrace.InterfaceError, match="connection is closed"):
            await call
    await conn.close()


async def test_another_event_loop(connect_kwargs: dict[str, Any]) -> None:
    connection = await headrace.connect(**connect_kwargs)

    def elsewhere() -> None:
        with pytest.raises(headrace.InterfaceError, match="another event loop"):
            asyncio.run(connection.fetch("SELECT 1"))  # type: ignore[arg-type]

    await asyncio.to_thread(elsewhere)
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()


async def test_server_facts(conn: headrace.Connection) -> None:
    version = conn.get_server_version()
    assert version.major == int(await conn.fetchval("SHOW server_version_num")) // 10_000
    assert conn.get_server_pid() == await conn.fetchval("SELECT pg_backend_pid()")
    assert conn.get_settings().client_encoding == "UTF8"
    assert conn.get_settings()["TimeZone"]


async def test_server_settings_hold_and_survive_reset(connect: Any) -> None:
    connection = await connect(server_settings={"work_mem": "1234kB", "application_name": "a 'name'"})
    assert await connection.fetchval("SHOW work_mem") == "1234kB"
    await connection.execute("SET work_mem = '4MB'; SELECT pg_advisory_lock(1); BEGIN")
    await connection.reset()
    assert await connection.fetchval("SHOW work_mem") == "1234kB"
    assert await connection.fetchval("SHOW application_name") == "a 'name'"
    assert not connection.is_in_transaction()
    assert await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0


async def test_close_lets_the_server_know(connect: Any, conn: headrace.Connection) -> None:
    other = await connect()
    pid = other.get_server_pid()
    await other.close()
    # The backend has closed its socket, which is the last thing but one that it does.
    for _ in range(1000):
        if not await conn.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", pid):
            break
    else:
        pytest.fail("the backend is still there")


async def test_closing_cancels_what_runs(connect: Any) -> None:
    connection = await connect()
    running = asyncio.create_task(connection.fetch("SELECT pg_sleep(600)"))
    behind = asyncio.create_task(connection.fetchval("SELECT 1"))
    while connection._driver.session.sent.count == 0:
        await asyncio.sleep(0)
    await connection.close(timeout=10)
    with pytest.raises((headrace.QueryCanceledError, headrace.ConnectionDoesNotExistError)):
        await running
    await asyncio.gather(behind, return_exceptions=True)
    assert connection.is_closed()


@pytest.mark.parametrize("timeout", ["soon", True, b"", float("nan")])
async def test_a_timeout_that_is_no_number_is_refused_before_anything_is_sent(
    conn: headrace.Connection, timeout: Any
) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    insert = "INSERT INTO t VALUES ($1)"
    statement = await conn.prepare(insert)
    calls: list[Any] = [
        *(method(insert, 1, timeout=timeout) for method in (conn.execute, conn.fetch, conn.fetchrow, conn.fetchval)),
        *(method(insert, [(1,)], timeout=timeout) for method in (conn.executemany, conn.fetchmany)),
        *(method(1, timeout=timeout) for method in (statement.fetch, statement.fetchrow, statement.fetchval)),
        *(method([(1,)], timeout=timeout) for method in (statement.executemany, statement.fetchmany)),
        conn.execute("INSERT INTO t VALUES (1)", timeout=timeout),
        conn.prepare("SELECT 1 FROM t", timeout=timeout),
        conn.reset(timeout=timeout),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="invalid timeout value: expected a number of seconds or None, got"):
            await call
    assert await conn.fetchval("SELECT count(*) FROM t") == 0


@pytest.mark.parametrize("given", ["0.01", 0.01])
async def test_command_timeout_may_be_text_as_in_a_url(connect: Any, pool: Any, given: Any) -> None:
    conn = await connect(command_timeout=given)
    with pytest.raises(TimeoutError):
        await conn.execute("SELECT pg_sleep(60)")
    made = await pool(min_size=1, max_size=1, command_timeout=given)
    with pytest.raises(TimeoutError):
        await made.fetch("SELECT pg_sleep(60)")


@pytest.mark.parametrize("given", ["0", "-1", "nan", "soon", "", 0, True])
async def test_command_timeout_is_a_positive_number(connect: Any, given: Any) -> None:
    with pytest.raises(ValueError, match="invalid command_timeout value: expected greater than 0 float"):
        await connect(command_timeout=given)


async def test_a_nul_in_a_text_is_caught_as_what_the_server_says_of_it(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a text, b text[])")
    calls = [
        conn.fetchval("SELECT $1::text", "a\0"),
        conn.fetchval("SELECT $1::text[]", ["a", "b\0"]),
        conn.executemany("INSERT INTO t VALUES ($1)", [("a",), ("\0",)]),
        conn.copy_records_to_table("t", records=[("a", ["\0"])]),
    ]
    for call in calls:
        with pytest.raises(headrace.CharacterNotInRepertoireError) as caught:
            await call
        assert isinstance(caught.value, headrace.NulCharacterError)
        assert caught.value.sqlstate == "22021"


async def test_a_timeout_of_infinity_is_none(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT 1", timeout=float("inf")) == 1
