"""A typed program that uses the whole of the public API; it is checked by `mypy --strict`, not run.

Each `assert_type` says what a type checker has to know.
"""

from __future__ import annotations

import asyncio
from collections import namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, assert_type

import headrace
from headrace import Record, sql
from headrace.cursor import Cursor, CursorFactory
from headrace.prepared import PreparedStatement

PRODUCTS = "SELECT id, name FROM product WHERE id = ANY($1)"


@dataclass(slots=True)
class Product:
    id: int
    name: str


class Price(NamedTuple):
    id: int
    cents: int


class Size(TypedDict):
    id: int
    label: str


class Row(Record):
    def label(self) -> str:
        return f"{self['id']}: {self['name']}"


Bare = namedtuple("Bare", "id name")


async def connections() -> None:
    connection = await headrace.connect("postgresql://localhost/shop", command_timeout=5, max_pipeline=50)
    assert_type(connection, headrace.Connection)
    assert_type(await connection.execute("TRUNCATE product"), str)
    assert_type(await connection.fetchval("SELECT 1"), Any)
    assert_type(connection.get_server_version(), headrace.ServerVersion)
    await connection.executemany("INSERT INTO product VALUES ($1, $2)", [(1, "chair"), (2, "table")])
    await connection.close()


async def rows(connection: headrace.Connection) -> None:
    records = await connection.fetch(PRODUCTS, [1, 2])
    assert_type(records, list[Record])
    assert_type(records[0]["name"], Any)
    assert_type(await connection.fetchrow(PRODUCTS, [1]), Record | None)

    assert_type(await connection.fetch(PRODUCTS, [1], record_class=Row), list[Row])
    assert_type(await connection.fetchrow(PRODUCTS, [1], record_class=Row), Row | None)

    assert_type(await connection.fetch(PRODUCTS, [1], row=Product, timeout=1.5), list[Product])
    assert_type(await connection.fetchrow(PRODUCTS, [1], row=Product), Product | None)
    assert_type(await connection.fetchmany(PRODUCTS, [([1],)], row=Product), list[Product])
    assert_type(await connection.fetch("SELECT id, cents FROM price", row=Price), list[Price])
    assert_type(await connection.fetch("SELECT id, label FROM size", row=Size), list[Size])
    assert_type(await connection.fetch(PRODUCTS, [1], row=Bare), list[Bare])

    product = await connection.fetchrow(PRODUCTS, [1], row=Product)
    if product is not None:
        assert_type(product.name, str)


async def all_at_once(connection: headrace.Connection) -> None:
    products, prices, count = await asyncio.gather(
        connection.fetch(PRODUCTS, [1], row=Product),
        connection.fetch("SELECT id, cents FROM price", row=Price),
        connection.fetchval("SELECT count(*) FROM product"),
    )
    assert_type(products, list[Product])
    assert_type(prices, list[Price])
    assert_type(count, Any)


async def transactions(connection: headrace.Connection) -> None:
    async with connection.transaction(isolation="serializable", readonly=True) as nothing:
        assert_type(nothing, None)
        async with connection.transaction():
            await connection.execute("DELETE FROM product")
    transaction = connection.transaction()
    await transaction.start()
    await transaction.rollback()
    assert_type(connection.is_in_transaction(), bool)


async def cursors(connection: headrace.Connection) -> None:
    async with connection.transaction():
        async for record in connection.cursor(PRODUCTS, [1], prefetch=100):
            assert_type(record, Record)
        async for row in connection.cursor(PRODUCTS, [1], record_class=Row):
            assert_type(row.label(), str)
        async for product in connection.cursor(PRODUCTS, [1], row=Product):
            assert_type(product, Product)
        assert_type(connection.cursor(PRODUCTS, [1], row=Product), CursorFactory[Product])
        cursor = await connection.cursor(PRODUCTS, [1], row=Product)
        assert_type(cursor, Cursor[Product])
        assert_type(await cursor.fetch(10), list[Product])
        assert_type(await cursor.fetchrow(), Product | None)
        assert_type(await cursor.forward(5), int)


async def copies(connection: headrace.Connection) -> None:
    async for record in connection.copy_out(PRODUCTS, [1]):
        assert_type(record, Record)
    async for product in connection.copy_out(PRODUCTS, [1], row=Product):
        assert_type(product, Product)
    async with connection.copy_in("product", columns=["id", "name"]) as copy:
        await copy.write_row((1, "chair"))


async def statements(connection: headrace.Connection) -> None:
    statement = await connection.prepare(PRODUCTS)
    assert_type(statement, PreparedStatement)
    assert_type(await statement.fetch([1]), list[Record])
    assert_type(await statement.fetch([1], record_class=Row), list[Row])
    assert_type(await statement.fetch([1], row=Product), list[Product])
    assert_type(await statement.fetchrow([1], row=Price), Price | None)
    assert_type(await statement.fetchmany([([1],)], row=Product), list[Product])
    assert_type(statement.get_parameters(), tuple[headrace.Type, ...])
    async with connection.transaction():
        async for product in statement.cursor([1], row=Product):
            assert_type(product.id, int)


async def pools() -> None:
    async with headrace.create_pool("postgresql://localhost/shop", min_size=1, max_size=6) as pool:
        assert_type(pool, headrace.Pool)
        assert_type(await pool.fetch(PRODUCTS, [1]), list[Record])
        assert_type(await pool.fetch(PRODUCTS, [1], row=Product), list[Product])
        assert_type(await pool.fetchrow(PRODUCTS, [1], row=Product), Product | None)
        assert_type(await pool.fetchmany(PRODUCTS, [([1],)], record_class=Row), list[Row])
        found = await asyncio.gather(*(pool.fetchrow(PRODUCTS, [id], row=Product) for id in range(1_000)))
        assert_type(found, list[Product | None])
        async with pool.acquire(timeout=1) as connection:
            assert_type(connection, headrace.Connection)
            assert_type(await connection.fetch(PRODUCTS, [1], row=Product), list[Product])
        leased = await pool.acquire()
        assert_type(leased, headrace.Connection)
        await pool.release(leased)


async def named_parameters(connection: headrace.Connection, pool: headrace.Pool) -> None:
    query = sql("SELECT id, name FROM product WHERE id = :id AND :condition", id=5, condition=sql("name IS NOT NULL"))
    assert_type(query, headrace.Query)
    assert_type(query.text, str)
    assert_type(query.args, tuple[object, ...])
    assert_type(await connection.fetch(query), list[Record])
    assert_type(await pool.fetchrow(query, row=Product), Product | None)
    assert_type(sql(" AND ").join([sql("a = :a", a=1), sql("b = :b", b=2)]), headrace.Query)
    await connection.executemany(sql("INSERT INTO product VALUES (:id, :name)"), [{"id": 1, "name": "chair"}])
    order = headrace.identifier("product", "name")
    async with connection.transaction():
        async for product in connection.cursor(sql("SELECT * FROM product ORDER BY :order", order=order), row=Product):
            assert_type(product, Product)


async def errors(connection: headrace.Connection) -> None:
    try:
        await connection.execute("INSERT INTO product VALUES (1, 'chair')")
    except headrace.UniqueViolationError as error:
        assert_type(error.constraint_name, str | None)
        assert_type(error.sqlstate, str)
    except headrace.PostgresError as error:
        assert_type(error.detail, str | None)
