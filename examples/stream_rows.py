"""A large result read row by row: on a connection, beside other queries, inside a transaction, and not to its end.

python examples/stream_rows.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import aclosing
from dataclasses import dataclass

import headrace

SCHEMA = """
DROP SCHEMA IF EXISTS example_stream_rows CASCADE;
CREATE SCHEMA example_stream_rows;
CREATE TABLE example_stream_rows.reading (sensor int, number int, celsius float8);
INSERT INTO example_stream_rows.reading
    SELECT 1 + n % 5, n, 20 + 5 * sin(n / 1000.0) FROM generate_series(1, 200000) AS n;
"""
READINGS = "SELECT sensor, number, celsius FROM example_stream_rows.reading ORDER BY number"


@dataclass(slots=True)
class Reading:
    sensor: int
    number: int
    celsius: float


async def main(dsn: str) -> None:
    async with headrace.create_pool(dsn, min_size=1, max_size=2) as pool:
        await pool.execute(SCHEMA)
        try:
            await stream(pool)
        finally:
            await pool.execute("DROP SCHEMA example_stream_rows CASCADE")


async def stream(pool: headrace.Pool) -> None:
    # The rows come as they are sent, and are not collected on either side.
    highest = 0.0
    async for reading in pool.stream(READINGS, row=Reading):
        highest = max(highest, reading.celsius)
    print(f"highest: {highest:.1f}")

    # The stream has a connection of the pool to itself. Queries in the loop use another one.
    async with pool.stream(READINGS, row=Reading) as readings:
        async for reading in readings:
            if reading.celsius > 24.9:
                later = await pool.fetchval(
                    "SELECT count(*) FROM example_stream_rows.reading WHERE number > $1", reading.number
                )
                print(f"reading {reading.number} of sensor {reading.sensor} has {later} behind it")
                # The server stops there, and the connection goes back to the pool.
                break

    # Inside a transaction both go over one connection, because the rows are fetched in batches.
    async with pool.transaction() as connection, aclosing(connection.stream(READINGS, row=Reading)) as readings:
        first = await anext(readings)
        again = await connection.fetchval("SELECT count(*) FROM example_stream_rows.reading")
        print(f"reading {first.number} is the first of {again}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
