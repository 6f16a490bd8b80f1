"""The example of a web service reads its own writes while a standby becomes the primary."""

from __future__ import annotations

import asyncio
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers import until

if TYPE_CHECKING:
    from tests.cluster.conftest import Trio

pytestmark = [pytest.mark.any_server, pytest.mark.slow]

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "cluster_fastapi.py"


def example() -> Any:
    pytest.importorskip("fastapi")
    spec = importlib.util.spec_from_file_location("cluster_fastapi", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_users_read_their_own_writes_through_a_failover(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    httpx = pytest.importorskip("httpx")
    service = example()
    monkeypatch.setenv("DATABASE_URL", trio.dsn())
    trio.primary.sql(service.SCHEMA)
    # Otherwise a write may be acknowledged that the promoted standby does not have.
    trio.replicate_synchronously()
    trio.wait_for_replay()
    async with (
        service.lifespan(service.app),
        httpx.AsyncClient(transport=httpx.ASGITransport(service.app), base_url="http://notes") as client,
    ):
        await service.app.state.cluster.ready(replicas=2)
        assert await service.use(client, 20) == 20
        trio.wait_for_replay()
        working = asyncio.create_task(service.use(client, 20))
        await asyncio.sleep(0)
        trio.kill(trio.primary)
        trio.standbys[0].promote()
        assert await working == 20
        assert await service.use(client, 20) == 20
        health = (await client.get("/health")).json()
        assert [each["role"] for each in health if each["state"] == "up"].count("primary") == 1
    until(lambda: trio.standbys[0].sql("SELECT count(*) FROM cluster_fastapi.note") >= [(60,)], "all are there")
