"""HEAD at every address that supports GET."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

import headrace
from storefront.jobs import Worker
from storefront.service.server import GracefulServer
from tools.html_page import check_page

PAGES = ["/", "/search?q=a", "/brands", "/brands/1", "/products/1", "/login", "/static/0/style.css", "/operator"]
OF_PARTNERS = ["/batch", "/jobs", "/jobs/{job}", "/jobs/{job}/result", "/jobs/{job}/report"]
OF_JOBS = ["/v1/jobs", *(f"/v1/jobs/{{job}}{rest}" for rest in ("", "/parts", "/parts/1", "/result", "/report"))]
OF_PROGRAMS = ["/v1/products/1/skus", "/v1/products?search=a", "/v1/openapi.json", "/healthz", "/readyz", *OF_JOBS]
REFUSED = [
    "/nothing",
    "/brands/x",
    "/products/999999",
    "/v1/nothing",
    "/v1/products/999999/skus",
    "/v1/products/0/skus",
]

CHANGING = ("set-cookie", "content-length")
"""Headers of which a page has others each time, if there is the token of a form in it."""


def headers_of(answer: Response, *left_out: str) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers.multi_items() if name not in left_out]


@pytest.fixture
async def own_browser(
    client: AsyncClient, open_browser: Callable[[], AbstractAsyncContextManager[AsyncClient]]
) -> AsyncIterator[AsyncClient]:
    """A browser in which the partner of `client` has signed in."""
    key = client.headers["Authorization"].removeprefix("Bearer ")
    async with open_browser() as browser:
        token = check_page((await browser.get("/login")).text).field("token")
        assert (await browser.post("/login", data={"key": key, "token": token})).status_code == 303
        yield browser


async def finished_job(application: FastAPI, client: AsyncClient) -> str:
    """Create a job, work it off, and return its id."""
    answer = await client.post("/v1/jobs", content="1\n999\n", headers={"Content-Type": "text/plain"})
    await Worker(application.state.service.pool).run(until_idle=True)
    job_id: str = answer.json()["job_id"]
    return job_id


@pytest.mark.parametrize("address", [*PAGES, *REFUSED])
async def test_a_page_has_the_headers_that_get_has(browser: AsyncClient, address: str) -> None:
    await browser.get("/login")
    head, get = await browser.head(address), await browser.get(address)
    assert (head.status_code, head.content) == (get.status_code, b"")
    assert headers_of(head, *CHANGING) == headers_of(get, *CHANGING)


async def test_pages_of_a_partner_have_them(
    application: FastAPI, client: AsyncClient, own_browser: AsyncClient
) -> None:
    job = await finished_job(application, client)
    for address in OF_PARTNERS:
        head, get = [await own_browser.request(method, address.format(job=job)) for method in ("HEAD", "GET")]
        assert (head.status_code, head.content) == (get.status_code, b"") == (200, b""), address
        assert headers_of(head, *CHANGING) == headers_of(get, *CHANGING)


@pytest.mark.parametrize("address", OF_PROGRAMS)
async def test_an_answer_to_a_program_has_them(application: FastAPI, client: AsyncClient, address: str) -> None:
    job = await finished_job(application, client) if address in OF_JOBS else None
    head, get = [await client.request(method, address.format(job=job)) for method in ("HEAD", "GET")]
    assert (head.status_code, head.content) == (get.status_code, b"") == (200, b"")
    assert headers_of(head) == headers_of(get)


async def test_an_export_is_not_made(client: AsyncClient, locked: headrace.Connection) -> None:
    """Every query of it would wait."""
    head = await client.head("/v1/export")
    assert (head.status_code, head.headers["content-type"]) == (200, "application/x-ndjson")
    await locked.execute("ROLLBACK")
    assert headers_of(head) == headers_of(await client.get("/v1/export"))


@pytest.mark.parametrize("page", ["/operator/events", "/jobs/{job}/events"])
async def test_a_stream_of_events_is_not_begun(
    application: FastAPI, client: AsyncClient, own_browser: AsyncClient, page: str
) -> None:
    """It would not end while the job is waiting."""
    created = await client.post("/v1/jobs", content="1\n", headers={"Content-Type": "text/plain"})
    answer = await own_browser.head(page.format(job=created.json()["job_id"]))
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert len(application.state.service.events) == 0


async def test_a_key_is_needed_as_for_get(open_client: Callable[..., AbstractAsyncContextManager[AsyncClient]]) -> None:
    async with open_client() as anybody:
        assert (await anybody.head("/v1/export")).status_code == 401
        assert (await anybody.head("/jobs")).status_code == 401


async def test_a_range_is_for_get_alone(application: FastAPI, client: AsyncClient) -> None:
    """RFC 9110, section 14.2."""
    result = f"/v1/jobs/{await finished_job(application, client)}/result"
    whole = await client.head(result)
    for asked in ("bytes=0-9", "bytes=1000000-"):
        answer = await client.head(result, headers={"Range": asked})
        assert (answer.status_code, headers_of(answer)) == (200, headers_of(whole))


async def test_an_address_without_get_has_no_head(client: AsyncClient) -> None:
    assert (await client.head("/v1/batches")).status_code == 405


@pytest.mark.parametrize("address", ["/brands", "/v1/export", "/v1/products/1/skus", "/nothing"])
async def test_the_connection_goes_on_without_a_body(
    serving: GracefulServer, new_partner: Any, raw: Any, address: str
) -> None:
    key = (await new_partner()).key
    request = f"{{}} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{{}}\r\n"
    client = await raw(serving)
    await client.send(request.format(f"HEAD {address}", "").encode())
    await client.send(request.format("GET /healthz", "Connection: close\r\n").encode())
    received = await client.rest()
    head, _, following = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    assert following.startswith(b"HTTP/1.1 200 ")
    assert following.endswith(b"\r\n\r\nok\n")


async def test_the_description_has_get_alone(client: AsyncClient) -> None:
    described = (await client.get("/v1/openapi.json")).json()["paths"].values()
    assert not any("head" in methods for methods in described)
