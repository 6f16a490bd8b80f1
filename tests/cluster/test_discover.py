"""The functions that find the hosts of a cluster, and functions of a program that fail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from headrace.cluster import DiscoveryFailed, Host, HostDiscovered, HostRemoved, discover
from headrace.exceptions import InterfaceError
from tests.cluster.conftest import until_true

if TYPE_CHECKING:
    from tests.cluster.conftest import MakeCluster, Trio

PORT = "SELECT current_setting('port')::int"
ASKING: Any = SimpleNamespace(_discover_timeout=5.0)
"""The cluster, as far as these functions know it."""

MEMBERS = {
    "members": [
        {"name": "one", "role": "leader", "state": "running", "host": "10.0.0.1", "port": 5432, "timeline": 3},
        {"name": "two", "role": "sync_standby", "state": "streaming", "host": "10.0.0.2", "port": 5433, "lag": 0},
        {"name": "three", "role": "replica", "state": "starting"},
    ],
    "scope": "shop",
}


@asynccontextmanager
async def answering(*pieces: bytes) -> AsyncIterator[str]:
    """Run the block with a server that answers any request with these bytes; yields its URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_the_members_that_patroni_lists() -> None:
    body = json.dumps(MEMBERS).encode()
    async with answering(b"HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n", body[:20], body[20:]) as url:
        hosts = await discover.patroni(url + "/")(ASKING)
    assert hosts == [Host("10.0.0.1"), Host("10.0.0.2", 5433)]
    assert [host.role for host in hosts] == ["primary", "replica"]


async def test_another_member_is_asked_if_one_does_not_answer() -> None:
    body = json.dumps(MEMBERS).encode()
    async with answering(b"HTTP/1.0 200 OK\r\n\r\n", body) as url, answering(b"HTTP/1.0 503 No\r\n\r\n{}") as ill:
        assert len(await discover.patroni("http://127.0.0.1:1", "http://a..b:8008", ill, url)(ASKING)) == 2


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\n", "expected to answer 200, got .*503"),
        (b"nonsense", "expected to answer 200"),
        (b"HTTP/1.0 200 OK\r\n\r\n<html>", "Patroni is expected to list members, got b'<html>'"),
        (b'HTTP/1.0 200 OK\r\n\r\n{"members": [{"host": 5}]}', "Patroni is expected to list members"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100_000, "Patroni is expected to list members"),
        (
            b'HTTP/1.0 200 OK\r\n\r\n{"members": [{"host": "a", "role": "x", "port": 1e999}]}',
            "Patroni is expected to list members",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n[]", "Patroni is expected to list members"),
        (b"x" * ((1 << 20) + 1), "at most 1048576 bytes"),
    ],
)
async def test_an_answer_that_is_not_patronis_is_refused(answer: bytes, message: str) -> None:
    async with answering(answer) as url:
        with pytest.raises(InterfaceError, match=message):
            await discover.patroni(url)(ASKING)


def test_urls_are_checked() -> None:
    with pytest.raises(InterfaceError, match="got 'a.example.com:8008'"):
        discover.patroni("a.example.com:8008")
    for url in ("http://a.example.com:80080", "http://[::1", "http://a.example.com:x"):
        with pytest.raises(InterfaceError, match="expected to get URLs such as"):
            discover.patroni(url)
    with pytest.raises(InterfaceError, match="expected to get a URL"):
        discover.patroni()
    with pytest.raises(InterfaceError, match="expected to get a name, got ''"):
        discover.dns("")


async def test_each_address_of_a_name_is_a_host() -> None:
    hosts = await discover.dns("localhost", 5433)(ASKING)
    assert Host("localhost", 5433, "127.0.0.1") in hosts


@pytest.mark.any_server
async def test_the_standbys_that_the_primary_knows(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    first = shared_trio.standbys[0]
    cluster = await make_cluster(
        shared_trio.dsn(shared_trio.primary), discover=discover.stat_replication(port=first.port)
    )
    await cluster.ready(replicas=1)
    assert {info.port for info in cluster.hosts()} == {shared_trio.primary.port, first.port}
    assert await cluster.replicas.fetchval(PORT) == first.port


@pytest.mark.any_server
async def test_hosts_of_one_name_are_told_apart_by_their_addresses(
    shared_trio: Trio, make_cluster: MakeCluster
) -> None:
    async def find(cluster: object) -> list[Host]:
        return [Host("localhost", each.port, "127.0.0.1") for each in shared_trio.all]

    cluster = await make_cluster(shared_trio.dsn(shared_trio.primary), discover=find)
    await cluster.ready(replicas=2)
    assert {(info.host, info.hostaddr) for info in cluster.hosts()} == {("localhost", "127.0.0.1")}


@pytest.mark.any_server
async def test_hosts_come_and_go(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    listed = [f"{each.host()}:{each.port}" for each in shared_trio.all]

    async def find(cluster: object) -> list[str]:
        return list(listed)

    cluster = await make_cluster(shared_trio.dsn(shared_trio.primary), discover=find, discover_interval=0.02)
    events: list[Any] = []
    cluster.add_listener(events.append)
    await cluster.ready(replicas=2)
    removed = listed.pop()
    await until_true(lambda: any(isinstance(event, HostRemoved) for event in events), "a host is removed")
    assert len(cluster.hosts()) == 2
    listed.append(removed)
    await until_true(lambda: any(isinstance(event, HostDiscovered) for event in events), "a host is discovered")
    await cluster.ready(replicas=2)


async def raises(cluster: object) -> Any:
    raise LookupError("no such service")


async def hangs(cluster: object) -> Any:
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            if hangs_no_more.is_set():
                raise


hangs_no_more = asyncio.Event()


async def returns_nonsense(cluster: object) -> Any:
    return 5


async def is_cancelled(cluster: object) -> Any:
    """It awaits something that another task has cancelled."""
    awaited = asyncio.get_running_loop().create_future()
    awaited.cancel()
    await awaited


def returns_at_once(cluster: object) -> Any:
    return ["a"]


@pytest.mark.any_server
@pytest.mark.parametrize(
    ("function", "error"),
    [
        (raises, "no such service"),
        (hangs, "the last call of discover has not ended yet"),
        (returns_nonsense, "discover is expected to return hosts, got int 5"),
        (is_cancelled, "discover is expected to return hosts, but it raised CancelledError"),
        (returns_at_once, "discover is expected to be a coroutine function"),
    ],
)
async def test_the_hosts_stay_if_discover_fails(
    function: Callable[[object], Any], error: str, shared_trio: Trio, make_cluster: MakeCluster
) -> None:
    cluster = await make_cluster(shared_trio.dsn(), discover=function, discover_interval=0.02, discover_timeout=0.05)
    events: list[Any] = []
    cluster.add_listener(events.append)
    await cluster.ready(replicas=2)
    await until_true(lambda: bool(events), "there is an event")
    assert isinstance(events[0], DiscoveryFailed)
    assert error in str(events[0].error)
    assert len(cluster.hosts()) == 3
    assert await cluster.fetchval(PORT) == shared_trio.primary.port
    hangs_no_more.set()
    await cluster.close()


@pytest.mark.any_server
async def test_discover_may_name_another_primary(shared_trio: Trio, make_cluster: MakeCluster) -> None:
    """A replica that it names is no primary, but no other host is either."""

    async def find(cluster: object) -> list[Host]:
        return [
            Host(each.host(), each.port, role="primary" if each is shared_trio.standbys[0] else None)
            for each in shared_trio.all
        ]

    cluster = await make_cluster(shared_trio.dsn(), discover=find)
    await cluster.ready(primary=0, replicas=2)
    with pytest.raises(ConnectionError, match="discover says that .* is the primary, and it does not say so itself"):
        await cluster.execute("INSERT INTO written VALUES (1)", timeout=0.05)
    assert {info.state for info in cluster.hosts() if info.port == shared_trio.primary.port} == {"former primary"}
