"""Run queries one after another, and at once.

One after another, each query waits for the network before the next is sent. The more distant the server is, the larger
is the difference.

Prints:
    one after another: 200 rows in ... ms
    at once, one connection: 200 rows in ... ms
    at once, the pool: 200 rows in ... ms
"""

from __future__ import annotations

import asyncio
import sys
from time import perf_counter

import headrace


def report(title: str, begun: float, names: list[str]) -> None:
    print(f"{title}: {len(names)} rows in {(perf_counter() - begun) * 1000:.1f} ms")


async def main(dsn: str) -> None:
    settings = {"search_path": "listing_12"}
    async with headrace.create_pool(dsn, min_size=1, max_size=4, server_settings=settings) as pool:
        try:
            await pool.execute("CREATE SCHEMA listing_12")
            await pool.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
            await pool.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 200) AS n")

            query, ids = "SELECT product_name FROM product WHERE product_id = $1", range(1, 201)
            async with pool.acquire() as connection:
                begun = perf_counter()
                report("one after another", begun, [await connection.fetchval(query, product_id) for product_id in ids])
                begun = perf_counter()
                names = await asyncio.gather(*(connection.fetchval(query, product_id) for product_id in ids))
                report("at once, one connection", begun, names)
            begun = perf_counter()
            names = await asyncio.gather(*(pool.fetchval(query, product_id) for product_id in ids))
            report("at once, the pool", begun, names)
        finally:
            await pool.execute("DROP SCHEMA IF EXISTS listing_12 CASCADE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
