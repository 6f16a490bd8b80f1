"""Begin and end a transaction by calls.

This is for code in which a block does not fit. Each way out of it must end the transaction, as a block does by itself.

Prints:
    committed Aurora, Borealis
    rolled back Corona, Aurora
    2 brands
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

import headrace


async def add_brands(connection: headrace.Connection, *names: str) -> None:
    transaction = connection.transaction()
    await transaction.start()
    try:
        for name in names:
            await connection.execute("INSERT INTO brand (brand_name) VALUES ($1)", name)
    except BaseException:
        await transaction.rollback()
        print("rolled back", ", ".join(names))
        raise
    await transaction.commit()
    print("committed", ", ".join(names))


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_16"})
    try:
        await connection.execute("CREATE SCHEMA listing_16")
        await connection.execute("CREATE TABLE brand (brand_id serial PRIMARY KEY, brand_name text NOT NULL UNIQUE)")

        await add_brands(connection, "Aurora", "Borealis")
        with suppress(headrace.UniqueViolationError):
            await add_brands(connection, "Corona", "Aurora")
        print(await connection.fetchval("SELECT count(*) FROM brand"), "brands")
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_16 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
