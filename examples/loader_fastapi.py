"""A web service whose requests share statements: each handler asks for its own row, and a loader puts them together.

python examples/loader_fastapi.py postgresql://localhost/test

It needs fastapi and httpx. A server runs `app` by: uvicorn loader_fastapi:app. Here httpx calls it without a network.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
from fastapi import FastAPI, HTTPException

import headrace

SCHEMA = """
    CREATE SCHEMA loader_fastapi;
    CREATE TABLE loader_fastapi.product (product_id int PRIMARY KEY, product_name text NOT NULL);
    INSERT INTO loader_fastapi.product SELECT n, 'product ' || n FROM generate_series(1, 1000) AS n;
"""
PRODUCTS = "SELECT product_id, product_name FROM loader_fastapi.product WHERE product_id = ANY($1)"


@dataclass
class Product:
    product_id: int
    product_name: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open the pool, and make the loader that all requests share.

    The requests may share it because its rows do not depend on who asks: there is no row security by a setting.
    """
    async with headrace.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=6) as pool:
        app.state.products = headrace.Loader(pool, PRODUCTS, key="product_id", row=Product)
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/products/{product_id}")
async def product(product_id: int) -> Product:
    found: Product | None = await app.state.products.load(product_id)
    if found is None:
        raise HTTPException(404)
    return found


@app.get("/products")
async def products(product_id: str) -> list[Product | None]:
    found: list[Product | None] = await app.state.products.load_many(map(int, product_id.split(",")))
    return found


async def main(dsn: str) -> None:
    """Create the tables, call the service a hundred times at once, and drop the tables."""
    os.environ["DATABASE_URL"] = dsn
    connection = await headrace.connect(dsn)
    await connection.execute(SCHEMA)
    try:
        async with (
            lifespan(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client,
        ):
            answers = await asyncio.gather(*[client.get(f"/products/{number}") for number in range(1, 101)])
            print(len(answers), "answers, the last one", answers[-1].json())
            print((await client.get("/products?product_id=5,2000,7")).json())
            print((await client.get("/products/2000")).status_code)
    finally:
        await connection.execute("DROP SCHEMA loader_fastapi CASCADE")
        await connection.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
