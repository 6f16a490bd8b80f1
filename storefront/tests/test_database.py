"""Creating the database that a DSN names."""

from __future__ import annotations

from storefront import create_database


async def test_the_database_is_created_if_it_is_missing(bare: str) -> None:
    assert await create_database(bare) == "CREATE DATABASE"
    assert await create_database(bare) is None
