"""Servers are lost while a batch, a job or the service runs."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import Result

from storefront import ProductBatch, open_connection
from storefront.batch import run_on_hosts
from storefront.checkpoint import Tally
from storefront.database import open_database
from storefront.formats import Format
from storefront.jobs import JobState, Worker, WorkerSettings, create_job, get_job, list_parts, read_part
from storefront.partners import add_partner
from storefront.service.application import create_application
from storefront.service.settings import ServiceSettings

pytestmark = [pytest.mark.any_server, pytest.mark.slow]

PATIENT = WorkerSettings(
    lease=timedelta(hours=1), heartbeat=3_600.0, poll=0.05, retry_pause=timedelta(0), part_size=2**14, window=64
)


async def expected_output(shop: Any, path: Path) -> bytes:
    """Return what a batch on the primary alone writes."""
    output = path.with_suffix(".expected")
    async with open_database(shop.primary_alone) as database:
        await ProductBatch(path, output).run(database.primary)
    return output.read_bytes()


def distinct(path: Path, lines: int) -> Path:
    """Write an order of so many ids that are all different. Most are unknown, and every hundredth is known."""
    path.write_text("".join(f"{number // 100 if number % 100 == 0 else number + 10_000}\n" for number in range(lines)))
    return path


async def test_a_batch_goes_on_when_hosts_are_lost(shop: Any, tmp_path: Path) -> None:
    path = distinct(tmp_path / "order.txt", 4_000)
    expected = await expected_output(shop, path)
    trio = shop.trio
    output = tmp_path / "out.csv"
    batch = ProductBatch(path, output, window=256, checkpoint_lines=200)
    steps = iter((600, 1_800, 1_000_000))
    due = next(steps)

    def progress(tally: Tally, end: int) -> None:
        nonlocal due
        if tally.lines >= due:
            # The first loss leaves a replica, the second one only the primary.
            trio.kill(trio.standbys[0 if due == 600 else 1])
            due = next(steps)

    batch.progress = progress
    problems: list[object] = []
    async with open_database(shop.dsn) as database:
        await database.catch_up()
        tally = await run_on_hosts(batch, database, problems.append)
    assert output.read_bytes() == expected
    assert tally.lines == 4_000
    assert due == 1_000_000
    assert not batch.checkpoint_path.exists()


async def test_a_batch_goes_on_after_a_promotion(shop: Any, tmp_path: Path) -> None:
    path = distinct(tmp_path / "order.txt", 3_000)
    expected = await expected_output(shop, path)
    trio = shop.trio
    first, second = trio.standbys
    output = tmp_path / "out.ndjson.gz"
    batch = ProductBatch(path, output, window=256, checkpoint_lines=200)
    happened: list[str] = []

    def progress(tally: Tally, end: int) -> None:
        if tally.lines >= 500 and not happened:
            happened.append("the primary is lost, and a standby is promoted")
            trio.kill(trio.primary)
            first.promote()
        elif tally.lines >= 1_500 and len(happened) == 1:
            happened.append("the other standby is lost")
            trio.kill(second)

    batch.progress = progress
    async with open_database(shop.dsn) as database:
        await database.catch_up()
        await run_on_hosts(batch, database)
        assert len(happened) == 2
        assert await database.reads.fetchval("SELECT current_setting('port')::int") == first.port
    lines = gzip.decompress(output.read_bytes()).decode().splitlines()
    assert len(lines) == expected.count(b"\n") - 1
    assert len(set(lines)) == len(lines)


async def test_a_batch_ends_if_all_hosts_are_lost_and_is_resumed(
    shop: Any, tmp_path: Path, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = distinct(tmp_path / "order.txt", 3_000)
    expected = await expected_output(shop, path)
    trio = shop.trio
    output = tmp_path / "out.csv"
    batch = ProductBatch(path, output, window=256, checkpoint_lines=200)
    lost = False

    def progress(tally: Tally, end: int) -> None:
        nonlocal lost
        if tally.lines >= 500 and not lost:
            lost = True
            for server in trio.all:
                trio.kill(server)

    batch.progress = progress
    monkeypatch.setattr("storefront.database.FAILOVER_TIME", 0.2)
    monkeypatch.setattr("storefront.database.CATCH_UP_TIME", 0.2)
    with pytest.raises((ConnectionError, OSError, Exception)) as raised:
        async with open_database(shop.dsn) as database:
            await run_on_hosts(batch, database)
    assert not isinstance(raised.value, AssertionError)
    assert batch.checkpoint_path.exists()
    for server in trio.all:
        server.start()
    result = await asyncio.to_thread(run, "batch", str(path), "-o", str(output), "--resume", dsn=shop.dsn)
    assert result.exit_code == 3, result.output
    assert output.read_bytes() == expected


async def in_pieces(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def test_a_job_goes_on_at_the_promoted_standby(shop: Any, tmp_path: Path) -> None:
    path = distinct(tmp_path / "order.txt", 5_000)
    expected = await expected_output(shop, path)
    trio = shop.trio
    first = trio.standbys[0]
    trio.replicate_synchronously()
    async with open_database(shop.dsn) as database:
        await database.primary.execute("SELECT 1")
        partner = (await add_partner(database.primary, "Aurora")).partner.partner_id
        created = await create_job(database.primary, partner, in_pieces(path.read_bytes()), result_format=Format.CSV)
        worker = Worker(database, settings=PATIENT)
        stop = asyncio.Event()
        working = asyncio.create_task(worker.run(stop))
        async with asyncio.timeout(120):
            while worker.parts_stored < 2:
                await asyncio.sleep(0.005)
            trio.kill(trio.primary)
            first.sql("ALTER SYSTEM SET synchronous_standby_names = ''")
            first.promote()
            while True:
                try:
                    job = await get_job(database.primary, partner, created.job.job_id)
                except (OSError, Exception):
                    await asyncio.sleep(0.02)
                    continue
                if job.state.has_ended:
                    break
                await asyncio.sleep(0.02)
        stop.set()
        await working
        assert job.state is JobState.DONE, job
        assert job.tally.lines == 5_000
        parts = [
            await read_part(database.primary, job.job_id, info.part)
            for info in await list_parts(database.primary, job.job_id)
        ]
    assert gzip.decompress(b"".join(part for part in parts if part)) == expected


# The service


@asynccontextmanager
async def service_on(dsn: str, **changes: Any) -> AsyncIterator[tuple[Any, httpx.AsyncClient]]:
    """Open the service in this process, and a client of it."""
    settings = ServiceSettings(dsn, pool_size=3, workers=0, **{"query_timeout": 60.0, **changes})
    application = create_application(settings)
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield application.state.service, client


async def new_key(shop: Any) -> dict[str, str]:
    async with open_connection(shop.dsn) as connection:
        return {"Authorization": f"Bearer {(await add_partner(connection, 'Aurora')).key}"}


async def test_the_service_reads_its_catalogue_from_replicas(shop: Any) -> None:
    key = await new_key(shop)
    async with service_on(shop.dsn) as (service, client):
        reads = service.database.reads

        for path in ("/", "/products/1", "/brands", "/search?q=a"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/v1/products/1/skus", headers=key)).status_code == 200
        batch = await client.post("/v1/batches", content="1\n2\n", headers={**key, "Content-Type": "text/plain"})
        assert batch.text.count('"sku_id"') > 1
        assert (await client.get("/v1/export", headers=key)).text.count('"sku_id"') == 1_000
        assert service.database.cluster_stats().fallbacks == 0
        assert reads is not service.pool
        ready = (await client.get("/readyz")).text
        assert ready == "ok: the primary and 2 of 2 other hosts\n"
        operator = (await client.get("/operator")).text
        metrics = (await client.get("/metrics")).text
        for server in shop.trio.all:
            assert f":{server.port}" in operator
            assert f':{server.port}"' in metrics
        assert 'role="primary",state="up"} 1.0' in metrics
        assert "storefront_cluster_primary_changes_total 1.0" in metrics


async def test_pages_show_a_brand_that_was_just_renamed(shop: Any, run: Callable[..., Result]) -> None:
    first, second = shop.trio.standbys
    with first.settings(recovery_min_apply_delay="300ms"), second.settings(recovery_min_apply_delay="300ms"):
        async with service_on(shop.dsn) as (service, client):
            async with asyncio.timeout(60):
                while service.database._position is None:
                    await asyncio.sleep(0.01)
                before = service.database._position
                added = await asyncio.to_thread(run, "brands", "add", "Brand new", dsn=shop.dsn)
                assert added.exit_code == 0, added.output
                while service.database._position == before:
                    await asyncio.sleep(0.01)
            assert "Brand new" in (await client.get("/brands")).text


async def test_a_job_is_seen_at_once_by_the_partner_who_posted_it(shop: Any) -> None:
    key = await new_key(shop)
    first, second = shop.trio.standbys
    with first.settings(recovery_min_apply_delay="300ms"), second.settings(recovery_min_apply_delay="300ms"):
        async with service_on(shop.dsn) as (service, client):
            posted = await client.post("/v1/jobs", content="1\n2\n", headers={**key, "Content-Type": "text/plain"})
            assert posted.status_code in (201, 202), posted.text
            address = posted.headers["Location"]
            assert (await client.get(address, headers=key)).json()["state"] == "queued"
            await Worker(service.database, settings=PATIENT).run(until_idle=True)
            assert (await client.get(address, headers=key)).json()["state"] == "done"
            # The replicas do not have the part yet.
            assert (await client.get(f"{address}/result", headers=key)).status_code == 200
            assert (await client.get(f"{address}/result", headers=key)).content


def wait_briefly(service: Any) -> None:
    """From now on, calls wait briefly for a primary if there is none. Reads of pages keep their time limit."""
    service.settings = dataclasses.replace(service.settings, query_timeout=0.5)
    service.database.primary._command_timeout = 0.5


async def test_the_service_without_a_primary_says_so_and_shows_its_catalogue(shop: Any) -> None:
    key = await new_key(shop)
    async with service_on(shop.dsn) as (service, client):
        assert (await client.get("/v1/products/1/skus", headers=key)).status_code == 200
        # A kill may take what was acknowledged but not replicated, such as the key.
        shop.trio.wait_for_replay()
        shop.trio.kill(shop.trio.primary)
        async with asyncio.timeout(60):
            while any(info.role == "primary" for info in service.database.hosts()):
                await asyncio.sleep(0.01)
        service.partners.forget()
        wait_briefly(service)
        refused = await client.get("/v1/products/1/skus", headers=key)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        assert "no primary" in refused.json()["detail"]
        assert str(shop.trio.primary.port) not in refused.text
        assert (await client.get("/readyz")).status_code == 503
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/products/1")).status_code == 200
        metrics = (await client.get("/metrics")).text
        assert "storefront_database_up 0.0" in metrics
        assert 'state="down"} 0.0' in metrics
        shop.trio.standbys[0].promote()
        async with asyncio.timeout(60):
            while (await client.get("/v1/products/1/skus", headers=key)).status_code != 200:
                await asyncio.sleep(0.05)
        assert (await client.get("/readyz")).text.startswith("ok: the primary and ")


async def test_pages_are_shown_although_the_replicas_miss_the_last_write_of_a_lost_primary(shop: Any) -> None:
    async with service_on(shop.dsn) as (service, client):
        assert (await client.get("/products/1")).status_code == 200
        wait_briefly(service)
        for standby in shop.trio.standbys:
            standby.sql("SELECT pg_wal_replay_pause()")
        await service.database.primary.execute("UPDATE brand SET brand_name = brand_name")
        await service.database.catch_up()
        shop.trio.kill(shop.trio.primary)
        async with asyncio.timeout(60):
            while (await client.get("/products/1")).status_code != 200:
                await asyncio.sleep(0.05)
