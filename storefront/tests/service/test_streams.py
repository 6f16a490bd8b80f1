"""Streams on real sockets: clients that go away or read slowly, keys that are revoked, and limits of time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import headrace
from storefront import open_connection
from storefront.partners import revoke_partner
from storefront.service.server import GracefulServer
from storefront.service.settings import ServiceSettings

MANY = b"".join(b"%d\n" % number for number in range(1, 200_001))
"""More ids than any socket has buffers for. Nearly all of them are unknown."""


def body_of(answer: bytes) -> tuple[int, bytes, bool]:
    """Return the status, the body without its chunks' sizes, and whether the last chunk says that it is the end."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    status = int(head.split()[1])
    if b"transfer-encoding: chunked" not in head.lower():
        return status, rest, True
    body, at = bytearray(), 0
    while at < len(rest):
        end = rest.index(b"\r\n", at)
        size = int(rest[at:end], 16)
        if size == 0:
            return status, bytes(body), True
        body += rest[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return status, bytes(body), False


def last_object(body: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(body.splitlines()[-1])
    return found


def writing_is_paused(server: GracefulServer) -> bool:
    """Return whether an answer waits for its client to read."""
    return any(connection.flow.write_paused for connection in server.server_state.connections)


async def leases(server: GracefulServer) -> int:
    count: int = await server.service.pool.fetchval("SELECT count(*) FROM partner_batch")
    return count


async def test_a_client_that_goes_away_frees_its_connection_at_once(
    serving: GracefulServer, new_partner: Any, raw: Any, request_for: Any, locked: headrace.Connection, until: Any
) -> None:
    key = (await new_partner()).key
    pool = serving.service.pool
    client = await raw(serving)
    await client.send(request_for(key, b"1\n2\n3\n"))
    await until(lambda: locked.fetchval("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted"))
    assert (pool.stats().in_flight, len(serving.service.running_batches)) == (1, 1)
    client.abort()
    # The table is still locked: the query has ended because it was cancelled.
    await until(lambda: pool.stats().in_flight == 0)
    await until(lambda: locked.fetchval("SELECT count(*) = 0 FROM pg_locks WHERE NOT granted"))
    await until(lambda: len(serving.service.running_batches) == 0)
    assert await leases(serving) == 0
    assert pool.stats().idle == pool.stats().size


async def test_a_client_that_reads_slowly_holds_little_memory_and_nobody_up(
    changed: Callable[..., ServiceSettings], open_server: Any, new_partner: Any, raw: Any, request_for: Any, until: Any
) -> None:
    key = (await new_partner(batch_ids=1_000_000)).key
    async with open_server(changed(pool_size=1)) as server:
        slow = await raw(server, small_buffer=True)
        await slow.send(request_for(key, MANY))
        await until(lambda: writing_is_paused(server))
        buffered = sum(each.transport.get_write_buffer_size() for each in server.server_state.connections)
        assert buffered < 2**18
        other = await raw(server)
        await other.send(request_for(key, b"1\n"))
        status, body, ended = body_of(await other.rest())
        assert (status, last_object(body)["skus"], ended) == (200, len(body.splitlines()) - 1, True)
        status, body, ended = body_of(await slow.rest())
    assert (status, ended) == (200, True)
    assert last_object(body)["lines"] == 200_000
    assert last_object(body)["skus"] + last_object(body)["unknown"] == len(body.splitlines()) - 1


async def test_a_client_that_reads_nothing_is_given_up(
    changed: Callable[..., ServiceSettings], open_server: Any, new_partner: Any, raw: Any, request_for: Any, until: Any
) -> None:
    key = (await new_partner(batch_ids=1_000_000)).key
    async with open_server(changed(send_timeout=0.05, farewell=0.05)) as server:
        client = await raw(server, small_buffer=True)
        await client.send(request_for(key, MANY))
        await until(lambda: len(server.service.running_batches) == 1)
        await until(lambda: len(server.service.running_batches) == 0)
        await until(lambda: not server.server_state.connections)
        assert await leases(server) == 0
        _, _, ended = body_of(await client.rest())
        assert not ended


async def _by_command(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await revoke_partner(connection, "Aurora")


async def _without_a_notification(dsn: str) -> None:
    async with open_connection(dsn) as connection:
        await connection.execute("UPDATE partner SET revoked_at = now()")


@pytest.mark.parametrize(
    ("revoke", "poll_interval"),
    [(_by_command, 3_600.0), (_without_a_notification, 0.05)],
    ids=["notified", "polled"],
)
async def test_a_revoked_key_ends_a_running_answer(
    dsn: str,
    changed: Callable[..., ServiceSettings],
    open_server: Any,
    new_partner: Any,
    raw: Any,
    request_for: Any,
    until: Any,
    revoke: Callable[[str], Any],
    poll_interval: float,
) -> None:
    key = (await new_partner(batch_ids=1_000_000)).key
    async with open_server(changed(poll_interval=poll_interval, key_cache=poll_interval, farewell=60.0)) as server:
        client = await raw(server, small_buffer=True)
        await client.send(request_for(key, MANY))
        await until(lambda: writing_is_paused(server))
        await revoke(dsn)
        await until(lambda: len(server.service.running_batches) == 0)
        status, body, ended = body_of(await client.rest())
        assert (status, ended) == (200, False)
        last = last_object(body)
        assert (last["outcome"], last["problem"]["status"]) == ("failed", 401)
        assert last["problem"]["detail"] == "the key was revoked"
        assert 0 < last["lines"] < 200_000
        assert await leases(server) == 0

        async def is_refused() -> bool:
            again = await raw(server)
            await again.send(request_for(key, b"1\n"))
            return body_of(await again.rest())[0] == 401

        await until(is_refused)


async def test_headers_that_come_too_slowly_are_refused(
    changed: Callable[..., ServiceSettings], open_server: Any, raw: Any
) -> None:
    async with open_server(changed(header_timeout=0.05)) as server:
        client = await raw(server)
        await client.send(b"GET /healthz HTTP/1.1\r\nHost: local")
        status, body, _ = body_of(await client.rest())
        assert (status, json.loads(body)["title"]) == (408, "Request timeout")
        again = await raw(server)
        await again.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await again.reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200")
        await again.send(b"GET /hea")
        assert (await again.rest()).startswith(b"HTTP/1.1 408")


async def test_a_request_that_was_sent_has_no_time_limit_for_its_headers(
    changed: Callable[..., ServiceSettings],
    open_server: Any,
    new_partner: Any,
    raw: Any,
    request_for: Any,
    locked: headrace.Connection,
    until: Any,
) -> None:
    key = (await new_partner()).key
    async with open_server(changed(header_timeout=0.2)) as server:
        client, idle = await raw(server), await raw(server)
        await client.send(request_for(key, b"1\n"))
        await until(lambda: len(server.service.running_batches) == 1)
        # This connection was opened later, so its time limit ends after that of the first would have.
        assert (await idle.rest()).startswith(b"HTTP/1.1 408")
        await locked.execute("ROLLBACK")
        status, body, _ = body_of(await client.rest())
        assert (status, last_object(body)["outcome"]) == (200, "complete")


async def test_a_body_that_comes_too_slowly_is_refused(
    changed: Callable[..., ServiceSettings], open_server: Any, new_partner: Any, raw: Any, request_for: Any
) -> None:
    key = (await new_partner()).key
    async with open_server(changed(body_timeout=0.05)) as server:
        client = await raw(server)
        await client.send(request_for(key, MANY)[:2_000])
        status, body, _ = body_of(await client.rest())
        assert (status, json.loads(body)["detail"]) == (408, "the body of the request came too slowly")
        assert await leases(server) == 0


async def test_a_body_that_is_not_wanted_is_not_read_for_ever(
    changed: Callable[..., ServiceSettings], open_server: Any, raw: Any, request_for: Any
) -> None:
    async with open_server(changed(header_timeout=0.3)) as server:
        client = await raw(server)
        await client.send(request_for("a wrong key", MANY).replace(b"Connection: close\r\n", b"")[:2_000])
        # The rest of the body never comes.
        assert (await client.rest()).startswith(b"HTTP/1.1 401 ")
        again = await raw(server)
        await again.send(request_for("a wrong key", b"1\n").replace(b"Connection: close\r\n", b""))
        await again.reader.readuntil(b"}")
        await again.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await again.rest()).endswith(b"ok\n")


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "in chunks"])
async def test_a_body_of_a_gigabyte_is_refused_while_it_is_read(
    serving: GracefulServer, new_partner: Any, raw: Any, announced: bool
) -> None:
    key = (await new_partner()).key
    client = await raw(serving)
    size = "Content-Length: 1000000000" if announced else "Transfer-Encoding: chunked"
    await client.send(
        f"POST /v1/batches HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: text/plain\r\n{size}\r\n\r\n".encode()
    )
    piece = b"1\n" * 2**15
    sent = 0

    async def send_all() -> None:
        nonlocal sent
        while True:
            await client.send(piece if announced else b"%x\r\n%s\r\n" % (len(piece), piece))
            sent += len(piece)

    sending = asyncio.create_task(send_all())
    answer = await client.rest()
    with pytest.raises(ConnectionError):
        await sending
    status, body, _ = body_of(answer)
    assert (status, json.loads(body)["limit"]) == (413, 8 * 2**20)
    # The limit, some more for the client to notice, and the buffers of the sockets.
    assert sent < 64 * 2**20
