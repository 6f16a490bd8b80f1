"""The five tables of the catalogue, and how to create them.

The statements depend on each other, so they run one after another. They run in one transaction, so the schema is never
incomplete. Running a statement again does no harm.

Another module adds its tables by `extend`, when it is imported:

    schema.extend("partners", "CREATE TABLE IF NOT EXISTS partner (...)")
"""

from __future__ import annotations

from collections.abc import Callable

import headrace
from storefront.errors import StorefrontError, reason

COLORS = {1: "Blue", 2: "Black"}
SIZES = {1: "Small", 2: "Medium", 3: "Large"}
"""The initial rows of the tables product_color and product_size, by id."""

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
    # A second brand of the same name would be a mistake.
    "CREATE UNIQUE INDEX IF NOT EXISTS brand_brand_name_key ON brand (brand_name)",
    # A foreign key does not create an index. Without this one, every look-up of a product reads the whole table.
    "CREATE INDEX IF NOT EXISTS sku_product_id_idx ON sku (product_id)",
    # The products of a brand, for a search, and the product of a name, for an import.
    "CREATE INDEX IF NOT EXISTS product_brand_id_product_name_idx ON product (brand_id, product_name)",
    # The products of a brand are counted, and read page by page in the order of their ids.
    "CREATE INDEX IF NOT EXISTS product_brand_id_product_id_idx ON product (brand_id, product_id)",
)

SEARCH_INDEXES = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX IF NOT EXISTS product_product_name_trgm_idx ON product USING gin (product_name gin_trgm_ops)",
    "CREATE INDEX IF NOT EXISTS brand_brand_name_trgm_idx ON brand USING gin (brand_name gin_trgm_ops)",
)
"""These make a search fast, and find words with a mistake. They are left out if the server does not have the extension,
or if the user must not create it. A search works without them."""

ROWS = tuple(
    f"INSERT INTO {table} VALUES ({row_id}, '{name}') ON CONFLICT ({table}_id) DO NOTHING"
    for table, names in (("product_color", COLORS), ("product_size", SIZES))
    for row_id, name in names.items()
)


def advance_sequence(table: str) -> str:
    """Return the statement that moves a table's sequence past its largest id, after inserts with explicit ids."""
    return (
        f"SELECT setval(pg_get_serial_sequence('{table}', '{table}_id'), "
        f"coalesce(max({table}_id), 1), max({table}_id) IS NOT NULL) FROM {table}"
    )


TABLE_NAMES = ("brand", "product", "product_color", "product_size", "sku")
"""The tables, in the order of TABLES."""

DISTRIBUTED_SKU = """\
CREATE TABLE IF NOT EXISTS sku (
    sku_id BIGSERIAL,
    product_id INTEGER NOT NULL,
    product_size_id INTEGER NOT NULL REFERENCES product_size (product_size_id),
    product_color_id INTEGER NOT NULL REFERENCES product_color (product_color_id),
    PRIMARY KEY (product_id, sku_id)
)"""
"""The table sku on Citus. A key there has the distribution column, and workers can only continue a bigserial. The
foreign key to product is added when both are distributed."""

DISTRIBUTIONS = {
    "brand": "SELECT create_reference_table('brand')",
    "product": "SELECT create_distributed_table('product', 'product_id')",
    "product_color": "SELECT create_reference_table('product_color')",
    "product_size": "SELECT create_reference_table('product_size')",
    "sku": "SELECT create_distributed_table('sku', 'product_id', colocate_with => 'product')",
}
"""The statement that distributes each table on Citus, right after it was created. A product and its SKUs are on one
worker."""

DISTRIBUTED_KEY = """\
ALTER TABLE sku ADD CONSTRAINT sku_product_id_fkey FOREIGN KEY (product_id) REFERENCES product (product_id)"""

ONE_BY_ONE = "SET LOCAL citus.multi_shard_modify_mode TO 'sequential'"
"""A transaction that changes reference tables and distributed ones works on one shard at a time."""

STATEMENTS = (*TABLES, *INDEXES, *ROWS, advance_sequence("product_color"), advance_sequence("product_size"))

LOCK = 7_305_808_869
"""The key of the advisory lock that is held while the schema is created. The number means nothing."""

_extensions: dict[str, tuple[str, ...]] = {}


def extend(part: str, *statements: str) -> None:
    """Add statements to the schema, which `create_schema` runs after STATEMENTS. Each must do no harm if it runs again.

    The parts run in the order in which they were added. Adding a part of the same name again replaces its statements.
    """
    _extensions[part] = statements


def headline(statement: str, width: int = 60) -> str:
    """Return a title for a statement: its first line without the clauses that make it repeatable."""
    first = statement.split("\n", 1)[0].split(" ON CONFLICT", 1)[0].removesuffix(" (")
    first = first.replace("IF NOT EXISTS ", "")
    return first if len(first) <= width else f"{first[: width - 3]}..."


def status_line(statement: str, status: str, width: int = 60) -> str:
    """Return a line that tells the status of a statement, and its title. The reason of "left out" comes last."""
    kind, _, why = status.partition(": ")
    return f"{kind:<16} {headline(statement, width)}{f' ({why})' if why else ''}"


async def has_citus(connection: headrace.Connection) -> bool:
    """Return whether the database has the extension Citus."""
    found: bool = await connection.fetchval("SELECT to_regclass('citus_tables') IS NOT NULL")
    return found


async def _check_citus(connection: headrace.Connection) -> None:
    """Raise StorefrontError if the tables cannot be distributed."""
    if not await has_citus(connection):
        raise StorefrontError(
            "--citus requires the extension citus, which the database does not have: run CREATE EXTENSION citus in it, "
            "on the coordinator and on every worker, and add the workers by citus_add_node()"
        )
    if await connection.fetchval("SELECT to_regclass('sku') IS NOT NULL") and not await _is_distributed(
        connection, "sku"
    ):
        raise StorefrontError(
            "the catalogue was created without --citus, and its tables cannot be distributed: use another database"
        )


async def _is_distributed(connection: headrace.Connection, table: str) -> bool:
    # citus_tables has distributed tables and reference tables, but not those that Citus keeps on the coordinator.
    found: bool = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM citus_tables WHERE table_name = $1::text::regclass"
        " AND citus_table_type IN ('distributed', 'reference'))",
        table,
    )
    return found


async def create_schema(
    connection: headrace.Connection,
    report: Callable[[str, str], None] = lambda statement, status: None,
    *,
    citus: bool = False,
) -> list[str]:
    """Create the tables, indexes, colours and sizes that are missing. Return the status of each statement.

    With `citus` the tables are distributed over the workers of Citus: products and their SKUs by product, all others as
    reference tables. Raises StorefrontError if the database does not have the extension, or has the tables already, and
    not distributed.

    `report` is called with each statement and its status as soon as the statement is done. An error leaves nothing
    created. Only SEARCH_INDEXES may be missing at the end; their statuses then begin with "left out".
    """
    statuses = []

    async def run(statement: str) -> None:
        status = await connection.execute(statement)
        report(statement, status)
        statuses.append(status)

    async with connection.transaction():
        # Of two programs that create a table at once, one would get an error in spite of IF NOT EXISTS.
        await connection.execute(f"SELECT pg_advisory_xact_lock({LOCK})")
        if citus:
            await _check_citus(connection)
            await connection.execute(ONE_BY_ONE)
            for table, statement in zip(TABLE_NAMES, (*TABLES[:-1], DISTRIBUTED_SKU), strict=True):
                await run(statement)
                if not await _is_distributed(connection, table):
                    await run(DISTRIBUTIONS[table])
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_constraint"
                " WHERE conrelid = 'sku'::regclass AND conname = 'sku_product_id_fkey')"
            ):
                await run(DISTRIBUTED_KEY)
        for statement in (
            *(STATEMENTS[len(TABLES) :] if citus else STATEMENTS),
            *(each for part in _extensions.values() for each in part),
        ):
            await run(statement)
        try:
            async with connection.transaction():
                for statement in SEARCH_INDEXES:
                    await run(statement)
        except (
            headrace.FeatureNotSupportedError,
            headrace.UndefinedFileError,
            headrace.InsufficientPrivilegeError,
        ) as error:
            statuses.append(f"left out: {reason(error)}")
            report(statement, statuses[-1])
    return statuses
