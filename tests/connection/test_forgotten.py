"""Connections that a program forgets to close: they are reported, and their backends do not stay for ever."""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import warnings
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import pytest

import headrace
from tests.servers import Cluster, until

UNCLOSED = "unclosed connection <headrace.connection.Connection"


def backends(server: Cluster, name: str) -> int:
    return sum(backend.application == name for backend in server.backends())


async def awaited(pool: Awaitable[Any]) -> Any:
    return await pool


async def gone(server: Cluster, name: str) -> None:
    """Wait until no backend of that application is left."""
    await asyncio.to_thread(until, lambda: backends(server, name) == 0, "its backend is gone")


def forget(held: list[Any]) -> None:
    held.clear()
    gc.collect()


async def test_one_that_nobody_refers_to_is_reported_and_dropped(
    server: Cluster, connect_kwargs: dict[str, Any]
) -> None:
    held = [await headrace.connect(**connect_kwargs, application_name="forgotten")]
    await held[0].fetch("SELECT 1")
    assert backends(server, "forgotten") == 1
    with pytest.warns(ResourceWarning, match=UNCLOSED):
        forget(held)
    await gone(server, "forgotten")


async def test_a_pool_that_nobody_refers_to_is_reported_and_dropped(
    server: Cluster, connect_kwargs: dict[str, Any]
) -> None:
    """Neither its timers nor its connections keep it; what is asked of it does, until it is done."""
    held: list[Any] = [
        await headrace.create_pool(**connect_kwargs, application_name="forgotten", min_size=2, max_size=2)
    ]
    async with held[0].acquire() as connection:
        await connection.fetch("SELECT 1")
    del connection
    call = asyncio.create_task(held[0].fetchval("SELECT 2 FROM pg_sleep(0.1)"))
    await asyncio.sleep(0)
    forget(held)
    with pytest.warns(ResourceWarning, match="unclosed pool <Pool open size:2/2"):
        assert await call == 2
    await gone(server, "forgotten")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_pool_after_its_loop_was_closed(server: Cluster, connect_kwargs: dict[str, Any]) -> None:
    async def opened() -> headrace.Pool:
        return await headrace.create_pool(**connect_kwargs, application_name="forgotten", min_size=2, max_size=2)

    loop = asyncio.new_event_loop()
    held = [loop.run_until_complete(opened())]
    loop.close()
    with pytest.warns(ResourceWarning, match="unclosed pool"):
        forget(held)
    gc.collect()
    until(lambda: backends(server, "forgotten") == 0, "its backends are gone")


async def test_listeners_do_not_keep_one(server: Cluster, connect_kwargs: dict[str, Any]) -> None:
    held = [await headrace.connect(**connect_kwargs, application_name="forgotten")]
    await held[0].add_listener("channel", print)
    held[0].add_query_logger(print)
    with pytest.warns(ResourceWarning, match=UNCLOSED):
        forget(held)
    await gone(server, "forgotten")


async def test_what_is_asked_of_it_and_what_was_made_on_it_keep_one(
    server: Cluster, connect_kwargs: dict[str, Any]
) -> None:
    held: list[Any] = [await headrace.connect(**connect_kwargs, application_name="forgotten")]
    statement = await held[0].prepare("SELECT 1")
    call = asyncio.create_task(held[0].fetchval("SELECT 2 FROM pg_sleep(0.1)"))
    await asyncio.sleep(0)
    held[:] = [statement]
    del statement
    assert await call == 2
    del call
    gc.collect()
    assert await held[0].fetchval() == 1
    with pytest.warns(ResourceWarning, match=UNCLOSED):
        forget(held)
    await gone(server, "forgotten")


async def test_in_another_thread(server: Cluster, connect_kwargs: dict[str, Any]) -> None:
    """The collector runs wherever it wants to, and asyncio's transports belong to the thread of their loop."""
    held = [await headrace.connect(**connect_kwargs, application_name="forgotten")]
    with pytest.warns(ResourceWarning, match=UNCLOSED):
        await asyncio.to_thread(forget, held)
    await gone(server, "forgotten")


@pytest.mark.filterwarnings("ignore:unclosed transport:ResourceWarning")
def test_after_its_loop_was_closed(server: Cluster, connect_kwargs: dict[str, Any]) -> None:
    loop = asyncio.new_event_loop()
    held = [loop.run_until_complete(headrace.connect(**connect_kwargs, application_name="forgotten"))]
    loop.close()
    with pytest.warns(ResourceWarning, match=UNCLOSED):
        forget(held)
    # What warnings hold is gone now, and no loop is left that would hold the transport.
    gc.collect()
    until(lambda: backends(server, "forgotten") == 0, "its backend is gone")


async def test_closed_ones_are_not_reported(connect_kwargs: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        held = [await headrace.connect(**connect_kwargs) for _ in range(2)]
        await held[0].close()
        held[1].terminate()
        forget(held)


@pytest.mark.leaves_tasks
def test_a_loop_that_is_closed_while_a_pool_opens_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search for a host is thrown away in another context than the one that it began in."""
    noted: list[Any] = []
    opening: list[Any] = []
    accepted: list[socket.socket] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: noted.append(unraisable.exc_value))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        dsn = f"postgresql://postgres@127.0.0.1:{silent.getsockname()[1]}/postgres?sslmode=disable"
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            pool = headrace.create_pool(dsn, min_size=1)
            opening.append(asyncio.ensure_future(awaited(pool)))
            while True:
                with suppress(BlockingIOError):
                    accepted.append(silent.accept()[0])
                    return
                await asyncio.sleep(0.001)

        loop.run_until_complete(begin())
        loop.close()
        forget(opening)
        accepted.pop().close()
    # asyncio.timeout() raises RuntimeError then.
    assert [error for error in noted if isinstance(error, ValueError)] == []
