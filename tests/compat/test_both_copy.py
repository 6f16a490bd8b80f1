"""COPY: every option, source and sink, with both drivers. tests/copy/test_methods.py has what headrace adds."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.compat.test_both_drivers import Run, check_both
from tests.servers import Cluster

TABLE = "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL), (3, 'a,b')"

TO_CLIENT: list[dict[str, Any]] = [
    {},
    {"columns": ["b", "a"]},
    {"columns": ("b",)},
    {"columns": iter(["a"])},
    {"columns": []},
    {"columns": ["nope"]},
    {"schema_name": "public"},
    {"schema_name": "nope"},
    {"format": "csv"},
    {"format": "binary"},
    {"format": "nope"},
    {"format": "csv", "header": True},
    {"format": "csv", "header": False},
    {"format": "csv", "delimiter": "|", "null": "it's", "quote": "'", "escape": "\\", "force_quote": True},
    {"format": "csv", "force_quote": ["b"]},
    {"format": "csv", "force_quote": False},
    {"null": ""},
    {"delimiter": "ab"},
    {"encoding": "latin1"},
    {"encoding": "nope"},
    {"oids": True},
    {"oids": False},
    {"nope": 5},
    {"where": "a > 1"},
]

FROM_CLIENT: list[tuple[bytes, dict[str, Any]]] = [
    (b"7\tq\n", {}),
    (b"", {}),
    (b"b,a\nq,7\n", {"format": "csv", "header": True, "columns": ["b", "a"]}),
    (b"7|'q'\n8|N\n", {"format": "csv", "delimiter": "|", "quote": "'", "null": "N", "escape": "\\"}),
    (b"7,\n", {"format": "csv", "force_not_null": ["b"]}),
    (b'7,""\n', {"format": "csv", "force_null": ["b"]}),
    (b"7\t\xe9\n", {"encoding": "latin1"}),
    (b"7\tq\n", {"freeze": True}),
    (b"7\tq\n", {"freeze": False, "columns": []}),
    (b"7\tq\n8\tr\n", {"where": "a > 7"}),
    (b"7\tq\n8\tr\n", {"where": ""}),
    (b"7\tq\n", {"where": "nope > 7"}),
    (b"x\tq\n", {}),
    (b"7\n", {}),
    (b"junk", {"format": "binary"}),
    (b"7\n", {"columns": ["nope"]}),
]


async def to_client(run: Run) -> None:
    """Options, sinks, and queries with arguments."""
    conn = run.connection
    await conn.execute(TABLE)
    for options in TO_CLIENT:
        out = io.BytesIO()
        options = {name: ["a"] if isinstance(value, Iterator) else value for name, value in options.items()}
        await run.attempt(conn.copy_from_table, "t", output=out, **options)
        run.note(out.getvalue())
    for name in ("nope", "T", "public.t"):
        await run.attempt(conn.copy_from_table, name, output=io.BytesIO())
    for query, *args in (
        ("SELECT a FROM t WHERE a > $1", 1),
        ("SELECT $1::text, $2::int, $3::text", "it's \\ $1", -5, None),
        ("INSERT INTO t VALUES (9) RETURNING a",),
        ("SELECT 1 WHERE false",),
        ("SELECT 1", 1),
        ("SELECT $1::int",),
        ("SELECT $1::int", "x"),
        ("SELECT * FROM nope",),
    ):
        out = io.BytesIO()
        await run.attempt(conn.copy_from_query, query, *args, output=out)
        run.note(out.getvalue())
    received: list[bytes] = []

    async def sink(data: bytes) -> None:
        received.append(bytes(data))

    class Written:
        def write(self, data: bytes) -> None:
            received.append(bytes(data))

    path = run.directory / f"{run.driver.__name__}.out"
    outputs: list[Any] = [sink, Written(), path, str(path), str(path).encode(), 5, None, run.directory / "no" / "where"]
    for output in outputs:
        await run.attempt(conn.copy_from_table, "t", output=output)
        run.note(b"".join(received), path.read_bytes() if path.exists() else None)
    await run.attempt(conn.copy_from_query, "SELECT pg_sleep(10)", output=sink, timeout=0.1)
    run.note(await conn.fetchval("SELECT 1"))


async def from_client(run: Run) -> None:
    """Options and sources."""
    conn = run.connection
    await conn.execute(TABLE)
    for data, options in FROM_CLIENT:
        await run.attempt(conn.copy_to_table, "t", source=io.BytesIO(data), **options)
        run.note(await conn.fetch("SELECT * FROM t ORDER BY a, b"))
        await conn.execute("DELETE FROM t WHERE a > 3")
    path = run.directory / "in"
    path.write_bytes(b"7\tq\n")

    async def generated() -> AsyncIterator[bytes]:
        yield b"7\t"
        yield bytearray(b"q\n")

    async def broken() -> AsyncIterator[bytes]:
        yield b"7\tq\n"
        raise RuntimeError("boom")

    async def text() -> AsyncIterator[str]:
        yield "7\tq\n"

    class Failing:
        def read(self, size: int) -> bytes:
            raise OSError("bad disk")

    sources: list[Any] = [path, str(path), bytearray(b"7\tq\n"), memoryview(b"7\tq\n"), generated(), broken(), text()]
    sources += [Failing(), io.StringIO("7\tq\n"), 5, None, run.directory / "nowhere"]
    for source in sources:
        await run.attempt(conn.copy_to_table, "t", source=source)
        run.note(await conn.fetchval("SELECT count(*) FROM t"))
    for name in ("nope", "T"):
        await run.attempt(conn.copy_to_table, name, source=io.BytesIO(b"1\n"))

    asked = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"7\tq\n"
        asked.set()
        await asyncio.sleep(60)

    # asyncpg may raise what the server says of its giving up, in place of TimeoutError.
    with pytest.raises((TimeoutError, run.driver.QueryCanceledError)):
        await conn.copy_to_table("t", source=slow(), timeout=0.1)
    run.note(await conn.fetchval("SELECT count(*) FROM t"))
    asked.clear()
    task = asyncio.ensure_future(conn.copy_to_table("t", source=slow()))
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    run.note(task.cancelled(), await conn.fetchval("SELECT count(*) FROM t"))


async def rows(run: Run) -> None:
    """Rows of Python values."""
    conn = run.connection
    await conn.execute(TABLE)
    await conn.execute('CREATE TABLE "We""ird T" ("Co l" int PRIMARY KEY, "sel""ect" text)')

    async def generated() -> AsyncIterator[tuple[int, str]]:
        yield 7, "q"
        yield 8, "r"

    def broken() -> Iterator[tuple[int, str]]:
        yield 7, "q"
        raise RuntimeError("boom")

    cases: list[tuple[Any, dict[str, Any]]] = [
        ([(7, "q"), [8, None]], {}),
        (((i, "q") for i in range(3)), {}),
        (generated(), {}),
        (await conn.fetch("SELECT * FROM t"), {}),
        ([], {}),
        ([("q", 7)], {"columns": ("b", "a")}),
        ([("q",)], {"columns": ["b"]}),
        ([(7, "q")], {"columns": []}),
        ([(7, "q"), (8, "r")], {"where": "a > 7"}),
        ([(7, "q")], {"where": ""}),
        ([(7, "q")], {"schema_name": "public"}),
        ([(7, "q")], {"schema_name": "nope"}),
        ([(7,)], {"columns": ["nope"]}),
        ([(7, "q")], {"where": "nope"}),
        (broken(), {}),
        (None, {}),
        (5, {}),
    ]
    for records, options in cases:
        await run.attempt(conn.copy_records_to_table, "t", records=records, **options)
        run.note(await conn.fetch("SELECT * FROM t ORDER BY a, b"))
    await run.attempt(conn.copy_records_to_table, "nope", records=[(1,)])
    await run.attempt(conn.copy_records_to_table, 'We"ird T', records=[(1, "x")], columns=["Co l", 'sel"ect'])
    await run.attempt(conn.copy_records_to_table, 'We"ird T', records=[(2, "x"), (2, "x")])
    await run.attempt(conn.copy_records_to_table, "t", records=[(1, "x")], timeout="x")
    run.note(await conn.fetchval('SELECT count(*) FROM "We""ird T"'))


async def test_to_the_client(server: Cluster, tmp_path: Path) -> None:
    await check_both(to_client, server, tmp_path)


async def test_from_the_client(server: Cluster, tmp_path: Path) -> None:
    await check_both(from_client, server, tmp_path)


async def test_rows(server: Cluster, tmp_path: Path) -> None:
    await check_both(rows, server, tmp_path)
