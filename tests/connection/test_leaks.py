"""What a request leaves behind in a whole connection: no memory, and no reference."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable

import pytest

import headrace
from headrace import exceptions
from tests.core.pipeline.growth import Growth

pytestmark = [pytest.mark.slow, pytest.mark.any_server]

IN_BUFFERS = 32_768
"""Bytes that the event loop's and the sockets' buffers may hold at one time and not at another."""

MANY_TYPES = """\
SELECT 1::int2, 2::int4, 3::int8, 1.5::float4, 2.5::float8, 12.340::numeric, true, 'text',
  'a'::"char", '\\x00ff'::bytea,
  '2026-02-28'::date, '01:02:03'::time, '01:02+03'::timetz, now(), now()::timestamp, '1 mon 2 days'::interval,
  '{"a": 1}'::json, '{"a": [1]}'::jsonb, gen_random_uuid(), '127.0.0.1'::inet, '10.0.0.0/8'::cidr,
  '08:00:2b:01:02:03'::macaddr, B'0101', B'01'::varbit, '(1,2)'::point, '((1,2),(3,4))'::box, '((1,2),3)'::circle,
  ARRAY[1, NULL, 3], ARRAY[['a', 'b']], '[1,5)'::int4range, '{[1,2),[5,6)}'::int4multirange, ROW(1, 'two', NULL),
  '16/B374D848'::pg_lsn, '10:20:10'::pg_snapshot, 'pg_class'::regclass, '$.a'::jsonpath, 'a & b'::tsquery, NULL"""


async def fetch(conn: headrace.Connection) -> None:
    assert len((await conn.fetch(MANY_TYPES))[0]) == 38


async def send(conn: headrace.Connection) -> None:
    assert await conn.fetchval("SELECT $1::int4[] || $2::int4", [1, 2], 3) == [1, 2, 3]


async def pipeline(conn: headrace.Connection) -> None:
    assert await asyncio.gather(*(conn.fetchval("SELECT $1::int4", i) for i in range(10))) == list(range(10))


async def fail(conn: headrace.Connection) -> None:
    with pytest.raises(exceptions.DivisionByZeroError):
        await conn.fetch("SELECT 1 / $1::int4", 0)


async def fail_to_parse(conn: headrace.Connection) -> None:
    with pytest.raises(exceptions.PostgresSyntaxError):
        await conn.fetch("SELEC")


async def send_what_is_refused(conn: headrace.Connection) -> None:
    with pytest.raises(exceptions.DataError):
        await conn.fetch("SELECT $1::int4", "one")


async def cancel(conn: headrace.Connection) -> None:
    with pytest.raises(TimeoutError):
        await conn.execute("SELECT pg_sleep(60)", timeout=0.01)


async def execute_many(conn: headrace.Connection) -> None:
    await conn.executemany("INSERT INTO leak VALUES ($1, $2)", [(i, "text") for i in range(20)])
    await conn.execute("TRUNCATE leak")


async def execute_many_with_a_bad_one(conn: headrace.Connection) -> None:
    with pytest.raises(exceptions.NotNullViolationError):
        await conn.executemany("INSERT INTO leak VALUES ($1, $2)", [(1, "text"), (None, "text")])


async def copy(conn: headrace.Connection) -> None:
    await conn.copy_records_to_table("leak", records=[(1, "one"), (2, None)])
    await conn.copy_from_table("leak", output=io.BytesIO())
    await conn.copy_to_table("leak", source=io.BytesIO(b"3\tthree\n"))
    await conn.execute("TRUNCATE leak")


async def iterate(conn: headrace.Connection) -> None:
    async with conn.transaction():
        assert [row[0] async for row in conn.cursor("SELECT generate_series(1, 5)", prefetch=2)] == [1, 2, 3, 4, 5]


async def prepare(conn: headrace.Connection) -> None:
    statement = await conn.prepare("SELECT $1::text")
    assert await statement.fetchval("a") == "a"


async def roll_back(conn: headrace.Connection) -> None:
    with pytest.raises(ZeroDivisionError):
        async with conn.transaction(), conn.transaction():
            await conn.execute("SELECT 1")
            raise ZeroDivisionError


async def listen(conn: headrace.Connection) -> None:
    heard: asyncio.Queue[object] = asyncio.Queue()

    def hear(*args: object) -> None:
        heard.put_nowait(args[-1])

    await conn.add_listener("leak", hear)
    await conn.execute("NOTIFY leak, 'news'")
    assert await heard.get() == "news"
    await conn.remove_listener("leak", hear)


ACTIONS: list[Callable[[headrace.Connection], Awaitable[None]]] = [
    fetch, send, pipeline, fail, fail_to_parse, send_what_is_refused, cancel, execute_many, execute_many_with_a_bad_one,
    copy, iterate, prepare, roll_back, listen,
]  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.__name__)
async def test_a_request_leaves_no_memory(
    conn: headrace.Connection, action: Callable[[headrace.Connection], Awaitable[None]]
) -> None:
    await conn.execute("CREATE TEMP TABLE leak (a int NOT NULL, b text)")
    growth = Growth(repeats=25 if action is cancel else 100, bytes_between=IN_BUFFERS)
    for window in growth:
        for _ in window:
            await action(conn)
    assert growth.left == {}


async def test_a_connection_leaves_no_memory(connect_kwargs: dict[str, object]) -> None:
    growth = Growth(repeats=50, bytes_between=IN_BUFFERS)
    for window in growth:
        for _ in window:
            conn = await headrace.connect(**connect_kwargs)  # type: ignore[arg-type]
            await conn.fetch("SELECT 1")
            await conn.close()
    assert growth.left == {}
