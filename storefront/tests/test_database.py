"""Creating the database that a DSN names."""

from __future__ import annotations

import asyncio

from storefront import create_database, create_schema, open_connection
from storefront.database import with_database


async def test_the_database_is_created_if_it_is_missing(bare: str) -> None:
    assert await create_database(bare) == "CREATE DATABASE"
    assert await create_database(bare) is None


async def test_programs_may_create_the_database_and_the_schema_at_once(bare: str) -> None:
    async def init() -> str | None:
        status = await create_database(bare)
        async with open_connection(bare) as connection:
            await create_schema(connection)
        return status

    statuses = await asyncio.gather(init(), init(), init())
    assert sorted(statuses, key=str) == ["CREATE DATABASE", None, None]


def test_another_database_keeps_the_parameters_as_they_are() -> None:
    dsn = "postgresql://user@/one?host=/my%20shop/a+b&port=5432"
    assert with_database(dsn, "two") == "postgresql://user@/two?host=%2Fmy%20shop%2Fa%2Bb&port=5432"
