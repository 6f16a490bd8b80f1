"""copy_records_to_table() and copy_in() take two round trips: the question about the columns travels with the COPY."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.peers import backend
from tests.peers.frontend import Bind, CopyData, CopyDone, CopyFail, Execute, Parse, Query, Sync

if TYPE_CHECKING:
    from tests.fixtures import Connect, Fake
    from tests.peers.fakeserver import Peer

PATIENCE = 10.0
"""Seconds after which a test takes something for hanging."""

INT4, TEXT = 23, 25


def columns(**oids: int) -> bytes:
    """The reply to the question about columns: their names and types."""
    rows = b"".join(backend.data_row(name, struct.pack("!I", oid), b"\0") for name, oid in oids.items())
    tag = backend.command_complete(f"SELECT {len(oids)}")
    return backend.parse_complete() + backend.bind_complete() + rows + tag + backend.ready_for_query()


async def question_and_copy(peer: Peer) -> Query:
    """Read the question and the COPY behind it, with no reply between them."""
    await peer.expect(Parse)
    await peer.expect(Bind)
    await peer.expect(Execute)
    await peer.expect(Sync)
    return await peer.expect(Query)


async def say_copied(peer: Peer, tag: str) -> None:
    await peer.send(backend.command_complete(tag), backend.ready_for_query())


async def answer_a_query(peer: Peer) -> None:
    """Carry out what the client asks next, to show that the connection is in order."""
    await peer.expect(Query)
    await peer.send(backend.command_complete("SELECT 0"), backend.ready_for_query())
    await peer.expect_end()


@pytest.mark.parametrize("way", ["records", "generator", "writer"])
async def test_the_reply_to_the_copy_and_its_end_are_all_that_is_waited_for(
    fake: Fake, connect: Connect, way: str
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        copy = await question_and_copy(peer)
        assert copy.sql == """COPY "t" ("a", "b") FROM STDIN WITH (FORMAT 'binary')"""
        await peer.send(columns(a=INT4, b=TEXT), backend.copy_in_response(1, 1))
        data = await peer.expect(CopyData)
        assert data.data.endswith(b"\0\0\0\x05three\xff\xff")
        await peer.expect(CopyDone)
        await say_copied(peer, "COPY 1")
        await answer_a_query(peer)

    async def generator() -> AsyncIterator[tuple[int, str]]:
        yield 3, "three"

    server = await fake(script)
    conn = await connect(dsn=server.dsn())
    async with asyncio.timeout(PATIENCE):
        if way == "writer":
            async with conn.copy_in("t", columns=["a", "b"]) as copy:
                await copy.write_row((3, "three"))
            assert copy.status == "COPY 1"
        else:
            records: Any = generator() if way == "generator" else [(3, "three")]
            tag = await conn.copy_records_to_table("t", columns=iter(["a", "b"]), records=records)
            assert tag == "COPY 1"
        assert await conn.execute("SELECT") == "SELECT 0"


@pytest.mark.parametrize("state", ["nothing answered", "columns known", "copy begun"])
async def test_cancelled_in_each_state(fake: Fake, connect: Connect, state: str) -> None:
    reached, cancelled = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet()
        await question_and_copy(peer)
        if state == "nothing answered":
            reached.set()
            await cancelled.wait()
        await peer.send(columns(a=INT4))
        if state == "columns known":
            reached.set()
            await cancelled.wait()
        await peer.send(backend.copy_in_response(1))
        await peer.expect(CopyFail)
        await peer.send(backend.error_response("COPY from stdin failed", code="57014"), backend.ready_for_query())
        await answer_a_query(peer)

    async def waits() -> AsyncIterator[tuple[int]]:
        reached.set()
        await asyncio.Event().wait()
        yield (1,)

    async def cancel(peer: Peer) -> None:
        await peer.expect_cancel_request()

    server = await fake(script) if state == "copy begun" else await fake(script, cancel)
    conn = await connect(dsn=server.dsn())
    task = asyncio.create_task(conn.copy_records_to_table("t", columns=["a"], records=waits()))
    async with asyncio.timeout(PATIENCE):
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled.set()
        assert await conn.execute("SELECT") == "SELECT 0"


async def test_a_column_that_does_not_exist_is_the_error_of_a_query_for_it(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    for names, error in ((["z"], headrace.UndefinedColumnError), (["a", "a"], headrace.DuplicateColumnError)):
        with pytest.raises(error):
            await conn.copy_records_to_table("t", columns=names, records=[(1,) * len(names)])
    with pytest.raises(headrace.UndefinedTableError):
        await conn.copy_records_to_table("missing", records=[(1,)])
    assert await conn.copy_records_to_table("t", records=[(1,)]) == "COPY 1"


async def test_what_the_copy_is_refused_for(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) STORED)")
    with pytest.raises(headrace.InvalidColumnReferenceError):
        await conn.copy_records_to_table("t", columns=["b"], records=[(1,)])
    with pytest.raises(headrace.PostgresSyntaxError):
        await conn.copy_records_to_table("t", records=[(1,)], where="a ===")
    await conn.execute("CREATE TEMP VIEW v AS SELECT 1 AS a")
    with pytest.raises(headrace.WrongObjectTypeError):
        await conn.copy_records_to_table("v", records=[(1,)])
    assert await conn.copy_records_to_table("t", records=[(1,)]) == "COPY 1"
    assert await conn.fetch("TABLE t") == [(1, 2)]


async def test_a_type_that_is_met_for_the_first_time(connect: Connect) -> None:
    conn = await connect()
    await conn.execute("CREATE TYPE pg_temp.mood AS ENUM ('good', 'bad'); CREATE TEMP TABLE t (a int, m pg_temp.mood)")
    fires = "CREATE FUNCTION pg_temp.fired() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (1); "
    await conn.execute(f"CREATE TEMP TABLE log (n int); {fires} RETURN NULL; END'")
    await conn.execute("CREATE TRIGGER f AFTER INSERT ON t FOR EACH STATEMENT EXECUTE FUNCTION pg_temp.fired()")
    records: list[headrace.connection.LoggedQuery] = []
    conn.add_query_logger(records.append)
    for n in (1, 2):
        assert await conn.copy_records_to_table("t", records=[(n, "good")]) == "COPY 1"
        assert await conn.fetchval("SELECT count(*) FROM log") == n
    assert [record.exception for record in records if record.query.startswith("COPY")] == [None, None]
    assert await conn.fetch("TABLE t") == [(1, "good"), (2, "good")]


async def test_in_a_transaction_nothing_is_risked(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TYPE pg_temp.mood AS ENUM ('good', 'bad'); CREATE TEMP TABLE t (a int, m pg_temp.mood)")
    async with conn.transaction():
        with pytest.raises(headrace.ArgumentError, match="row 1, column 'a'"):
            await conn.copy_records_to_table("t", records=[("x", "good")])
        assert await conn.copy_records_to_table("t", records=[(1, "good")]) == "COPY 1"
    await conn.execute("BEGIN")
    assert await conn.copy_records_to_table("t", records=[(2, "bad")]) == "COPY 1"
    with pytest.raises(headrace.ArgumentError):
        await conn.copy_records_to_table("t", records=[("x", "good")])
    await conn.execute("COMMIT")
    assert await conn.fetchval("SELECT count(*) FROM t") == 2


async def test_a_first_row_that_does_not_fit_leaves_the_connection_usable(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int)")
    for records in ([("x",)], [(1, 2)], ["text"], [(2**40,)]):
        with pytest.raises(headrace.ArgumentError, match="row 1"):
            await conn.copy_records_to_table("t", records=records)
    assert await conn.copy_records_to_table("t", records=[(1,)]) == "COPY 1"
    assert await conn.fetch("TABLE t") == [(1,)]


async def test_values_that_travel_as_text(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE t (a int, b money)")
    for n in (1, 2, 3):
        assert await conn.copy_records_to_table("t", records=[(n, "$5.00")]) == "COPY 1"
    await conn.execute("ALTER TABLE t ALTER b TYPE bytea USING '\\x00'::bytea")
    await conn.set_type_codec("bytea", schema="pg_catalog", format="binary", encoder=bytes, decoder=bytes)
    for n in (4, 5, 6):
        assert await conn.copy_records_to_table("t", records=[(n, b"\t\\")]) == "COPY 1"
    assert [bytes(b) for _, b in await conn.fetch("SELECT * FROM t WHERE a > 3")] == [b"\t\\"] * 3


async def test_types_are_asked_for_each_time(conn: headrace.Connection, connect: Connect) -> None:
    """Binary values of one type may pass for another's: eight bytes are an int8 and a float8."""
    other = await connect()
    await conn.execute("CREATE TABLE altered (a int8)")
    try:
        assert await conn.copy_records_to_table("altered", records=[(1,)]) == "COPY 1"
        await other.execute("ALTER TABLE altered ALTER a TYPE float8")
        assert await conn.copy_records_to_table("altered", records=[(2,)]) == "COPY 1"
        assert await conn.fetch("TABLE altered") == [(1.0,), (2.0,)]
    finally:
        await conn.execute("DROP TABLE altered")


async def test_one_request_at_a_time(connect: Connect) -> None:
    conn = await connect(max_pipeline=1)
    await conn.execute("CREATE TEMP TABLE t (a int)")
    async with asyncio.timeout(PATIENCE):
        assert await conn.copy_records_to_table("t", records=[(1,)]) == "COPY 1"


@pytest.mark.parametrize("mode", ["unnamed", "describe"])
async def test_behind_a_pooler_each_is_sent_by_itself(fake: Fake, connect: Connect, mode: Any) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet()
        for kind in (Parse, Bind, Execute, Sync):
            await peer.expect(kind)
        await peer.send(columns(a=INT4))
        await peer.expect(Query)
        await peer.send(backend.copy_in_response(1))
        await peer.expect(CopyData)
        await peer.expect(CopyDone)
        await say_copied(peer, "COPY 1")
        await peer.expect_end()

    server = await fake(script)
    conn = await connect(dsn=server.dsn(), statement_mode=mode)
    async with asyncio.timeout(PATIENCE):
        assert await conn.copy_records_to_table("t", columns=["a"], records=[(1,)]) == "COPY 1"
