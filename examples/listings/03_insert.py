"""Insert a row, and learn the id that it got.

`$1` stands for the first argument. A value is never put into the text of a statement, so it needs no quotes.

Prints:
    INSERT 0 1
    Borealis is brand 2
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_03"})
    try:
        await connection.execute("CREATE SCHEMA listing_03")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        status = await connection.execute("INSERT INTO brand (brand_name) VALUES ($1)", "Aurora")
        print(status)

        brand_id = await connection.fetchval(
            "INSERT INTO brand (brand_name) VALUES ($1) RETURNING brand_id", "Borealis"
        )
        print("Borealis is brand", brand_id)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_03 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
