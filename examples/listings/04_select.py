"""Select all rows, one row, or one value.

A row is a `Record`: its columns have names and an order.

Prints:
    ['Aurora', 'Borealis', "O'Neill"]
    2 Borealis
    3
    None
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_04"})
    try:
        await connection.execute("CREATE SCHEMA listing_04")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")
        await connection.execute(
            "INSERT INTO brand (brand_name) VALUES ($1), ($2), ($3)", "Aurora", "Borealis", "O'Neill"
        )

        rows = await connection.fetch("SELECT brand_id, brand_name FROM brand ORDER BY brand_id")
        print([row["brand_name"] for row in rows])

        row = await connection.fetchrow("SELECT brand_id, brand_name FROM brand WHERE brand_id = $1", 2)
        assert row is not None
        brand_id, brand_name = row
        print(brand_id, brand_name)

        print(await connection.fetchval("SELECT count(*) FROM brand"))
        print(await connection.fetchrow("SELECT * FROM brand WHERE brand_id = $1", 1000))
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_04 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
