"""Run queries at once on one connection.

The connection sends a query without waiting for the answer to the one before. The answers come in order, and each goes
to its own caller.

Prints:
    brand, product, 25 rows
    ['product 3', 'product 1', 'product 2']
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_08"})
    try:
        await connection.execute("CREATE SCHEMA listing_08")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 25) AS n")

        brand, product, count = await asyncio.gather(
            connection.fetchval("SELECT 'brand'"),
            connection.fetchval("SELECT 'product'"),
            connection.fetchval("SELECT count(*) FROM product"),
        )
        print(f"{brand}, {product}, {count} rows")

        query = "SELECT product_name FROM product WHERE product_id = $1"
        print(await asyncio.gather(*(connection.fetchval(query, product_id) for product_id in (3, 1, 2))))
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_08 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
