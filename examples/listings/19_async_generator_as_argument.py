"""executemany() takes an asynchronous generator.

It asks for rows as fast as it can send them, so a long stream needs little memory. All rows are inserted, or
none.

Prints:
    3 brands
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import headrace


async def arriving_brands() -> AsyncIterator[tuple[str]]:
    for name in ("Aurora", "Borealis", "Corona"):
        # A real program would wait for a socket or a file.
        await asyncio.sleep(0)
        yield (name,)


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_19"})
    try:
        await connection.execute("CREATE SCHEMA listing_19")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        await connection.executemany("INSERT INTO brand (brand_name) VALUES ($1)", arriving_brands())
        print(await connection.fetchval("SELECT count(*) FROM brand"), "brands")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_19 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
