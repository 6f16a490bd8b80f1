"""An error of one query does not disturb the others on the same connection.

With `return_exceptions=True` gather() waits for all of them, and returns the error in the place of a result.

Prints:
    before
    DivisionByZeroError: division by zero
    after
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_09"})
    try:
        await connection.execute("CREATE SCHEMA listing_09")

        results = await asyncio.gather(
            connection.fetchval("SELECT 'before'"),
            connection.fetchval("SELECT 1 / 0"),
            connection.fetchval("SELECT 'after'"),
            return_exceptions=True,
        )
        for result in results:
            if isinstance(result, Exception):
                print(f"{type(result).__name__}: {result}")
            else:
                print(result)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_09 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
