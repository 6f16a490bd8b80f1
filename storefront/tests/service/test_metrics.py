"""/healthz, /readyz and /metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families

from storefront.jobs import Worker
from storefront.service.application import create_application
from storefront.service.settings import ServiceSettings


def samples(text: str) -> dict[str, float]:
    """Return the samples of a scrape, by name and labels."""
    return {
        "".join([sample.name, *(f" {name}={value}" for name, value in sorted(sample.labels.items()))]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_health_needs_no_key(open_client: Callable[..., Any]) -> None:
    async with open_client() as client:
        assert (await client.get("/healthz")).text == "ok\n"
        assert (await client.get("/readyz")).text == "ok\n"


async def test_a_service_that_is_shutting_down_is_not_ready(
    application: FastAPI, open_client: Callable[..., Any]
) -> None:
    application.state.service.draining = True
    async with open_client() as client:
        assert (await client.get("/healthz")).status_code == 200
        assert (await client.get("/readyz")).status_code == 503


async def test_metrics_count_requests_batches_and_connections(client: httpx.AsyncClient) -> None:
    await client.get("/v1/products/1/skus")
    await client.get("/v1/products/999/skus")
    await client.get("/no/such/page")
    await client.post("/v1/batches", content="1\n1\nabc\n999\n", headers={"Content-Type": "text/plain"})
    found = samples((await client.get("/metrics")).text)
    look_up = "route=/v1/products/{product_id}/skus"
    assert found[f"storefront_requests_total {look_up} status=200"] == 1
    assert found[f"storefront_requests_total {look_up} status=404"] == 1
    assert found["storefront_requests_total route=none status=404"] == 1
    assert found[f"storefront_request_seconds_count {look_up}"] == 2
    assert found["storefront_batches_total outcome=complete"] == 1
    counts = {name: found[f"storefront_batch_ids_total outcome={name}"] for name in ("found", "malformed", "unknown")}
    assert counts == {"found": 1, "malformed": 1, "unknown": 1}
    assert found["storefront_pool_size"] >= 1
    assert found["storefront_pool_wait_seconds_bucket le=+Inf"] == found["storefront_pool_wait_seconds_count"]


async def test_metrics_tell_of_the_jobs_of_all_partners(application: FastAPI, client: httpx.AsyncClient) -> None:
    found = samples((await client.get("/metrics")).text)
    states = ("receiving", "queued", "running", "done", "failed", "cancelled")
    assert [found[f"storefront_jobs state={state}"] for state in states] == [0] * 6
    assert found["storefront_job_oldest_seconds state=queued"] == found["storefront_job_parts"] == 0

    service = application.state.service
    lines = {"content": "1\n2\nabc\n", "headers": {"Content-Type": "text/plain"}}
    await client.post("/v1/jobs", **lines)
    await Worker(service.pool).run(until_idle=True)
    for _ in range(2):
        await client.post("/v1/jobs", **lines)
    await service.pool.execute("UPDATE job SET created_at = created_at - interval '1 hour' WHERE state = 'queued'")

    found = samples((await client.get("/metrics")).text)
    assert {state: found[f"storefront_jobs state={state}"] for state in ("queued", "running", "done", "failed")} == {
        "queued": 2, "running": 0, "done": 1, "failed": 0,
    }  # fmt: skip
    assert found["storefront_job_oldest_seconds state=queued"] >= 3_600
    assert found["storefront_job_oldest_seconds state=running"] == 0
    assert "storefront_job_oldest_seconds state=done" not in found
    assert found["storefront_job_lines_waiting"] == 6
    assert found["storefront_job_parts"] == 1
    assert found["storefront_job_stored_bytes"] > 0
    assert found["storefront_database_up"] == 1


async def test_metrics_without_a_database_are_those_of_the_process(
    application: FastAPI, client: httpx.AsyncClient
) -> None:
    await client.get("/healthz")
    await application.state.service.pool.execute("ALTER TABLE job RENAME TO work")
    found = samples((await client.get("/metrics")).text)
    assert found["storefront_database_up"] == 0
    assert found["storefront_requests_total route=/healthz status=200"] == 1
    assert "storefront_job_parts" not in found


@pytest.mark.parametrize(
    ("base_url", "address", "headers", "status"),
    [
        ("http://localhost", "127.0.0.1", {}, 200),
        ("http://[::1]:8000", "::1", {}, 200),
        # Another machine; a proxy that nobody has named; a page that has its own name resolved to this machine.
        ("http://localhost", "192.0.2.7", {}, 403),
        ("http://localhost", "127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}, 403),
        ("http://rebound.example", "127.0.0.1", {}, 403),
    ],
)
async def test_without_a_token_only_this_machine_sees_metrics(
    application: FastAPI, base_url: str, address: str, headers: dict[str, str], status: int
) -> None:
    transport = httpx.ASGITransport(application, client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url=base_url, headers=headers) as client:
        assert (await client.get("/metrics")).status_code == status


async def test_behind_a_proxy_metrics_need_a_token(changed: Callable[..., ServiceSettings]) -> None:
    application = create_application(changed(proxies=("127.0.0.1",)))
    async with application.router.lifespan_context(application):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://localhost") as client:
            assert (await client.get("/metrics")).status_code == 403


async def test_the_operators_token_opens_metrics_from_anywhere(changed: Callable[..., ServiceSettings]) -> None:
    application = create_application(changed(operator_token="a token"))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application, client=("192.0.2.7", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
            answers = [
                await client.get("/metrics", headers=headers)
                for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer a token"})
            ]
    assert [answer.status_code for answer in answers] == [401, 403, 200]
    assert answers[0].headers["www-authenticate"].startswith("Bearer ")
