"""What a type cannot hold is refused before anything is sent: random values, alone, in arrays, and in a pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import headrace
from headrace._core.pipeline import statements
from headrace.exceptions import ArgumentError, DataError
from tests.core.codecs.on_server.round_trip import batches
from tests.core.codecs.on_server.samples.bad import BAD, BAD_RANGES, NOT_A_VALUE
from tests.core.codecs.on_server.samples.every import SAMPLES

if TYPE_CHECKING:
    from tests.fixtures import Connect
    from tests.peers.proxy import Proxy

EVERY = {**BAD, **BAD_RANGES}


@pytest.fixture
async def conn(connect: Connect, proxy: Proxy) -> headrace.Connection:
    """A connection by a proxy that counts what is sent."""
    return await connect(host=proxy.host, port=proxy.port)


@pytest.fixture
async def sent(conn: headrace.Connection, proxy: Proxy) -> Callable[[], Awaitable[int]]:
    """Run a query; return how many bytes were sent since this was last called, without those of the query."""
    link = proxy.links[0]
    seen = cost = 0

    async def sent() -> int:
        nonlocal seen
        assert await conn.fetchval("SELECT $1::int", 1) == 1
        before, seen = seen, link.count("server")
        return seen - before - cost

    await sent()  # prepares the statement
    cost = await sent()
    return sent


def test_every_type_has_bad_values() -> None:
    assert sorted(EVERY) == sorted(SAMPLES)


@pytest.fixture(params=EVERY)
async def name(request: pytest.FixtureRequest, conn: headrace.Connection, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a type; statements with a parameter of it, and of an array of it, are prepared.

    They have refused a value before, so they are known to be described as the server has them.
    """
    monkeypatch.setattr(statements, "CONFIRMED_SECONDS", float("inf"))
    name: str = request.param
    for query in (f'SELECT $1::"{name}"', f'SELECT $1::"{name}"[]'):
        await conn.fetchval(query, None)
        with pytest.raises(DataError):
            await conn.fetchval(query, object())
    return name


@batches
@given(data=st.data())
async def test_refused(
    name: str, conn: headrace.Connection, sent: Callable[[], Awaitable[int]], data: st.DataObject
) -> None:
    good = data.draw(SAMPLES[name].values)
    for value in data.draw(st.lists(EVERY[name] | NOT_A_VALUE, min_size=1, max_size=8)):
        with pytest.raises(DataError, match=rf"invalid input for query argument \$1: .*\[{name} parameter, "):
            await conn.fetchval(f'SELECT $1::"{name}"', value)
        with pytest.raises(DataError, match=rf"invalid input for query argument \$1: .*\[{name}\[\] parameter, "):
            await conn.fetchval(f'SELECT $1::"{name}"[]', [good, None, value])
    assert await sent() == 0


@pytest.mark.parametrize(
    "value",
    [5, "{}", b"", {1: 2}, [[1], [1, 2]], [[1], 2], [1, [2]], [[[[[[[1]]]]]]], [[1], []], [[None], None], ["a"]],
    ids=repr,
)
async def test_arrays_that_are_none(
    conn: headrace.Connection, sent: Callable[[], Awaitable[int]], value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statements, "CONFIRMED_SECONDS", float("inf"))
    await conn.fetchval("SELECT $1::int[]", None)
    with pytest.raises(DataError):
        await conn.fetchval("SELECT $1::int[]", object())
    await sent()
    with pytest.raises(DataError, match=r"query argument \$1: .*\[int4\[\] parameter"):
        await conn.fetchval("SELECT $1::int[]", value)
    assert await sent() == 0


async def test_types_that_were_looked_up(conn: headrace.Connection) -> None:
    """The type could have been altered meanwhile, so it may be looked up again; the query is not sent."""
    await conn.execute("CREATE TYPE pair AS (a int, b text); CREATE DOMAIN good_pair AS pair; CREATE SEQUENCE calls")
    await conn.execute("CREATE TYPE mood AS ENUM ('sad')")
    bad: dict[str, list[Any]] = {
        "pair": [(1,), (1, "a", 2), {"c": 1}, {"a": "x"}, ("x", "a"), (1, 2), (1, "\0"), "(1,a)", 5, {1}],
        "pair[]": [[(1,)], [(1, 2)], [5], (1, "a")],
        "good_pair": [(1,), (1, 2), "(1,a)", 5],
        "mood": [1, b"sad", "\0", ["sad"]],
    }
    for name, values in bad.items():
        for value in values:
            with pytest.raises(DataError, match=r"invalid input for query argument \$1"):
                await conn.fetchval(f"SELECT $1::{name}, nextval('calls')", value)
    assert await conn.fetchval("SELECT nextval('calls')") == 1
    await conn.execute("DROP TYPE pair CASCADE; DROP TYPE mood; DROP SEQUENCE calls")


async def test_the_neighbours_of_a_bad_value_run(conn: headrace.Connection) -> None:
    query = "SELECT $1::int"
    results = await asyncio.gather(
        *(conn.fetchval(query, value) for value in (1, "x", 2, 2**31, 3)), return_exceptions=True
    )
    assert [result if isinstance(result, int) else type(result) for result in results] == [
        *(1, ArgumentError, 2, ArgumentError, 3)
    ]


@pytest.mark.parametrize(
    ("type_name", "value"),
    [
        ("line", (0, 0, 1)),
        ("circle", ((0, 0), -1)),
        ("name", "x" * 64),
        ("jsonb", "{"),
        ("json", "{'a': 1}"),
        ("tsquery", "&"),
        ("money", "much"),
        ("pg_snapshot", (5, 1, ())),
        ("int4range", headrace.Range(5, 1)),
        ("numeric(3, 2)", 1000),
    ],
)
async def test_what_the_server_judges(conn: headrace.Connection, type_name: str, value: Any) -> None:
    """True if a value makes sense is for the server to say; the connection goes on."""
    with pytest.raises(headrace.PostgresError):
        await conn.fetchval(f"SELECT $1::{type_name}", value)
    assert await conn.fetchval("SELECT 1") == 1
