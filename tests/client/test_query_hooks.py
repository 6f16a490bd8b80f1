"""Query hooks: what they are told, when, in which context, and what an error in one of them does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import logging
import weakref
from typing import Any

import pytest

import headrace
from headrace import Operation, Outcome, QueryHook

CALLER: contextvars.ContextVar[str] = contextvars.ContextVar("CALLER", default="")


class Recorded:
    """One operation, as a hook was told of it."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.began_in = CALLER.get()
        self.ended_in: str | None = None
        self.outcome: Outcome | None = None

    def __repr__(self) -> str:
        return f"{self.operation.kind} {self.operation.query!r} {self.outcome and self.outcome.error!r}"


class Recorder(QueryHook):
    """A hook that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[Recorded] = []

    def start(self, operation: Operation) -> Recorded:
        self.all.append(Recorded(operation))
        return self.all[-1]

    def end(self, token: Recorded, outcome: Outcome) -> None:
        assert token.outcome is None, "end() is called once"
        assert outcome.operation is token.operation
        token.outcome = outcome
        token.ended_in = CALLER.get()

    def take(self) -> Recorded:
        (recorded,) = self.all
        self.all.clear()
        return recorded

    @property
    def told(self) -> list[tuple[str, str]]:
        assert all(each.outcome is not None for each in self.all), self.all
        return [(each.operation.kind, each.operation.query) for each in self.all]


def outcome_of(recorded: Recorded) -> Outcome:
    assert recorded.outcome is not None
    return recorded.outcome


async def test_the_start_and_the_end_of_a_query(conn: headrace.Connection, connect_kwargs: dict[str, Any]) -> None:
    recorder = Recorder()
    conn.add_query_hook(recorder)
    assert await conn.fetchval("SELECT $1::int + $2::int", 1, 2, timeout=5) == 3
    recorded = recorder.take()
    operation, outcome = recorded.operation, outcome_of(recorded)
    assert (operation.kind, operation.query, operation.args) == ("query", "SELECT $1::int + $2::int", (1, 2))
    assert (operation.timeout, operation.pool) == (5, None)
    assert 0 < outcome.elapsed < 5
    assert (outcome.error, outcome.executions) == (None, None)
    server = operation.server
    assert server is not None
    assert outcome.server == server
    assert (server.address, server.port) == (connect_kwargs["host"], connect_kwargs["port"])
    assert (server.peer_address, server.peer_port) == ("127.0.0.1", connect_kwargs["port"])
    assert (server.params.user, server.params.database) == (connect_kwargs["user"], connect_kwargs["database"])


async def test_every_kind_of_operation_on_a_connection(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    recorder = Recorder()
    conn.add_query_hook(recorder)

    async def elements() -> Any:
        for number in range(3):
            yield (number,)

    await conn.execute("SELECT 1; SELECT 2")
    await conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)])
    await conn.executemany("INSERT INTO t VALUES ($1)", elements())
    await conn.fetchmany("SELECT $1::int", [(4,)])
    assert [row async for row in conn.fetch_each("SELECT $1::int", [(n,) for n in range(300)])]
    statement = await conn.prepare("SELECT 7")
    await statement.fetchval()
    async with conn.transaction():
        async for _ in conn.cursor("SELECT 8"):
            pass
    await conn.copy_to_table("t", source=b"9\n")
    await conn.copy_from_query("SELECT 10", output=io.BytesIO())
    told = recorder.told
    assert told.index(("query", "BEGIN")) < told.index(("query", "SELECT 8")) < told.index(("query", "COMMIT"))
    assert sorted(told) == sorted(
        [
            ("query", "SELECT 1; SELECT 2"),
            ("batch", "INSERT INTO t VALUES ($1)"),
            ("batch", "INSERT INTO t VALUES ($1)"),
            ("batch", "SELECT $1::int"),
            ("each", "SELECT $1::int"),
            ("prepare", "SELECT 7"),
            ("query", "SELECT 7"),
            ("query", "BEGIN"),
            ("query", "SELECT 8"),
            ("query", "COMMIT"),
            ("copy", 'COPY "t" FROM STDIN'),
            ("copy", "COPY (\nSELECT 10\n) TO STDOUT"),
        ]
    )
    executions = {(each.operation.kind, outcome_of(each).executions) for each in recorder.all}
    assert executions >= {("batch", 2), ("batch", 3), ("batch", 1), ("each", 300), ("query", None), ("copy", None)}
    status = {each.operation.query: outcome_of(each).status for each in recorder.all}
    assert status["COMMIT"] == "COMMIT"
    assert status["BEGIN"] == "BEGIN"
    assert status['COPY "t" FROM STDIN'] == "COPY 1"


async def test_errors_and_cancellations_end_an_operation(conn: headrace.Connection) -> None:
    recorder = Recorder()
    conn.add_query_hook(recorder)
    with pytest.raises(headrace.DivisionByZeroError) as refused:
        await conn.fetch("SELECT 1/0")
    assert outcome_of(recorder.take()).error is refused.value
    for _ in range(2):  # the statement is new, and known
        with pytest.raises(headrace.DataError) as unfit:
            await conn.fetch("SELECT $1::int", "x")
        recorded = recorder.take()
        assert (outcome_of(recorded).error, recorded.operation.args) == (unfit.value, ("x",))
    with pytest.raises(TimeoutError):
        await conn.fetch("SELECT pg_sleep(60)", timeout=0.05)
    assert isinstance(outcome_of(recorder.take()).error, TimeoutError)
    task = asyncio.create_task(conn.fetch("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(outcome_of(recorder.take()).error, asyncio.CancelledError)

    def wrong(data: bytes) -> None:
        raise LookupError

    with pytest.raises(LookupError) as failed:
        await conn.copy_from_query("SELECT 1", output=wrong)
    assert outcome_of(recorder.take()).error is failed.value
    with pytest.raises(headrace.PostgresSyntaxError) as no_statement:
        await conn.prepare("SELEC 1")
    assert outcome_of(recorder.take()).error is no_statement.value


async def test_a_copy_into_a_table_or_column_that_does_not_exist(conn: headrace.Connection) -> None:
    """The name is found to be wrong by other requests than the COPY."""
    await conn.execute("CREATE TEMPORARY TABLE t (a int)")
    recorder = Recorder()
    logged: list[Any] = []
    conn.add_query_hook(recorder)
    conn.add_query_logger(logged.append)
    for table, columns, text in ("none", None, 'COPY "none" FROM STDIN'), ("t", ["b"], 'COPY "t" ("b") FROM STDIN'):
        with pytest.raises((headrace.UndefinedTableError, headrace.UndefinedColumnError)) as raised:
            await conn.copy_records_to_table(table, records=[(1,)], columns=columns)
        (failed,) = [each for each in recorder.all if each.outcome is not None and each.outcome.error is not None]
        assert (failed.operation.kind, failed.operation.query) == ("copy", text)
        assert outcome_of(failed).error is raised.value
        assert [(each.query, each.exception) for each in logged if each.exception] == [(text, raised.value)]
        recorder.all.clear()
        logged.clear()


async def test_both_methods_run_in_the_context_of_the_caller(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)

    async def caller(name: str) -> None:
        CALLER.set(name)
        await shared.fetchval("SELECT $1::text", name)
        async for _ in shared.fetchval_each("SELECT $1::text", [(name,), (name,)]):
            pass
        async with shared.acquire() as leased, leased.transaction():
            await leased.execute("SELECT 'leased'")

    await asyncio.gather(*(caller(f"caller {number}") for number in range(20)))
    ended = [each for each in recorder.all if each.operation.kind != "connect"]
    assert {(each.began_in, each.ended_in) for each in ended} == {
        (f"caller {number}", f"caller {number}") for number in range(20)
    }
    for number in range(20):
        mine = [each.operation.query or each.operation.kind for each in ended if each.began_in == f"caller {number}"]
        assert sorted(mine) == sorted(
            ["SELECT $1::text"] * 2 + ["acquire", "lease", "BEGIN", "SELECT 'leased'", "COMMIT"]
        )


async def test_a_hook_of_a_pool_is_told_of_each_call_once(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    shared.add_query_hook(recorder)
    await shared.fetchval("SELECT 1")
    await shared.execute("SELECT 2")
    await shared.executemany("SELECT $1::int", [(3,), (4,)])
    assert [value async for value in shared.fetchval_each("SELECT $1::int", [(5,), (6,)])] == [5, 6]
    assert recorder.told == [
        ("query", "SELECT 1"),
        ("query", "SELECT 2"),
        ("batch", "SELECT $1::int"),
        ("each", "SELECT $1::int"),
    ]
    assert all(each.operation.pool is shared for each in recorder.all)
    recorder.all.clear()
    await shared.execute("SET search_path = public")  # on a lease of its own
    assert recorder.told == [("acquire", ""), ("lease", ""), ("query", "SET search_path = public")]
    assert all(each.operation.pool is shared for each in recorder.all)
    recorder.all.clear()
    shared.remove_query_hook(recorder)
    await shared.fetchval("SELECT 1")
    async with shared.acquire() as leased:
        await leased.execute("SELECT 2")
    assert recorder.all == []


async def test_a_shared_call_that_fails(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    with pytest.raises(headrace.DivisionByZeroError) as refused:
        await shared.fetch("SELECT 1/0")
    assert outcome_of(recorder.take()).error is refused.value
    with pytest.raises(headrace.DataError) as unfit:
        await shared.fetch("SELECT $1::int", "x")
    assert outcome_of(recorder.take()).error is unfit.value
    with pytest.raises(TimeoutError):
        await shared.fetch("SELECT pg_sleep(60)", timeout=0.05)
    assert isinstance(outcome_of(recorder.take()).error, TimeoutError)
    with pytest.raises(TimeoutError):
        await shared.fetch("SELECT 1", timeout=0)
    assert isinstance(outcome_of(recorder.take()).error, TimeoutError)
    task = asyncio.create_task(shared.fetch("SELECT pg_sleep(60)"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance(outcome_of(recorder.take()).error, asyncio.CancelledError)
    await shared.close()
    with pytest.raises(headrace.InterfaceError):
        await shared.fetch("SELECT 1")
    assert recorder.all == []  # it was no operation


async def test_the_wait_for_a_lease_is_told_apart_from_the_lease(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    async with shared.acquire():
        assert [each.operation.kind for each in recorder.all if each.outcome is None] == ["lease"]
        with pytest.raises(TimeoutError):
            await shared.acquire(timeout=0.05)
    assert recorder.told == [("acquire", ""), ("lease", ""), ("acquire", "")]
    assert isinstance(outcome_of(recorder.all[2]).error, TimeoutError)
    assert outcome_of(recorder.all[2]).operation.timeout == 0.05


async def test_a_lease_ends_with_its_pool(pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    leased = await shared.acquire()
    shared.terminate()
    assert recorder.told == [("acquire", ""), ("lease", "")]
    await shared.release(leased)
    assert len(recorder.all) == 2


async def test_an_empty_query_is_no_operation(pool: Any) -> None:
    """It would look like an operation that has no query, such as "acquire"."""
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    assert await shared.fetch("") == []
    await shared.executemany("", [()])
    async with shared.acquire() as leased:
        assert await leased.fetch("") == []
    assert recorder.told == [("acquire", ""), ("lease", "")]


async def test_connections_that_are_opened(pool: Any, connect: Any, connect_kwargs: dict[str, Any]) -> None:
    recorder = Recorder()
    shared = headrace.create_pool(**connect_kwargs, min_size=0, max_size=1)
    shared.add_query_hook(recorder)
    async with shared:
        await shared.fetchval("SELECT 1")
        assert sorted(recorder.told) == [("connect", ""), ("query", "SELECT 1")]
        query, connecting = sorted(recorder.all, key=lambda each: each.operation.kind, reverse=True)
        assert query.operation.server is None  # no connection was open
        assert outcome_of(query).server == outcome_of(connecting).server
        assert outcome_of(query).server.port == connect_kwargs["port"]  # type: ignore[union-attr]
        assert connecting.operation.pool is shared
    recorder.all.clear()
    headrace.add_query_hook(recorder)
    try:
        with pytest.raises(headrace.InvalidCatalogNameError) as refused:
            await headrace.connect(**connect_kwargs | {"database": "missing"})
        assert outcome_of(recorder.take()).error is refused.value
    finally:
        headrace.remove_query_hook(recorder)


async def test_hooks_of_all_of_the_process(pool: Any, connect: Any) -> None:
    before, shared = await connect(), await pool(min_size=1, max_size=1)
    recorder = Recorder()
    headrace.add_query_hook(recorder)
    try:
        shared.add_query_hook(recorder)  # no more often than once
        after = await connect()
        await before.execute("SELECT 'before'")
        await after.execute("SELECT 'after'")
        await shared.execute("SELECT 'shared'")
        async with shared.acquire() as leased:
            await leased.execute("SELECT 'leased'")
        assert [query for kind, query in recorder.told if kind == "query"] == [
            "SELECT 'before'",
            "SELECT 'after'",
            "SELECT 'shared'",
            "SELECT 'leased'",
        ]
        assert [kind for kind, _ in recorder.told if kind != "query"] == ["connect", "acquire", "lease"]
    finally:
        headrace.remove_query_hook(recorder)
    recorder.all.clear()
    await before.execute("SELECT 1")
    assert recorder.all == []
    await shared.execute("SELECT 2")  # the pool's own
    assert recorder.told == [("query", "SELECT 2")]


async def test_an_operation_that_is_under_way_when_its_hook_is_removed(conn: headrace.Connection) -> None:
    recorder = Recorder()
    conn.add_query_hook(recorder)
    task = asyncio.create_task(conn.execute("SELECT pg_sleep(0.05)"))
    await asyncio.sleep(0)
    conn.remove_query_hook(recorder)
    await task
    assert recorder.told == [("query", "SELECT pg_sleep(0.05)")]


class Wrong(QueryHook):
    def __init__(self, method: str) -> None:
        self.method = method
        self.calls = 0

    def start(self, operation: Operation) -> None:
        if self.method == "start":
            self.calls += 1
            raise LookupError("wrong")

    def end(self, token: Any, outcome: Outcome) -> None:
        if self.method == "end":
            self.calls += 1
            raise LookupError("wrong")
        assert self.method != "start", "there is no end for a start that has failed"


@pytest.mark.parametrize("method", ["start", "end"])
async def test_an_error_in_a_hook_is_logged_once_and_none_of_the_query(
    method: str, conn: headrace.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    wrong, recorder = Wrong(method), Recorder()
    conn.add_query_hook(wrong)
    conn.add_query_hook(recorder)
    with caplog.at_level(logging.ERROR, "headrace"):
        for number in range(3):
            assert await conn.fetchval("SELECT $1::int", number) == number
        async with conn.transaction():
            await conn.execute("SELECT 1")
    assert wrong.calls == 6
    assert len(recorder.told) == 6
    (record,) = caplog.records
    assert f"error in {method}() of the query hook" in record.getMessage()
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], LookupError)


@pytest.mark.parametrize("wrong", [None, print, QueryHook, object()])
async def test_something_that_is_no_hook(wrong: Any, conn: headrace.Connection, pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    for add in (conn.add_query_hook, shared.add_query_hook, headrace.add_query_hook):
        with pytest.raises(
            headrace.InterfaceError, match=r"with the methods start\(operation\) and end\(token, outcome"
        ):
            add(wrong)


async def test_loggers_and_hooks_at_once(pool: Any) -> None:
    logged: list[headrace.LoggedQuery] = []

    async def init(connection: headrace.Connection) -> None:
        connection.add_query_logger(logged.append)

    shared = await pool(min_size=1, max_size=1, init=init)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    await shared.fetchval("SELECT $1::int", 1)
    async with shared.acquire() as leased:
        await leased.fetchval("SELECT 2")
        async with leased.transaction():
            await leased.execute("SELECT 3")
        assert [value async for value in leased.fetchval_each("SELECT $1::int", [(4,), (5,)])] == [4, 5]
    assert [record.query for record in logged if record.query.startswith(("SELECT", "BEGIN", "COMMIT"))] == [
        "SELECT $1::int",
        "SELECT 2",
        "BEGIN",
        "SELECT 3",
        "COMMIT",
        "SELECT $1::int",
        "SELECT $1::int",
    ]
    assert [kind for kind, query in recorder.told].count("each") == 1
    shared.remove_query_hook(recorder)
    logged.clear()
    recorder.all.clear()
    await shared.fetchval("SELECT 6")
    assert [record.query for record in logged] == ["SELECT 6"]
    assert recorder.all == []


async def test_a_transaction_without_a_statement_is_no_operation(conn: headrace.Connection) -> None:
    recorder = Recorder()
    conn.add_query_hook(recorder)
    async with conn.transaction():
        pass
    assert recorder.all == []


async def test_a_refused_begin_and_what_is_skipped_behind_it(conn: headrace.Connection) -> None:
    recorder = Recorder()
    conn.add_query_hook(recorder)
    await conn.execute("CREATE TEMP TABLE t (a int)")
    recorder.all.clear()
    with pytest.raises(headrace.PostgresError):
        async with conn.transaction(isolation="serializable", readonly=True):
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (1/0)")
    assert {query.split()[0] for kind, query in recorder.told} == {"BEGIN", "SAVEPOINT", "INSERT", "ROLLBACK"}


async def test_iterations_that_end_early(conn: headrace.Connection, pool: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    for source in (conn, shared):
        recorder = Recorder()
        source.add_query_hook(recorder)
        results = source.fetchval_each("SELECT 1 / $1::int", [(1,), (1,), (0,), (1,)])
        with pytest.raises(headrace.DivisionByZeroError) as failed:
            async for _ in results:
                pass
        recorded = recorder.take()
        assert outcome_of(recorded).error is failed.value
        results = source.fetchval_each("SELECT $1::int", [(n,) for n in range(1000)])
        async for _ in results:
            break
        await results.aclose()
        recorded = recorder.take()
        assert (outcome_of(recorded).error, outcome_of(recorded).executions) == (None, 1)
        async for _ in source.fetchval_each("SELECT $1::int", [(n,) for n in range(1000)]):
            break
        gc.collect()
        async with asyncio.timeout(10):
            while recorder.all[0].outcome is None:
                await asyncio.sleep(0)
        assert recorder.told == [("each", "SELECT $1::int")]
        recorder.all.clear()
        source.fetchval_each("SELECT $1::int", [(1,)])  # it never begins
        assert recorder.all == []
        errors = source.fetchval_each("SELECT 1 / $1::int", [(1,), (0,), (1,)], return_errors=True)
        assert len([value async for value in errors]) == 3
        assert (outcome_of(recorder.all[0]).error, outcome_of(recorder.all[0]).executions) == (None, 3)


async def test_hooks_keep_neither_connections_nor_pools_alive(connect_kwargs: dict[str, Any]) -> None:
    recorder = Recorder()
    connection = await headrace.connect(**connect_kwargs)
    connection.add_query_hook(recorder)
    await connection.execute("SELECT 1")
    await connection.close()
    reference = weakref.ref(connection)
    gc.collect()
    gc.disable()
    try:
        del connection
        assert reference() is None
    finally:
        gc.enable()


async def test_a_call_that_is_repeated_is_one_operation(pool: Any, server: Any) -> None:
    shared = await pool(min_size=1, max_size=1)
    recorder = Recorder()
    shared.add_query_hook(recorder)
    pid = await shared.fetchval("SELECT pg_backend_pid()")
    recorder.all.clear()
    sleeping = asyncio.create_task(shared.fetchval("SELECT pg_sleep(0.2) IS NULL"))
    await asyncio.sleep(0.05)
    server.sql(f"SELECT pg_terminate_backend({pid})")
    assert await sleeping is False
    assert [each for each in recorder.told if each[0] == "query"] == [("query", "SELECT pg_sleep(0.2) IS NULL")]
