"""An asynchronous generator may wait for the database between two values.

This one reads a table in pages. Each page begins behind the last id of the one before, so no transaction stays open.

Prints:
    a page of 2
    product 1
    product 2
    a page of 1
    product 3
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import headrace


async def products(connection: headrace.Connection, page_size: int) -> AsyncIterator[headrace.Record]:
    query = "SELECT product_id, product_name FROM product WHERE product_id > $1 ORDER BY product_id LIMIT $2"
    last = 0
    while page := await connection.fetch(query, last, page_size):
        print("a page of", len(page))
        for row in page:
            yield row
        last = page[-1]["product_id"]


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_18"})
    try:
        await connection.execute("CREATE SCHEMA listing_18")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 3) AS n")

        async for row in products(connection, page_size=2):
            print(row["product_name"])
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_18 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
