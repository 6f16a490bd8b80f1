"""COPY between tables, queries, files and functions.

python examples/copy_files.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import gzip
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import headrace

SCHEMA = """
DROP SCHEMA IF EXISTS example_copy_files CASCADE;
CREATE SCHEMA example_copy_files;
SET search_path = example_copy_files;
CREATE TABLE product (id int PRIMARY KEY, name text NOT NULL, price numeric(10, 2));
INSERT INTO product SELECT i, 'product ' || i, i * 0.5 FROM generate_series(1, 1000) AS i;
"""


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        with tempfile.TemporaryDirectory() as directory:
            await copy(connection, Path(directory))
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS example_copy_files CASCADE")
        await connection.close()


async def copy(connection: headrace.Connection, directory: Path) -> None:
    # A table to a file, as CSV with a header.
    tag = await connection.copy_from_table("product", output=directory / "product.csv", format="csv", header=True)
    print("to a file:", tag)

    # A query with arguments, to a compressed file; any object with write() will do.
    with gzip.open(directory / "cheap.gz", "wb") as file:
        query = "SELECT id, name FROM product WHERE price < $1 ORDER BY id"
        print("to a compressed file:", await connection.copy_from_query(query, 5, output=file))

    # To a function, which may be a coroutine function: the server waits if it is slow.
    size = 0

    async def count(data: bytes) -> None:
        nonlocal size
        size += len(data)
        await asyncio.sleep(0)

    await connection.copy_from_table("product", output=count, format="binary")
    print("to a function:", size, "bytes")

    # And back: from a file, and only some of it.
    await connection.execute("CREATE TABLE dear (LIKE product)")
    tag = await connection.copy_to_table(
        "dear", source=directory / "product.csv", format="csv", header=True, where="price > 400"
    )
    print("from a file:", tag)

    # From an asynchronous iterable of bytes, in pieces of any size.
    async def pieces() -> AsyncIterator[bytes]:
        for i in range(2000, 2003):
            yield f"{i},new".encode()
            yield b" product\n"

    tag = await connection.copy_to_table("product", source=pieces(), columns=["id", "name"], format="csv")
    print("from an iterable:", tag)

    # A bad row undoes the whole COPY. The connection stays usable.
    try:
        await connection.copy_to_table("product", source=b"3000\tone more\t1\n1\ttaken\t1\n")
    except headrace.UniqueViolationError as error:
        print("refused:", error.detail, "at", error.context)
    print("rows:", await connection.fetchval("SELECT count(*) FROM product"))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
