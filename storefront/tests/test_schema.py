"""The schema: five tables that can be created twice."""

from __future__ import annotations

import pytest

import headrace
from storefront import create_database, create_schema, open_connection, schema
from storefront.schema import COLORS, INDEXES, SIZES, STATEMENTS, headline
from tests.servers import Cluster


async def test_each_statement_reports_its_status(bare: str) -> None:
    await create_database(bare)
    reported: list[tuple[str, str]] = []
    async with open_connection(bare) as connection:
        statuses = await create_schema(connection, lambda statement, status: reported.append((statement, status)))
    expected = ["CREATE TABLE"] * 5 + ["CREATE INDEX"] * 4 + ["INSERT 0 1"] * 5 + ["SELECT 1"] * 2
    assert statuses[: len(STATEMENTS)] == expected
    assert reported[: len(STATEMENTS)] == list(zip(STATEMENTS, expected, strict=True))


async def test_the_indexes_of_a_search_are_left_out_if_the_server_cannot_have_them(server: Cluster) -> None:
    with server.database() as database:
        async with open_connection(server.dsn(database)) as connection:
            available = await connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = 'pg_trgm'")
            statuses = (await create_schema(connection))[len(STATEMENTS) :]
    if available:
        assert statuses == ["CREATE EXTENSION", "CREATE INDEX", "CREATE INDEX"]
    else:
        (status,) = statuses
        assert status.startswith('left out: extension "pg_trgm" is not available')


async def test_a_user_who_must_not_create_extensions_gets_the_rest_of_the_schema(server: Cluster) -> None:
    with server.database() as database:
        server.sql("CREATE ROLE clerk LOGIN; GRANT CREATE ON SCHEMA public TO clerk", database=database)
        try:
            async with open_connection(server.dsn(database, user="clerk")) as connection:
                statuses = await create_schema(connection)
                assert statuses[-1].startswith("left out: ")
                assert await connection.fetchval("SELECT count(*) FROM product_size") == 3
        finally:
            server.sql("DROP OWNED BY clerk; DROP ROLE clerk", database=database)


async def test_another_module_adds_its_tables(bare: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "_extensions", {})
    schema.extend("gifts", "CREATE TABLE IF NOT EXISTS gift (product_id INTEGER REFERENCES product (product_id))")
    await create_database(bare)
    async with open_connection(bare) as connection:
        for _ in range(2):
            assert (await create_schema(connection))[len(STATEMENTS)] == "CREATE TABLE"
        assert await connection.fetchval("SELECT count(*) FROM gift") == 0


async def test_creating_it_twice_changes_nothing(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        before = await connection.fetch("SELECT oid, relname FROM pg_class ORDER BY oid")
        statuses = await create_schema(connection)
        assert await connection.fetch("SELECT oid, relname FROM pg_class ORDER BY oid") == before
        assert await connection.fetchval("SELECT count(*) FROM sku") == 1_000
    assert statuses.count("INSERT 0 0") == 5


async def test_the_columns_are_the_ones_partners_know(empty: str) -> None:
    async with open_connection(empty) as connection:
        rows = await connection.fetch(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns"
            " WHERE table_schema = 'public' ORDER BY table_name, ordinal_position"
        )
    assert [tuple(row) for row in rows] == [
        ("brand", "brand_id", "integer", "NO"),
        ("brand", "brand_name", "text", "NO"),
        ("product", "product_id", "integer", "NO"),
        ("product", "product_name", "text", "NO"),
        ("product", "brand_id", "integer", "NO"),
        ("product_color", "product_color_id", "integer", "NO"),
        ("product_color", "product_color_name", "text", "NO"),
        ("product_size", "product_size_id", "integer", "NO"),
        ("product_size", "product_size_name", "text", "NO"),
        ("sku", "sku_id", "integer", "NO"),
        ("sku", "product_id", "integer", "NO"),
        ("sku", "product_size_id", "integer", "NO"),
        ("sku", "product_color_id", "integer", "NO"),
    ]


async def test_colours_and_sizes_exist_and_new_ids_follow_theirs(empty: str) -> None:
    async with open_connection(empty) as connection:
        assert dict(await connection.fetch("SELECT * FROM product_color")) == COLORS == {1: "Blue", 2: "Black"}
        assert dict(await connection.fetch("SELECT * FROM product_size")) == SIZES
        added = "INSERT INTO product_color (product_color_name) VALUES ('Red') RETURNING product_color_id"
        assert await connection.fetchval(added) == 3


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO product (product_name, brand_id) VALUES ('orphan', 12345)",
        "INSERT INTO sku (product_id, product_size_id, product_color_id) VALUES (12345, 1, 1)",
        "INSERT INTO sku (product_id, product_size_id, product_color_id) VALUES (1, 4, 1)",
        "INSERT INTO sku (product_id, product_size_id, product_color_id) VALUES (1, 1, 3)",
    ],
)
async def test_references_are_foreign_keys(dsn: str, statement: str) -> None:
    async with open_connection(dsn) as connection:
        with pytest.raises(headrace.ForeignKeyViolationError):
            await connection.execute(statement)


async def test_a_name_cannot_be_null_nor_a_brand_be_twice(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        with pytest.raises(headrace.NotNullViolationError):
            await connection.execute("INSERT INTO brand (brand_name) VALUES (NULL)")
        with pytest.raises(headrace.UniqueViolationError):
            await connection.execute("INSERT INTO brand (brand_name) SELECT brand_name FROM brand")


async def test_a_look_up_has_an_index_to_use(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("SET enable_seqscan = off")
        plan = await connection.fetch("EXPLAIN SELECT * FROM sku WHERE product_id = 1")
    assert "sku_product_id_idx" in "".join(row[0] for row in plan)


async def test_an_error_leaves_no_part_of_the_schema(bare: str) -> None:
    await create_database(bare)
    async with open_connection(bare) as connection:
        # IF NOT EXISTS finds this view instead of a table, and the reference to it fails.
        await connection.execute("CREATE VIEW product_size AS SELECT 1 AS product_size_id")
        with pytest.raises(headrace.PostgresError):
            await create_schema(connection)
        assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0


async def test_a_headline_is_the_shortened_first_line() -> None:
    assert headline(STATEMENTS[0]) == "CREATE TABLE brand"
    assert headline(INDEXES[1]) == "CREATE INDEX sku_product_id_idx ON sku (product_id)"
    assert headline("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING") == "INSERT INTO t VALUES (1)"
    assert len(headline(STATEMENTS[-1], 40)) == 40
