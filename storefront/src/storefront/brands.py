"""List, add, rename and remove brands, with transactions and savepoints."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import headrace
from storefront.catalogue import Executor
from storefront.errors import BrandHasProductsError, BrandNameTakenError, UnknownBrandError, reason
from storefront.timing import timed

logger = logging.getLogger(__name__)

INSERT_BRAND = "INSERT INTO brand (brand_name) VALUES ($1) RETURNING brand_id"
INSERT_COLOR = "INSERT INTO product_color (product_color_id, product_color_name) VALUES ($1, $2)"

LIST_BRANDS = """\
SELECT brand_id, brand_name, coalesce(counted.products, 0) AS products
FROM brand
LEFT JOIN (SELECT brand_id, count(*) AS products FROM product GROUP BY brand_id) AS counted USING (brand_id)
ORDER BY brand_name, brand_id"""


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


@timed
async def list_brands(executor: Executor) -> list[headrace.Record]:
    """Return all brands by name, as records of brand_id, brand_name and the number of their products."""
    brands: list[headrace.Record] = await executor.fetch(LIST_BRANDS)
    return brands


@timed
async def rename_brand(executor: Executor, name: str, new_name: str) -> int:
    """Rename a brand and return its id. Its products stay with it.

    Raises UnknownBrandError if no brand has the name, and BrandNameTakenError if another one has the new name.
    """
    try:
        brand_id: int | None = await executor.fetchval(
            "UPDATE brand SET brand_name = $2 WHERE brand_name = $1 RETURNING brand_id", name, new_name
        )
    except headrace.UniqueViolationError as error:
        raise BrandNameTakenError(f"the brand {name!r} was not renamed: another brand is named {new_name!r}") from error
    if brand_id is None:
        raise UnknownBrandError(name)
    return brand_id


@timed
async def remove_brand(connection: headrace.Connection, name: str, *, move_products_to: str | None = None) -> int:
    """Remove a brand, in one transaction. Return the number of products that were given to another brand.

    Products are never removed: `move_products_to` names the brand that gets them. Raises BrandHasProductsError if there
    are products and it is None, and UnknownBrandError if one of the brands does not exist. Then nothing is changed.
    """
    async with connection.transaction():
        # The lock keeps others from adding products to these brands until the transaction ends.
        found = await connection.fetch(
            "SELECT brand_name, brand_id FROM brand WHERE brand_name = ANY($1) ORDER BY brand_id FOR UPDATE",
            [name] if move_products_to is None else [name, move_products_to],
        )
        ids = {record["brand_name"]: record["brand_id"] for record in found}
        if name not in ids:
            raise UnknownBrandError(name)
        moved = 0
        if move_products_to is not None:
            if move_products_to not in ids:
                raise UnknownBrandError(move_products_to)
            status = await connection.execute(
                "UPDATE product SET brand_id = $2 WHERE brand_id = $1", ids[name], ids[move_products_to]
            )
            moved = int(status.removeprefix("UPDATE "))
        elif products := await connection.fetchval("SELECT count(*) FROM product WHERE brand_id = $1", ids[name]):
            raise BrandHasProductsError(name, products)
        await connection.execute("DELETE FROM brand WHERE brand_id = $1", ids[name])
    return moved


async def remove_brands(connection: headrace.Connection, names: Iterable[str]) -> str:
    """Remove the brands with these names, if they exist. Return the status of the statement."""
    status: str = await connection.execute("DELETE FROM brand WHERE brand_name = ANY($1)", list(names))
    return status


async def _insert_brand(connection: headrace.Connection, name: str) -> int:
    brand_id: int = await connection.fetchval(INSERT_BRAND, name)
    return brand_id
