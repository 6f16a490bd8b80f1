"""Looking into a connection: what it has sent, and what still waits, for tests that act at a certain point."""

from __future__ import annotations

import asyncio

import headrace

PATIENCE = 10.0


def in_flight(connection: headrace.Connection) -> list[str]:
    """Return the texts of the queries that were sent and are not answered; preparations are left out."""
    return [each.query for each in connection._driver.session.sent if type(each).__name__ != "Prepare"]


async def until_in_flight(connection: headrace.Connection, count: int = 1) -> None:
    """Wait until so many queries are in flight; TimeoutError after PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        while len(in_flight(connection)) < count:
            await asyncio.sleep(0)


async def until_closed(connection: headrace.Connection) -> None:
    """Wait until a connection is closed, whoever closes it; TimeoutError after PATIENCE seconds."""
    async with asyncio.timeout(PATIENCE):
        while not connection.is_closed():
            await asyncio.sleep(0)
