"""Move a cursor by hand.

An awaited cursor has methods: forward() skips rows on the server, fetch() returns the next ones, and fetchrow() one row
or None.

Prints:
    skipped 500
    ['product 501', 'product 502']
    <Record product_name='product 503'>
    skipped 496
    <Record product_name='product 1000'>
    None
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_21"})
    try:
        await connection.execute("CREATE SCHEMA listing_21")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 1000) AS n")

        async with connection.transaction():
            cursor = await connection.cursor("SELECT product_name FROM product ORDER BY product_id")
            print("skipped", await cursor.forward(500))
            print([row["product_name"] for row in await cursor.fetch(2)])
            print(await cursor.fetchrow())
            print("skipped", await cursor.forward(496))
            print(await cursor.fetchrow())
            print(await cursor.fetchrow())
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_21 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
