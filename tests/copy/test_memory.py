"""COPY holds a chunk in memory, not the table: 64 MB go through, and the process grows by a quarter of that at most."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import headrace
from tests.memory import little_memory, needs_linux

pytestmark = [
    pytest.mark.any_server,
    needs_linux,
]

TEXT = "x" * 1023
ROWS = 64 * 1024


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    """A connection with an empty table `t`; nothing is stored in it, so that the server has little to do."""
    await conn.execute("CREATE TEMP TABLE t (a int, b text)")
    return conn


QUERY = f"SELECT 1 AS a, repeat('x', {len(TEXT)}) AS b FROM generate_series(1, {ROWS})"


async def test_of_bytes_from_the_server(conn: headrace.Connection, tmp_path: Path) -> None:
    path = tmp_path / "t"
    with little_memory():
        await conn.copy_from_query(QUERY, output=path)
    assert path.stat().st_size == ROWS * (len(TEXT) + 3)


async def test_of_rows_from_the_server(conn: headrace.Connection) -> None:
    seen = 0
    with little_memory():
        async for _ in conn.copy_out(QUERY):
            seen += 1
    assert seen == ROWS


async def test_of_bytes_to_the_server(conn: headrace.Connection) -> None:
    chunk = f"1\t{TEXT}\n".encode() * 64

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(ROWS // 64):
            yield chunk

    with little_memory():
        assert await conn.copy_to_table("t", source=pieces(), where="false") == "COPY 0"


async def test_of_a_file_to_the_server(conn: headrace.Connection, tmp_path: Path) -> None:
    path = tmp_path / "t"
    with path.open("wb") as file:
        for _ in range(ROWS // 64):
            file.write(f"1\t{TEXT}\n".encode() * 64)
    with little_memory():
        assert await conn.copy_to_table("t", source=path, where="false") == "COPY 0"


async def test_of_records_to_the_server(conn: headrace.Connection) -> None:
    with little_memory():
        records = ((number, TEXT) for number in range(ROWS))
        assert await conn.copy_records_to_table("t", records=records, where="false") == "COPY 0"
    with little_memory():
        async with conn.copy_in("t", where="false") as copy:
            for number in range(ROWS):
                await copy.write_row((number, TEXT))
