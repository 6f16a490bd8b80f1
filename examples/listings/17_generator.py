"""A generator makes a value when it is asked for one.

It is paused between two values, so it needs no list and may go on for ever. It cannot `await`.

Prints:
    made Aurora 1
    inserted as brand 1
    made Aurora 2
    inserted as brand 2
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from itertools import count, islice

import headrace


def brand_names() -> Iterator[str]:
    for number in count(1):
        print("made Aurora", number)
        yield f"Aurora {number}"


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_17"})
    try:
        await connection.execute("CREATE SCHEMA listing_17")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        for name in islice(brand_names(), 2):
            brand_id = await connection.fetchval("INSERT INTO brand (brand_name) VALUES ($1) RETURNING brand_id", name)
            print("inserted as brand", brand_id)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_17 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
