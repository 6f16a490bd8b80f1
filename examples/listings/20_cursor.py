"""Iterate over a large result with a cursor.

The server sends the rows in batches of `prefetch`, and only one batch is in memory at a time.

Prints:
    5000 rows, the longest name is product 1000
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_20"})
    try:
        await connection.execute("CREATE SCHEMA listing_20")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 5000) AS n")

        count, longest = 0, ""
        async with connection.transaction():
            query = "SELECT product_name FROM product ORDER BY product_id"
            async for row in connection.cursor(query, prefetch=500):
                count += 1
                longest = max(longest, row["product_name"], key=len)
        print(f"{count} rows, the longest name is {longest}")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_20 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
