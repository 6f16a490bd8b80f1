"""Connect, and ask the server for its version.

Each call that waits for the network is awaited, so other coroutines can run meanwhile.

Prints:
    PostgreSQL ...
    the major version is ...
"""

from __future__ import annotations

import asyncio
import sys

import headrace


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn)
    try:
        print(await connection.fetchval("SELECT version()"))
        # The server has sent its version when the connection was made, so this is not a query.
        print("the major version is", connection.get_server_version().major)
    finally:
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
