"""A program and a library written for asyncpg, both on headrace.

python examples/from_asyncpg.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import headrace

# Before anything imports asyncpg: from here on that is headrace.
headrace.install_as_asyncpg()

import asyncpg  # noqa: E402

SCHEMA = "headrace_from_asyncpg"


async def add(pool: Any, names: list[str]) -> None:
    """Add brands, all of them or none: this is how asyncpg's programs look."""
    try:
        async with pool.acquire() as connection, connection.transaction():
            await connection.executemany("INSERT INTO brand (name) VALUES ($1)", [(name,) for name in names])
        print("added", ", ".join(names))
    except asyncpg.UniqueViolationError as error:
        print("not added:", error.detail)


async def main(dsn: str) -> None:
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=4, server_settings={"search_path": SCHEMA})
    try:
        await pool.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE; CREATE SCHEMA {SCHEMA}")
        await pool.execute("CREATE TABLE brand (id serial PRIMARY KEY, name text NOT NULL UNIQUE)")
        await add(pool, ["Ash", "Birch"])
        await add(pool, ["Cedar", "Ash"])
        # asyncpg takes a connection for each of these calls; here they share a few.
        found = await asyncio.gather(
            *(pool.fetchval("SELECT name FROM brand WHERE id = $1", n % 2 + 1) for n in range(100))
        )
        print(len(found), "look-ups at once on", pool.get_size(), "connections at most:", sorted(set(found)))
    finally:
        await pool.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
        await pool.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
