"""Add brands, with transactions and savepoints."""

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
    """The result of adding a brand and a colour. `color_error` is None if the colour was added."""

    brand_id: int
    color_error: headrace.PostgresError | None


async def add_brands(connection: headrace.Connection, names: Iterable[str]) -> list[int]:
    """Add brands in one transaction and return their ids.

    A duplicate name, or any other constraint violation, raises the driver's error, and no brand is added.
    """
    async with connection.transaction():
        return [await _insert_brand(connection, name) for name in names]


async def add_brand_with_color(
    connection: headrace.Connection, name: str, color_id: int, color_name: str
) -> BrandWithColor:
    """Add a brand and, if possible, a colour. The brand is kept even if the colour is refused.

    The colour is added in a nested transaction, for which the driver uses a savepoint. If the server refuses the
    colour, only the savepoint is rolled back, and the error is logged and returned. If the server refuses the brand,
    its error is raised and neither is added.
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
    """Add brands like `add_brands`, but call start, commit and rollback by hand.

    With keep=False everything is rolled back at the end. Returns the ids that the brands got or would have got. The
    code between start and commit may fail, so rollback is called in that case too. `async with` does all of this by
    itself.
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
    """Remove the brands with these names, if they exist. Return the status of the statement."""
    status: str = await connection.execute("DELETE FROM brand WHERE brand_name = ANY($1)", list(names))
    return status


async def _insert_brand(connection: headrace.Connection, name: str) -> int:
    brand_id: int = await connection.fetchval(INSERT_BRAND, name)
    return brand_id
