"""Query loggers: functions that are called for every query, and for the slow ones.

python examples/query_log.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys

import headrace

log = logging.getLogger("shop.sql")


def log_query(record: headrace.LoggedQuery) -> None:
    """Write one query to the log; its arguments may be private, so they are left out."""
    outcome = "ok" if record.exception is None else type(record.exception).__name__
    log.info("%.1f ms %s: %s", record.elapsed * 1000, outcome, record.query)


def warn_of_query(record: headrace.LoggedQuery) -> None:
    """Write a slow query to the log."""
    log.warning("slow, %.0f ms: %s", record.elapsed * 1000, record.query)


async def init(connection: headrace.Connection) -> None:
    """Prepare each connection of the pool: it sees what the pool's own methods send through it, too."""
    connection.add_query_logger(warn_of_query, slower_than=0.1)
    connection.add_log_listener(lambda connection, message: log.info("the server: %s", message))


async def main(dsn: str) -> None:
    async with headrace.create_pool(dsn, min_size=1, max_size=3, init=init) as pool:
        await asyncio.gather(pool.fetch("SELECT 1"), pool.fetch("SELECT pg_sleep(0.2)"), pool.fetch("SELECT 2"))

        async with pool.acquire() as connection:
            await connection.execute("DO $$ BEGIN RAISE WARNING 'careful'; END $$")
            with connection.query_logger(log_query):
                await connection.fetchval("SELECT $1::int + 1", 41)
                with contextlib.suppress(headrace.DivisionByZeroError):
                    await connection.execute("SELECT 1/0")
            await connection.execute("SELECT 'told of to nobody'")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
    asyncio.run(main(sys.argv[1]))
