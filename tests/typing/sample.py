"""A typed program that uses the whole of the public API; type checkers check it, it is not run.

Each `assert_type` says what a type checker has to know.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import namedtuple
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict, assert_type

import headrace
from headrace import Record, sql
from headrace.arrow import ArrowTable, RecordBatch
from headrace.cursor import Cursor, CursorFactory
from headrace.prepared_stmt import PreparedStatement

PRODUCTS = "SELECT id, name FROM product WHERE id = ANY($1)"


@dataclass(slots=True)
class Product:
    id: int
    name: str


@dataclass(frozen=True)
class Brand:
    id: Annotated[int, headrace.key]
    products: list[Product]


BRANDS = """
    SELECT b.id, p.id AS products__id, p.name AS products__name FROM brand b JOIN product p ON p.brand = b.id ORDER BY 1
"""


class Price(NamedTuple):
    id: int
    cents: int


class Size(TypedDict):
    id: int
    label: str


class Row(Record):
    def label(self) -> str:
        return f"{self['id']}: {self['name']}"


Bare = namedtuple("Bare", "id name")  # pyright: ignore[reportUntypedNamedTuple]


async def connections() -> None:
    connection = await headrace.connect("postgresql://localhost/shop", command_timeout=5, max_pipeline=50)
    assert_type(connection, headrace.Connection)
    assert_type(await connection.execute("TRUNCATE product"), str)
    assert_type(await connection.fetchval("SELECT 1"), Any)
    assert_type(await connection.fetchval("SELECT 1", type=int), int | None)
    assert_type(
        await connection.fetchval("SELECT name, tags FROM product", column="tags", type=list[str]), list[str] | None
    )
    assert_type(connection.get_server_version(), headrace.ServerVersion)
    await connection.executemany("INSERT INTO product VALUES ($1, $2)", [(1, "chair"), (2, "table")], transaction=True)
    assert_type(await connection.fetchmany("SELECT $1", [(1,)], transaction=True), list[headrace.Record])
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
    assert_type(await connection.fetch(BRANDS, row=Brand), list[Brand])
    assert_type(await connection.fetchrow(BRANDS, row=Brand), Brand | None)
    table = await connection.fetch_arrow(PRODUCTS, [1], decimal=(12, 4), out_of_range="null")
    assert_type(table, ArrowTable)
    assert_type(await (await connection.prepare(PRODUCTS)).fetch_arrow([1]), ArrowTable)
    assert_type([batch async for batch in connection.stream_arrow(PRODUCTS, [1], batch_rows=10)], list[RecordBatch])
    async with connection.stream_arrow(PRODUCTS, [1]) as stream:
        assert_type(stream.column_names, list[str])
    async for brand in connection.fetch_each(BRANDS, [(), ()], row=Brand):
        assert_type(brand, list[Brand])
    async for brand_read in connection.copy_out(BRANDS, row=Brand):
        assert_type(brand_read.products, list[Product])
    assert_type(await connection.fetchmany(PRODUCTS, [([1],)], row=Product), list[Product])
    keys = [([1],), ([2],)]
    assert_type(connection.fetch_each(PRODUCTS, keys), headrace.ResultIterator[list[Record]])
    assert_type(connection.fetch_each(PRODUCTS, keys, row=Product), headrace.ResultIterator[list[Product]])
    async for rows in connection.fetch_each(PRODUCTS, keys, record_class=Row, return_errors=True):
        assert_type(rows, list[Row] | Exception)
    async for found in connection.fetchrow_each(PRODUCTS, keys, row=Product):
        assert_type(found, Product | None)
    async for each in connection.fetchrow_each(PRODUCTS, keys, return_errors=True):
        assert_type(each, Record | Exception | None)
    async for value in connection.fetchval_each(PRODUCTS, keys, column="id", window=10):
        assert_type(value, Any)
    async with aclosing(connection.fetchrow_each(PRODUCTS, keys)) as results:
        assert_type(await anext(results), Record | None)
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
        connection.fetchval("SELECT count(*) FROM product", type=int),
    )
    assert_type(products, list[Product])
    assert_type(prices, list[Price])
    assert_type(count, int | None)


async def transactions(connection: headrace.Connection) -> None:
    async with connection.transaction(isolation="serializable", readonly=True) as nothing:
        assert_type(nothing, None)
        async with connection.transaction():
            await connection.execute("DELETE FROM product")
    transaction = connection.transaction()
    await transaction.start()
    await transaction.rollback()
    transaction = connection.transaction(deferrable=True)
    await transaction.start()
    await transaction.commit()
    assert_type(connection.is_in_transaction(), bool)


async def cursors(connection: headrace.Connection) -> None:
    async with connection.transaction():
        async for record in connection.stream(PRODUCTS, [1], prefetch=100):
            assert_type(record, headrace.Record)
        async for product in connection.stream(PRODUCTS, [1], row=Product):
            assert_type(product, Product)
        assert_type(connection.stream(PRODUCTS, [1], record_class=Row), headrace.Stream[Row])
        async with connection.stream(PRODUCTS, [1], row=Product) as products:
            assert_type(products, headrace.Stream[Product])
            assert_type(await anext(products), Product)
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

    class Columns:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

    assert_type(await connection.copy_arrow_to_table("product", Columns(), columns=["id"]), str)
    async for product in connection.copy_out(PRODUCTS, [1], row=Product):
        assert_type(product, Product)
    async with connection.copy_in("product", columns=["id", "name"]) as copy:
        assert_type(copy, headrace.CopyWriter)
        await copy.write_row((1, "chair"))
        await copy.write_rows([(2, "table"), [3, "lamp"]])
        assert_type(copy.rows, int)
        assert_type(copy.bytes_sent, int)
    assert_type(copy.status, str)
    async with connection.copy_in("product", format="csv", header=True) as copy:
        await copy.write(b"id,name\n1,chair\n")
    async with connection.copy_out(PRODUCTS, [1]) as reader:
        assert_type(reader, headrace.CopyReader[Record])
        assert_type(reader.rows, int)
        assert_type(reader.bytes_received, int)

    async def sink(data: bytes) -> None:
        print(len(data))

    async def pieces() -> AsyncIterator[bytes]:
        yield b"1,chair\n"

    async def records() -> AsyncIterator[tuple[int, str]]:
        yield 1, "chair"

    assert_type(await connection.copy_from_table("product", output=sink, columns=["id"], schema_name="shop"), str)
    await connection.copy_from_table("product", output=io.BytesIO(), format="csv", header=True, force_quote=["name"])
    await connection.copy_from_query(PRODUCTS, [1], output=Path("product.csv"), delimiter=";", null="-", quote="'")
    assert_type(await connection.copy_to_table("product", source=pieces(), format="csv", where="id > 0"), str)
    await connection.copy_to_table("product", source=Path("product.csv"), force_not_null=["name"], freeze=False)
    assert_type(await connection.copy_records_to_table("product", records=records(), columns=["id", "name"]), str)
    await connection.copy_records_to_table("product", records=[(1, "chair")], where="id > 0", timeout=10)


async def many_records(connection: headrace.Connection, pool: headrace.Pool) -> None:
    async def records() -> AsyncIterator[dict[str, object]]:
        yield {"id": 1, "name": "chair"}

    assert_type(await connection.insert_records("product", [(1, "chair"), [2, "table"]]), int)
    assert_type(await pool.insert_records("product", records(), on_conflict="ignore", timeout=10), int)
    assert_type(await connection.insert_records("product", [(1,)], columns=["id"], returning=["id"]), list[Record])
    assert_type(await connection.insert_records("product", [(1,)], returning="*", row=Product), list[Product])
    assert_type(await pool.insert_records("product", [(1,)], returning="*", record_class=Row), list[Row])
    await connection.insert_records(
        "product", records(), schema_name="shop", on_conflict=("update", ["id"]), update={"name": "EXCLUDED.name"},
        where="id > 0", on_duplicate="error", progress=print,
    )  # fmt: skip
    await connection.insert_records("product", [(1,)], on_conflict="update", constraint="pk", update=["name"])
    await connection.insert_records("product", [(1,)], returning="*", on_conflict="ignore", ordered=False)


async def settings_and_codecs(connection: headrace.Connection) -> None:
    await connection.set_type_codec("json", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await connection.set_type_codec("date", schema="pg_catalog", encoder=tuple, decoder=list, format="tuple")
    await connection.reset_type_codec("json", schema="pg_catalog")
    await connection.set_builtin_type_codec("hstore", codec_name="pg_contrib.hstore")
    await connection.reload_schema_state()
    assert_type(connection.get_server_pid(), int)
    assert_type(connection.get_settings()["server_version"], str)
    assert_type(connection.get_settings().TimeZone, str)
    assert_type(connection.get_reset_query(), str)
    await connection.reset(timeout=5)
    assert_type(connection.is_closed(), bool)
    connection.terminate()


async def listeners(connection: headrace.Connection) -> None:
    def told(connection: headrace.Connection, pid: int, channel: str, payload: str) -> None:
        print(channel, payload)

    async def told_later(connection: headrace.Connection, pid: int, channel: str, payload: str) -> None:
        print(channel, payload)

    def logged(connection: headrace.Connection, message: headrace.PostgresLogMessage) -> None:
        assert_type(message.message, str | None)

    def ended(connection: headrace.Connection) -> None:
        print(connection.is_closed())

    def query_logged(record: headrace.LoggedQuery) -> None:
        assert_type(record.query, str)
        assert_type(record.elapsed, float)
        assert_type(record.exception, BaseException | None)

    await connection.add_listener("orders", told)
    await connection.add_listener("orders", told_later)
    await connection.remove_listener("orders", told)
    connection.add_log_listener(logged)
    connection.remove_log_listener(logged)
    connection.add_termination_listener(ended)
    connection.remove_termination_listener(ended)
    connection.add_query_logger(query_logged, slower_than=0.5)
    connection.remove_query_logger(query_logged)
    with connection.query_logger(query_logged):
        await connection.fetch(PRODUCTS, [1])


class Timing(headrace.QueryHook):
    def start(self, operation: headrace.Operation) -> str:
        assert_type(operation.timeout, float | None)
        return operation.query

    def end(self, token: str, outcome: headrace.Outcome) -> None:
        assert_type(outcome.error, BaseException | None)
        if outcome.server is not None:
            assert_type(outcome.server.port, int | None)


async def query_hooks(pool: headrace.Pool) -> None:
    pool.add_query_hook(Timing())
    async with pool.acquire() as connection:
        connection.add_query_hook(hook := Timing())
        connection.remove_query_hook(hook)
    headrace.add_query_hook(hook)
    headrace.remove_query_hook(hook)


async def notifications(pool: headrace.Pool) -> None:
    async with pool.listen("orders", "stock", max_queue=100, heartbeat=None) as events:
        assert_type(events, headrace.Listening)
        async for event in events:
            match event:
                case headrace.Notification(channel, payload):
                    assert_type(channel, str)
                    assert_type(payload, str)
                case headrace.Gap():
                    assert_type(event.missing, int | None)
                    assert_type(event.seconds, float)


def values(record: Record) -> None:
    assert_type(record.get("name"), Any | None)
    assert_type(list(record.keys()), list[str])
    assert_type(list(record.values()), list[Any])
    assert_type(list(record.items()), list[tuple[str, Any]])
    assert_type(len(record), int)
    assert_type("name" in record, bool)
    span = headrace.Range(1, 5, upper_inc=True)
    assert_type(span.isempty, bool)
    assert_type(headrace.Point(1, 2).x, float)
    assert_type(headrace.BitString("101").to_int(), int)


async def statements(connection: headrace.Connection) -> None:
    statement = await connection.prepare(PRODUCTS)
    assert_type(statement, PreparedStatement)
    assert_type(await statement.fetch([1]), list[Record])
    assert_type(await statement.fetch([1], record_class=Row), list[Row])
    assert_type(await statement.fetch([1], row=Product), list[Product])
    assert_type(await statement.fetchrow([1], row=Price), Price | None)
    assert_type(await statement.fetchmany([([1],)], row=Product), list[Product])
    assert_type([batch async for batch in statement.stream_arrow([1])], list[RecordBatch])
    assert_type(statement.get_parameters(), tuple[headrace.Type, ...])
    assert_type(statement.get_attributes(), tuple[headrace.Attribute, ...])
    assert_type(statement.get_name(), str)
    assert_type(statement.get_query(), str)
    assert_type(statement.get_statusmsg(), str | None)
    assert_type(await statement.explain([1], analyze=True), Any)
    assert_type(await statement.fetchval([1], column="name"), Any)
    assert_type(await statement.fetchval([1], column="name", type=str), str | None)
    await statement.executemany([([1],)])
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
        async for row in pool.fetchrow_each(sql("SELECT :id::int"), ({"id": id} for id in range(3)), row=Product):
            assert_type(row, Product | None)
        found = await asyncio.gather(*(pool.fetchrow(PRODUCTS, [id], row=Product) for id in range(1_000)))
        assert_type(found, list[Product | None])
        async with pool.acquire(timeout=1) as connection:
            assert_type(connection, headrace.pool.PoolConnectionProxy)
            assert_type(await connection.fetch(PRODUCTS, [1], row=Product), list[Product])
        async with pool.transaction(isolation="serializable", timeout=1) as connection:
            assert_type(connection, headrace.pool.PoolConnectionProxy)

        async def renamed(connection: headrace.Connection, id: int, name: str) -> bool:
            return await connection.execute("UPDATE product SET name = $2 WHERE id = $1", id, name) == "UPDATE 1"

        assert_type(await pool.run(renamed, 1, "chair", isolation="serializable", attempts=3), bool)
        leased = await pool.acquire()
        assert_type(leased, headrace.pool.PoolConnectionProxy)
        await rows(leased)
        await pool.release(leased)
        assert_type(await pool.execute("TRUNCATE product"), str)
        assert_type(await pool.fetchval("SELECT 1"), Any)
        assert_type(await pool.fetchval("SELECT now()", type=datetime), datetime | None)
        await pool.executemany("INSERT INTO product VALUES ($1, $2)", [(1, "chair")])
        assert_type(await pool.copy_records_to_table("product", records=[(1, "chair")]), str)
        assert_type(await pool.copy_to_table("product", source=b"1\tchair\n"), str)
        assert_type(await pool.copy_from_table("product", output="product.csv"), str)
        assert_type(await pool.copy_from_query(PRODUCTS, [1], output="product.csv"), str)
        assert_type(pool.get_size() + pool.get_idle_size() + pool.get_min_size() + pool.get_max_size(), int)
        assert_type(pool.is_closing(), bool)
        pool.set_connect_args("postgresql://localhost/shop", command_timeout=5)
        await pool.expire_connections()
    await pool.close()
    pool.terminate()


async def clusters() -> None:
    cluster = headrace.create_cluster("postgresql://a,b/shop", min_size=1, max_lag=5.0, statement_cache_size=10)
    async with cluster:
        assert_type(cluster, headrace.Cluster)
        await cluster.ready(primary=1, replicas=1, timeout=10)
        assert_type(await cluster.fetch(PRODUCTS, [1], row=Product), list[Product])
        assert_type(await cluster.primary.fetchrow(PRODUCTS, [1]), Record | None)
        assert_type(await cluster.replicas.fetch(PRODUCTS, [1], record_class=Row), list[Row])
        position = await cluster.position()
        assert_type(position, headrace.Position)
        replicas = cluster.replicas.after(position, wait=0.1)
        assert_type(await replicas.fetchval("SELECT now()", type=datetime), datetime | None)
        async with replicas.acquire() as connection:
            assert_type(connection, headrace.pool.PoolConnectionProxy)
        async with cluster.session(after=str(position)) as session:
            assert_type(await session.execute("TRUNCATE product"), str)
            assert_type(await session.replicas.fetchrow(PRODUCTS, [1], row=Product), Product | None)
            assert_type(await session.position(), headrace.Position | None)
        assert_type([info.host for info in cluster.hosts()], list[str])
        assert_type(cluster.stats().fallbacks, int)
        cluster.add_listener(print)
        loader: headrace.Loader[int, Product | None] = headrace.Loader(
            cluster.replicas, PRODUCTS, key="id", row=Product
        )
        assert_type(await loader.load(5), Product | None)
        async with cluster.listen("news") as events:
            assert_type(await events.next(), headrace.Notification | headrace.Gap | None)
    rows_of_a_class = headrace.create_cluster("postgresql://a,b/shop", record_class=Row)
    assert_type(await rows_of_a_class.replicas.fetch(PRODUCTS, [1]), list[Row])


async def loaders(pool: headrace.Pool, connection: headrace.Connection) -> None:
    records = headrace.Loader(pool, PRODUCTS, key="id")
    assert_type(await records.load(1), Record | None)
    lists = headrace.Loader(pool, PRODUCTS, key="id", many=True)
    assert_type(await lists.load(1), list[Record])
    assert_type(await headrace.Loader(connection, PRODUCTS, position="ord", record_class=Row).load(1), Row | None)
    assert_type(await headrace.Loader(pool, PRODUCTS, key="id", record_class=Row, many=True).load(1), list[Row])

    products: headrace.Loader[int, Product | None] = headrace.Loader(pool, PRODUCTS, key="id", row=Product, timeout=5)
    assert_type(products.load(1), asyncio.Future[Product | None])
    assert_type(await products.load_many([1, 2]), list[Product | None])
    assert_type(await asyncio.gather(products.load(1), products.load(2)), tuple[Product | None, Product | None])
    assert_type(await asyncio.wait_for(products.load(1), 1), Product | None)
    several = headrace.Loader(pool, PRODUCTS, key="id", row=Product, many=True, cache=True, args=(1, "x"))
    assert_type(await several.load(1), list[Product])
    several.prime(2, [Product(2, "table")])
    several.clear(2)
    several.clear()


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
