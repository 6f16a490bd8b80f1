"""Adding brands: commit, rollback and savepoints."""

from __future__ import annotations

import asyncio
import logging

import pytest

import headrace
from storefront import add_brand_with_color, add_brands, add_brands_by_hand, open_connection, remove_brands


async def names(connection: headrace.Connection) -> set[str]:
    return {row[0] for row in await connection.fetch("SELECT brand_name FROM brand WHERE brand_name < 'a'")}


async def test_brands_are_added_together(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        assert await add_brands(connection, ["Aurora", "Boreal"]) == [11, 12]
    async with open_connection(dsn) as another:
        assert await names(another) == {"Aurora", "Boreal"}


@pytest.mark.parametrize("add", [add_brands, add_brands_by_hand])
async def test_a_duplicate_rolls_all_of_them_back(dsn: str, add: type) -> None:
    async with open_connection(dsn) as connection:
        await add_brands(connection, ["Aurora"])
        with pytest.raises(headrace.UniqueViolationError) as caught:
            await add(connection, ["Boreal", "Aurora", "Cirrus"])
        assert caught.value.constraint_name == "brand_brand_name_key"
        assert caught.value.detail == "Key (brand_name)=(Aurora) already exists."
        assert await names(connection) == {"Aurora"}
        assert not connection.is_in_transaction()


async def test_any_constraint_violation_rolls_all_of_them_back(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("ALTER TABLE brand ADD CHECK (brand_name <> 'Bad')")
        with pytest.raises(headrace.CheckViolationError):
            await add_brands(connection, ["Aurora", "Bad"])
        with pytest.raises(headrace.NotNullViolationError):
            await add_brands(connection, ["Aurora", None])  # type: ignore[list-item]
        assert await names(connection) == set()


async def test_a_brand_is_kept_if_its_colour_is_refused(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    async with open_connection(dsn) as connection:
        outcome = await add_brand_with_color(connection, "Aurora", 1, "Green")
        assert isinstance(outcome.color_error, headrace.UniqueViolationError)
        assert await names(connection) == {"Aurora"}
        assert (
            await connection.fetchval("SELECT product_color_name FROM product_color WHERE product_color_id = 1")
            == "Blue"
        )
    (record,) = [each for each in caplog.records if each.name == "storefront.brands"]
    assert record.levelno == logging.WARNING
    assert "'Aurora' is kept" in record.getMessage()
    assert "Key (product_color_id)=(1) already exists." in record.getMessage()


async def test_a_brand_and_its_colour_are_added_if_both_are_new(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        outcome = await add_brand_with_color(connection, "Aurora", 3, "Green")
        assert outcome.color_error is None
        assert (
            await connection.fetchval("SELECT product_color_name FROM product_color WHERE product_color_id = 3")
            == "Green"
        )


async def test_a_refused_brand_means_no_colour(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await add_brands(connection, ["Aurora"])
        with pytest.raises(headrace.UniqueViolationError):
            await add_brand_with_color(connection, "Aurora", 3, "Green")
        assert await connection.fetchval("SELECT count(*) FROM product_color") == 2


async def test_a_transaction_by_hand_commits(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await add_brands_by_hand(connection, ["Aurora", "Boreal"])
    async with open_connection(dsn) as another:
        assert await names(another) == {"Aurora", "Boreal"}


async def test_a_transaction_by_hand_rolls_back(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        assert len(await add_brands_by_hand(connection, ["Aurora", "Boreal"], keep=False)) == 2
        assert await names(connection) == set()


async def test_cancellation_rolls_all_of_them_back(dsn: str) -> None:
    async with open_connection(dsn) as blocker, open_connection(dsn) as connection:
        async with blocker.transaction():
            await add_brands(blocker, ["Boreal"])
            adding = asyncio.create_task(add_brands(connection, ["Aurora", "Boreal"]))
            # The second insert waits for the other transaction, which may still roll Boreal back.
            while not await blocker.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                pass
            adding.cancel()
            with pytest.raises(asyncio.CancelledError):
                await adding
        assert await names(blocker) == {"Boreal"}


async def test_brands_are_removed_by_name(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await add_brands(connection, ["Aurora", "Boreal"])
        assert await remove_brands(connection, ["Aurora", "Nobody"]) == "DELETE 1"
        assert await names(connection) == {"Boreal"}
