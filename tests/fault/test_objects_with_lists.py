"""Faults 6, 7, 31, 33 and 37 while rows become objects with lists: an object is whole, or nobody gets it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from tests.fault.test_cancellation_everywhere import Watch, cancelled_at_every_step, every_moment
from tests.peers import backend, scripts
from tests.peers.backend import Field
from tests.peers.fakeserver import FakeServer, Peer
from tests.peers.frontend import Bind, Execute, Sync

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool
    from tests.peers.proxy import Proxy
    from tests.servers import Cluster

PATIENCE = 10.0


@dataclass
class Sku:
    sku_id: int
    label: str


@dataclass
class Product:
    id: int
    name: str
    skus: list[Sku]


ROWS = """
    SELECT id, 'product ' || id AS name, sku_id AS skus__sku_id, repeat('x', sku_id) AS skus__label
    FROM generate_series(1, $1::int) AS id, generate_series(1, 3) AS sku_id ORDER BY id, sku_id
"""
FAILS = ROWS.replace("repeat('x', sku_id)", "repeat('x', sku_id / (1 - (id = 30 AND sku_id = 2)::int))")


def product(number: int) -> Product:
    return Product(number, f"product {number}", [Sku(i, "x" * i) for i in (1, 2, 3)])


def products(count: int) -> list[Product]:
    return [product(number) for number in range(1, count + 1)]


async def by_fetch(connection: headrace.Connection, query: str, count: int) -> list[Product]:
    return await connection.fetch(query, count, row=Product)


async def by_fetchrow(connection: headrace.Connection, query: str, count: int) -> list[Product]:
    first = await connection.fetchrow(query, count, row=Product)
    assert first is not None
    return [first, *products(count)[1:]]


async def by_each(connection: headrace.Connection, query: str, count: int) -> list[Product]:
    found = [each async for each in connection.fetch_each(query, [(count,), (count,)], row=Product)]
    assert found[0] == found[1]
    return found[0]


async def by_cursor(connection: headrace.Connection, query: str, count: int) -> list[Product]:
    found: list[Product] = []
    async with connection.transaction():
        async for each in connection.cursor(query, count, prefetch=4, row=Product):
            found.append(each)
    return found


Way = Callable[[headrace.Connection, str, int], Coroutine[Any, Any, list[Product]]]
WAYS = [by_fetch, by_fetchrow, by_each, by_cursor]
every_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture
async def watch(server: Cluster, database: str) -> Watch:
    watch = Watch(server, database, 0)
    await watch.is_back()
    return watch


@pytest.mark.fault(number=31)
@every_moment
@every_way
async def test_a_call_that_is_cancelled_leaves_the_connection_as_it_was(
    connect: Connect, watch: Watch, way: Way, moment: str
) -> None:
    connection = await connect()
    watch = watch.beside(1)

    async def work() -> None:
        assert await way(connection, ROWS, 20) == products(20)

    assert await cancelled_at_every_step(moment, work) >= 1
    assert not connection.is_closed()
    assert await way(connection, ROWS, 20) == products(20)
    assert not connection.is_in_transaction()
    await watch.is_back()


@pytest.mark.fault(number=6)
@every_way
@pytest.mark.parametrize("size", [1, 7, 64])
async def test_replies_in_pieces_make_the_same_objects(connect: Connect, proxy: Proxy, way: Way, size: int) -> None:
    proxy.slice(size)
    assert await way(await connect(host=proxy.host, port=proxy.port), ROWS, 9) == products(9)


@dataclass
class TextSku:
    sku_id: str
    label: str


@dataclass
class TextProduct:
    id: str
    name: str
    skus: list[TextSku]


COLUMNS = [Field("id", scripts.TEXT), Field("name", scripts.TEXT), Field("skus__sku_id", scripts.TEXT)]
REPLIES = [
    backend.greeting(),
    scripts.described(*COLUMNS, Field("skus__label", scripts.TEXT), parameters=(scripts.INT4,)),
    scripts.answered(*(backend.data_row(id, "name", sku, "label") for id in "ab" for sku in "123")),
]


@pytest.mark.fault(number=7)
async def test_a_connection_closed_at_every_byte_gives_all_objects_or_none() -> None:
    whole = [TextProduct(id, "name", [TextSku(sku, "label") for sku in "123"]) for id in "ab"]
    for cut in range(len(REPLIES[0]), sum(map(len, REPLIES)) + 1):

        async def script(peer: Peer, cut: int = cut) -> None:
            left = cut
            for number, reply in enumerate(REPLIES):
                if number == 0:
                    await peer.expect_startup()
                elif number == 1:
                    await peer.next(), await peer.next(), await peer.next()
                else:
                    await peer.expect(Bind, Execute, Sync)
                await peer.send(reply[:left])
                left -= len(reply)
                if left < 0:
                    return
            await peer.hold()

        async with asyncio.timeout(PATIENCE), FakeServer(script) as server:
            connection = await headrace.connect(server.dsn())
            reading = connection.fetch("SELECT a FROM t WHERE b = $1", 1, row=TextProduct)
            if cut == sum(map(len, REPLIES)):
                assert await reading == whole
                connection.terminate()
            else:
                with pytest.raises(headrace.ConnectionDoesNotExistError) as raised:
                    await reading
                assert raised.value.safe_to_retry, "it only reads"


@pytest.mark.fault(number=33)
async def test_a_killed_backend_gives_whole_objects_or_none(connect: Connect) -> None:
    """The objects that a cursor has handed out are whole; the one that it was reading is lost with the connection."""
    connection, killer = await connect(), await connect()
    found: list[Product] = []
    with pytest.raises((headrace.ConnectionDoesNotExistError, headrace.InterfaceError)):
        async with asyncio.timeout(PATIENCE), connection.transaction():
            async for each in connection.cursor(ROWS, 1000, prefetch=4, row=Product):
                found.append(each)
                if len(found) == 20:
                    await killer.fetchval("SELECT pg_terminate_backend($1, 10000)", connection.get_server_pid())
    assert found == products(len(found))
    assert connection.is_closed()


@pytest.mark.fault(number=33)
async def test_a_pools_reads_survive_killed_backends(pool: MakePool, connect: Connect) -> None:
    """Each read that a kill breaks off is made again from its first row."""
    made = await pool(min_size=2, max_size=2)
    killer = await connect()
    async with asyncio.timeout(PATIENCE):
        for _ in range(5):
            reading = [asyncio.create_task(made.fetch(ROWS, 2000, row=Product)) for _ in range(4)]
            await asyncio.sleep(0)
            await killer.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%skus__label%'"
            )
            for outcome in await asyncio.gather(*reading, return_exceptions=True):
                # One kill may cost one call, never a part of its objects.
                assert isinstance(outcome, headrace.ConnectionDoesNotExistError) or outcome == products(2000)


@pytest.mark.fault(number=37)
@every_way
async def test_an_error_in_the_middle_of_an_object(connect: Connect, way: Way) -> None:
    connection = await connect()
    before: Any = connection.fetch(ROWS, 40, row=Product)
    failing: Any = way(connection, FAILS, 40)
    if way is by_cursor:
        assert await before == products(40)
        with pytest.raises(headrace.DivisionByZeroError):
            await failing
    else:
        ahead, failed, behind = await asyncio.gather(
            before, failing, connection.fetch(ROWS, 40, row=Product), return_exceptions=True
        )
        assert ahead == behind == products(40)
        if way is by_fetchrow and not isinstance(failed, BaseException):
            # The server may stop at the end of the first object, before the row that fails.
            assert failed == products(40)
        else:
            assert isinstance(failed, headrace.DivisionByZeroError)
    assert await connection.fetch(ROWS, 40, row=Product) == products(40)


@pytest.mark.fault(number=37)
async def test_a_cursor_hands_out_no_object_that_an_error_cuts_off(connect: Connect) -> None:
    connection = await connect()
    found: list[Product] = []
    with pytest.raises(headrace.DivisionByZeroError):
        async with connection.transaction():
            async for each in connection.cursor(FAILS, 40, prefetch=4, row=Product):
                found.append(each)
    assert found == products(len(found))
    assert len(found) < 30
