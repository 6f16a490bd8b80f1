"""A transaction inside of another one is a savepoint.

If the inner block raises, its own work is undone. The outer transaction goes on.

Prints:
    Borealis is left out
    ['Aurora', 'Corona']
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_15"})
    try:
        await connection.execute("CREATE SCHEMA listing_15")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        async with connection.transaction():
            await connection.execute("INSERT INTO brand (brand_name) VALUES ('Aurora')")
            try:
                async with connection.transaction():
                    await connection.execute("INSERT INTO brand (brand_name) VALUES ('Borealis')")
                    await connection.execute("INSERT INTO brand (brand_name) VALUES ('Aurora')")
            except headrace.UniqueViolationError:
                print("Borealis is left out")
            await connection.execute("INSERT INTO brand (brand_name) VALUES ('Corona')")

        rows = await connection.fetch("SELECT brand_name FROM brand ORDER BY brand_name")
        print([row["brand_name"] for row in rows])
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_15 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
