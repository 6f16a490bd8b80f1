"""Take the first rows of a stream with a generator of your own.

take() works with any asynchronous iterable. It ends after `count` items, and does not ask for
another one.

Prints:
    ['product 1', 'product 2', 'product 3']
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

import headrace

T = TypeVar("T")


async def take(items: AsyncIterable[T], count: int) -> AsyncIterator[T]:
    if count < 1:
        return
    async for item in items:
        yield item
        count -= 1
        if not count:
            return


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_22"})
    try:
        await connection.execute("CREATE SCHEMA listing_22")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 1000) AS n")

        async with connection.transaction():
            rows = connection.cursor("SELECT product_name FROM product ORDER BY product_id")
            print([row["product_name"] async for row in take(rows, 3)])
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_22 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
