"""A pool keeps a few connections open for many callers.

Its own query methods choose a connection for each call. The block closes the connections at its end.

Prints:
    product 7
    1000 answers, 100 different ones
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    settings = {"search_path": "listing_10"}
    async with headrace.create_pool(dsn, min_size=1, max_size=4, server_settings=settings) as pool:
        try:
            await pool.execute("CREATE SCHEMA listing_10")
            await pool.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
            await pool.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 100) AS n")

            query = "SELECT product_name FROM product WHERE product_id = $1"
            print(await pool.fetchval(query, 7))

            names = await asyncio.gather(*(pool.fetchval(query, 1 + number % 100) for number in range(1000)))
            print(len(names), "answers,", len(set(names)), "different ones")
        finally:
            await pool.execute("DROP SCHEMA IF EXISTS listing_10 CASCADE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
