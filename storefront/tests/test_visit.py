"""A partner's program and a browser on the running service, and what the demo shows of them."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import socket
from urllib.parse import urlsplit

import pytest

from storefront import open_connection, partners, visit
from storefront.errors import StorefrontError
from storefront.service.server import running
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables


@pytest.fixture
async def key(dsn: str) -> str:
    """The key of a partner."""
    async with open_connection(dsn) as connection:
        await create_service_tables(connection)
        return (await partners.add_partner(connection, "Aurora")).key


@pytest.fixture
def settings(dsn: str) -> ServiceSettings:
    """The settings of a service on a free port, on the small catalogue of 50 products and 1,000 SKUs."""
    return ServiceSettings(dsn, port=0, workers=0)


async def test_a_batch_is_sent_and_its_answer_read(settings: ServiceSettings, key: str) -> None:
    async with running(settings) as address:
        answer = await asyncio.to_thread(visit.send_batch, address, key, 1, 51)
    assert len(answer.lines) == 1_001
    assert (answer.counts["skus"], answer.counts["products"], answer.counts["unknown"]) == (1_000, 50, 1)


async def test_the_command_line_that_is_shown_sends_the_same_batch(settings: ServiceSettings, key: str) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    async with running(settings) as address:
        answer = await asyncio.to_thread(visit.send_batch, address, key, 1, 51)
        # As they are shown: each line is indented.
        script = "\n".join(f"   {line}" for line in (f"KEY={key}", *visit.batch_command(address, 1, 51)))
        shell = await asyncio.create_subprocess_exec("sh", "-c", script, stdout=asyncio.subprocess.PIPE)
        printed, _ = await shell.communicate()
    assert printed.decode().splitlines() == [*answer.lines, answer.last]


async def test_a_page_has_a_title(settings: ServiceSettings) -> None:
    async with running(settings) as address:
        assert await asyncio.to_thread(visit.page_title, address, "/brands") == "Brands · Storefront"
        title = await asyncio.to_thread(visit.page_title, address, "/products/1")
    async with open_connection(settings.dsn) as connection:
        name = await connection.fetchval("SELECT product_name FROM product WHERE product_id = 1")
    assert title.startswith(f"{name}, ")


async def test_a_refusal_is_an_error_that_says_why(settings: ServiceSettings) -> None:
    async with running(settings) as address:
        with pytest.raises(StorefrontError, match="POST /v1/batches by status 401: .*key"):
            await asyncio.to_thread(visit.send_batch, address, "sf_wrong", 1, 2)
        with pytest.raises(StorefrontError, match="GET /products/999 by status 404"):
            await asyncio.to_thread(visit.page_title, address, "/products/999")
    with pytest.raises(StorefrontError, match=f"the service on {address} does not answer"):
        await asyncio.to_thread(visit.page_title, address, "/")


async def test_the_environment_s_proxy_is_not_asked(settings: ServiceSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with running(settings) as address:
        assert await asyncio.to_thread(visit.page_title, address, "/brands") == "Brands · Storefront"


async def test_an_error_of_the_block_stops_the_service(settings: ServiceSettings) -> None:
    with pytest.raises(ZeroDivisionError):
        async with running(settings) as address:
            raise ZeroDivisionError
    url = urlsplit(address)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((url.hostname or "", url.port or 0)).close()


async def test_signals_keep_their_handlers_while_the_service_runs(settings: ServiceSettings) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        async with running(settings) as address:
            await asyncio.to_thread(visit.page_title, address, "/brands")
            os.kill(os.getpid(), signal.SIGTERM)
            assert await asyncio.to_thread(visit.page_title, address, "/brands") == "Brands · Storefront"
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM, signal.SIGTERM]


def test_a_line_of_the_answer_fits_on_a_terminal() -> None:
    line = json.dumps(
        {
            "product_id": 1,
            "product_name": "one two three, four",
            "brand_id": 40,
            "sku_id": 1062,
            "product_color_name": "Black",
            "product_size_name": "Medium",
        }
    )
    assert visit.pretty(line) == [
        '{"product_id":1, "product_name":"one two ...", "brand_id":40, "sku_id":1062,',
        ' "product_color_name":"Black", "product_size_name":"Medium"}',
    ]
    assert visit.pretty('{"outcome":"unknown","line":3,"product_id":9}') == [
        '{"outcome":"unknown", "line":3, "product_id":9}'
    ]
