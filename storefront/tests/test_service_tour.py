"""The chapter of the demo about the service, on a database with a catalogue."""

from __future__ import annotations

import asyncio
import io
import re
import socket
import sys

import pytest
from rich.console import Console

from storefront import open_connection, partners
from storefront.service_tour import PARTNER, visit_service
from storefront.tour import Tour


async def partner_names(dsn: str) -> list[str]:
    """Return the names of all partners."""
    async with open_connection(dsn) as connection:
        return [entry.partner.partner_name for entry in await partners.list_partners(connection)]


def address_in(shown: str) -> tuple[str, int]:
    """Return host and port of the service that the demo has shown."""
    found = re.search(r"It listens on http://([\d.]+):(\d+)\.", shown)
    assert found is not None, shown
    return found[1], int(found[2])


async def test_the_demo_sends_a_batch_to_the_service_and_fetches_a_page(dsn: str) -> None:
    shown = io.StringIO()
    await visit_service(Tour(dsn, Console(file=shown, width=100)))
    text = shown.getvalue()
    host, port = address_in(text)
    assert "1,000 SKUs of 50 products came in" in text
    assert '"outcome":"complete", "lines":1000, "products":50, "skus":1000' in text
    assert f"http://{host}:{port}/products/1 has the title:" in text
    assert '· Storefront"' in text
    assert await partner_names(dsn) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, port)).close()


async def test_a_partner_that_an_interrupted_demo_has_left_is_replaced(dsn: str) -> None:
    tour = Tour(dsn, Console(file=io.StringIO()))
    await visit_service(tour)
    async with open_connection(dsn) as connection:
        await partners.add_partner(connection, PARTNER)
        await partners.add_partner(connection, "Aurora")
    await visit_service(tour)
    assert await partner_names(dsn) == ["Aurora"]


async def test_the_service_of_the_demo_shows_an_empty_catalogue(empty: str) -> None:
    shown = io.StringIO()
    await visit_service(Tour(empty, Console(file=shown, width=100)))
    assert "0 SKUs of 0 products" in shown.getvalue()
    assert '"Search the catalogue · Storefront"' in shown.getvalue()


async def test_a_terminal_may_lack_letters_of_the_title(dsn: str) -> None:
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    await visit_service(Tour(dsn, Console(file=terminal, width=100)))
    terminal.seek(0)
    assert '? Storefront"' in terminal.read()


async def test_an_interrupt_in_the_middle_of_the_batch_stops_the_service(dsn: str) -> None:
    shown = io.StringIO()
    async with open_connection(dsn) as connection:
        await connection.execute("BEGIN; LOCK TABLE sku IN ACCESS EXCLUSIVE MODE")
        visiting = asyncio.create_task(visit_service(Tour(dsn, Console(file=shown, width=100))))
        while not await connection.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            assert not visiting.done()
        visiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visiting
        await connection.execute("ROLLBACK")
    assert await partner_names(dsn) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address_in(shown.getvalue())).close()


async def test_without_its_libraries_the_service_is_left_out(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "storefront.service.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    shown = io.StringIO()
    await visit_service(Tour(dsn, Console(file=shown, width=40)))
    assert shown.getvalue().splitlines()[-1] == (
        "   It needs uvicorn, which is not installed: pip install 'storefront[serve]'"
    )
