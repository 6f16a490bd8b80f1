"""Take a connection of the pool for statements that belong together.

acquire() gives a connection to one caller, and transaction() does so for one transaction. Other callers use the rest of
the pool meanwhile.

Prints:
    the same connection: True
    2 brands
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    settings = {"search_path": "listing_11"}
    async with headrace.create_pool(dsn, min_size=1, max_size=4, server_settings=settings) as pool:
        try:
            await pool.execute("CREATE SCHEMA listing_11")
            await pool.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

            async with pool.acquire() as connection:
                first = await connection.fetchval("SELECT pg_backend_pid()")
                second = await connection.fetchval("SELECT pg_backend_pid()")
                print("the same connection:", first == second)

            async with pool.transaction() as connection:
                await connection.execute("INSERT INTO brand (brand_name) VALUES ($1)", "Aurora")
                await connection.execute("INSERT INTO brand (brand_name) VALUES ($1)", "Borealis")
            print(await pool.fetchval("SELECT count(*) FROM brand"), "brands")
        finally:
            await pool.execute("DROP SCHEMA IF EXISTS listing_11 CASCADE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
