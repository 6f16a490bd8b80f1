"""BEGIN and SAVEPOINT travel with the first statement, and RELEASE with the next one: `connection.transaction()`."""

from __future__ import annotations

import asyncio
import datetime
import io
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Bind, Execute, Message, Parse, Query, Sync
from tests.servers import Cluster, until

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake, MakePool
    from tests.peers.fakeserver import Peer

PATIENCE = 10.0


# -- the bytes ---------------------------------------------------------------------------------------------------------


def done(tag: str) -> bytes:
    return backend.parse_complete() + backend.bind_complete() + backend.command_complete(tag)


async def commands(peer: Peer, *texts: str) -> None:
    """Expect these commands and statements of the extended protocol, with one Sync behind all of them."""
    for text in texts:
        parse = await peer.expect(Parse, Bind, Execute)
        assert parse.sql == text
    await peer.expect(Sync)


async def script(peer: Peer, text: str, tag: str, status: str = "I") -> None:
    """Expect a simple Query, and answer it."""
    assert (await peer.expect(Query)).sql == text
    await peer.send(backend.command_complete(tag), backend.ready_for_query(status))


async def test_begin_travels_with_the_first_statement(fake: Fake, connect: Connect) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await commands(peer, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "INSERT 1")
        await peer.send(done("BEGIN"), done("INSERT 0 1"), backend.ready_for_query("T"))
        await script(peer, "INSERT 2", "INSERT 0 2", "T")
        await script(peer, "COMMIT", "COMMIT")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())
    async with conn.transaction(isolation="repeatable_read", readonly=True):
        assert conn.is_in_transaction()
        assert await conn.execute("INSERT 1") == "INSERT 0 1"
        assert conn.is_in_transaction()
        assert await conn.execute("INSERT 2") == "INSERT 0 2"
    assert not conn.is_in_transaction()
    await conn.close()


async def test_savepoints_travel_with_statements_and_release_with_the_next_one(fake: Fake, connect: Connect) -> None:
    names: list[str] = []

    async def savepoint(peer: Peer) -> str:
        parse = await peer.expect(Parse, Bind, Execute)
        names.append(parse.sql.removeprefix("SAVEPOINT "))
        return names[-1]

    async def play(peer: Peer) -> None:
        await peer.greet()
        assert (await peer.expect(Parse, Bind, Execute)).sql == "BEGIN"
        await savepoint(peer)
        await commands(peer, "INSERT 1")
        await peer.send(done("BEGIN"), done("SAVEPOINT"), done("INSERT 0 1"), backend.ready_for_query("T"))
        assert (await peer.expect(Parse, Bind, Execute)).sql == f"RELEASE SAVEPOINT {names[0]}"
        await savepoint(peer)
        await commands(peer, "INSERT 2")
        await peer.send(done("RELEASE"), done("SAVEPOINT"), done("INSERT 0 1"), backend.ready_for_query("T"))
        await script(peer, "COMMIT", "COMMIT")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())
    async with conn.transaction():
        async with conn.transaction():
            await conn.execute("INSERT 1")
        async with conn.transaction():
            # Nothing comes of it.
            pass
        async with conn.transaction():
            await conn.execute("INSERT 2")
    await conn.close()


async def test_a_rollback_of_the_whole_drops_a_release(fake: Fake, connect: Connect) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        assert (await peer.expect(Parse, Bind, Execute)).sql == "BEGIN"
        await peer.expect(Parse, Bind, Execute)
        await commands(peer, "INSERT 1")
        await peer.send(done("BEGIN"), done("SAVEPOINT"), done("INSERT 0 1"), backend.ready_for_query("T"))
        await script(peer, "ROLLBACK", "ROLLBACK")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())
    with pytest.raises(RuntimeError, match="own"):
        async with conn.transaction():
            async with conn.transaction():
                await conn.execute("INSERT 1")
            raise RuntimeError("own")
    await conn.close()


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_block_without_a_statement_sends_nothing(fake: Fake, connect: Connect, end: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await script(peer, "INSERT 1", "INSERT 0 1")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())
    outer, inner = conn.transaction(isolation="serializable"), conn.transaction()
    await outer.start()
    await inner.start()
    assert conn.is_in_transaction()
    await getattr(inner, end)()
    await getattr(outer, end)()
    assert not conn.is_in_transaction()
    assert await conn.execute("INSERT 1") == "INSERT 0 1"
    await conn.close()


async def test_a_script_waits_until_the_begin_was_answered(fake: Fake, connect: Connect) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await commands(peer, "BEGIN")
        await peer.send(done("BEGIN"), backend.ready_for_query("T"))
        await script(peer, "INSERT 1; INSERT 2", "INSERT 0 2", "T")
        await script(peer, "COMMIT", "COMMIT")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())
    async with conn.transaction():
        assert await conn.execute("INSERT 1; INSERT 2") == "INSERT 0 2"
    await conn.close()


@pytest.mark.parametrize("way", ["statement", "script", "prepare"])
async def test_a_refused_begin_is_the_error_of_the_first_statement(fake: Fake, connect: Connect, way: str) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        while not isinstance(await peer.next(), Sync):
            pass
        await peer.send(backend.error_response("not here", code="0A000"), backend.ready_for_query())
        await script(peer, "INSERT 3", "INSERT 0 3")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())

    async def run() -> None:
        if way == "prepare":
            await conn.prepare("INSERT 1")
        else:
            await conn.execute("INSERT 1" if way == "statement" else "INSERT 1; INSERT 2")

    with pytest.raises(headrace.InFailedSQLTransactionError, match="could not begin") as end:
        async with conn.transaction():
            with pytest.raises(headrace.FeatureNotSupportedError) as refused:
                await run()
            assert refused.value.query == "BEGIN"
            assert not conn.is_in_transaction()
            with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
                await conn.execute("INSERT 2")
            assert caught.value.__cause__ is refused.value
            with pytest.raises(headrace.InFailedSQLTransactionError):
                async with conn.transaction():
                    raise AssertionError("it has begun")
    assert end.value.__cause__ is refused.value
    assert await conn.execute("INSERT 3") == "INSERT 0 3"
    await conn.close()


async def test_a_refused_begin_that_nobody_waited_for_is_the_error_of_the_commit(fake: Fake, connect: Connect) -> None:
    come = asyncio.Event()

    async def play(peer: Peer) -> None:
        await peer.greet()
        await commands(peer, "BEGIN", "INSERT 1")
        await come.wait()
        await peer.send(backend.error_response("not here", code="0A000"), backend.ready_for_query())
        await script(peer, "INSERT 3", "INSERT 0 3")
        await peer.expect_end()

    async def cancel(peer: Peer) -> None:
        await peer.expect_cancel_request()
        come.set()

    conn = await connect(dsn=(await fake(play, cancel)).dsn())
    with pytest.raises(headrace.FeatureNotSupportedError):
        async with conn.transaction():
            with pytest.raises(TimeoutError):
                await conn.execute("INSERT 1", timeout=0.01)
            async with asyncio.timeout(PATIENCE):
                while conn.is_in_transaction():
                    await asyncio.sleep(0)
    assert await conn.execute("INSERT 3") == "INSERT 0 3"
    await conn.close()


async def test_the_error_of_a_first_statement_rolls_back_after_a_refused_begin_without_a_round_trip(
    fake: Fake, connect: Connect
) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await commands(peer, "BEGIN", "INSERT 1")
        await peer.send(backend.error_response("not here", code="0A000"), backend.ready_for_query())
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn())
    with pytest.raises(headrace.FeatureNotSupportedError):
        async with conn.transaction():
            await conn.execute("INSERT 1")
    await conn.close()


async def test_behind_a_pooler_that_switches_backends_begin_is_awaited(fake: Fake, connect: Connect) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        await script(peer, "BEGIN", "BEGIN", "T")
        await script(peer, "INSERT 1", "INSERT 0 1", "T")
        await script(peer, "COMMIT", "COMMIT")
        await peer.expect_end()

    conn = await connect(dsn=(await fake(play)).dsn(), statement_mode="unnamed")
    async with conn.transaction():
        await conn.execute("INSERT 1")
    await conn.close()


async def test_the_backend_that_dies_before_the_first_statement(fake: Fake, connect: Connect) -> None:
    async def play(peer: Peer) -> None:
        await peer.greet()
        sent: Message = await peer.expect(Parse, Bind, Execute)
        assert isinstance(sent, Parse)
        peer.reset()

    conn = await connect(dsn=(await fake(play)).dsn())
    with pytest.raises(headrace.ConnectionDoesNotExistError, match="repeat all of it") as caught:
        async with conn.transaction():
            await conn.execute("SELECT 1")
    assert not headrace.is_safe_to_retry(caught.value)


# -- on a server -------------------------------------------------------------------------------------------------------


@pytest.fixture
async def table(conn: headrace.Connection) -> str:
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY)")
    return "t"


async def copied(conn: headrace.Connection) -> None:
    async with conn.copy_in("t") as copy:
        await copy.write_row((1,))


async def each(conn: headrace.Connection) -> None:
    async for _ in conn.fetch_each("SELECT $1::int", [(1,), (2,)]):
        pass


async def cursor(conn: headrace.Connection) -> None:
    async for _ in conn.cursor("SELECT 1"):
        pass


async def streamed(conn: headrace.Connection) -> None:
    async def elements() -> AsyncIterator[tuple[int]]:
        yield (1,)

    await conn.executemany("INSERT INTO t VALUES ($1)", elements())


async def loaded(conn: headrace.Connection) -> None:
    loader = headrace.Loader(conn, "SELECT i FROM generate_series(1, 3) AS i WHERE i = ANY($1::int[])", key="i")
    assert await loader.load(2) is not None


FIRST: dict[str, Callable[[headrace.Connection], Awaitable[Any]]] = {
    "execute": lambda conn: conn.execute("INSERT INTO t VALUES (1)"),
    "execute with arguments": lambda conn: conn.execute("INSERT INTO t VALUES ($1)", 1),
    "script": lambda conn: conn.execute("INSERT INTO t VALUES (1); SELECT 1"),
    "nothing": lambda conn: conn.execute(""),
    "executemany": lambda conn: conn.executemany("INSERT INTO t VALUES ($1)", [(1,), (2,)]),
    "executemany of an asynchronous iterable": streamed,
    "fetch": lambda conn: conn.fetch("SELECT 1"),
    "fetchmany": lambda conn: conn.fetchmany("SELECT $1::int", [(1,)]),
    "fetchrow": lambda conn: conn.fetchrow("SELECT 1"),
    "fetchval": lambda conn: conn.fetchval("SELECT 1"),
    "fetch_each": each,
    "prepare": lambda conn: conn.prepare("SELECT 1"),
    "cursor": cursor,
    "LISTEN": lambda conn: conn.add_listener("c", print),
    "search_path": lambda conn: conn.execute("SET LOCAL search_path = pg_catalog"),
    "SET TRANSACTION": lambda conn: conn.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
    "DEALLOCATE": lambda conn: conn.execute("DEALLOCATE ALL"),
    "LOCK": lambda conn: conn.execute("LOCK TABLE t"),
    "DO": lambda conn: conn.execute("DO $$ BEGIN PERFORM 1; END $$"),
    "set_type_codec": lambda conn: conn.set_type_codec("mood", encoder=str, decoder=str),
    "type look-up": lambda conn: conn.fetchval("SELECT ROW(1, 'a')::public.pair"),
    "copy_to_table": lambda conn: conn.copy_to_table("t", source=b"1\n"),
    "copy_from_query": lambda conn: conn.copy_from_query("SELECT 1", output=io.BytesIO()),
    "copy_records_to_table": lambda conn: conn.copy_records_to_table("t", records=[(1,)]),
    "copy_in": copied,
    "insert_records": lambda conn: conn.insert_records("t", [(1,)], columns=["a"]),
    "Loader": loaded,
}


@pytest.mark.parametrize("first", FIRST)
async def test_whatever_comes_first_is_inside_the_transaction(
    conn: headrace.Connection, table: str, first: str
) -> None:
    await conn.execute("DROP TYPE IF EXISTS public.pair, public.mood; CREATE TYPE public.pair AS (a int, b text)")
    await conn.execute("CREATE TYPE public.mood AS ENUM ('well')")
    transaction = conn.transaction(isolation="serializable")
    await transaction.start()
    assert conn.is_in_transaction()
    await FIRST[first](conn)
    assert conn._driver.session.commands.status == "T"
    assert await conn.fetchval("SHOW transaction_isolation") == "serializable"
    await transaction.rollback()
    assert not conn.is_in_transaction()
    assert await conn.fetch("SELECT * FROM t") == []
    assert await conn.fetchval("SHOW search_path") != "pg_catalog"
    assert await conn.fetchval("SELECT count(*) FROM pg_listening_channels()") == 0


async def test_statements_under_a_search_path_that_the_first_statement_has_set(conn: headrace.Connection) -> None:
    if conn.get_server_version().major < 18:
        pytest.skip("PostgreSQL reports search_path from version 18 on")
    await conn.execute(
        "CREATE TEMP TABLE u AS SELECT 'temporary' AS a; CREATE SCHEMA s; CREATE TABLE s.u AS SELECT 1 AS a"
    )
    try:
        assert await conn.fetchval("SELECT a FROM u") == "temporary"
        async with conn.transaction():
            await conn.execute("SET LOCAL search_path = s, pg_temp")
            assert await conn.fetchval("SELECT a FROM u") == 1
        assert await conn.fetchval("SELECT a FROM u") == "temporary"
    finally:
        await conn.execute("DROP SCHEMA s CASCADE")


async def test_the_server_begins_with_the_first_statement(conn: headrace.Connection, connect: Connect) -> None:
    """So now() is the time of the first statement, and a transaction that waits for its program holds nothing."""
    other = await connect()
    async with conn.transaction():
        state = await other.fetchrow(
            "SELECT state, xact_start FROM pg_stat_activity WHERE pid = $1", conn.get_server_pid()
        )
        assert tuple(state or ()) == ("idle", None)
        before = await other.fetchval("SELECT clock_timestamp()")
        now = await conn.fetchval("SELECT now()")
        assert isinstance(now, datetime.datetime)
        assert now >= before


async def test_a_statement_that_fails_first_fails_the_transaction(conn: headrace.Connection, table: str) -> None:
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        async with conn.transaction():
            with pytest.raises(headrace.DivisionByZeroError) as failed:
                await conn.execute("SELECT 1 / 0")
            assert conn.is_in_transaction()
            with pytest.raises(headrace.InFailedSQLTransactionError) as following:
                await conn.execute("INSERT INTO t VALUES (1)")
            assert following.value.__cause__ is failed.value
    assert caught.value.__cause__ is failed.value
    assert await conn.fetch("SELECT * FROM t") == []


@pytest.mark.parametrize("query", ["SELECT $1", "SELEC 1", "SELECT 1; SELEC 2", "SELECT * FROM nowhere"])
async def test_a_first_statement_that_the_server_refuses(conn: headrace.Connection, query: str) -> None:
    with pytest.raises(headrace.PostgresError) as alone:
        await conn.execute(query)
    with pytest.raises(headrace.PostgresError) as inside:
        async with conn.transaction():
            await conn.execute(query)
    assert type(inside.value) is type(alone.value)
    assert inside.value.query == query
    assert not conn.is_in_transaction()


async def test_a_bad_argument_of_the_first_statement_sends_nothing(conn: headrace.Connection) -> None:
    await conn.fetchval("SELECT $1::int", 1)
    async with conn.transaction():
        for _ in range(2):
            with pytest.raises(headrace.ArgumentError):
                await conn.fetchval("SELECT $1::int", "x")
        assert await conn.fetchval("SELECT $1::int", 2) == 2


async def test_calls_at_once_as_the_first_statements(conn: headrace.Connection, table: str) -> None:
    with pytest.raises(RuntimeError, match="own"):
        async with conn.transaction():
            await asyncio.gather(*(conn.execute("INSERT INTO t VALUES ($1)", i) for i in range(50)))
            raise RuntimeError("own")
    assert await conn.fetch("SELECT * FROM t") == []


@pytest.mark.parametrize("query", ["COMMIT", "ROLLBACK", "INSERT INTO t VALUES (7); COMMIT"])
@pytest.mark.parametrize("first", [True, False])
async def test_after_a_statement_of_the_program_has_ended_the_block_it_goes_on_outside_of_it(
    conn: headrace.Connection, table: str, query: str, first: bool
) -> None:
    """Programs do this for statements that no transaction may contain, such as CREATE DATABASE."""
    async with conn.transaction():
        if not first:
            await conn.fetchval("SELECT 1")
        await conn.execute(query)
        assert not conn.is_in_transaction()
        await conn.execute("VACUUM t")
        await conn.execute("INSERT INTO t VALUES (8)")
        assert await conn.fetch("SELECT $1::int", 1) == [(1,)]
    assert await conn.fetchval("SELECT count(*) FROM t WHERE a = 8") == 1
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (9)")
    assert await conn.fetchval("SELECT count(*) FROM t WHERE a = 9") == 1


async def test_a_savepoint_that_was_not_sent_is_dropped_at_its_rollback(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (1)")
        asked = conn._driver.request_count
        with pytest.raises(RuntimeError, match="own"):
            async with conn.transaction():
                raise RuntimeError("own")
        assert conn._driver.request_count == asked
        await conn.execute("INSERT INTO t VALUES (2)")
    assert [row[0] for row in await conn.fetch("SELECT a FROM t ORDER BY a")] == [1, 2]


async def test_a_savepoint_in_a_failed_transaction_is_refused_at_once(conn: headrace.Connection) -> None:
    transaction = conn.transaction()
    await transaction.start()
    with pytest.raises(headrace.DivisionByZeroError):
        await conn.execute("SELECT 1 / 0")
    with pytest.raises(headrace.InFailedSQLTransactionError):
        await conn.transaction().start()
    await transaction.rollback()


async def test_a_savepoint_behind_a_statement_that_fails(conn: headrace.Connection, table: str) -> None:
    """It is refused with the statement that it travels with, and there is nothing to return to."""
    outer = conn.transaction()
    await outer.start()
    await conn.execute("INSERT INTO t VALUES (1)")
    failing = asyncio.create_task(conn.execute("SELECT 1 / 0"))
    await asyncio.sleep(0)
    with pytest.raises(headrace.InFailedSQLTransactionError) as caught:
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (2)")
    with pytest.raises(headrace.DivisionByZeroError) as failed:
        await failing
    assert caught.value.__cause__ is failed.value
    assert "SAVEPOINT" in str(caught.value.query)
    await outer.rollback()
    assert not conn.is_in_transaction()


async def test_releases_that_were_put_off_keep_what_they_release(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction():
        for i in range(3):
            async with conn.transaction():
                await conn.execute(f"INSERT INTO t VALUES ({i})")
        with pytest.raises(headrace.UniqueViolationError):
            async with conn.transaction():
                async with conn.transaction():
                    await conn.execute("INSERT INTO t VALUES (3)")
                await conn.execute("INSERT INTO t VALUES (0)")
        async with conn.transaction():
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (4)")
    assert [row[0] for row in await conn.fetch("SELECT a FROM t ORDER BY a")] == [0, 1, 2, 4]


@pytest.mark.parametrize("chain", ["COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "SELECT 1; COMMIT AND CHAIN; SELECT 1"])
async def test_a_savepoint_has_ended_with_its_block_if_another_one_follows_by_and_chain(
    conn: headrace.Connection, table: str, chain: str
) -> None:
    """Its RELEASE must not be sent with a statement that it would fail."""
    outer, inner = conn.transaction(), conn.transaction()
    await outer.start()
    await inner.start()
    await conn.execute("INSERT INTO t VALUES (1)")
    await conn.execute(chain)
    with pytest.raises(headrace.InvalidSavepointSpecificationError):
        await inner.commit()
    await outer.rollback()
    assert [row[0] for row in await conn.fetch("SELECT a FROM t")] == ([1] if "COMMIT" in chain else [])


async def test_savepoints_behind_and_chain_are_as_ever(conn: headrace.Connection, table: str) -> None:
    async with conn.transaction():
        await conn.execute("INSERT INTO t VALUES (1)")
        await conn.execute("COMMIT AND CHAIN")
        with pytest.raises(RuntimeError, match="own"):
            async with conn.transaction():
                await conn.execute("INSERT INTO t VALUES (2)")
                raise RuntimeError("own")
        async with conn.transaction():
            await conn.execute("INSERT INTO t VALUES (3)")
        asked = conn._driver.request_count
    assert conn._driver.request_count == asked + 1
    assert [row[0] for row in await conn.fetch("SELECT a FROM t ORDER BY a")] == [1, 3]


async def test_a_query_logger_is_told_of_begin_and_savepoint(conn: headrace.Connection) -> None:
    told: list[headrace.LoggedQuery] = []
    with conn.query_logger(told.append):
        async with conn.transaction():
            async with conn.transaction():
                await conn.fetchval("SELECT 1")
        async with conn.transaction():
            pass
    assert [record.query.partition("headrace")[0] for record in told] == ["BEGIN", "SAVEPOINT ", "SELECT 1", "COMMIT"]
    assert all(record.exception is None and record.elapsed > 0 and record.args == () for record in told)


async def test_a_time_limit_of_the_first_statement(conn: headrace.Connection) -> None:
    with pytest.raises(TimeoutError):
        async with conn.transaction():
            await conn.execute("SELECT pg_sleep(600)", timeout=0.05)
    assert not conn.is_in_transaction()
    assert await conn.fetchval("SELECT 1") == 1


async def test_a_first_statement_that_is_cancelled_before_it_is_sent(connect: Connect) -> None:
    conn = await connect(max_pipeline=1)
    running = asyncio.create_task(conn.execute("SELECT 1"))
    await asyncio.sleep(0)
    transaction = conn.transaction()
    await transaction.start()
    with pytest.raises(TimeoutError):
        await conn.execute("SELECT 2", timeout=0)
    asked = conn._driver.request_count
    await running
    await transaction.commit()
    assert not conn.is_in_transaction()
    assert conn._driver.session.commands.status == "I"
    assert conn._driver.request_count == asked
    await conn._driver.drain()


async def test_begin_by_text_is_as_ever(conn: headrace.Connection, table: str) -> None:
    await conn.execute("BEGIN")
    assert conn._driver.session.commands.status == "T"
    with pytest.raises(headrace.InterfaceError, match="manually started transaction"):
        await conn.transaction().start()
    await conn.execute("INSERT INTO t VALUES (1)")
    await conn.execute("COMMIT")
    await conn.execute("INSERT INTO t VALUES (2)")
    assert await conn.fetchval("SELECT count(*) FROM t") == 2


async def test_a_reset_forgets_a_begin_that_was_not_sent(conn: headrace.Connection) -> None:
    transaction = conn.transaction()
    await transaction.start()
    await conn.reset()
    assert not conn.is_in_transaction()
    assert conn._driver.session.commands.status == "I"
    with pytest.raises(headrace.InterfaceError, match="no longer open"):
        await transaction.commit()
    async with conn.transaction():
        assert await conn.fetchval("SELECT 1") == 1


async def test_a_reset_while_the_first_statement_is_under_way(conn: headrace.Connection, table: str) -> None:
    transaction = conn.transaction()
    await transaction.start()
    insert = asyncio.create_task(conn.execute("INSERT INTO t VALUES (1)"))
    await asyncio.sleep(0)
    reset = asyncio.create_task(conn.reset())
    await insert
    await reset
    assert conn._driver.session.commands.status == "I"


@pytest.mark.parametrize("used", [True, False])
async def test_the_release_of_a_lease_sends_nothing_for_a_begin_that_was_not_sent(pool: MakePool, used: bool) -> None:
    leases = await pool(min_size=1, max_size=1)
    loop, told = asyncio.get_running_loop(), list[dict[str, Any]]()
    loop.set_exception_handler(lambda _, context: told.append(context))
    async with leases.acquire() as lease:
        assert await lease.fetchval("SELECT 1") == 1
    connection = next(iter(leases._holders))._con
    assert connection is not None
    await connection._driver.drain()
    asked = connection._driver.request_count
    async with leases.acquire() as lease:
        await lease.transaction().start()
        if used:
            await lease.fetchval("SELECT 1")
    if not used:
        assert connection._driver.request_count == asked
    # A program that leaves a transaction open is told, whether or not the server knows of it.
    assert [context["message"].partition(" <")[0] for context in told] == [
        "Resetting connection with an active transaction"
    ]
    async with leases.acquire() as lease:
        assert not lease.is_in_transaction()
        assert await lease.fetchval("SELECT now() = clock_timestamp()") is False
    assert await leases.fetchval("SELECT 2") == 2
    loop.set_exception_handler(None)


async def test_a_lease_on_demand_takes_its_connection_at_the_start(pool: MakePool) -> None:
    leases = await pool(min_size=1, max_size=2, lazy_acquire=True)
    async with leases.acquire() as lease:
        async with lease.transaction(isolation="serializable"):
            assert lease.is_in_transaction()
            assert await lease.fetchval("SHOW transaction_isolation") == "serializable"
        assert not lease.is_in_transaction()


async def test_the_end_of_the_backend_before_the_first_statement(conn: headrace.Connection, server: Cluster) -> None:
    """start() succeeds, and the statement raises."""
    pid = conn.get_server_pid()
    transaction = conn.transaction()
    server.sql("SELECT pg_terminate_backend(%s)", pid)
    until(lambda: pid not in {each.pid for each in server.backends()}, "the backend is gone")
    await transaction.start()
    assert conn.is_in_transaction()
    with pytest.raises((headrace.ConnectionDoesNotExistError, headrace.AdminShutdownError)) as caught:
        await conn.execute("SELECT 1")
    assert not headrace.is_safe_to_retry(caught.value)
    assert not conn.is_in_transaction()
    with pytest.raises(headrace.InterfaceError):
        await transaction.rollback()


async def test_a_hot_standby_refuses_a_serializable_transaction_with_its_first_statement(own_server: Cluster) -> None:
    with Cluster(own_server.postmaster.installation, standby_of=own_server) as standby:
        async with headrace.create_pool(standby.dsn(), min_size=1, max_size=1) as pool, pool.acquire() as conn:
            with pytest.raises(headrace.FeatureNotSupportedError, match="serializable mode in a hot standby"):
                async with conn.transaction(isolation="serializable"):
                    assert conn.is_in_transaction()
                    await asyncio.gather(conn.fetch("SELECT 1"), conn.fetch("SELECT 2"))
            assert await conn.fetchval("SELECT 3") == 3
            async with conn.transaction(readonly=True):
                assert await conn.fetchval("SELECT 4") == 4


# -- random programs ---------------------------------------------------------------------------------------------------

Block = list[Any]
"""Actions: a text to execute, a pair of a text and its argument, an exception to raise, or another block."""


def program(randomness: random.Random, depth: int = 0) -> Block:
    block: Block = [randomness.random() < 0.7, randomness.random() < 0.5]
    for _ in range(randomness.randrange(4)):
        kind = randomness.random()
        token = randomness.randrange(12)
        if kind < 0.3:
            block.append(f"INSERT INTO t VALUES ({token})")
        elif kind < 0.5:
            block.append(("INSERT INTO t VALUES ($1)", token))
        elif kind < 0.55:
            block.append("SELECT 1 / 0")
        elif kind < 0.6:
            block.append(f"INSERT INTO t VALUES ({token}); SELECT 1")
        elif kind < 0.65:
            block.append(RuntimeError("own"))
        elif kind < 0.7:
            block.append(("SELECT $1::int", "no number"))
        elif depth < 3:
            block.append(program(randomness, depth + 1))
    return block


async def play(conn: headrace.Connection, block: Block, seen: list[str]) -> None:
    """Run a block in a transaction, and note the outcome of all that it does."""
    managed, catches, *actions = block

    async def act(action: Any) -> None:
        if isinstance(action, RuntimeError):
            raise action
        if isinstance(action, list):
            await play(conn, action, seen)
        elif isinstance(action, tuple):
            await conn.fetch(*action)
        else:
            await conn.execute(action)

    async def body() -> None:
        for action in actions:
            seen.append(f"{conn.is_in_transaction()}")
            try:
                await act(action)
            except Exception as error:
                seen.append(f"{type(error).__name__} because of {type(error.__cause__).__name__}")
                if not catches:
                    raise

    transaction = conn.transaction()
    try:
        if managed:
            async with transaction:
                await body()
        else:
            await transaction.start()
            try:
                await body()
            except BaseException:
                await transaction.rollback()
                raise
            await transaction.commit()
    finally:
        seen.append(f"{transaction!r}".split()[1])


async def test_random_transactions_end_as_they_do_if_each_command_is_awaited(connect: Connect) -> None:
    outcomes: list[list[Any]] = []
    for mode in ("named", "unnamed"):
        conn = await connect(statement_mode=mode)
        await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY)")
        randomness = random.Random(15)
        outcomes.append([])
        for _ in range(200):
            seen: list[str] = []
            try:
                await play(conn, program(randomness), seen)
            except Exception as error:
                seen.append(type(error).__name__)
            assert not conn.is_in_transaction()
            rows = [row[0] for row in await conn.fetch("SELECT a FROM t ORDER BY a")]
            outcomes[-1].append((seen, rows))
            if len(rows) > 8:
                await conn.execute("TRUNCATE t")
    for put_off, awaited in zip(*outcomes, strict=True):
        assert put_off == awaited
    assert any(rows for _, rows in outcomes[0])
