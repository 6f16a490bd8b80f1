"""Take the first rows of a stream with aiostream.

The package aiostream has what itertools has, for asynchronous iterables: `pip install aiostream`. The operators are
joined by `|`, and nothing runs before the stream is read.

Prints:
    PRODUCT 1
    PRODUCT 2
    PRODUCT 3
"""

from __future__ import annotations

import asyncio
import sys

from aiostream import pipe, stream

import headrace


def upper_name(row: headrace.Record, *_: object) -> str:
    return str(row["product_name"]).upper()


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_23"})
    try:
        await connection.execute("CREATE SCHEMA listing_23")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 1000) AS n")

        async with connection.transaction():
            rows = connection.cursor("SELECT product_name FROM product ORDER BY product_id")
            names = stream.iterate(rows) | pipe.take(3) | pipe.map(upper_name)
            # The block closes the stream, even if the loop is left early.
            async with names.stream() as streamer:
                async for name in streamer:
                    print(name)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_23 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
