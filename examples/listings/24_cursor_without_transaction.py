"""A cursor needs a transaction.

PostgreSQL closes a cursor at the end of the transaction that opened it. Outside of one, each statement is a transaction
by itself, so the cursor would be closed before the first row was fetched.

Prints:
    cursor cannot be created outside of a transaction
    HINT:  Use it inside of `async with connection.transaction():`, or iterate over `connection.stream(...)`.
    in a transaction: 1000 rows
    as a stream: 1000 rows
    without a cursor: 1000 rows
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_24"})
    try:
        await connection.execute("CREATE SCHEMA listing_24")
        await connection.execute("CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL)")
        await connection.execute("INSERT INTO product SELECT n, 'product ' || n FROM generate_series(1, 1000) AS n")

        query = "SELECT product_name FROM product"
        try:
            async for _ in connection.cursor(query):
                pass
        except headrace.NoActiveSQLTransactionError as error:
            print(error)

        # Open it inside of a transaction. The block may be a read-only one.
        async with connection.transaction(readonly=True):
            print("in a transaction:", len([row async for row in connection.cursor(query)]), "rows")

        # A stream needs no transaction. It has the connection to itself until its end.
        print("as a stream:", len([row async for row in connection.stream(query)]), "rows")

        # A result that fits into memory needs no cursor.
        print("without a cursor:", len(await connection.fetch(query)), "rows")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_24 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
