"""The benchmark: the ways it measures, and the checks it makes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

import headrace
from storefront import (
    BenchmarkQuery,
    Plan,
    StorefrontError,
    UsageError,
    Way,
    bench,
    benchmark,
    open_connection,
)
from storefront.database import named_database

FEW = 60


async def test_every_way_is_measured_against_one_after_another(dsn: str) -> None:
    measurements = await bench(dsn, Plan(look_ups=FEW))
    assert [(each.way, each.connections) for each in measurements] == [
        (Way.ONE_AFTER_ANOTHER, 1),
        (Way.POOL_ACQUIRE, 6),
        (Way.ONE_CONNECTION, 1),
        (Way.LAZY_ACQUIRE, 6),
        (Way.POOL_METHODS, 6),
        (Way.EACH, 6),
        (Way.LOADER, 6),
        (Way.GROUPED, 6),
    ]
    assert {each.look_ups for each in measurements} == {FEW}
    baseline = measurements[0]
    assert baseline.speed_up == 1
    assert baseline.rate is not None
    for each in measurements:
        assert each.seconds is not None
        assert each.seconds > 0
        assert each.rate == pytest.approx(FEW / each.seconds)
        assert each.speed_up == pytest.approx(FEW / each.seconds / baseline.rate)


async def test_pool_sizes_are_compared_for_the_ways_that_use_a_pool(dsn: str) -> None:
    measurements = await bench(dsn, Plan(query=BenchmarkQuery.KEY, look_ups=FEW, pool_sizes=(1, 3), rounds=3))
    assert [(each.way, each.connections) for each in measurements] == [
        (Way.ONE_AFTER_ANOTHER, 1),
        (Way.POOL_ACQUIRE, 1),
        (Way.POOL_ACQUIRE, 3),
        (Way.ONE_CONNECTION, 1),
        *[(way, size) for way in list(Way)[3:] for size in (1, 3)],
    ]
    assert {each.query for each in measurements} == {BenchmarkQuery.KEY}


async def test_without_the_index_a_copy_is_measured_and_the_index_stays(dsn: str) -> None:
    measurements = await bench(dsn, Plan(look_ups=FEW, without_index=True))
    assert [each.indexed for each in measurements] == [True] * len(Way) + [False] * len(Way)
    async with open_connection(dsn) as connection:
        assert await connection.fetchval("SELECT to_regclass('public.sku_product_id_idx') IS NOT NULL")
        assert await connection.fetchval(f"SELECT to_regnamespace('{benchmark.UNINDEXED_SCHEMA}') IS NULL")


async def test_without_the_index_look_ups_read_the_copy(dsn: str) -> None:
    async with benchmark._unindexed(dsn) as search_path:
        settings = {"search_path": search_path}
        async with headrace.create_pool(dsn, min_size=1, max_size=1, server_settings=settings) as pool:
            plan = await pool.fetch("EXPLAIN SELECT * FROM sku JOIN product USING (product_id) WHERE product_id = 1")
            schema = await pool.fetchval(
                "SELECT relnamespace::regnamespace::text FROM pg_class WHERE oid = 'sku'::regclass"
            )
    assert schema == benchmark.UNINDEXED_SCHEMA
    assert "Seq Scan on sku" in "".join(row[0] for row in plan)


async def test_no_connection_is_left(dsn: str) -> None:
    await bench(dsn, Plan(look_ups=FEW, pool_sizes=(2, 4)))
    async with open_connection(dsn) as connection:
        others = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 AND pid <> pg_backend_pid()"
        while await connection.fetchval(others, named_database(dsn)):
            # A backend takes a moment to notice that its client has disconnected.
            pass


def cells(rows: Sequence[Any]) -> list[Any]:
    """The values and the names of each row."""
    return [row and (*row, *row.keys()) for row in rows]


@pytest.mark.parametrize("query", BenchmarkQuery)
async def test_every_way_finds_the_same_products(dsn: str, query: BenchmarkQuery) -> None:
    ids = [7, 3, 50, 999, 7, 1]
    for lazy in (False, True):
        async with headrace.create_pool(dsn, min_size=2, max_size=2, lazy_acquire=lazy) as pool:
            expected = cells(await benchmark.one_after_another(pool, query, ids))
            assert [row and row[0] for row in expected] == [7, 3, 50, None, 7, 1]
            for way in Way:
                rows = await benchmark.RUNS[way](pool, query, ids)
                assert cells(rows) == expected, way


async def test_unchanged_code_shares_the_connections_of_a_lazy_pool(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_connection: list[bool] = []

    async def watch(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> benchmark.Answers:
        lease = await pool.acquire()
        without_connection.append(lease._con is None)
        await pool.release(lease)
        return await benchmark.at_once_acquiring(pool, query, ids)

    monkeypatch.setitem(benchmark.RUNS, Way.LAZY_ACQUIRE, watch)
    await bench(dsn, Plan(look_ups=FEW))
    assert without_connection == [True, True], "the warm-up and one round"


async def test_a_wrong_answer_is_an_error(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def muddle(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> benchmark.Answers:
        return list(reversed(await benchmark.at_once_on_one_connection(pool, query, ids)))

    monkeypatch.setitem(benchmark.RUNS, Way.ONE_CONNECTION, muddle)
    with pytest.raises(StorefrontError, match=r"ONE connection: the look-up of product \d+ answered with product \d+"):
        await bench(dsn, Plan(look_ups=FEW))


class Peer:
    """A driver that makes its look-ups by headrace, in two ways: one is right, the other one is given."""

    name = "peer"
    version = "1.0"

    def __init__(self, other: benchmark.Run) -> None:
        self._other = other
        self.opened = 0
        self.is_open = False

    @asynccontextmanager
    async def open(self, dsn: str, size: int, search_path: str | None) -> AsyncIterator[list[benchmark.Task]]:
        async with headrace.create_pool(dsn, min_size=size, max_size=size) as pool:
            self.opened += 1
            self.is_open = True
            # The tasks are in no special order.
            yield [
                benchmark.Task(self.name, Way.POOL_ACQUIRE, size, partial(self._other, pool)),
                benchmark.Task(self.name, Way.ONE_AFTER_ANOTHER, 1, partial(benchmark.one_after_another, pool)),
            ]
            self.is_open = False


async def test_a_peer_is_measured_in_the_same_rounds_and_against_its_own_one_after_another(dsn: str) -> None:
    peer = Peer(benchmark.at_once_acquiring)
    plan = Plan(query=BenchmarkQuery.KEY, look_ups=FEW, pool_sizes=(1, 2), rounds=2, peers=[peer])
    measurements = await bench(dsn, plan)
    assert [each.driver for each in measurements] == ["headrace"] * (2 + 2 * 6) + ["peer"] * 3
    one, small, large = measurements[-3:]
    assert [(each.way, each.connections) for each in (one, small, large)] == [
        (Way.ONE_AFTER_ANOTHER, 1),
        (Way.POOL_ACQUIRE, 1),
        (Way.POOL_ACQUIRE, 2),
    ]
    assert one.speed_up == 1
    assert one.rate is not None
    assert large.rate is not None
    assert large.speed_up == pytest.approx(large.rate / one.rate)
    assert peer.opened == 4, "two rounds with two pool sizes"
    assert not peer.is_open


async def test_a_wrong_answer_of_a_peer_is_an_error_that_names_it(dsn: str) -> None:
    async def muddle(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> benchmark.Answers:
        return list(reversed(await benchmark.at_once_acquiring(pool, query, ids)))

    with pytest.raises(StorefrontError, match=r"peer, .*acquire.*: the look-up of product \d+ answered with product"):
        await bench(dsn, Plan(look_ups=FEW, peers=[Peer(muddle)]))


async def test_a_way_that_a_peer_does_not_have_is_measured_as_its_error(dsn: str) -> None:
    async def refuse(pool: headrace.Pool, query: BenchmarkQuery, ids: Sequence[int]) -> benchmark.Answers:
        raise benchmark.NotPossibleError("BusyError")

    measured = (await bench(dsn, Plan(look_ups=FEW, rounds=2, peers=[Peer(refuse)])))[-1]
    assert (measured.driver, measured.way, measured.error) == ("peer", Way.POOL_ACQUIRE, "BusyError")
    assert (measured.seconds, measured.rate, measured.speed_up) == (None, None, None)


async def test_an_empty_catalogue_cannot_be_measured(empty: str) -> None:
    with pytest.raises(StorefrontError, match="no SKUs to look up: run `storefront load` first"):
        await bench(empty, Plan(look_ups=FEW))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"look_ups": 0}, "look-ups must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"pool_sizes": ()}, "pool sizes must be whole numbers of at least 1, got ''"),
        ({"pool_sizes": (2, 0)}, "pool sizes must be whole numbers of at least 1, got '2,0'"),
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Plan(**wrong)  # type: ignore[arg-type]
