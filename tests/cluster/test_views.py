"""The views of a cluster have the methods of a pool, and the objects that take a pool take a view."""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING, Any

import pytest

import headrace
from headrace.cluster import Cluster, PrimaryView, View
from headrace.exceptions import InterfaceError, NoPrimaryError
from tests.cluster.conftest import until_true

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

pytestmark = pytest.mark.any_server

PORT = "SELECT current_setting('port')::int"

OF_ONE_POOL = {
    "get_size": "cluster.hosts() has the statistics of each pool",
    "get_init_size": "the same",
    "get_min_size": "the same",
    "get_max_size": "the same",
    "get_idle_size": "the same",
    "stats": "the same; Cluster.stats() has counters of the cluster",
    "set_connect_args": "a cluster makes pools later too: make a new cluster",
    "expire_connections": "Cluster has it",
    "is_closing": "Cluster has it",
    "close": "Cluster has it",
    "terminate": "Cluster has it",
    "add_query_hook": "headrace.add_query_hook() is told of all pools, also of those that a cluster makes later",
    "remove_query_hook": "as add_query_hook",
    "listen": "PrimaryView has it: replicas send no notifications",
}
"""Methods of a pool that a view does not have, and why."""


def methods(cls: type) -> set[str]:
    return {name for name, member in inspect.getmembers(cls, callable) if not name.startswith("_")}


def test_a_view_has_every_method_of_a_pool() -> None:
    assert methods(headrace.Pool) - methods(View) == set(OF_ONE_POOL)
    assert "listen" in methods(PrimaryView)
    assert {"expire_connections", "is_closing", "close", "terminate", "stats"} <= methods(Cluster)


def test_methods_that_connections_share_are_the_same_functions() -> None:
    for name in methods(View):
        shared = getattr(headrace.Connection, name, None)
        if shared is not None and getattr(headrace.Pool, name) is shared:
            assert getattr(View, name) is shared


async def test_every_kind_of_call(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    await cluster.ready(replicas=2)
    await cluster.executemany("INSERT INTO written VALUES ($1)", [(token,) for token in range(9000, 9010)])
    assert await cluster.copy_records_to_table("written", records=[(9010,)]) == "COPY 1"
    await cluster.insert_records("written", [(9011,)], columns=["token"])
    shared_trio.wait_for_replay()
    for view in (cluster, cluster.primary, cluster.replicas):
        assert len(await view.fetch("SELECT FROM written WHERE token >= 9000")) == 12
        assert await view.fetchrow("SELECT 1 AS one") == (1,)
        assert await view.fetchval(headrace.sql("SELECT :n::int", n=4)) == 4
        assert await view.fetchmany("SELECT $1::int", [(1,), (2,)]) == [(1,), (2,)]
        assert [value async for value in view.fetchval_each("SELECT $1::int", [(1,), (2,)])] == [1, 2]
        assert await view.execute("SET work_mem = '1MB'; SHOW work_mem") == "SHOW"
        async with view.transaction(readonly=True) as connection:
            cursor = connection.cursor("SELECT token FROM written WHERE token >= 9000 ORDER BY token")
            assert [row[0] async for row in cursor][:2] == [9000, 9001]
        async with view.copy_out("SELECT 5") as rows:
            assert [row async for row in rows] == [(5,)]
        assert [row async for row in view.stream("SELECT generate_series(1, 3)")] == [(1,), (2,), (3,)]
        columns = await view.fetch_arrow("SELECT token FROM written WHERE token >= 9000")
        assert columns.num_rows == 12
        assert [batch.num_rows async for batch in view.stream_arrow("SELECT generate_series(1, 3)", batch_rows=2)] == [
            2,
            1,
        ]

        async def port(connection: Any) -> Any:
            return await connection.fetchval(PORT)

        assert await view.run(port) in {each.port for each in shared_trio.all}
        connection = await view.acquire(timeout=5)
        await view.release(connection)
        await view.release(connection)
    assert await cluster.copy_arrow_to_table("written", await cluster.fetch_arrow("SELECT 9012 AS token")) == "COPY 1"


async def test_wal_that_the_primary_has_not_flushed_is_no_lag(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    """Standbys get no more than is flushed, and an idle primary may leave its last records unflushed for long."""
    shared_trio.wait_for_replay()
    shared_trio.primary.sql("SELECT pg_logical_emit_message(false, 'test', 'not flushed')")
    cluster = await make_cluster(shared_trio.dsn(), max_lag=5.0)
    (position,) = (info.position for info in cluster.hosts() if info.role == "primary")
    [(flushed,)] = shared_trio.primary.sql("SELECT (pg_current_wal_flush_lsn() - '0/0')::bigint")
    assert position is not None
    assert position.lsn <= flushed
    await cluster.ready(replicas=2)


async def test_a_loader_takes_a_view(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    await cluster.ready(replicas=2)
    for source in (cluster, cluster.replicas, cluster.replicas.after(await cluster.position())):
        loader: headrace.Loader[int, Any] = headrace.Loader(
            source, "SELECT n AS id, current_setting('port')::int AS port FROM unnest($1::int[]) AS n", key="id"
        )
        rows = await asyncio.gather(loader.load(1), loader.load(2))
        assert [row["id"] for row in rows] == [1, 2]


async def test_rows_have_the_class_of_the_cluster(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    class Row(headrace.Record):
        def __getattr__(self, name: str) -> Any:
            return self[name]

    cluster = await make_cluster(shared_trio.dsn(), record_class=Row)
    await cluster.ready(replicas=2)
    for view in (cluster, cluster.replicas, cluster.replicas.after(await cluster.position(), wait=0.001)):
        row: Any = await view.fetchrow("SELECT 5 AS five")
        assert row is not None
        assert row.five == 5


async def test_leases_on_demand(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn(), lazy_acquire=True)
    async with cluster.acquire() as connection:
        assert await connection.fetchval("SELECT 1") == 1
        assert await connection.fetchval(PORT) == shared_trio.primary.port


async def test_a_connection_of_another_cluster_is_refused(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    one, other = await make_cluster(shared_trio.dsn()), await make_cluster(shared_trio.dsn())
    async with one.acquire() as connection:
        with pytest.raises(InterfaceError, match="is not one of this cluster"):
            await other.release(connection)
    with pytest.raises(InterfaceError, match="release\\(\\) received invalid connection: 5"):
        await one.release(5)


async def test_the_least_loaded_replica_is_chosen(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn())
    await cluster.ready(replicas=2)
    async with cluster.replicas.acquire() as connection:
        busy = await connection.fetchval(PORT)
        [idle] = {standby.port for standby in shared_trio.standbys} - {busy}
        assert {await cluster.replicas.fetchval(PORT) for _ in range(10)} == {idle}
    in_flight = {info.port: info.in_flight for info in cluster.hosts()}
    assert set(in_flight.values()) == {0}


async def test_max_lag_leaves_out_a_replica_that_is_late(paused: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(paused.dsn(), max_lag=0.001)
    late: set[int] = set()
    async with asyncio.timeout(30):
        while len(late) < 2:
            # Only what the primary has flushed counts, and each write flushes what was written a while before.
            await cluster.execute("INSERT INTO written VALUES (1)")
            late = {info.port for info in cluster.hosts() if info.state == "lagging"}
            await asyncio.sleep(0.01)
    assert await cluster.replicas.fetchval(PORT) == paused.primary.port
    assert all("max_lag is 0.001" in info.reason for info in cluster.hosts() if info.state == "lagging")


# Opening and closing.


async def test_no_host_answers() -> None:
    cluster = headrace.create_cluster("postgresql://127.0.0.1:1,127.0.0.1:2/shop")
    with pytest.raises(NoPrimaryError, match="127.0.0.1:2: down") as caught:
        await cluster
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)
    with pytest.raises(InterfaceError, match="cluster is closed"):
        await cluster.fetch("SELECT 1")


async def test_an_error_that_another_attempt_does_not_mend_is_raised(shared_trio: Trio) -> None:
    with pytest.raises(headrace.InvalidCatalogNameError):
        await headrace.create_cluster(shared_trio.dsn(), database="nowhere")


async def test_one_host_is_enough_to_open(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(shared_trio.dsn(shared_trio.primary).replace("@", "@127.0.0.1:1,"))
    assert await cluster.replicas.fetchval(PORT) == shared_trio.primary.port
    assert [info.state for info in cluster.hosts()] == ["down", "up"]


async def test_one_server_by_two_names(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    primary = shared_trio.primary
    cluster = await make_cluster(shared_trio.dsn(primary).replace("@", f"@localhost:{primary.port},"))
    assert await cluster.fetchval(PORT) == primary.port
    assert [info.state for info in cluster.hosts()] == ["up", "duplicate"]


async def test_calls_need_an_open_cluster(shared_trio: Trio) -> None:
    cluster = headrace.create_cluster(shared_trio.dsn(), min_size=1)
    with pytest.raises(InterfaceError, match="cluster is not open"):
        await cluster.fetchval("SELECT 1")
    async with cluster:
        task = asyncio.create_task(cluster.fetchval("SELECT pg_sleep(0.2)"))
        await asyncio.sleep(0.05)
    await task
    assert cluster.is_closing()
    for call in (cluster.fetchval("SELECT 1"), cluster.replicas.fetch("SELECT 1"), cluster.position(), cluster.ready()):
        with pytest.raises(InterfaceError, match="cluster is closed"):
            await call
    await cluster.close()
    cluster.terminate()


async def test_terminate_ends_calls_at_once(shared_trio: Trio) -> None:
    cluster = await headrace.create_cluster(shared_trio.dsn(), min_size=1)
    task = asyncio.create_task(cluster.fetchval("SELECT pg_sleep(60)"))
    await asyncio.sleep(0.05)
    cluster.terminate()
    with pytest.raises(headrace.ConnectionDoesNotExistError):
        await task


@pytest.mark.parametrize("how", ["close", "terminate"])
async def test_a_cluster_may_be_closed_while_it_is_opened(shared_trio: Trio, how: str) -> None:
    connecting, may_connect = asyncio.Event(), asyncio.Event()
    made: list[headrace.Connection] = []

    async def connect(*args: Any, **kwargs: Any) -> headrace.Connection:
        connecting.set()
        await may_connect.wait()
        made.append(await headrace.connect(*args, **kwargs))
        return made[-1]

    cluster = headrace.create_cluster(shared_trio.dsn(), min_size=1, connect=connect, check_timeout=30.0)

    async def open_it() -> None:
        await cluster

    opening = asyncio.create_task(open_it())
    await connecting.wait()
    if how == "close":
        await cluster.close()
    else:
        cluster.terminate()
    may_connect.set()
    with pytest.raises(InterfaceError, match="cluster is closed"):
        await opening
    assert cluster.is_closing()
    assert all(connection.is_closed() for connection in made)


async def test_a_listener_may_close_the_cluster(trio: Trio, make_cluster: MakeCluster) -> None:
    cluster = await make_cluster(trio.dsn())
    await cluster.ready(replicas=2)
    closed = asyncio.Event()

    async def close(event: object) -> None:
        cluster.remove_listener(close)
        await cluster.close()
        closed.set()

    cluster.add_listener(close)
    trio.standbys[0].stop("fast")
    async with asyncio.timeout(60):
        await closed.wait()


async def test_a_listener_may_be_a_coroutine_function_and_may_fail(
    shared_trio: Trio, make_cluster: MakeCluster
) -> None:
    loop = asyncio.get_running_loop()
    reported: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context))
    cluster = await make_cluster(shared_trio.dsn())
    told: list[object] = []

    async def listen(event: object) -> None:
        await asyncio.sleep(0)
        told.append(event)

    def fail(event: object) -> None:
        raise LookupError("a mistake")

    cluster.add_listener(fail)
    cluster.add_listener(listen)
    cluster.add_listener(listen)
    with pytest.raises(TypeError, match="a listener is expected to be callable, got 5"):
        cluster.add_listener(5)  # type: ignore[arg-type]
    shared_trio.standbys[0].stop("fast")
    await until_true(lambda: len(told) == 1, "it is told that a standby is down")
    shared_trio.standbys[0].start()
    await until_true(lambda: len(told) == 2, "it is told that the standby is up")
    assert [context["exception"].args for context in reported] == [("a mistake",)] * 2
    cluster.remove_listener(listen)
    cluster.remove_listener(listen)
