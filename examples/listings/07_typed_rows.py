"""Get rows as objects of a class.

The fields of the class are compared with the columns of the query, and type checkers know the type of each row.

Prints:
    [Product(product_id=1, product_name='product 1'), Product(product_id=2, product_name='product 2')]
    PRODUCT 3
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

import headrace


@dataclass
class Product:
    """A row of the table."""

    product_id: int
    product_name: str


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_07"})
    try:
        await connection.execute("CREATE SCHEMA listing_07")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 3) AS n")

        query = "SELECT product_id, product_name FROM product WHERE product_id >= $1 ORDER BY product_id LIMIT $2"
        print(await connection.fetch(query, 1, 2, row=Product))

        product = await connection.fetchrow(query, 3, 1, row=Product)
        assert product is not None
        print(product.product_name.upper())
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_07 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
