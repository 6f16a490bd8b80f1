"""Run one statement for many rows of arguments.

The rows travel together, without a round trip for each.

Prints:
    1000 products
    the last one is product 999
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_05"})
    try:
        await connection.execute("CREATE SCHEMA listing_05")
        await connection.execute("CREATE TABLE product (product_id serial PRIMARY KEY, product_name text NOT NULL)")

        rows = [(f"product {number}",) for number in range(1000)]
        await connection.executemany("INSERT INTO product (product_name) VALUES ($1)", rows)

        print(await connection.fetchval("SELECT count(*) FROM product"), "products")
        last = await connection.fetchval("SELECT product_name FROM product ORDER BY product_id DESC LIMIT 1")
        print("the last one is", last)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_05 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
