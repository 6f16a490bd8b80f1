"""The five tables of the catalogue, and how to create them.

The statements depend on each other, so they run one after another, and in one transaction, so there is never
half a schema. Each can be repeated without harm.
"""

from __future__ import annotations

from collections.abc import Callable

import headrace

COLORS = {1: "Blue", 2: "Black"}
SIZES = {1: "Small", 2: "Medium", 3: "Large"}
"""What the tables product_color and product_size hold from the start, by id."""

TABLES = (
    """\
CREATE TABLE IF NOT EXISTS brand (
    brand_id SERIAL PRIMARY KEY,
    brand_name TEXT NOT NULL
)""",
    """\
CREATE TABLE IF NOT EXISTS product (
    product_id SERIAL PRIMARY KEY,
    product_name TEXT NOT NULL,
    brand_id INTEGER NOT NULL REFERENCES brand (brand_id)
)""",
    """\
CREATE TABLE IF NOT EXISTS product_color (
    product_color_id SERIAL PRIMARY KEY,
    product_color_name TEXT NOT NULL
)""",
    """\
CREATE TABLE IF NOT EXISTS product_size (
    product_size_id SERIAL PRIMARY KEY,
    product_size_name TEXT NOT NULL
)""",
    """\
CREATE TABLE IF NOT EXISTS sku (
    sku_id SERIAL PRIMARY KEY,
    product_id INTEGER NOT NULL REFERENCES product (product_id),
    product_size_id INTEGER NOT NULL REFERENCES product_size (product_size_id),
    product_color_id INTEGER NOT NULL REFERENCES product_color (product_color_id)
)""",
)

INDEXES = (
    # Two brands of one name would be a mistake of whoever adds the second.
    "CREATE UNIQUE INDEX IF NOT EXISTS brand_brand_name_key ON brand (brand_name)",
    # A foreign key brings no index of its own: without this one every look-up of a product reads the whole
    # table.
    "CREATE INDEX IF NOT EXISTS sku_product_id_idx ON sku (product_id)",
)

ROWS = tuple(
    f"INSERT INTO {table} VALUES ({row_id}, '{name}') ON CONFLICT ({table}_id) DO NOTHING"
    for table, names in (("product_color", COLORS), ("product_size", SIZES))
    for row_id, name in names.items()
)


def advance_sequence(table: str) -> str:
    """The statement that moves a table's sequence past the ids in it, after inserts with ids of their own."""
    return (
        f"SELECT setval(pg_get_serial_sequence('{table}', '{table}_id'), "
        f"coalesce(max({table}_id), 1), max({table}_id) IS NOT NULL) FROM {table}"
    )


STATEMENTS = (*TABLES, *INDEXES, *ROWS, advance_sequence("product_color"), advance_sequence("product_size"))


def headline(statement: str, width: int = 60) -> str:
    """What a statement is about, in a line: its beginning, without what makes it repeatable."""
    first = statement.split("\n", 1)[0].split(" ON CONFLICT", 1)[0].removesuffix(" (")
    first = first.replace("IF NOT EXISTS ", "")
    return first if len(first) <= width else f"{first[: width - 3]}..."


async def create_schema(
    connection: headrace.Connection, report: Callable[[str, str], None] = lambda statement, status: None
) -> list[str]:
    """Create what is missing of tables, indexes, colours and sizes; return each statement's status.

    `report` is called with each statement and its status as soon as it is done. On any error nothing is
    created.
    """
    statuses = []
    async with connection.transaction():
        for statement in STATEMENTS:
            status = await connection.execute(statement)
            report(statement, status)
            statuses.append(status)
    return statuses
