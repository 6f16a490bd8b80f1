"""Add brands: what a transaction keeps and what it takes back."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import headrace
from storefront.errors import reason

logger = logging.getLogger(__name__)

INSERT_BRAND = "INSERT INTO brand (brand_name) VALUES ($1) RETURNING brand_id"
INSERT_COLOR = "INSERT INTO product_color (product_color_id, product_color_name) VALUES ($1, $2)"


@dataclass(frozen=True)
class BrandWithColor:
    """What became of a brand and its colour: `color_error` is why there is no colour, or None."""

    brand_id: int
    color_error: headrace.PostgresError | None


async def add_brands(connection: headrace.Connection, names: Iterable[str]) -> list[int]:
    """Add brands in one transaction and return their ids.

    A duplicate name, or any other constraint violated, raises the driver's error for it, and none of the
    brands is added.
    """
    async with connection.transaction():
        return [await _insert_brand(connection, name) for name in names]


async def add_brand_with_color(
    connection: headrace.Connection, name: str, color_id: int, color_name: str
) -> BrandWithColor:
    """Add a brand and, if it can be, a colour: the brand is kept even where the colour is refused.

    The colour is added in a transaction inside the transaction, which the driver makes a savepoint. If the
    server refuses it, only what came after the savepoint is rolled back; the reason is logged and returned. A
    refused brand raises, and neither is added.
    """
    async with connection.transaction():
        brand_id = await _insert_brand(connection, name)
        try:
            async with connection.transaction():
                await connection.execute(INSERT_COLOR, color_id, color_name)
        except headrace.PostgresError as error:
            logger.warning("rolled back to the savepoint, the brand %r is kept: %s", name, reason(error))
            return BrandWithColor(brand_id, error)
    return BrandWithColor(brand_id, None)


async def add_brands_by_hand(connection: headrace.Connection, names: Iterable[str], *, keep: bool = True) -> list[int]:
    """Add brands as `add_brands` does, calling start, commit and rollback by hand.

    With keep=False all is rolled back at the end. Returns the ids the brands got, or would have got. Where
    the code between start and commit can fail, rollback has to be called for that too: it is what `async
    with` does by itself.
    """
    transaction = connection.transaction()
    await transaction.start()
    try:
        ids = [await _insert_brand(connection, name) for name in names]
    except BaseException:
        await transaction.rollback()
        raise
    if keep:
        await transaction.commit()
    else:
        await transaction.rollback()
    return ids


async def remove_brands(connection: headrace.Connection, names: Iterable[str]) -> str:
    """Remove the brands of these names, those that are there; return the statement's status."""
    status: str = await connection.execute("DELETE FROM brand WHERE brand_name = ANY($1)", list(names))
    return status


async def _insert_brand(connection: headrace.Connection, name: str) -> int:
    brand_id: int = await connection.fetchval(INSERT_BRAND, name)
    return brand_id
