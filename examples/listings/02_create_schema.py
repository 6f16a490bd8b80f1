"""Create the five tables of the storefront.

A table refers to the ones above it, so the statements run one after another. They run in one transaction, so nobody
sees a part of the schema.

Prints:
    CREATE TABLE brand
    CREATE TABLE product
    CREATE TABLE product_color
    CREATE TABLE product_size
    CREATE TABLE sku
    ['brand', 'product', 'product_color', 'product_size', 'sku']
"""

from __future__ import annotations

import asyncio
import sys

import headrace

TABLES = {
    "brand": "brand_id serial PRIMARY KEY, brand_name text NOT NULL",
    "product": "product_id serial PRIMARY KEY, product_name text NOT NULL, brand_id int NOT NULL REFERENCES brand",
    "product_color": "product_color_id serial PRIMARY KEY, product_color_name text NOT NULL",
    "product_size": "product_size_id serial PRIMARY KEY, product_size_name text NOT NULL",
    "sku": "sku_id serial PRIMARY KEY, product_id int NOT NULL REFERENCES product,"
    " product_size_id int NOT NULL REFERENCES product_size, product_color_id int NOT NULL REFERENCES product_color",
}


async def main(dsn: str) -> None:
    connection = await headrace.connect(dsn, server_settings={"search_path": "listing_02"})
    try:
        await connection.execute("CREATE SCHEMA listing_02")

        async with connection.transaction():
            for table, columns in TABLES.items():
                print(await connection.execute(f"CREATE TABLE {table} ({columns})"), table)
        rows = await connection.fetch(
            "SELECT tablename FROM pg_tables WHERE schemaname = current_schema() ORDER BY tablename"
        )
        print([row["tablename"] for row in rows])
    finally:
        await connection.execute("DROP SCHEMA IF EXISTS listing_02 CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
