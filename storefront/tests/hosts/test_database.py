"""Which server a statement of the storefront goes to."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from typer.testing import Result

import headrace
from storefront import database
from storefront.database import (
    CATALOGUE_CHANNEL,
    Database,
    has_several_hosts,
    leased,
    open_connection,
    open_database,
    open_reader,
)

PORT = "SELECT current_setting('port')::int"

pytestmark = [pytest.mark.any_server, pytest.mark.slow]


@pytest.mark.parametrize(
    ("dsn", "several"),
    [
        ("postgresql://a/products", False),
        ("postgresql://me:pass,word@a/products", False),
        ("postgresql://a,b/products", True),
        ("postgresql://me@a:5433,b:5434/products", True),
        ("postgresql:///products?host=a,b", True),
        ("postgresql:///products?host=/run/postgresql", False),
        ("postgresql:///products?hostaddr=10.0.0.1,10.0.0.2", True),
        ("postgresql://a,b/products?target_session_attrs=primary", False),
    ],
)
def test_a_dsn_of_several_hosts_is_recognized(dsn: str, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGTARGETSESSIONATTRS"):
        monkeypatch.delenv(name, raising=False)
    assert has_several_hosts(dsn) is several


def test_the_environment_may_name_several_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "a,b")
    assert has_several_hosts("postgresql:///products")
    assert not has_several_hosts("postgresql://c/products")
    monkeypatch.setenv("PGTARGETSESSIONATTRS", "primary")
    assert not has_several_hosts("postgresql:///products")


async def test_one_host_is_a_plain_pool(dsn: str) -> None:
    async with open_database(dsn) as opened:
        assert type(opened.primary) is headrace.Pool
        assert opened.reads is opened.primary
        assert (opened.has_replicas, opened.hosts()) == (False, [])
        await opened.catch_up()
        await opened.follow()
        await opened.tell_change()
        assert opened.reads is opened.primary
        assert set(opened.pools()) == {""}
    async with open_reader(dsn) as executor:
        assert type(executor) is headrace.Connection


async def test_writes_go_to_the_primary_and_reads_to_the_replicas(shared_shop: Any) -> None:
    async with open_connection(shared_shop.dsn) as connection:
        assert await connection.fetchval(PORT) == shared_shop.trio.primary.port
    async with open_reader(shared_shop.dsn) as reader:

        async def port_of_a_lease() -> Any:
            async with leased(reader) as connection:
                return await connection.fetchval(PORT)

        # The primary answers as long as no replica says in time that it has replayed what was written before.
        async with asyncio.timeout(60):
            while await reader.fetchval(PORT) not in shared_shop.ports_of_replicas:
                await asyncio.sleep(0.01)
            while await port_of_a_lease() not in shared_shop.ports_of_replicas:
                await asyncio.sleep(0.01)


async def test_a_reader_sees_what_was_committed_before_it_was_opened(slow_shop: Any) -> None:
    async with open_connection(slow_shop.dsn) as connection:
        count = await connection.fetchval("INSERT INTO brand (brand_name) VALUES ('Late') RETURNING brand_id")
    async with open_reader(slow_shop.dsn) as reader:
        assert await reader.fetchval("SELECT brand_name FROM brand WHERE brand_id = $1", count) == "Late"


async def test_followers_see_a_change_that_a_command_has_made(slow_shop: Any) -> None:
    async with open_database(slow_shop.dsn) as opened:
        following = asyncio.create_task(opened.follow())
        try:
            async with asyncio.timeout(30):
                while opened._position is None:
                    await asyncio.sleep(0.01)
                before = opened._position
                async with open_connection(slow_shop.dsn) as connection:
                    await connection.execute("INSERT INTO brand (brand_name) VALUES ('Told')")
                while opened._position == before:
                    await asyncio.sleep(0.01)
                assert await opened.reads.fetchval("SELECT count(*) FROM brand WHERE brand_name = 'Told'") == 1
        finally:
            following.cancel()


async def test_a_change_is_told_only_if_there_are_replicas(dsn: str) -> None:
    async with open_connection(dsn) as listener:
        heard: list[str] = []
        await listener.add_listener(CATALOGUE_CHANNEL, lambda *each: heard.append(each[2]))
        async with open_connection(dsn) as connection:
            await connection.execute("SELECT 1")
        await listener.execute("SELECT 1")
        assert heard == []


async def test_readers_go_on_without_a_primary_and_say_so(
    shop: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "CATCH_UP_TIME", 0.2)
    shop.trio.primary.stop()
    with caplog.at_level(logging.WARNING, logger="storefront.database"):
        async with open_reader(shop.dsn) as reader:
            assert await reader.fetchval("SELECT count(*) FROM sku") == 1_000
    (record,) = [each for each in caplog.records if each.name == "storefront.database"]
    assert "what was written last may be missing" in record.getMessage()


def test_commands_read_without_a_primary_and_refuse_to_write(
    shop: Any, run: Callable[..., Result], fails: Callable[..., None], monkeypatch: pytest.MonkeyPatch, order: Any
) -> None:
    monkeypatch.setattr(database, "CATCH_UP_TIME", 0.2)
    monkeypatch.setattr(database, "FAILOVER_TIME", 0.2)
    shop.trio.primary.stop()
    for line in (["lookup", "1"], ["brands", "list"], ["export", "--take", "5"], ["search", "a"]):
        found = run(*line, dsn=shop.dsn)
        assert found.exit_code in (0, 1), found.output
        assert found.stdout
        assert "what was written last may be missing" in found.stderr
    assert run("batch", str(order(100)), "-o", "out.csv", dsn=shop.dsn).exit_code == 3
    result = run("brands", "add", "Nobody", dsn=shop.dsn)
    assert result.exit_code == 1
    assert "storefront: no primary was found: no host says that it is the primary" in result.stderr
    for standby in shop.trio.standbys:
        standby.stop()
    result = run("lookup", "1", dsn=shop.dsn)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("storefront: no primary was found: ")


def test_commands_see_what_commands_before_them_have_written(
    slow_shop: Any, run: Callable[..., Result], tmp_path: Any
) -> None:
    assert run("brands", "add", "First name", dsn=slow_shop.dsn).exit_code == 0
    assert run("brands", "rename", "First name", "Second name", dsn=slow_shop.dsn).exit_code == 0
    listed = run("brands", "list", "--json", dsn=slow_shop.dsn)
    assert '"Second name"' in listed.stdout
    file = tmp_path / "more.csv"
    file.write_text("brand_name,product_name,color,size,product_id\nSecond name,a stool,Blue,Small,9001\n")
    imported = run("import", str(file), dsn=slow_shop.dsn)
    assert imported.exit_code == 0, imported.output
    looked_up = run("lookup", "9001", "--json", dsn=slow_shop.dsn)
    assert '"a stool"' in looked_up.stdout
    assert looked_up.stderr == ""


def test_init_creates_the_database_on_several_hosts(shared_shop: Any, run: Callable[..., Result]) -> None:
    dsn = database.with_database(shared_shop.dsn, "another")
    first = run("init", dsn=dsn)
    assert first.exit_code == 0, first.output
    assert first.stdout.startswith("CREATE DATABASE\n")
    assert run("load", "--products", "5", "--skus", "20", dsn=dsn).exit_code == 0
    assert run("lookup", "5", dsn=dsn).exit_code == 0


async def test_the_statistics_are_those_of_each_host(shared_shop: Any) -> None:
    async with open_database(shared_shop.dsn, size=2) as opened:
        assert len(opened.hosts()) == 3
        assert {host.rpartition(":")[2] for host in opened.pools()} == {str(s.port) for s in shared_shop.trio.all}
        counters = opened.cluster_stats()
        assert counters is not None
        assert counters.primary_changes == 1


def test_a_database_with_one_host_has_no_counters_of_a_cluster() -> None:
    pool = headrace.create_pool("postgresql://localhost/none", min_size=0)
    assert Database(pool).cluster_stats() is None


@pytest.mark.parametrize("with_addresses", [False, True])
def test_bench_counts_the_look_ups_of_each_server(
    shared_shop: Any, run: Callable[..., Result], with_addresses: bool
) -> None:
    dsn = shared_shop.dsn
    if with_addresses:
        dsn = f"{dsn.replace('127.0.0.1', 'localhost')}?hostaddr=127.0.0.1,127.0.0.1,127.0.0.1"
    result = run("bench", "-n", "300", "--query", "key", "--rounds", "1", "--json", "-", dsn=dsn)
    assert result.exit_code == 0, result.output
    one, two, three = json.loads(result.stdout)["servers"]
    primary, *replicas = shared_shop.trio.all
    assert [each["servers"] for each in (one, two, three)] == ["the primary", "1 replica", "2 replicas"]
    assert [set(ports(each)) for each in (one, two)] == [{primary.port}, {replicas[0].port}]
    assert set(ports(three)) == {each.port for each in replicas}
    assert [sum(each["counts"].values()) for each in (one, two, three)] == [300, 300, 300]
    assert "share its processors" in result.stderr


def ports(measured: dict[str, Any]) -> list[int]:
    return [int(host.removesuffix(" (127.0.0.1)").rpartition(":")[2]) for host in measured["counts"]]
