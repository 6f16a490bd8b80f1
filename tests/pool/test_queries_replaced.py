"""Query methods that a program has put in the place of headrace's: a pool's own methods call these, as asyncpg's do."""

from __future__ import annotations

from typing import Any
from unittest.mock import AsyncMock, patch

import pytest

import headrace

CALLS: dict[str, tuple[Any, ...]] = {
    "execute": ("SELECT 1",),
    "executemany": ("SELECT $1::int", [(1,)]),
    "fetch": ("SELECT $1::int", 1),
    "fetchmany": ("SELECT $1::int", [(1,)]),
    "fetchrow": ("SELECT $1::int", 1),
    "fetchval": ("SELECT $1::int", 1),
}


class Counting(headrace.Connection):
    """Counts the queries that go through it."""

    seen: list[str]

    async def fetchval(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self.seen.append(query)
        return await super().fetchval(query, *args, **kwargs)


async def test_those_of_a_connection_class(pool: Any) -> None:
    Counting.seen = []
    made = await pool(min_size=1, max_size=1, connection_class=Counting)
    assert await made.fetchval("SELECT $1::int, 5", 1, column=1) == 5
    assert Counting.seen == ["SELECT $1::int, 5"]
    assert await made.fetch("SELECT 2") == [(2,)]
    assert len(Counting.seen) == 1
    assert made.stats().acquire_count == 1, "only what was replaced takes a lease"


@pytest.mark.parametrize("method", CALLS)
async def test_those_that_are_patched_for_a_while(pool: Any, method: str) -> None:
    made = await pool(min_size=1, max_size=1)
    call = getattr(made, method)
    expected = await call(*CALLS[method])
    with patch.object(headrace.Connection, method, AsyncMock(return_value="patched")) as mock:
        assert await call(*CALLS[method]) == "patched"
    mock.assert_awaited_once()
    assert mock.await_args is not None
    assert mock.await_args.args == CALLS[method]
    assert await call(*CALLS[method]) == expected
    mock.assert_awaited_once()


async def test_patched_in_a_class_they_are_so_in_its_subclasses(pool: Any) -> None:
    class Plain(headrace.Connection):
        pass

    made = await pool(min_size=1, max_size=1, connection_class=Plain)
    with patch.object(headrace.Connection, "fetch", AsyncMock(return_value="patched")):
        assert await made.fetch("SELECT 1") == "patched"
        with patch.object(Plain, "fetch", AsyncMock(return_value="nearer")):
            assert await made.fetch("SELECT 1") == "nearer"
        assert await made.fetch("SELECT 1") == "patched"
    assert await made.fetch("SELECT 1") == [(1,)]


ARGUMENTS: dict[str, Any] = {
    "min_size": 1,
    "max_size": 1,
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "loop": None,
    "connection_class": headrace.Connection,
    "record_class": headrace.Record,
}
"""What asyncpg's Pool has no defaults for; create_pool() has them."""


async def test_a_subclass_of_pool_is_made_like_asyncpgs(connect_kwargs: dict[str, Any]) -> None:
    class Pool(headrace.Pool):
        async def fetch_dicts(self, query: str) -> list[dict[str, Any]]:
            return [dict(row) for row in await self.fetch(query)]

    host, port, user = (connect_kwargs[name] for name in ("host", "port", "user"))
    dsn = f"postgresql://{user}@{host}:{port}/{connect_kwargs['database']}"
    async with Pool(dsn, **ARGUMENTS, server_settings={"application_name": "mine"}) as made:
        assert await made.fetch_dicts("SHOW application_name") == [{"application_name": "mine"}]


async def test_a_subclass_of_pool_sees_each_use_where_it_means_to(connect_kwargs: dict[str, Any]) -> None:
    uses = []

    class Pool(headrace.Pool):
        def acquire(self, **kwargs: Any) -> Any:
            uses.append("acquire")
            return super().acquire(**kwargs)

        async def release(self, connection: Any, **kwargs: Any) -> None:
            uses.append("release")
            await super().release(connection, **kwargs)

    async with Pool(**ARGUMENTS, **connect_kwargs) as made:
        assert await made.fetchval("SELECT 1") == 1
    assert uses == ["acquire", "release"]
