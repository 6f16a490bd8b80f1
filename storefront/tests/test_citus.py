"""`init --citus`: on a fake of Citus's functions, and on the real extension if HEADRACE_TEST_CITUS names a coordinator.

The fake shows which statements run in which order, in one transaction. It distributes nothing.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from typer.testing import Result

import headrace
from storefront import Sample, StorefrontError, create_database, create_schema, load, look_up, open_connection
from storefront.database import named_database, with_database
from storefront.schema import headline

COORDINATOR = os.environ.get("HEADRACE_TEST_CITUS")

on_citus = pytest.mark.skipif(COORDINATOR is None, reason="HEADRACE_TEST_CITUS names no coordinator of Citus")

FAKE = """
CREATE SCHEMA fake;
CREATE TABLE fake.noted (number serial, call text, transaction bigint DEFAULT txid_current(), mode text
    DEFAULT current_setting('citus.multi_shard_modify_mode', true));
CREATE TABLE fake.citus_tables (table_name regclass, citus_table_type text);
CREATE FUNCTION fake.create_reference_table(regclass) RETURNS void LANGUAGE sql AS $$
    INSERT INTO fake.noted (call) VALUES ('reference ' || $1);
    INSERT INTO fake.citus_tables VALUES ($1, 'reference') $$;
CREATE FUNCTION fake.create_distributed_table(regclass, text, colocate_with text DEFAULT 'default') RETURNS void
LANGUAGE sql AS $$
    INSERT INTO fake.noted (call) VALUES (format('distributed %s by %s with %s', $1, $2, $3));
    INSERT INTO fake.citus_tables VALUES ($1, 'distributed') $$;
"""

EXPECTED = [
    "CREATE TABLE brand",
    "SELECT create_reference_table('brand')",
    "CREATE TABLE product",
    "SELECT create_distributed_table('product', 'product_id')",
    "CREATE TABLE product_color",
    "SELECT create_reference_table('product_color')",
    "CREATE TABLE product_size",
    "SELECT create_reference_table('product_size')",
    "CREATE TABLE sku",
    "SELECT create_distributed_table('sku', 'product_id', colocate_with => 'product')",
    "ALTER TABLE sku ADD CONSTRAINT sku_product_id_fkey FOREIGN KEY (product_id) REFERENCES product (product_id)",
]


@pytest.fixture
async def faked(bare: str) -> str:
    """The DSN of an empty database in which Citus seems to be installed."""
    await create_database(bare)
    async with open_connection(bare) as connection:
        await connection.execute(FAKE)
        await connection.execute(f"ALTER DATABASE {named_database(bare)} SET search_path = public, fake")
    return bare


async def test_each_table_is_distributed_right_after_it_was_created(faked: str) -> None:
    async with open_connection(faked) as connection:
        statements: list[str] = []
        await create_schema(connection, lambda statement, status: statements.append(statement), citus=True)
        assert [headline(each, 200) for each in statements[: len(EXPECTED)]] == EXPECTED
        noted = await connection.fetch("SELECT call, transaction, mode FROM noted ORDER BY number")
        assert [each["call"] for each in noted] == [
            "reference brand",
            "distributed product by product_id with default",
            "reference product_color",
            "reference product_size",
            "distributed sku by product_id with product",
        ]
        assert len({each["transaction"] for each in noted}) == 1
        assert {each["mode"] for each in noted} == {"sequential"}
        key = await connection.fetchval(
            "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'sku'::regclass AND contype = 'p'"
        )
        assert key == "PRIMARY KEY (product_id, sku_id)"


async def test_creating_it_twice_distributes_once(faked: str) -> None:
    async with open_connection(faked) as connection:
        await create_schema(connection, citus=True)
        statements: list[str] = []
        await create_schema(connection, lambda statement, status: statements.append(statement), citus=True)
        assert await connection.fetchval("SELECT count(*) FROM noted") == 5
        assert not [each for each in statements if re.match("SELECT create_|ALTER", each)]


async def test_an_error_leaves_nothing(faked: str) -> None:
    async with open_connection(faked) as connection:
        await connection.execute(
            "CREATE OR REPLACE FUNCTION fake.create_distributed_table(regclass, text, colocate_with text DEFAULT"
            " 'default') RETURNS void LANGUAGE plpgsql AS $$BEGIN RAISE 'no worker'; END$$"
        )
        with pytest.raises(headrace.RaiseError, match="no worker"):
            await create_schema(connection, citus=True)
        assert await connection.fetchval("SELECT to_regclass('brand')") is None
        assert await connection.fetchval("SELECT count(*) FROM noted") == 0


async def test_a_catalogue_that_is_not_distributed_is_refused(faked: str) -> None:
    async with open_connection(faked) as connection:
        await create_schema(connection)
        with pytest.raises(StorefrontError, match="was created without --citus"):
            await create_schema(connection, citus=True)


async def test_a_distributed_catalogue_is_loaded_and_looked_up_as_any_other(faked: str) -> None:
    sample = Sample(brand_count=5, product_count=20, sku_count=100)
    async with open_connection(faked) as connection:
        await create_schema(connection, citus=True)
        await connection.execute(
            "CREATE TABLE seen (mode text, local text); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN INSERT INTO seen VALUES (current_setting('citus.multi_shard_modify_mode', true),"
            " current_setting('citus.enable_local_execution', true)); RETURN NULL; END$$;"
            " CREATE TRIGGER note AFTER INSERT ON sku EXECUTE FUNCTION note()"
        )
        await load(connection, sample)
        assert await connection.fetch("SELECT * FROM seen") == [("sequential", "off")]
        # They are settings of that transaction alone.
        assert await connection.fetchval("SELECT current_setting('citus.enable_local_execution', true)") in (None, "")
        rows = [await look_up(connection, number) for number in range(1, 21)]
        assert sum(row["sku_id"] is not None for product in rows for row in product) == 100


async def test_load_sets_nothing_of_citus_on_a_plain_server(empty: str) -> None:
    async with open_connection(empty) as connection:
        await connection.execute("SET log_min_messages = 'error'")
        await load(connection, Sample(brand_count=1, product_count=1, sku_count=1))
        assert await connection.fetchval("SELECT current_setting('citus.enable_local_execution', true)") is None


def test_a_server_without_the_extension_is_refused(bare: str, run: Callable[..., Result]) -> None:
    result = run("init", "--citus", dsn=bare)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("storefront: --citus requires the extension citus, which the database does not have: run ")
    assert run("lookup", "1", dsn=bare).exit_code == 1


def test_the_command_distributes_the_tables(faked: str, run: Callable[..., Result]) -> None:
    result = run("init", "--citus", dsn=faked)
    assert result.exit_code == 0, result.output
    assert "SELECT 1         SELECT create_reference_table('brand')" in result.stdout


# On the real extension


@pytest.fixture
async def citus(new_name: Callable[[], str]) -> AsyncIterator[str]:
    """The DSN of a new database with Citus on the coordinator, which is its own worker."""
    assert COORDINATOR is not None
    name = new_name()
    async with open_connection(COORDINATOR) as connection:
        await connection.execute(f"CREATE DATABASE {name}")
    dsn = with_database(COORDINATOR, name)
    async with open_connection(dsn) as connection:
        await connection.execute("CREATE EXTENSION citus")
        await connection.execute("SELECT citus_set_coordinator_host('localhost', inet_server_port())")
    yield dsn
    async with open_connection(COORDINATOR) as connection:
        await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@on_citus
def test_everything_on_citus(citus: str, run: Callable[..., Result], tmp_path: Path) -> None:
    for _ in range(2):
        assert run("init", "--citus", dsn=citus).exit_code == 0
    assert run("load", "--brands", "10", "--products", "50", "--skus", "1000", dsn=citus).exit_code == 0
    assert run("load", "--replace", "--method", "executemany", "--skus", "1000", dsn=citus).exit_code == 0
    assert run("lookup", "1", "2", "--json", dsn=citus).exit_code == 0
    order = tmp_path / "order.txt"
    order.write_text("1\n2\n3\n")
    assert run("batch", str(order), "-o", "out.csv", dsn=citus).exit_code == 0
    assert run("export", "-o", "all.csv", dsn=citus).exit_code == 0
    assert run("brands", "add", "New", dsn=citus).exit_code == 0


@on_citus
async def test_a_batch_with_a_transaction_is_atomic_on_citus(citus: str) -> None:
    async with open_connection(citus) as connection:
        await connection.execute("CREATE TABLE t (a int PRIMARY KEY, b int)")
        await connection.execute("SELECT create_distributed_table('t', 'a')")
        insert = "INSERT INTO t VALUES ($1, $2)"
        with pytest.raises(headrace.UniqueViolationError):
            await connection.executemany(insert, [(1, 1), (2, 2), (1, 3)], transaction=True)
        assert await connection.fetchval("SELECT count(*) FROM t") == 0
