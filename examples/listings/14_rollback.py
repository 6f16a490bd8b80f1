"""A transaction rolls back if its block raises.

The caller gets the error, and the insert before it is undone.

Prints:
    duplicate key value violates unique constraint "brand_pkey"
    0 brands
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_14"})
    try:
        await connection.execute("CREATE SCHEMA listing_14")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        try:
            async with connection.transaction():
                await connection.execute("INSERT INTO brand VALUES (1, 'Aurora')")
                await connection.execute("INSERT INTO brand VALUES (1, 'Borealis')")
        except headrace.UniqueViolationError as error:
            print(error.message)
        print(await connection.fetchval("SELECT count(*) FROM brand"), "brands")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_14 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
