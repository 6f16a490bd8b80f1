"""insert_records() holds a few chunks in memory, not all records: 64 MB go through, and the process hardly grows."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import headrace
from tests.copy.test_memory import ROWS, TEXT, little_memory

pytestmark = [
    pytest.mark.any_server,
    pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="how much was held is told by Linux"),
]


@pytest.fixture
async def conn(conn: headrace.Connection) -> headrace.Connection:
    """A connection with a table `t` in which all records are of one row."""
    await conn.execute("CREATE TEMP TABLE t (a int PRIMARY KEY, b text)")
    return conn


def records() -> Iterator[tuple[int, str]]:
    for _ in range(ROWS):
        yield 1, TEXT + "x"  # a new text each time


async def later() -> AsyncIterator[tuple[int, str]]:
    for record in records():
        yield record


@pytest.mark.parametrize("source", [records, later])
async def test_of_chunks(conn: headrace.Connection, source: Any) -> None:
    with little_memory():
        assert await conn.insert_records("t", source(), on_conflict="ignore") == 1


async def test_of_chunks_of_long_records(conn: headrace.Connection) -> None:
    with little_memory():
        long = ((1, TEXT * 64 + str(i)) for i in range(1000))
        assert await conn.insert_records("t", long, on_conflict="ignore") == 1


async def test_of_a_few_long_records_among_short_ones(conn: headrace.Connection) -> None:
    def mixed() -> Iterator[tuple[int, str]]:
        for i in range(100_000):
            yield 1, "x" if i % 1000 else "x" * (1 << 20)

    with little_memory():
        assert await conn.insert_records("t", mixed(), on_conflict="ignore") == 1
