"""Functions that find the hosts of a cluster, for `create_cluster(discover=...)`.

Each one returns a coroutine function that a cluster calls from time to time. A program's own function gets the
cluster as its argument and returns the hosts: as `Host`, as "host:port" or as pairs of both.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl as ssl_module
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from headrace._connect.params.address import DEFAULT_PORT
from headrace.cluster.hosts import Host
from headrace.exceptions import InterfaceError
from headrace.exceptions._values import shown

if TYPE_CHECKING:
    from headrace.cluster.cluster import Cluster

Discover = Callable[["Cluster[Any]"], Awaitable[list[Host]]]

LONGEST_ANSWER: Final = 1 << 20
"""The most bytes of an answer of Patroni."""

STANDBYS_QUERY: Final = """
SELECT DISTINCT host(client_addr) FROM pg_catalog.pg_stat_replication
WHERE client_addr IS NOT NULL AND application_name !~ '^pg_(basebackup|receivewal|recvlogical)' ORDER BY 1
"""


def stat_replication(*, port: int | None = None) -> Discover:
    """Return a function that asks the primary for its standbys (pg_stat_replication).

    It returns the hosts of the DSN, and the addresses of the standbys. The view does not tell their ports: `port`
    is that of all standbys, by default that of the primary. The role needs pg_read_all_stats, for example by
    pg_monitor. While there is no primary it raises NoPrimaryError, so the known hosts stay.
    """

    async def discover(cluster: Cluster[Any]) -> list[Host]:
        primary = cluster._topology.decision.primary
        addresses = [row[0] for row in await cluster.primary.fetch(STANDBYS_QUERY, timeout=cluster._discover_timeout)]
        found = dict.fromkeys(cluster._seeds)
        if primary is not None:
            found[primary] = None
        standby_port = port if port is not None else primary.port if primary is not None else DEFAULT_PORT
        known = {(each.hostaddr or each.host, each.port) for each in found}
        names = await asyncio.gather(*(_addresses_of(each) for each in found))
        known |= {(address, each.port) for each, addresses in zip(found, names, strict=True) for address in addresses}
        for address in addresses:
            if (address, standby_port) not in known:
                found[Host(address, standby_port)] = None
        return list(found)

    return discover


async def _addresses_of(host: Host) -> list[str]:
    """Return the addresses of a host by its name; none if it cannot be resolved."""
    if host.host.startswith(("/", "@")) or host.hostaddr is not None:
        return []
    with suppress(OSError):
        return await _resolve(host.host, host.port)
    return []


async def _resolve(name: str, port: int) -> list[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


def dns(name: str, port: int = DEFAULT_PORT) -> Discover:
    """Return a function that resolves a name: each of its addresses (A and AAAA) is a host.

    TLS and the passfile use the name for all of them. It raises OSError if the name cannot be resolved.
    """
    if not isinstance(name, str) or not name:
        raise InterfaceError(f"dns() is expected to get a name, got {shown(name)}")

    async def discover(cluster: Cluster[Any]) -> list[Host]:
        return [Host(name, port, address) for address in await _resolve(name, port)]

    return discover


def patroni(*urls: str, ssl: ssl_module.SSLContext | None = None) -> Discover:
    """Return a function that asks Patroni's REST API for the members of its cluster (GET /cluster).

    `urls` are those of the API on one or more members, such as "http://a.example.com:8008". They are asked in turn
    until one answers. The leader that Patroni names is the primary. `ssl` is for https. The errors of the last one
    are raised if none answers. Source: Patroni documentation, "Patroni REST API".
    """
    if not urls:
        raise InterfaceError("patroni() is expected to get a URL, such as http://a.example.com:8008")
    for url in urls:
        if not _is_url(url):
            raise InterfaceError(
                f"patroni() is expected to get URLs such as http://a.example.com:8008, got {shown(url)}"
            )

    async def discover(cluster: Cluster[Any]) -> list[Host]:
        share = cluster._discover_timeout / len(urls)
        error: Exception | None = None
        for url in urls:
            try:
                async with asyncio.timeout(share):
                    return members(await _get(url.rstrip("/") + "/cluster", ssl))
            except (OSError, InterfaceError, UnicodeError) as failure:
                error = failure
        assert error is not None
        raise error

    return discover


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        # A port out of range is found when it is read.
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def members(answer: bytes) -> list[Host]:
    """Return the hosts in an answer of Patroni to GET /cluster; raises InterfaceError if it is not one."""
    try:
        found = [
            Host(
                each["host"],
                int(each.get("port", DEFAULT_PORT)),
                role="primary" if each["role"] in ("leader", "primary", "master") else "replica",
            )
            for each in json.loads(answer)["members"]
            # A member that has not started has no address yet.
            if "host" in each
        ]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InterfaceError(f"Patroni is expected to list members, got {shown(answer[:200])}") from error
    return found


async def _get(url: str, ssl: ssl_module.SSLContext | None) -> bytes:
    """Return the body of the answer to a GET request."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    is_tls = parts.scheme == "https"
    port = parts.port or (443 if is_tls else 80)
    context = (ssl or ssl_module.create_default_context()) if is_tls else None
    reader, writer = await asyncio.open_connection(parts.hostname, port, ssl=context, limit=LONGEST_ANSWER)
    try:
        # HTTP/1.0 has neither chunks nor connections that stay open.
        writer.write(f"GET {parts.path} HTTP/1.0\r\nHost: {parts.netloc}\r\nAccept: application/json\r\n\r\n".encode())
        await writer.drain()
        head, separator, body = (await _read(reader)).partition(b"\r\n\r\n")
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    status: Sequence[bytes] = head.split(b"\r\n", 1)[0].split(b" ")
    if not separator or len(status) < 2 or status[1] != b"200":
        raise InterfaceError(f"{url} is expected to answer 200, got {shown(head[:100])}")
    return body


async def _read(reader: asyncio.StreamReader) -> bytes:
    received = bytearray()
    while piece := await reader.read(1 << 16):
        received += piece
        if len(received) > LONGEST_ANSWER:
            raise InterfaceError(f"an answer of at most {LONGEST_ANSWER} bytes is expected")
    return bytes(received)
