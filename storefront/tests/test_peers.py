"""asyncpg and psycopg in the benchmark: their ways, and a peer that is not installed."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest

import headrace
from storefront import BenchmarkQuery, Plan, StorefrontError, Way, bench, benchmark, open_connection
from storefront.database import named_database, with_database
from storefront.peers import find_peers

IDS = [7, 3, 50, 999, 7, 1]
FEW = 60

ASYNCPG_WAYS = [
    (Way.ONE_AFTER_ANOTHER, 1),
    (Way.POOL_ACQUIRE, 2),
    (Way.ONE_CONNECTION, 1),
    (Way.POOL_METHODS, 2),
    (Way.GROUPED, 2),
]
PSYCOPG_WAYS = [(Way.ONE_AFTER_ANOTHER, 1), (Way.POOL_ACQUIRE, 2), (Way.GROUPED, 2)]


@pytest.fixture(params=["asyncpg", "psycopg"])
def peer(request: pytest.FixtureRequest) -> benchmark.Peer:
    """Each peer, if it is installed."""
    pytest.importorskip(request.param)
    if request.param == "psycopg":
        pytest.importorskip("psycopg_pool")
    return next(peer for peer in find_peers()[0] if peer.name == request.param)


async def test_each_peer_is_measured_in_its_ways(dsn: str, peer: benchmark.Peer) -> None:
    measured = await bench(dsn, Plan(look_ups=FEW, pool_sizes=(2,), peers=[peer]))
    ways = [(each.way, each.connections) for each in measured if each.driver == peer.name]
    assert ways == (ASYNCPG_WAYS if peer.name == "asyncpg" else PSYCOPG_WAYS)
    errors = {each.way: each.error for each in measured if each.error}
    assert errors == ({Way.ONE_CONNECTION: "InterfaceError"} if peer.name == "asyncpg" else {})
    assert peer.version


@pytest.mark.parametrize("query", BenchmarkQuery)
async def test_every_way_finds_the_products_that_headrace_finds(
    dsn: str, peer: benchmark.Peer, query: BenchmarkQuery
) -> None:
    async with headrace.create_pool(dsn, min_size=1, max_size=1) as pool:
        expected = [row and dict(row) for row in await benchmark.at_once_by_pool_methods(pool, query, IDS)]  # type: ignore[call-overload]
    assert [row and row["product_id"] for row in expected] == [7, 3, 50, None, 7, 1]
    async with peer.open(dsn, 2, None) as tasks:
        for task in tasks:
            if task.way is not Way.ONE_CONNECTION:
                rows = await task.run(query, IDS)
                assert [row and dict(row) for row in rows] == expected, task.way  # type: ignore[call-overload]


async def test_two_calls_at_once_on_one_connection_of_asyncpg_raise(dsn: str) -> None:
    pytest.importorskip("asyncpg")
    peers, _ = find_peers()
    async with peers[0].open(dsn, 1, None) as tasks:
        task = next(task for task in tasks if task.way is Way.ONE_CONNECTION)
        with pytest.raises(benchmark.NotPossibleError, match="^InterfaceError$"):
            await task.run(BenchmarkQuery.KEY, [1, 2])
        assert [row and row["product_id"] for row in await task.run(BenchmarkQuery.KEY, [3])] == [3]


async def test_each_peer_reads_the_copy_without_the_index(dsn: str, peer: benchmark.Peer) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("CREATE SCHEMA other; CREATE TABLE other.product AS SELECT * FROM product WHERE false")
    async with peer.open(dsn, 2, "other, public") as tasks:
        for task in tasks:
            if task.way is not Way.ONE_CONNECTION:
                assert await task.run(BenchmarkQuery.KEY, [1, 2]) == [None, None], task.way


async def test_each_peer_finds_a_database_that_a_parameter_names(dsn: str, peer: benchmark.Peer) -> None:
    bare = with_database(dsn, "")
    by_parameter = f"{bare}{'&' if '?' in bare else '?'}database={named_database(dsn)}"
    async with peer.open(by_parameter, 1, None) as tasks:
        assert [row and row["product_id"] for row in await tasks[0].run(BenchmarkQuery.KEY, [5])] == [5]


async def test_a_peer_that_cannot_connect_is_named(bare: str, peer: benchmark.Peer) -> None:
    with pytest.raises(StorefrontError, match=rf"^{peer.name} failed: .*does not exist$"):
        async with peer.open(bare, 1, None):
            pass


async def test_a_peer_whose_query_fails_is_named(dsn: str, peer: benchmark.Peer) -> None:
    async with peer.open(dsn, 1, "pg_temp") as tasks:
        for task in tasks:
            with pytest.raises(StorefrontError, match=rf'^{peer.name} failed: \w+: relation "product" does not exist$'):
                await task.run(BenchmarkQuery.KEY, [1])


@pytest.mark.parametrize(
    ("module", "names", "line"),
    [
        ("asyncpg", ["psycopg"], "asyncpg is left out, because it is not installed: pip install asyncpg"),
        (
            "psycopg",
            ["asyncpg"],
            "psycopg is left out, because it is not installed: pip install 'psycopg[binary,pool]'",
        ),
        (
            "psycopg_pool",
            ["asyncpg", "psycopg"],
            "psycopg's pool is left out, because psycopg_pool is not installed: pip install 'psycopg[pool]'",
        ),
    ],
)
def test_a_peer_that_is_not_installed_is_left_out_and_named(
    monkeypatch: pytest.MonkeyPatch, module: str, names: Sequence[str], line: str
) -> None:
    for each in {"asyncpg", "psycopg", "psycopg_pool"} - {module}:
        pytest.importorskip(each)
    # An import of this name raises ImportError.
    monkeypatch.setitem(sys.modules, module, None)
    peers, left_out = find_peers()
    assert [peer.name for peer in peers] == names
    assert left_out == [line]


async def test_psycopg_without_its_pool_uses_one_connection(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    monkeypatch.setitem(sys.modules, "psycopg_pool", None)
    psycopg = find_peers()[0][-1]
    async with psycopg.open(dsn, 2, None) as tasks:
        assert [(task.way, task.connections) for task in tasks] == [(Way.ONE_AFTER_ANOTHER, 1), (Way.GROUPED, 1)]
        for task in tasks:
            assert [row and row["product_id"] for row in await task.run(BenchmarkQuery.JOIN, IDS)] == [
                7, 3, 50, None, 7, 1,
            ]  # fmt: skip
