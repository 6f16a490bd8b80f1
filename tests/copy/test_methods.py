"""COPY between tables or queries and paths, files, functions and iterables: every source, sink and option."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import headrace

ROWS = b"1\tone\n2\t\\N\n3\tth\\tree\n"


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    """A connection with a table `t` of its own."""
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")
    return conn


async def filled(conn: headrace.Connection) -> None:
    await conn.execute(r"INSERT INTO t VALUES (1, 'one'), (2, NULL), (3, E'th\tree')")


# Sinks


class Gathered:
    """A sink that keeps what it was given."""

    def __init__(self) -> None:
        self.data = b""

    def __call__(self, data: bytes) -> None:
        self.data += data

    async def later(self, data: bytes) -> None:
        await asyncio.sleep(0)
        self.data += data


async def test_out_to_a_file_in_memory(conn: headrace.Connection) -> None:
    await filled(conn)
    output = io.BytesIO()
    assert await conn.copy_from_table("t", output=output) == "COPY 3"
    assert output.getvalue() == ROWS


@pytest.mark.parametrize("kind", [str, Path, os.fsencode])
async def test_out_to_a_path(conn: headrace.Connection, tmp_path: Path, kind: Any) -> None:
    await filled(conn)
    path = tmp_path / "rows"
    path.write_text("what was there before, and longer than what comes in its place")
    assert await conn.copy_from_table("t", output=kind(path)) == "COPY 3"
    assert path.read_bytes() == ROWS


async def test_out_to_an_open_file(conn: headrace.Connection, tmp_path: Path) -> None:
    await filled(conn)
    for buffering in (-1, 0):
        with (tmp_path / "rows").open("wb", buffering) as file:
            await conn.copy_from_table("t", output=file)
        assert (tmp_path / "rows").read_bytes() == ROWS
    with gzip.open(tmp_path / "rows.gz", "wb") as file:
        await conn.copy_from_table("t", output=file)
    assert gzip.decompress((tmp_path / "rows.gz").read_bytes()) == ROWS


async def test_out_to_a_pipe_that_is_read_elsewhere_in_the_same_loop(conn: headrace.Connection) -> None:
    reading, writing = os.pipe()
    stream = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", 0)
    )

    async def write() -> str:
        with os.fdopen(writing, "wb", 0) as file:
            return await conn.copy_from_query("SELECT repeat('x', 1000) FROM generate_series(1, 1000)", output=file)

    try:
        data, tag = await asyncio.gather(stream.read(), write())
    finally:
        transport.close()
    assert (len(data), tag) == (1001 * 1000, "COPY 1000")


async def test_out_to_functions(conn: headrace.Connection) -> None:
    await filled(conn)
    plain, coroutine = Gathered(), Gathered()
    await conn.copy_from_table("t", output=plain)
    await conn.copy_from_table("t", output=coroutine.later)
    assert plain.data == coroutine.data == ROWS


async def test_out_to_asynchronous_files_and_streams(conn: headrace.Connection) -> None:
    await filled(conn)

    class AsyncFile:
        gathered = Gathered()
        write = gathered.later

    class Stream:
        gathered = Gathered()
        drained = 0

        def write(self, data: bytes) -> None:
            self.gathered(data)

        async def drain(self) -> None:
            self.drained += 1

    stream = Stream()
    await conn.copy_from_table("t", output=AsyncFile())
    await conn.copy_from_table("t", output=stream)
    assert AsyncFile.gathered.data == Stream.gathered.data == ROWS
    assert stream.drained


async def test_an_empty_table_makes_an_empty_file(conn: headrace.Connection, tmp_path: Path) -> None:
    assert await conn.copy_from_table("t", output=tmp_path / "rows") == "COPY 0"
    assert (tmp_path / "rows").read_bytes() == b""


async def test_what_is_no_sink_is_refused(conn: headrace.Connection) -> None:
    with pytest.raises(TypeError, match="file-like object, a path-like object or a coroutine function, not list"):
        await conn.copy_from_table("t", output=[])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not NoneType"):
        await conn.copy_from_query("SELECT 1", output=None)  # type: ignore[arg-type]


# Options of COPY TO


async def copied(conn: headrace.Connection, **options: Any) -> bytes:
    output = io.BytesIO()
    await conn.copy_from_table("t", output=output, **options)
    return output.getvalue()


async def test_every_option_of_copying_out(conn: headrace.Connection) -> None:
    await conn.execute("""INSERT INTO t VALUES (1, 'it''s "one"'), (2, NULL)""")
    assert await copied(conn, format="text", delimiter="|", null="-") == b'1|it\'s "one"\n2|-\n'
    assert await copied(conn, format="csv", header=True) == b'a,b\n1,"it\'s ""one"""\n2,\n'
    assert await copied(conn, format="csv", header=False, delimiter="'", null="\\") == b'1\'"it\'s ""one"""\n2\'\\\n'
    assert await copied(conn, format="csv", quote="'", escape="\\") == b"1,'it\\'s \"one\"'\n2,\n"
    assert await copied(conn, format="csv", force_quote=True, columns=["a"]) == b'"1"\n"2"\n'
    assert await copied(conn, format="csv", force_quote=("a",)) == b'"1","it\'s ""one"""\n"2",\n'
    assert await copied(conn, format="binary", columns=["a"])
    await conn.execute("UPDATE t SET b = 'ü'")
    assert await copied(conn, columns=["b"], encoding="latin1") == b"\xfc\n\xfc\n"


async def test_columns_in_any_order(conn: headrace.Connection) -> None:
    await filled(conn)
    assert await copied(conn, columns=["b", "a"]) == b"one\t1\n\\N\t2\nth\\tree\t3\n"


async def test_a_table_in_another_schema(conn: headrace.Connection, database: str) -> None:
    await conn.execute('CREATE SCHEMA IF NOT EXISTS "other one"; CREATE TABLE "other one"."a ""t"".b" (a int)')
    try:
        kwargs: dict[str, Any] = {"schema_name": "other one"}
        assert await conn.copy_to_table('a "t".b', source=b"1\n2\n", **kwargs) == "COPY 2"
        assert await conn.copy_records_to_table('a "t".b', records=[(3,)], **kwargs) == "COPY 1"
        output = io.BytesIO()
        assert await conn.copy_from_table('a "t".b', output=output, **kwargs) == "COPY 3"
        assert output.getvalue() == b"1\n2\n3\n"
    finally:
        await conn.execute('DROP SCHEMA "other one" CASCADE')


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delimiter": 5}, "delimiter is expected to be a str, got int 5"),
        ({"null": "a\0b"}, "null must not contain a NUL"),
        ({"format": "csv", "header": 1.5}, "header is expected to be True or False, got float 1.5"),
        ({"columns": "ab"}, "columns is expected to be a list of column names, got str 'ab'"),
        ({"columns": ["a", None]}, "a name in columns is expected to be a str, got NoneType"),
        ({"format": "csv", "force_quote": "a"}, "force_quote is expected to be a list of column names"),
    ],
)
async def test_options_that_make_no_sense_are_named(
    conn: headrace.Connection, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(headrace.InterfaceError, match=message):
        await copied(conn, **options)
    assert await conn.fetchval("SELECT 1") == 1


async def test_the_server_refuses_what_it_does_not_know(conn: headrace.Connection, tmp_path: Path) -> None:
    for error, kwargs in (
        (headrace.UndefinedTableError, {"table_name": "missing"}),
        (headrace.UndefinedColumnError, {"table_name": "t", "columns": ["missing"]}),
        (headrace.InvalidParameterValueError, {"table_name": "t", "format": "nonsense"}),
    ):
        (tmp_path / "kept").write_bytes(b"kept")
        with pytest.raises(error):
            await conn.copy_from_table(**kwargs, output=tmp_path / "kept")
        with pytest.raises(error):
            await conn.copy_from_table(**kwargs, output=tmp_path / "never made")
        with pytest.raises(error):
            await conn.copy_to_table(**kwargs, source=b"1\tx\n")
        # A file is opened when the server has begun to send, and not before.
        assert (tmp_path / "kept").read_bytes() == b"kept"
        assert not (tmp_path / "never made").exists()
    assert await conn.fetchval("SELECT 1") == 1


# Queries


async def test_out_of_a_query(conn: headrace.Connection) -> None:
    await filled(conn)
    output = io.BytesIO()
    query = "SELECT b, a FROM t WHERE a > 1 ORDER BY a DESC -- a comment at the end;"
    assert await conn.copy_from_query(query, output=output, format="csv", header=True) == "COPY 2"
    assert output.getvalue() == b"b,a\nth\tree,3\n,2\n"


async def test_out_of_what_returns_rows(conn: headrace.Connection) -> None:
    for query, rows in (
        ("INSERT INTO t VALUES (1, 'x') RETURNING a + 1;", b"2\n"),
        ("VALUES (1), (2)", b"1\n2\n"),
        ("TABLE t", b"1\tx\n"),
        ("WITH q AS (SELECT 7) SELECT * FROM q", b"7\n"),
    ):
        output = io.BytesIO()
        await conn.copy_from_query(query, output=output)
        assert output.getvalue() == rows


@pytest.mark.parametrize("query", ["", ";", "SELECT 1; SELECT 2", "-- nothing"])
async def test_a_query_is_one_statement(conn: headrace.Connection, query: str) -> None:
    with pytest.raises(headrace.InterfaceError, match="query is expected to be one statement, got"):
        await conn.copy_from_query(query, output=io.BytesIO())


# Sources


async def rows_in(conn: headrace.Connection) -> list[Any]:
    rows = await conn.fetch("SELECT * FROM t")
    await conn.execute("TRUNCATE t")
    return [tuple(row) for row in rows]


COPIED = [(1, "one"), (2, None), (3, "th\tree")]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, io.BytesIO])
async def test_in_from_memory(conn: headrace.Connection, kind: Any) -> None:
    assert await conn.copy_to_table("t", source=kind(ROWS)) == "COPY 3"
    assert await rows_in(conn) == COPIED


async def test_in_from_a_path_and_from_open_files(conn: headrace.Connection, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(ROWS)
    with gzip.open(tmp_path / "rows.gz", "wb") as packed:
        packed.write(ROWS)
    for source in (path, str(path)):
        assert await conn.copy_to_table("t", source=source) == "COPY 3"
        assert await rows_in(conn) == COPIED
    with path.open("rb") as buffered, path.open("rb", 0) as raw, gzip.open(tmp_path / "rows.gz") as unpacked:
        for file in (buffered, raw, unpacked):
            assert await conn.copy_to_table("t", source=file) == "COPY 3"
            assert await rows_in(conn) == COPIED
            assert not file.closed


async def test_in_from_iterables_and_functions(conn: headrace.Connection) -> None:
    pieces = [ROWS[:5], b"", bytearray(ROWS[5:7]), memoryview(ROWS[7:])]

    def generator() -> Iterator[Any]:
        yield from pieces

    async def asynchronous() -> AsyncIterator[Any]:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    class AsyncFile:
        def __init__(self) -> None:
            self.file = io.BytesIO(ROWS)

        async def read(self, size: int) -> bytes:
            return self.file.read(4)

    def function(file: io.BytesIO) -> Any:
        return lambda: file.read(3)

    def coroutine_function(file: AsyncFile) -> Any:
        return lambda: file.read(1)

    sources: list[Any] = [
        pieces,
        generator(),
        asynchronous(),
        AsyncFile(),
        function(io.BytesIO(ROWS)),
        coroutine_function(AsyncFile()),
    ]
    for source in sources:
        assert await conn.copy_to_table("t", source=source) == "COPY 3"
        assert await rows_in(conn) == COPIED


async def test_in_of_nothing(conn: headrace.Connection) -> None:
    assert await conn.copy_to_table("t", source=b"") == "COPY 0"
    assert await conn.copy_to_table("t", source=[]) == "COPY 0"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (5, TypeError, "source is expected to be a path-like object, .* not int"),
        (None, TypeError, "not NoneType"),
        (io.StringIO("1\n"), headrace.InterfaceError, "source.read.. is expected to give bytes, got str"),
        (["1\n"], headrace.InterfaceError, "source is expected to give bytes, got str '1"),
        (lambda: None, headrace.InterfaceError, "source.. is expected to give bytes, got NoneType"),
        ("/nowhere/at/all", FileNotFoundError, "/nowhere/at/all"),
    ],
)
async def test_what_is_no_source_costs_an_open_transaction_nothing(
    conn: headrace.Connection, source: Any, error: type[Exception], message: str
) -> None:
    async with conn.transaction():
        with pytest.raises(error, match=message):
            await conn.copy_to_table("t", source=source)
        assert await conn.fetchval("SELECT count(*) FROM t") == 0


async def test_every_option_of_copying_in(conn: headrace.Connection) -> None:
    async def check(source: bytes, expected: list[Any], **options: Any) -> None:
        await conn.copy_to_table("t", source=source, **options)
        assert await rows_in(conn) == expected

    await check(b"1|-\n", [(1, None)], format="text", delimiter="|", null="-")
    await check(b"a,b\n1,x\n", [(1, "x")], format="csv", header=True)
    await check(b"a,b\n1,x\n", [(1, "x")], format="csv", header="match")
    await check(b"1,'x''y'\n", [(1, "x'y")], format="csv", quote="'", escape="'")
    await check(b'1,"x\\"y"\n', [(1, 'x"y')], format="csv", escape="\\")
    await check(b"1,\n", [(1, "")], format="csv", force_not_null=["b"])
    await check(b'1,""\n', [(1, None)], format="csv", force_null=["b"])
    await check(b"1\t\xfc\n", [(1, "ü")], encoding="latin1")
    await check(b"x\t1\n", [(1, "x")], columns=["b", "a"])
    await check(b"1\tx\n2\ty\n", [(2, "y")], where="a > 1 -- and nothing else")
    binary = io.BytesIO()
    await conn.copy_from_query("SELECT 5, 'five'", output=binary, format="binary")
    await check(binary.getvalue(), [(5, "five")], format="binary")
    async with conn.transaction():
        await conn.execute("CREATE TEMP TABLE cold (a int)")
        await conn.copy_to_table("cold", source=b"1\n", freeze=True)


async def test_options_of_newer_servers(conn: headrace.Connection) -> None:
    version = conn.get_server_version().major
    if version < 18:
        with pytest.raises(headrace.PostgresSyntaxError):
            await conn.copy_to_table("t", source=b"1\tx\n", reject_limit=1)
    if version < 16:
        return
    await conn.execute("ALTER TABLE t ALTER b SET DEFAULT 'by default'")
    await conn.copy_to_table("t", source=b"1\t@\n", default="@")
    assert await rows_in(conn) == [(1, "by default")]
    if version >= 18:
        options: dict[str, Any] = {"on_error": "ignore", "reject_limit": 1, "log_verbosity": "silent"}
        assert await conn.copy_to_table("t", source=b"x\tx\n2\ty\n", **options) == "COPY 1"


async def test_where_is_one_expression(conn: headrace.Connection) -> None:
    for where in ("true; DROP TABLE t", "true); --", "'"):
        with pytest.raises((headrace.InterfaceError, headrace.PostgresSyntaxError)):
            await conn.copy_to_table("t", source=b"1\tx\n", where=where)
    assert await rows_in(conn) == []


async def test_a_large_copy_both_ways(conn: headrace.Connection, tmp_path: Path) -> None:
    query = "SELECT i, repeat('x', 100) FROM generate_series(1, 100000) AS i"
    assert await conn.copy_from_query(query, output=tmp_path / "rows") == "COPY 100000"
    assert (tmp_path / "rows").stat().st_size > 10_000_000
    assert await conn.copy_to_table("t", source=tmp_path / "rows") == "COPY 100000"
    assert await conn.fetchrow("SELECT count(*), sum(a), min(length(b)) FROM t") == (100000, 5000050000, 100)
