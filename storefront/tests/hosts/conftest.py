"""A primary and two replicas with the small catalogue."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from storefront import Sample, create_schema, load, open_connection
from storefront.database import DATABASE, with_database
from storefront.service_schema import create_service_tables
from tests.cluster.conftest import Trio, started
from tests.installations import Installation
from tests.servers import Cluster

SAMPLE = Sample(brand_count=10, product_count=50, sku_count=1_000, seed=7)


class Shop:
    """The servers of a shop, and the DSNs that name them."""

    def __init__(self, trio: Trio) -> None:
        self.trio = trio
        self.dsn = with_database(trio.dsn(), DATABASE)
        self.primary_alone = with_database(trio.dsn(trio.primary), DATABASE)

    def dsn_of(self, server: Cluster) -> str:
        """Return the DSN that names one server."""
        return with_database(self.trio.dsn(server), DATABASE)

    @property
    def ports_of_replicas(self) -> set[int]:
        """The ports of the standbys."""
        return {standby.port for standby in self.trio.standbys}


@contextmanager
def opened(installation: Installation) -> Iterator[Shop]:
    """Run the block with a shop whose replicas have caught up."""
    with started(installation) as trio:
        shop = Shop(trio)
        trio.primary.sql(f"CREATE DATABASE {DATABASE}")

        async def fill() -> None:
            async with open_connection(shop.primary_alone) as connection:
                await create_schema(connection)
                await load(connection, SAMPLE)
                await create_service_tables(connection)

        asyncio.run(fill())
        trio.wait_for_replay()
        yield shop


@pytest.fixture
def shop(server: Cluster) -> Iterator[Shop]:
    """A shop for this test alone, whose servers it may stop, kill and promote."""
    with opened(server.postmaster.installation) as made:
        yield made


@pytest.fixture(scope="module")
def shared_shop(server: Cluster) -> Iterator[Shop]:
    """A shop that the tests of a module share. They leave its servers as they are."""
    with opened(server.postmaster.installation) as made:
        yield made


@pytest.fixture
def slow_shop(shared_shop: Shop) -> Iterator[Shop]:
    """The shared shop, whose replicas replay a commit only 300 ms after it."""
    first, second = shared_shop.trio.standbys
    with first.settings(recovery_min_apply_delay="300ms"), second.settings(recovery_min_apply_delay="300ms"):
        yield shared_shop
    shared_shop.trio.wait_for_replay()


@pytest.fixture
def order(tmp_path: Path) -> Callable[[int], Path]:
    """A function that writes an order of so many lines: known ids, each often, and some that are unknown."""

    def write(lines: int) -> Path:
        path = tmp_path / "order.txt"
        path.write_text("".join(f"{number % 60 + 1}\n" for number in range(lines)))
        return path

    return write
