"""The database goes away and comes back while the service runs."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from storefront import EmbeddedServer, Sample, create_database, create_schema, load, open_connection
from storefront.partners import add_partner
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables

MANY = b"".join(b"%d\n" % number for number in range(1, 200_001))


async def prepare(dsn: str) -> str:
    """Create a small catalogue, and return the key of a partner."""
    await create_database(dsn)
    async with open_connection(dsn) as connection:
        await create_schema(connection)
        await load(connection, Sample(brand_count=10, product_count=50, sku_count=1_000))
        await create_service_tables(connection)
        return (await add_partner(connection, "Aurora", batch_ids=1_000_000)).key


async def test_the_service_recovers_from_a_restart_of_the_database(
    tmp_path: Path, open_server: Any, raw: Any, request_for: Any, until: Any
) -> None:
    server = EmbeddedServer(tmp_path / "server")
    with server:
        dsn = server.dsn("products")
        key = await prepare(dsn)
    server.__enter__()
    stopped = False
    try:
        settings = ServiceSettings(dsn, query_timeout=1.0, poll_interval=0.1, lease_seconds=1.0, farewell=60.0)
        async with open_server(settings) as serving:

            async def ask(path: str, *headers: str) -> tuple[int, bytes]:
                client = await raw(serving)
                head = [f"GET {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", "Connection: close"]
                await client.send("\r\n".join([*head, *headers, "", ""]).encode())
                head, _, body = (await client.rest()).partition(b"\r\n\r\n")
                return int(head.split()[1]), body

            assert (await ask("/v1/products/1/skus"))[0] == 200
            slow = await raw(serving, small_buffer=True)
            await slow.send(request_for(key, MANY))
            await until(lambda: any(each.flow.write_paused for each in serving.server_state.connections))
            await asyncio.to_thread(server.__exit__, None, None, None)
            stopped = True
            # The stream that was running tells it, and is not ended as a complete one is.
            answer = await slow.rest()
            assert answer.startswith(b"HTTP/1.1 200 ")
            assert not answer.endswith(b"0\r\n\r\n")
            last = json.loads(answer[answer.rindex(b'{"outcome":"failed"') :].split(b"\n")[0])
            assert (last["problem"]["status"], last["problem"]["detail"]) == (
                503,
                "the database does not answer at the moment",
            )
            for path in ("/v1/products/1/skus", "/readyz"):
                status, body = await ask(path)
                assert (status, json.loads(body)["retry_after"]) == (503, 2)
            assert await ask("/healthz") == (200, b"ok\n")
            await asyncio.to_thread(server.__enter__)
            stopped = False

            async def is_answered() -> bool:
                return (await ask("/v1/products/1/skus"))[0] == 200

            await until(is_answered)
            assert (await ask("/readyz"))[0] == 200
    finally:
        if not stopped:
            server.__exit__(None, None, None)
