"""Many records at once: inserted, returned with their new keys, and merged into what is there.

python examples/insert_records.py postgresql://localhost/test
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import headrace

SCHEMA = """
DROP SCHEMA IF EXISTS example_insert_records CASCADE;
CREATE SCHEMA example_insert_records;
SET search_path = example_insert_records;
CREATE TABLE product (id int GENERATED ALWAYS AS IDENTITY, name text NOT NULL, tags text[] DEFAULT '{}');
CREATE TABLE stock (place text, sku int, amount int NOT NULL, PRIMARY KEY (place, sku));
"""


@dataclass
class Product:
    """A row of the table."""

    id: int
    name: str


async def deliveries() -> AsyncIterator[dict[str, Any]]:
    """Yield records as they come from somewhere else; two of them may be of one row."""
    for number in range(20_000):
        yield {"place": "north" if number % 2 else "south", "sku": number % 5_000, "amount": 1}


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        await insert(connection)
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS example_insert_records CASCADE")
        await connection.close()


async def insert(connection: headrace.Connection) -> None:
    # From a generator, which keeps no record; all of them are inserted, or none.
    records = ((f"product {i}", ["new", str(i)]) for i in range(50_000))
    print(await connection.insert_records("product", records, columns=["name", "tags"]), "products")

    # The rows come back in the order of the records, here as objects.
    names = [("lamp",), ("desk",)]
    products = await connection.insert_records(
        "product", names, columns=["name"], returning=["id", "name"], row=Product
    )
    print(products)

    # A record of a row that is there adds to its amount.
    await connection.insert_records(
        "stock",
        deliveries(),
        on_conflict=("update", ["place", "sku"]),
        update={"amount": "stock.amount + EXCLUDED.amount"},
        progress=lambda count: print(count, "deliveries") if count % 10_000 == 0 else None,
    )
    print(await connection.fetchrow("SELECT count(*) AS rows, sum(amount) AS amount FROM stock"))

    try:
        await connection.insert_records("stock", [("north", 1, 5), ("north", 2, "many")], on_conflict="ignore")
    except headrace.DataError as error:
        print(str(error).splitlines()[0])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
