"""All rows of executemany() are inserted, or none.

The third name is there already, so the server refuses it. The two before it are undone.

Prints:
    refused by brand_brand_name_key
    0 brands
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_06"})
    try:
        await connection.execute("CREATE SCHEMA listing_06")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        names = [("Aurora",), ("Borealis",), ("Aurora",), ("Corona",)]
        try:
            await connection.executemany("INSERT INTO brand (brand_name) VALUES ($1)", names)
        except headrace.UniqueViolationError as error:
            print("refused by", error.constraint_name)
        print(await connection.fetchval("SELECT count(*) FROM brand"), "brands")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_06 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
