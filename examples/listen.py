"""Notifications: listeners of a connection, and an iterator on a pool that reconnects.

python examples/listen.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import headrace


async def listeners(dsn: str) -> None:
    """Have functions called on one connection, as with asyncpg."""
    connection = await headrace.connect(dsn)
    heard = asyncio.Event()

    async def listener(connection: Any, pid: int, channel: str, payload: str) -> None:
        # It may use the connection it was called for.
        print(f"{channel}: {payload}, and the server says {await connection.fetchval('SELECT upper($1)', payload)}")
        heard.set()

    try:
        await connection.add_listener("example news", listener)
        await connection.execute("SELECT pg_notify('example news', 'hello')")
        await heard.wait()
        await connection.remove_listener("example news", listener)
    finally:
        await connection.close()


async def iterator(dsn: str) -> None:
    """Iterate over notifications, whatever happens to the connection."""
    async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:
        async with pool.listen("example_orders", max_queue=100) as events:
            await pool.execute("NOTIFY example_orders, 'order 1'")
            async for event in events:
                match event:
                    case headrace.Notification(payload="the last order"):
                        print("the last order")
                        break
                    case headrace.Notification(channel, payload):
                        print(f"{channel}: {payload}")
                        # Somebody ends the connection: PostgreSQL keeps nothing for one that is away.
                        await pool.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                            " WHERE datname = current_database() AND query = 'LISTEN \"example_orders\"'"
                        )
                    case headrace.Gap(reason):
                        # From here on the server is listening again: time for a look at the table itself.
                        print(f"there may be orders that nobody told us of: {reason}")
                        await pool.execute("NOTIFY example_orders, 'the last order'")


async def main(dsn: str) -> None:
    await listeners(dsn)
    await iterator(dsn)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
