"""Creating the database that a DSN names."""

from __future__ import annotations

from storefront import create_database
from storefront.database import with_database


async def test_the_database_is_created_if_it_is_missing(bare: str) -> None:
    assert await create_database(bare) == "CREATE DATABASE"
    assert await create_database(bare) is None


def test_another_database_keeps_the_parameters_as_they_are() -> None:
    dsn = "postgresql://user@/one?host=/my%20shop/a+b&port=5432"
    assert with_database(dsn, "two") == "postgresql://user@/two?host=/my%20shop/a%2Bb&port=5432"
