"""A GraphQL schema without the "N + 1" queries: the resolvers of all objects of a level share one statement.

python examples/loader_strawberry.py postgresql://localhost/test

It needs strawberry-graphql.
"""

import asyncio
import sys
from typing import Any

import strawberry
from strawberry.types import Info

import headrace

SCHEMA = """
    CREATE SCHEMA loader_strawberry;
    SET search_path = loader_strawberry;
    CREATE TABLE brand (brand_id int PRIMARY KEY, brand_name text NOT NULL);
    CREATE TABLE product (product_id int PRIMARY KEY, product_name text NOT NULL, brand_id int REFERENCES brand);
    CREATE INDEX ON product (brand_id);
    INSERT INTO brand SELECT n, 'brand ' || n FROM generate_series(1, 5) AS n;
    INSERT INTO product SELECT n, 'product ' || n, 1 + n % 5 FROM generate_series(1, 20) AS n;
"""


class Loaders:
    """The loaders of one request, made anew for each: with a cache, a request sees each object in one state."""

    def __init__(self, pool: headrace.Pool) -> None:
        self.brand = headrace.Loader(
            pool, "SELECT * FROM loader_strawberry.brand WHERE brand_id = ANY($1)", key="brand_id", cache=True
        )
        self.products_of_brand = headrace.Loader(
            pool,
            "SELECT * FROM loader_strawberry.product WHERE brand_id = ANY($1) ORDER BY product_id",
            key="brand_id",
            many=True,
        )


@strawberry.type
class Brand:
    row: strawberry.Private[Any]

    @strawberry.field
    def name(self) -> str:
        return str(self.row["brand_name"])

    @strawberry.field
    async def products(self, info: Info[Loaders, None]) -> list["Product"]:
        return [Product(row=row) for row in await info.context.products_of_brand.load(self.row["brand_id"])]


@strawberry.type
class Product:
    row: strawberry.Private[Any]

    @strawberry.field
    def name(self) -> str:
        return str(self.row["product_name"])

    @strawberry.field
    async def brand(self, info: Info[Loaders, None]) -> Brand:
        return Brand(row=await info.context.brand.load(self.row["brand_id"]))


@strawberry.type
class Query:
    @strawberry.field
    async def brands(self, info: Info[Loaders, None], ids: list[int]) -> list[Brand]:
        return [Brand(row=row) for row in await info.context.brand.load_many(ids) if row is not None]


schema = strawberry.Schema(Query)

QUESTION = "{ brands(ids: [1, 2, 3]) { name products { name brand { name } } } }"


async def main(dsn: str) -> None:
    """Create the tables, ask for brands with their products, count the statements, and drop the tables."""
    statements = []

    async def init(connection: headrace.Connection) -> None:
        connection.add_query_logger(lambda query: statements.append(query.query))

    async with headrace.create_pool(dsn, min_size=1, max_size=4, init=init) as pool:
        await pool.execute(SCHEMA)
        try:
            statements.clear()
            result = await schema.execute(QUESTION, context_value=Loaders(pool))
            print(result.data)
            # One for the brands and one for all their products; the products' brands are in the cache.
            print(len(statements), "statements")
        finally:
            await pool.execute("DROP SCHEMA loader_strawberry CASCADE")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
