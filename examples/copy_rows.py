"""COPY of Python values, both ways, with progress.

python examples/copy_rows.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import datetime
import decimal
import json
import sys
from collections.abc import Iterator
from typing import Any

import headrace

SCHEMA = """
DROP SCHEMA IF EXISTS example_copy_rows CASCADE;
CREATE SCHEMA example_copy_rows;
SET search_path = example_copy_rows;
CREATE TABLE event (id int, at timestamptz, amount numeric, tags text[], details jsonb);
"""

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
ROWS = 50_000


def events() -> Iterator[tuple[Any, ...]]:
    """Yield rows; a generator keeps none of them."""
    for i in range(ROWS):
        yield i, START + datetime.timedelta(minutes=i), decimal.Decimal(i) / 4, ["a", None], {"number": i}


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        # Codecs that a program sets are used by COPY too.
        await connection.set_type_codec("jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        await copy(connection)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS example_copy_rows CASCADE")
        await connection.close()


async def copy(connection: headrace.Connection) -> None:
    # All at once: an iterable or asynchronous iterable of rows, encoded and sent a chunk at a time.
    print(await connection.copy_records_to_table("event", records=events()))

    # Row by row, while the program does other things; nothing is in the table before the end of the block.
    async with connection.copy_in("event", columns=["id", "tags"]) as writer:
        for i in range(20_000):
            try:
                await writer.write_row((i, ["row", str(i)] if i != 7 else "no array"))
            except headrace.DataError as error:
                print("left out:", str(error).splitlines()[0])
            if writer.rows % 5000 == 0:
                print(f"{writer.rows} rows, {writer.bytes_sent} bytes")
    print(writer.status)

    # The rows of a query, decoded, as fast as the program takes them and no faster.
    total = decimal.Decimal(0)
    async for row in connection.copy_out("SELECT amount, details FROM event WHERE at >= $1", START):
        total += row["amount"]
        if row["details"]["number"] == ROWS - 1:
            print("the last one:", row)
    print("total:", total)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
