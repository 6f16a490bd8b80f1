"""copy_arrow_to_table: names and types that do not match, values that do not fit, and streams cut short anywhere."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pyarrow as pa
import pytest

import headrace
from tests.arrow_streams import Counted
from tests.memory import little_memory, needs_linux
from tests.servers import Cluster

PATIENCE = 30.0
"""Seconds after which a test takes something for hanging."""

SCHEMA = pa.schema({"a": pa.int32(), "b": pa.string()})


def batch(number: int, rows: int = 3) -> pa.RecordBatch:
    return pa.record_batch([pa.array([number] * rows, pa.int32()), pa.array(["x" * 100] * rows)], SCHEMA)


@pytest.fixture
async def conn(conn: headrace.Connection, server: Cluster, database: str) -> AsyncIterator[headrace.Connection]:
    """A connection with a table `t`; after the test the connection is usable or closed."""
    await conn.execute("CREATE TABLE t (a int, b text, c int DEFAULT 5)")
    yield conn
    async with asyncio.timeout(PATIENCE):
        assert conn.is_closed() or await conn.fetchval("SELECT 1") == 1
    server.sql("DROP TABLE t", database=database)


async def count(conn: headrace.Connection) -> Any:
    return await conn.fetchval("SELECT count(*) FROM t")


async def released(stream: Counted) -> None:
    """Wait until the stream and all that came of it are released, which a thread may do, in any order."""
    assert await asyncio.to_thread(stream.released.wait, PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while not stream.is_clean:
            await asyncio.sleep(0.001)


# What is copied


async def test_columns_go_by_name_and_others_get_their_defaults(conn: headrace.Connection) -> None:
    data = pa.table({"b": ["one", None], "a": [1, 2]})
    assert await conn.copy_arrow_to_table("t", data) == "COPY 2"
    assert [tuple(row) for row in await conn.fetch("TABLE t")] == [(1, "one", 5), (2, None, 5)]


async def test_some_columns_of_the_data(conn: headrace.Connection) -> None:
    data = pa.table({"other": [[1]], "a": [1], "b": ["x"]})
    assert await conn.copy_arrow_to_table("t", data, columns=["b"], schema_name="public") == "COPY 1"
    assert tuple(await conn.fetchrow("TABLE t") or ()) == (None, "x", 5)


async def test_objects_of_every_kind(conn: headrace.Connection) -> None:
    one = batch(1)
    table = pa.table(one)
    for data in (table, one, pa.RecordBatchReader.from_batches(SCHEMA, [one, batch(2, 0), batch(3)]), table[:0]):
        await conn.copy_arrow_to_table("t", data)
    assert await count(conn) == 3 + 3 + 6

    class Array:
        def __arrow_c_array__(self, requested_schema: object = None) -> Any:
            return one.__arrow_c_array__(requested_schema)

    assert await conn.copy_arrow_to_table("t", Array()) == "COPY 3"


async def test_a_sliced_batch(conn: headrace.Connection) -> None:
    """The export of a batch that is sliced as a struct has its offset on the outside."""
    struct = pa.StructArray.from_arrays([pa.array([1, 2, 3]), pa.array(["a", None, "c"])], ["a", "b"]).slice(1)
    assert await conn.copy_arrow_to_table("t", struct) == "COPY 2"
    assert [tuple(row) for row in await conn.fetch("SELECT a, b FROM t")] == [(2, None), (3, "c")]


async def test_on_a_pool(pool: Any, conn: headrace.Connection) -> None:
    async with await pool(min_size=1, max_size=1) as made:
        assert await made.copy_arrow_to_table("t", batch(1)) == "COPY 3"
        with pytest.raises(headrace.ArgumentError):
            await made.copy_arrow_to_table("t", pa.table({"a": ["x"]}))
        assert await made.fetchval("SELECT count(*) FROM t") == 3
    with pytest.raises(TypeError):
        await made.copy_arrow_to_table("t", [(1, "x")])


async def test_data_frames_of_polars(conn: headrace.Connection) -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, None], "b": ["short", "longer than twelve bytes"]})
    assert await conn.copy_arrow_to_table("t", frame) == "COPY 2"
    categories = polars.DataFrame({"b": polars.Series(["x", "y", "x"], dtype=polars.Categorical)})
    assert await conn.copy_arrow_to_table("t", categories) == "COPY 3"
    rows = await conn.fetch("SELECT a, b FROM t")
    assert [tuple(row) for row in rows] == [
        (1, "short"),
        (None, "longer than twelve bytes"),
        (None, "x"),
        (None, "y"),
        (None, "x"),
    ]


async def test_data_frames_of_pandas(conn: headrace.Connection) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": pandas.array([1, None], "Int64"), "b": ["x", None]})
    assert await conn.copy_arrow_to_table("t", frame, columns=["a", "b"]) == "COPY 2"
    assert [tuple(row) for row in await conn.fetch("SELECT a, b FROM t")] == [(1, "x"), (None, None)]


async def test_relations_of_duckdb(conn: headrace.Connection) -> None:
    duckdb = pytest.importorskip("duckdb")
    relation = duckdb.sql("SELECT sum(i) AS a, 'n' || i % 10 AS b FROM range(10000) t(i) GROUP BY ALL")
    assert await conn.copy_arrow_to_table("t", relation) == "COPY 10"
    assert await conn.fetchval("SELECT sum(a) FROM t") == 9999 * 10000 // 2


async def test_the_loop_runs_while_a_batch_is_computed(conn: headrace.Connection) -> None:
    computing, result = threading.Event(), threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch(1)
        computing.set()
        assert result.wait(PATIENCE)
        yield batch(2)

    async def provide() -> None:
        while not computing.is_set():
            await asyncio.sleep(0.01)
        result.set()

    stream = Counted(SCHEMA, batches())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(provide())
        assert await conn.copy_arrow_to_table("t", stream) == "COPY 6"
    assert threading.get_ident() not in stream.threads
    await released(stream)


async def test_a_batch_at_a_time_is_held(conn: headrace.Connection) -> None:
    most = 0

    def batches() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for number in range(100):
            most = max(most, stream.alive)
            yield batch(number, 1000)

    stream = Counted(SCHEMA, batches())
    assert await conn.copy_arrow_to_table("t", stream) == "COPY 100000"
    assert most == 0  # nothing of the batches before is held while another one is asked for
    await released(stream)


@needs_linux
async def test_memory(conn: headrace.Connection) -> None:
    await conn.execute("CREATE TEMP TABLE u (a int, b text)")
    with little_memory():
        reader = pa.RecordBatchReader.from_batches(SCHEMA, (batch(number, 1000) for number in range(640)))
        assert await conn.copy_arrow_to_table("u", reader) == "COPY 640000"


async def test_in_a_transaction(conn: headrace.Connection) -> None:
    async with conn.transaction():
        with pytest.raises(headrace.ArgumentError, match="row 1, column 'a'"):
            await conn.copy_arrow_to_table("t", pa.table({"a": [2**40]}))
        with pytest.raises(headrace.ArgumentError, match="does not fit the table"):
            await conn.copy_arrow_to_table("t", pa.table({"a": [1.5]}))
        assert await conn.copy_arrow_to_table("t", batch(1)) == "COPY 3"
    assert await count(conn) == 3


# Data that does not match


@pytest.mark.parametrize("data", [[(1, "x")], {"a": [1]}, None, pa.Table, "x"])
async def test_other_data(conn: headrace.Connection, data: Any) -> None:
    with pytest.raises(TypeError, match="data is expected to have the Arrow PyCapsule interface"):
        await conn.copy_arrow_to_table("t", data)


async def test_names(conn: headrace.Connection) -> None:
    data = pa.table({"a": [1], "b": ["x"]})
    with pytest.raises(headrace.InterfaceError, match="the data has no column named 'A', 'z'") as caught:
        await conn.copy_arrow_to_table("t", data, columns=["A", "b", "z"])
    assert "The data has 'a', 'b'." in str(caught.value)
    with pytest.raises(headrace.InterfaceError, match="columns names more than one column 'a'"):
        await conn.copy_arrow_to_table("t", data, columns=["a", "a"])
    with pytest.raises(headrace.InterfaceError, match="the data has more than one column 'a'"):
        await conn.copy_arrow_to_table("t", pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(headrace.UndefinedColumnError, match='column "z" .*does not exist') as undefined:
        await conn.copy_arrow_to_table("t", pa.table({"a": [1], "z": [1]}))
    assert "The columns are 'a', 'b', 'c'." in str(undefined.value.hint)
    with pytest.raises(headrace.UndefinedTableError):
        await conn.copy_arrow_to_table("nothing", data)
    with pytest.raises(headrace.InterfaceError, match="data is expected to be a table with columns"):
        await conn.copy_arrow_to_table("t", pa.table({}))
    with pytest.raises(headrace.InterfaceError, match="data is expected to be a table with columns"):
        await conn.copy_arrow_to_table("t", pa.array([1, 2]))
    with pytest.raises(headrace.InterfaceError, match="columns is expected to be a list of column names"):
        await conn.copy_arrow_to_table("t", data, columns="a")


async def test_all_types_that_do_not_fit_are_named(conn: headrace.Connection) -> None:
    await conn.execute(
        "CREATE TEMP TABLE many (i int, ts timestamptz, ok int, tags text[], m money, class regclass, asked tsquery)"
    )
    data = pa.table(
        {
            "i": pa.array(["1.5"]).cast(pa.float64()),
            "ts": pa.array([0], pa.timestamp("us")),
            "ok": [1],
            "tags": pa.array([1]),
            "m": pa.array(["1"]),
            "class": pa.array(["pg_class"]),
            "asked": pa.array(["a & b"]),
        }
    )
    with pytest.raises(headrace.ArgumentError) as caught:
        await conn.copy_arrow_to_table("many", data)
    text = str(caught.value)
    for part in (
        "column 'i': Arrow type float64 does not fit PostgreSQL type int4 (cast it to int32)",
        "column 'ts': Arrow type timestamp[us] does not fit PostgreSQL type timestamptz (it has no time zone",
        "column 'tags': Arrow type int64 does not fit PostgreSQL type text[] (it is expected to be a list)",
        "column 'm': Arrow type string does not fit PostgreSQL type money (its binary form depends on the server's "
        "lc_monetary; copy decimals into a column of type numeric and cast it there)",
        "column 'class': Arrow type string does not fit PostgreSQL type regclass (cast OIDs to uint32; copy names into",
        "column 'asked': Arrow type string does not fit PostgreSQL type tsquery (the type has no binary form that",
    ):
        assert part in text
    assert "'ok'" not in text


DOES_NOT_FIT = [
    ("int2", pa.array([1, 40000]), "value out of int2 range: expected -32768 to 32767, got 40000"),
    ("int8", pa.array([1, 2**63], pa.uint64()), "value out of int8 range: .* got 9223372036854775808"),
    ("oid", pa.array([1, -1]), "value out of oid range: expected 0 to 4294967295, got -1"),
    ("xid8", pa.array([1, -1]), "value out of xid8 range: expected 0 to 18446744073709551615, got -1"),
    ("float8", pa.array([1, 2**53 + 1]), "float8 cannot hold 9007199254740993 exactly"),
    ("float4", pa.array([1, 1e300]), "value out of float4 range"),
    (
        "timestamp",
        pa.array([0, 1], pa.timestamp("ns")),
        "a timestamp is expected in whole microseconds, got 1 nanoseconds",
    ),
    ("timestamp", pa.array([0, 2**62], pa.timestamp("s")), "a timestamp out of range: 4611686018427387904 seconds"),
    (
        "timestamp",
        pa.array([0, -(2**63)], pa.timestamp("us")),
        "timestamp out of range: expected the year 4714 BC to 294276",
    ),
    ("date", pa.array([0, -(2**31)], pa.int32()).cast(pa.date32()), "date out of range"),
    ("time", pa.array([0, 90000], pa.int32()).cast(pa.time32("s")), "time out of range: expected 00:00:00 to 24:00:00"),
    ("text", pa.array(["x", "a\0b"]), "PostgreSQL text cannot hold the NUL character"),
    ("uuid", pa.array(["12345678123456781234567812345678", "z"]), "invalid UUID 'z'"),
    ("uuid", pa.array([b"0123456789abcdef", b"x"]), "a uuid is expected to have 16 bytes, got 1"),
    ("int4[]", pa.array(["{1}", "{1"]), r"expected the text form of int4\[\], got '{1'"),
    ("date", pa.array(["2024-01-01", "soon"]), "expected the text form of date, got 'soon'"),
    ("int4[]", pa.array([[[1], [2]], [[1], [2, 3]]]), "the lists inside of a list are expected to have one length"),
    ("int4[]", pa.array([[[1]], [[1], None]]), "a list inside of a list is NULL"),
    ("int2[]", pa.array([[1], [5, 70000]]), "element 1: value out of int2 range"),
    ("tsvector", pa.array(["a", "a:0"]), r"expected the text form of tsvector, got 'a:0' \(a position from 1 on is"),
    ("int2vector", pa.array([[1], [None]]), "expected one or more numbers and no NULL"),
]


@pytest.mark.any_server
@pytest.mark.parametrize(("type", "array", "message"), DOES_NOT_FIT)
async def test_a_value_that_does_not_fit(conn: headrace.Connection, type: str, array: Any, message: str) -> None:
    await conn.execute(f'CREATE TEMP TABLE u ("the column" {type})')
    with pytest.raises(
        headrace.ArgumentError, match="invalid input for row 2, column 'the column': " + message
    ) as caught:
        await conn.copy_arrow_to_table("u", pa.table({"the column": array}))
    assert f"[{type} column, " in str(caught.value)
    assert " given]" in str(caught.value)
    assert await conn.fetchval("SELECT count(*) FROM u") == 0


async def test_rows_are_counted_over_batches(conn: headrace.Connection) -> None:
    schema = pa.schema({"a": pa.int64()})
    batches = [pa.record_batch([pa.array([1, 2, 3])], schema), pa.record_batch([pa.array([4, 2**40])], schema)]
    stream = Counted(schema, batches)
    with pytest.raises(headrace.ArgumentError, match="row 5, column 'a'"):
        await conn.copy_arrow_to_table("t", stream)
    assert await count(conn) == 0
    await released(stream)


# Streams cut short


async def test_all_is_released_once(conn: headrace.Connection) -> None:
    stream = Counted(SCHEMA, [batch(number) for number in range(5)])
    assert await conn.copy_arrow_to_table("t", stream) == "COPY 15"
    assert stream.is_clean


@pytest.mark.parametrize("good", range(4))
@pytest.mark.parametrize("in_transaction", [False, True])
async def test_a_stream_fails_at_each_batch(conn: headrace.Connection, good: int, in_transaction: bool) -> None:
    def batches() -> Iterator[pa.RecordBatch]:
        yield from (batch(number, 2000) for number in range(good))
        raise ValueError("no disk left")

    stream = Counted(SCHEMA, batches())
    transaction = conn.transaction()
    if in_transaction:
        await transaction.start()
    with pytest.raises(headrace.InterfaceError, match="could not return its next batch: no disk left"):
        await conn.copy_arrow_to_table("t", stream)
    if in_transaction:
        await transaction.rollback()
    assert await count(conn) == 0
    await released(stream)


@pytest.mark.parametrize("good", range(4))
async def test_cancelled_at_each_batch(conn: headrace.Connection, good: int) -> None:
    reached, cancelled = threading.Event(), threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        yield from (batch(number, 2000) for number in range(good))
        reached.set()
        assert cancelled.wait(PATIENCE)
        while True:
            yield batch(0)

    stream = Counted(SCHEMA, batches())
    task = asyncio.create_task(conn.copy_arrow_to_table("t", stream))
    assert await asyncio.to_thread(reached.wait, PATIENCE)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # The connection is free although the stream is still computing.
    assert await count(conn) == 0
    assert not stream.released.is_set()
    cancelled.set()
    await released(stream)
    assert stream.asked == good + 1


async def test_time_out_while_a_batch_is_computed(conn: headrace.Connection) -> None:
    over = threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch(1)
        assert over.wait(PATIENCE)
        yield batch(2)

    stream = Counted(SCHEMA, batches())
    with pytest.raises(TimeoutError):
        await conn.copy_arrow_to_table("t", stream, timeout=0.5)
    over.set()
    assert await count(conn) == 0
    await released(stream)


async def test_the_server_refuses_rows_while_a_batch_is_computed(conn: headrace.Connection) -> None:
    await conn.execute("ALTER TABLE t ADD CHECK (a < 5)")
    over = threading.Event()

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch(1, 2000)
        yield batch(7, 2000)
        assert over.wait(PATIENCE)
        yield batch(1)

    stream = Counted(SCHEMA, batches())
    with pytest.raises(headrace.CheckViolationError):
        await conn.copy_arrow_to_table("t", stream)
    over.set()
    assert await count(conn) == 0
    await released(stream)


async def test_not_null_is_the_servers_error(conn: headrace.Connection) -> None:
    await conn.execute("ALTER TABLE t ALTER b SET NOT NULL")
    with pytest.raises(headrace.NotNullViolationError, match='null value in column "b" of relation "t"'):
        await conn.copy_arrow_to_table("t", pa.table({"a": [1], "b": pa.array([None], pa.string())}))
    with pytest.raises(headrace.NotNullViolationError):
        await conn.copy_arrow_to_table("t", pa.table({"a": [1]}))


async def test_the_connection_is_lost(conn: headrace.Connection, server: Cluster, database: str) -> None:
    pid = conn.get_server_pid()

    def batches() -> Iterator[pa.RecordBatch]:
        yield batch(1, 2000)
        server.sql("SELECT pg_terminate_backend(%s)", pid)
        while True:
            yield batch(1, 2000)

    stream = Counted(SCHEMA, batches())
    with pytest.raises((headrace.PostgresConnectionError, headrace.AdminShutdownError)):
        await conn.copy_arrow_to_table("t", stream)
    assert server.sql("SELECT count(*) FROM t", database=database) == [(0,)]
    await released(stream)


async def test_a_stream_is_read_once(conn: headrace.Connection) -> None:
    stream = Counted(SCHEMA, [batch(1)])
    once = stream.__arrow_c_stream__()
    stream.__arrow_c_stream__ = lambda requested_schema=None: once  # type: ignore[method-assign]
    assert await conn.copy_arrow_to_table("t", stream) == "COPY 3"
    with pytest.raises(headrace.InterfaceError, match="the stream of the data has been released"):
        await conn.copy_arrow_to_table("t", stream)


async def test_an_export_that_raises(conn: headrace.Connection) -> None:
    class Raises:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            raise RuntimeError("not today")

    class Wrong:
        def __arrow_c_stream__(self, requested_schema: object = None) -> Any:
            return object()

    with pytest.raises(RuntimeError, match="not today"):
        await conn.copy_arrow_to_table("t", Raises())
    with pytest.raises(headrace.InterfaceError, match="expected to export a capsule named 'arrow_array_stream'"):
        await conn.copy_arrow_to_table("t", Wrong())
