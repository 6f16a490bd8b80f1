"""Fault 45: another server answers, on which an OID is another type's: values stay right, whichever way they go.

On the server `blue` the domain `code` (text) was made before the domain `qty` (integer), on `green` after it, so each
has the OID that the other has there. A driver that takes one for the other gives 1633837924 for 'abcd'.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace import TypeCodec
from tests.peers.pooler import MovablePooler
from tests.peers.proxy import Proxy
from tests.servers import HOST, SUPERUSER, Cluster

if TYPE_CHECKING:
    from tests.fixtures import Connect, MakePool

pytestmark = pytest.mark.fault(number=45)

NUMBERED = ["CREATE DOMAIN code AS text", "CREATE DOMAIN qty AS int"]
NAMED = ["CREATE TYPE colour AS ENUM ()", "CREATE DOMAIN weight AS text"]
REST = ["ALTER TYPE colour ADD VALUE 'red'", "CREATE TYPE item AS (c code, q qty)"]
CODE_FIRST = "; ".join([*NUMBERED, *NAMED, *REST])
QTY_FIRST = "; ".join([*NUMBERED[::-1], *NAMED[::-1], *REST])
PAIRS = {"code": "qty", "qty": "code", "colour": "weight", "weight": "colour"}

READ = "SELECT ARRAY['abcd'::code] AS codes, ARRAY[7::qty] AS numbers"
ECHO = "SELECT $1::code[] AS codes, $2::qty[] AS numbers"
VALUES = (["abcd"], [7])

ECHO_COLOUR = "SELECT $1::colour AS colour, $2::weight[] AS weights, ARRAY[$1::colour] AS colours"
UPPER = TypeCodec(typename="colour", encoder=str.lower, decoder=str.upper)
COLOURED = ("RED", ["3 kg"], ["RED"])

LOOK_UP = b"WITH RECURSIVE needed"
IDENTITY = b"pg_control_system"

MODES: dict[str, dict[str, Any]] = {
    "named": {},
    "unnamed": {"statement_mode": "unnamed"},
    "describe": {"statement_mode": "describe"},
    "no cache": {"statement_cache_size": 0},
}


def oids(cluster: Cluster, database: str = "postgres") -> dict[str, int]:
    """Return the OIDs of the types on a server."""
    return dict(
        cluster.sql("SELECT typname, oid::int FROM pg_type WHERE typname = ANY(%s)", list(PAIRS), database=database)
    )


def swapped(known: dict[str, int]) -> dict[str, int]:
    """Return the OIDs with each given to the other of its pair."""
    return {name: known[other] for name, other in PAIRS.items()}


@pytest.fixture(scope="module")
def servers(server: Cluster) -> Iterator[tuple[Cluster, Cluster]]:
    """Blue and green: alike but for the order in which their types were made."""
    with ExitStack() as stack:
        blue, green = (stack.enter_context(Cluster(server.postmaster.installation, identified=True)) for _ in range(2))
        blue.sql(CODE_FIRST, database="postgres")
        green.sql(QTY_FIRST, database="postgres")
        assert swapped(oids(blue)) == oids(green)
        yield blue, green


@pytest.fixture(params=["blue to green", "green to blue"])
def first_and_second(request: pytest.FixtureRequest, servers: tuple[Cluster, Cluster]) -> tuple[Cluster, Cluster]:
    """The server that a pool begins with, and the one that it goes on with."""
    return servers if request.param == "blue to green" else (servers[1], servers[0])


@pytest.fixture
async def moving(first_and_second: tuple[Cluster, Cluster]) -> AsyncIterator[Callable[[], Proxy]]:
    """An address that leads to the first server until `retarget`."""
    first, _ = first_and_second
    async with Proxy(HOST, first.port, record=True) as proxy:
        yield lambda: proxy


def at(port: int) -> dict[str, Any]:
    """Return the arguments for connecting to a port."""
    return {"host": HOST, "port": port, "user": SUPERUSER, "database": "postgres", "ssl": "disable"}


def sent(proxy: Proxy) -> bytes:
    """Return all that clients have sent through a proxy."""
    return b"".join(link.recorded("server") for link in proxy.links)


async def check(asked: headrace.Pool | headrace.Connection | Any) -> None:
    """Check that values are right both ways, and that a cached statement gives the same again."""
    for _ in range(2):
        assert await asked.fetchrow(READ) == VALUES
        assert await asked.fetchrow(ECHO, *VALUES) == VALUES
    assert await asked.fetchmany(ECHO, [VALUES, VALUES]) == [VALUES, VALUES]
    assert await asked.fetchval("SELECT $1::item", ("abcd", 7)) == ("abcd", 7)


# A pool whose address leads elsewhere


async def test_values_are_right_after_the_address_has_moved(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    shared = await pool(**at(moving().port), min_size=2, max_size=2)
    await check(shared)
    moving().retarget(HOST, first_and_second[1].port)
    await shared.expire_connections()
    await check(shared)
    async with shared.acquire() as lease, lease.transaction():
        await check(lease)


async def test_values_are_right_where_connections_are_replaced_one_by_one(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    """Nobody says that the address has moved: leases of the first server go on beside connections to the second."""
    shared = await pool(**at(moving().port), min_size=0, max_size=2)
    old = await shared.acquire()
    await check(old)
    moving().retarget(HOST, first_and_second[1].port)
    new = await shared.acquire()
    await asyncio.gather(*(check(lease) for lease in (old, new)))
    for lease in (old, new):
        await shared.release(lease)
    for _ in range(10):
        await check(shared)


async def test_values_are_right_with_both_servers_behind_one_pool(
    servers: tuple[Cluster, Cluster], pool: MakePool
) -> None:
    ports = [cluster.port for cluster in servers] * 2

    async def connect(*_: Any, **kwargs: Any) -> headrace.Connection:
        return await headrace.connect(**{**kwargs, **at(ports.pop())})

    shared = await pool(connect=connect, min_size=4, max_size=4)
    leases = [await shared.acquire() for _ in range(4)]
    await asyncio.gather(*(check(lease) for lease in leases))
    for lease in leases:
        await shared.release(lease)
    async with asyncio.TaskGroup() as group:
        for _ in range(20):
            group.create_task(check(shared))


async def test_values_are_right_after_the_arguments_were_changed(
    first_and_second: tuple[Cluster, Cluster], pool: MakePool
) -> None:
    first, second = first_and_second
    shared = await pool(**at(first.port), min_size=1, max_size=2)
    held = await shared.acquire()
    shared.set_connect_args(**at(second.port))
    other = await shared.acquire()
    await asyncio.gather(check(held), check(other))
    await shared.release(held)
    await shared.release(other)


async def test_codecs_of_a_pool_are_set_for_the_type_of_the_name(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    shared = await pool(**at(moving().port), min_size=2, max_size=2, codecs=[UPPER])
    for cluster in first_and_second[::-1]:
        assert await shared.fetchrow(ECHO_COLOUR, "RED", ["3 kg"]) == COLOURED
        await check(shared)
        moving().retarget(HOST, cluster.port)
        await shared.expire_connections()


async def test_a_codec_set_during_a_lease_is_set_for_the_type_of_the_name(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    shared = await pool(**at(moving().port), min_size=1, max_size=1)
    for cluster in first_and_second[::-1]:
        async with shared.acquire() as lease:
            await lease.set_type_codec("colour", encoder=str.lower, decoder=str.upper)
            assert await lease.fetchrow(ECHO_COLOUR, "RED", ["3 kg"]) == COLOURED
            await check(lease)
        moving().retarget(HOST, cluster.port)
        await shared.expire_connections()


# One address, other contents


async def test_values_are_right_after_a_restart_on_another_data_directory(server: Cluster, pool: MakePool) -> None:
    installation = server.postmaster.installation
    with Cluster(installation, identified=True) as cluster, Cluster(installation, identified=True) as other:
        cluster.sql(CODE_FIRST, database="postgres")
        other.sql(QTY_FIRST, database="postgres")
        shared = await pool(**at(cluster.port), min_size=0, max_size=1)
        for _ in range(2):
            await check(shared)
            cluster.stop()
            other.stop()
            here, there = cluster.postmaster.data, other.postmaster.data
            kept = here.with_name("kept")
            for source, target in ((here, kept), (there, here), (kept, there)):
                shutil.move(source, target)
            cluster.start()
            other.start()
            await answering(shared)
        await check(shared)
        await shared.close()


async def test_values_are_right_in_a_database_that_was_dropped_and_made_again(
    own_server: Cluster, pool: MakePool
) -> None:
    """It has another OID itself, on a server that has run all the time."""
    for name in ("shop", "model"):
        own_server.sql(f"CREATE DATABASE {name}")
    own_server.sql(CODE_FIRST, database="shop")
    ((first,),) = own_server.sql("SELECT min(oid)::int FROM pg_type WHERE oid >= 16384", database="shop")
    own_server.stop()
    own_server.postmaster.run("pg_resetwal", "-o", str(first), "-D", str(own_server.postmaster.data))
    own_server.start()
    own_server.sql(QTY_FIRST, database="model")
    assert swapped(oids(own_server, "shop")) == oids(own_server, "model")
    shared = await pool(**{**at(own_server.port), "database": "shop"}, min_size=0, max_size=1)
    await check(shared)
    own_server.sql("DROP DATABASE shop WITH (FORCE)")
    own_server.sql("CREATE DATABASE shop TEMPLATE model")
    await answering(shared)
    await check(shared)
    await shared.close()


async def answering(shared: headrace.Pool) -> None:
    """Wait until a pool has found its server again."""
    async with asyncio.timeout(30):
        while True:
            try:
                await shared.fetchval("SELECT 1")
            except (OSError, headrace.PostgresError, headrace.InterfaceError):
                await asyncio.sleep(0.01)
            else:
                return


# What it costs


async def test_a_type_is_looked_up_once_for_all_connections_to_one_server(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    shared = await pool(**at(moving().port), min_size=5, max_size=5)
    leases = [await shared.acquire() for _ in range(5)]
    await asyncio.gather(*(lease.fetchrow("SELECT ARRAY['abcd'::code]") for lease in leases))
    assert sent(moving()).count(LOOK_UP) == 1
    await asyncio.gather(*(lease.fetchrow("SELECT ARRAY['abcd'::code], 2") for lease in leases))
    assert sent(moving()).count(LOOK_UP) == 1
    for lease in leases:
        async with lease.transaction():
            await check(lease)
    assert sent(moving()).count(LOOK_UP) <= 3, "in transactions as well"
    assert sent(moving()).count(IDENTITY) == 2 * 5, "once for each connection: the text names the function twice"
    for lease in leases:
        await shared.release(lease)


async def test_a_connection_that_meets_built_in_types_alone_asks_nothing(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    shared = await pool(**at(moving().port), min_size=2, max_size=2)
    assert await shared.fetchrow("SELECT $1::int[], $2::jsonb, '[1,2)'::int4range", [1], "{}") is not None
    async with shared.acquire() as lease:
        await lease.execute("CREATE TEMPORARY TABLE numbers (n int)")
        await lease.copy_records_to_table("numbers", records=[(1,)])
        await lease.set_type_codec("json", schema="pg_catalog", encoder=str, decoder=str)
    assert IDENTITY not in sent(moving())
    assert LOOK_UP not in sent(moving())


async def test_types_within_anonymous_records_are_those_of_the_server(
    first_and_second: tuple[Cluster, Cluster], moving: Callable[[], Proxy], pool: MakePool
) -> None:
    shared = await pool(**at(moving().port), min_size=2, max_size=2)
    for cluster in first_and_second[::-1]:
        leases = [await shared.acquire() for _ in range(2)]
        for lease in leases:
            assert await lease.fetchval("SELECT ROW(ARRAY['abcd'::code], 7::qty)") == (["abcd"], 7)
        for lease in leases:
            await shared.release(lease)
        moving().retarget(HOST, cluster.port)
        await shared.expire_connections()


# A server that does not tell


@pytest.fixture
async def restricted(own_server: Cluster) -> Cluster:
    """A server on which a role may not ask for the system identifier."""
    own_server.sql(CODE_FIRST, database="postgres")
    own_server.sql("CREATE ROLE app LOGIN")
    own_server.sql("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC", database="postgres")
    return own_server


async def test_a_role_that_may_not_ask_which_server_it_is_shares_nothing(restricted: Cluster, pool: MakePool) -> None:
    async with Proxy(HOST, restricted.port, record=True) as proxy:
        shared = await pool(**{**at(proxy.port), "user": "app"}, min_size=2, max_size=2)
        leases = [await shared.acquire() for _ in range(2)]
        for lease in leases:
            async with lease.transaction():
                await check(lease)
        assert sent(proxy).count(IDENTITY) == 2 * 2, "each connection asks once: the text names the function twice"
        assert [link.recorded("server").count(LOOK_UP) for link in proxy.links] == [2, 2]
        for lease in leases:
            await shared.release(lease)
        await shared.close()


async def test_a_server_that_refuses_the_question_is_not_asked_again(own_server: Cluster, pool: MakePool) -> None:
    own_server.sql(CODE_FIRST, database="postgres")
    own_server.sql("CREATE ROLE app LOGIN")
    own_server.sql("REVOKE EXECUTE ON FUNCTION pg_postmaster_start_time() FROM PUBLIC", database="postgres")
    async with Proxy(HOST, own_server.port, record=True) as proxy:
        shared = await pool(**{**at(proxy.port), "user": "app"}, min_size=1, max_size=1)
        await check(shared)
        async with shared.acquire() as lease, lease.transaction():
            assert await lease.fetchval("SELECT ARRAY[1::qty]") == [1]
        assert sent(proxy).count(IDENTITY) == 2
        await shared.close()


# Behind a pooler


@pytest.fixture
async def pooler(first_and_second: tuple[Cluster, Cluster]) -> AsyncIterator[MovablePooler]:
    """A pooler in front of the first server, until its `target` is 1."""
    async with AsyncExitStack() as stack:
        targets = [(HOST, cluster.port) for cluster in first_and_second]
        yield await stack.enter_async_context(MovablePooler(targets))


@pytest.mark.parametrize("mode", MODES)
async def test_values_are_right_after_a_pooler_was_moved_to_another_server(
    pooler: MovablePooler, connect: Connect, mode: str
) -> None:
    connection = await connect(**at(pooler.port), **MODES[mode])
    await check(connection)
    held = await connection.prepare(ECHO)
    assert await held.fetchrow(*VALUES) == VALUES
    pooler.target = 1
    await check(connection)
    assert await held.fetchrow(*VALUES) == VALUES
    pooler.target = 0
    await check(connection)
    assert await held.fetchrow(*VALUES) == VALUES


@pytest.mark.parametrize("mode", MODES)
async def test_a_pools_connections_behind_a_pooler_share_nothing(
    pooler: MovablePooler, pool: MakePool, mode: str
) -> None:
    shared = await pool(**at(pooler.port), min_size=3, max_size=3, **MODES[mode])
    for target in (0, 1, 0):
        pooler.target = target
        async with asyncio.TaskGroup() as group:
            for _ in range(10):
                group.create_task(check(shared))


@pytest.mark.parametrize("mode", MODES)
async def test_codecs_follow_the_name_of_a_type_behind_a_pooler(
    pooler: MovablePooler, connect: Connect, mode: str
) -> None:
    connection = await connect(**at(pooler.port), **MODES[mode])
    await connection.set_type_codec("colour", encoder=str.lower, decoder=str.upper)
    for target in (0, 1, 0):
        pooler.target = target
        assert await connection.fetchrow(ECHO_COLOUR, "RED", ["3 kg"]) == COLOURED


@pytest.mark.parametrize("mode", MODES)
async def test_built_in_types_cost_nothing_more_behind_a_pooler(
    pooler: MovablePooler, connect: Connect, mode: str
) -> None:
    connection = await connect(**at(pooler.port), **MODES[mode])
    await connection.fetchval("SELECT $1::int", 1)
    before = len(pooler.units)
    assert await connection.fetchval("SELECT $1::int", 1) == 1
    assert len(pooler.units) - before == 1


@pytest.mark.parametrize("mode", MODES)
async def test_where_the_operator_says_that_there_is_one_server_types_are_kept(
    pooler: MovablePooler, pool: MakePool, mode: str
) -> None:
    shared = await pool(**at(pooler.port), min_size=2, max_size=2, single_server=True, **MODES[mode])
    await check(shared)
    before = len(pooler.units)
    assert await shared.fetchrow(ECHO, *VALUES) == VALUES
    assert len(pooler.units) - before == (2 if mode in ("describe", "no cache") else 1)
    pooler.target = 1
    await shared.expire_connections()
    await check(shared)


@pytest.mark.parametrize("given", [1, "yes", None])
async def test_single_server_is_true_or_false(given: Any) -> None:
    with pytest.raises(ValueError, match="single_server is expected to be True or False, got"):
        await headrace.connect("postgresql://127.0.0.1:1/", single_server=given)
