"""A transaction commits at the end of its block.

Other connections see nothing of it before that, and then all of it.

Prints:
    inside: others see 0 brands
    after: others see 2 brands
"""

from __future__ import annotations

import asyncio
import sys

import headrace

COUNT = "SELECT count(*) FROM brand"


async def main(dsn: str) -> None:
    settings = {"search_path": "listing_13"}
    async with headrace.create_pool(dsn, min_size=1, max_size=2, server_settings=settings) as pool:
        try:
            await pool.execute("CREATE SCHEMA listing_13")
            await pool.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

            async with pool.acquire() as connection:
                async with connection.transaction():
                    await connection.execute("INSERT INTO brand (brand_name) VALUES ($1)", "Aurora")
                    await connection.execute("INSERT INTO brand (brand_name) VALUES ($1)", "Borealis")
                    # The pool asks on another connection: this one has been given to one caller.
                    print("inside: others see", await pool.fetchval(COUNT), "brands")
                print("after: others see", await pool.fetchval(COUNT), "brands")
        finally:
            await pool.execute("DROP SCHEMA IF EXISTS listing_13 CASCADE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
