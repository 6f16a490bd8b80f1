"""The addresses below /v1/jobs."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastapi import FastAPI

from storefront import Format, Order, answer, encoder
from storefront.catalogue import COLUMNS
from storefront.jobs import JobLimits, Worker, WorkerSettings
from storefront.partners import revoke_partner
from storefront.service.application import create_application
from storefront.service.service import Service
from storefront.service.settings import ServiceSettings

Client = httpx.AsyncClient

TEXT = "7\n3\nabc\n999\n7\n50\n1\n" + "".join(f"{number}\n" for number in range(50, 0, -1))


def service_of(application: FastAPI) -> Service:
    """Return the service of an application."""
    service: Service = application.state.service
    return service


async def work_off(application: FastAPI, **changes: Any) -> None:
    """Work off all jobs that wait."""
    await Worker(service_of(application).pool, settings=WorkerSettings(**changes)).run(until_idle=True)


async def batch_output(application: FastAPI, text: str) -> bytes:
    """Return what `storefront batch` writes for these lines."""
    output = io.BytesIO()
    encode = encoder(Format.CSV, COLUMNS)
    output.write(encode.header())
    lines = Order(io.BytesIO(text.encode()))
    await answer(service_of(application).pool, lines, output.write, encode, report=lambda problem: None)
    return output.getvalue()


async def post(client: Client, text: str = TEXT, *, result_format: str = "csv", **headers: str) -> httpx.Response:
    """Create a job."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await client.post(
        f"/v1/jobs?format={result_format}", content=text, headers={"content-type": "text/plain", **named}
    )


async def done_job(application: FastAPI, client: Client, text: str = TEXT, **changes: Any) -> str:
    """Create a job and work it off. Return its address."""
    created = await post(client, text)
    await work_off(application, **changes)
    return str(created.headers["location"])


# Creating


async def test_a_job_is_accepted_and_found_at_its_address(client: Client) -> None:
    created = await post(client)
    assert created.status_code == 202
    job = created.json()
    at = created.headers["location"]
    assert at == f"/v1/jobs/{job['job_id']}"
    assert (job["state"], job["lines"], job["lines_done"], job["format"], job["error"]) == (
        "queued",
        57,
        0,
        "csv",
        None,
    )
    assert job["links"] == {
        "self": at,
        "parts": f"{at}/parts",
        "report": f"{at}/report",
        "cancel": f"{at}/cancel",
        "result": None,
    }
    assert (await client.get(at)).json() == job
    assert (await client.get("/v1/jobs")).json() == {"jobs": [job], "next": None}


async def test_a_compressed_body_is_decompressed(client: Client) -> None:
    body = gzip.compress(b"1\n2\n", mtime=0) + gzip.compress(b"3\n", mtime=0)
    headers = {"content-encoding": "gzip", "content-type": "text/plain"}
    created = await client.post("/v1/jobs", content=body, headers=headers)
    assert (created.status_code, created.json()["lines"]) == (202, 3)


@pytest.mark.parametrize(
    ("body", "headers", "status", "detail"),
    [
        (b"", {}, 422, "the job has no lines"),
        (b"1\n", {"content-type": "application/pdf"}, 415, "'application/pdf'"),
        (b"[1, 2]", {"content-type": "application/json"}, 415, "cannot be application/json: expected text/plain"),
        (b"a,b\n1,2\n", {"content-type": "text/csv"}, 422, "the CSV has no column product_id"),
        (b"1\n", {"content-encoding": "br"}, 415, "'br' is not supported"),
        (b"1\n", {"content-encoding": "gzip"}, 400, "the body is not gzip"),
        (gzip.compress(b"1\n", mtime=0)[:-4], {"content-encoding": "gzip"}, 400, "ends too early"),
        (b"1\n", {"idempotency-key": "a key"}, 422, "idempotency-key"),
        (b"1\n", {"idempotency-key": "k" * 201}, 422, "idempotency-key"),
    ],
)
async def test_a_body_that_makes_no_sense_is_refused_and_leaves_nothing(
    client: Client, body: bytes, headers: dict[str, str], status: int, detail: str
) -> None:
    refused = await client.post("/v1/jobs", content=body, headers={"content-type": "text/plain", **headers})
    assert (refused.status_code, refused.headers["content-type"]) == (status, "application/problem+json")
    assert detail in refused.json()["detail"]
    assert (await client.get("/v1/jobs")).json()["jobs"] == []


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/plain; charset=utf-8", "7\n3\nx\n7\n"),
        ("text/csv", "name,product_id\na,7\nb,3\nc,x\na,7\n"),
        ("application/x-ndjson", '{"product_id": 7}\n3\n{}\n"7"\n'),
    ],
)
async def test_ids_are_read_from_several_formats(
    application: FastAPI, client: Client, content_type: str, body: str
) -> None:
    created = await client.post("/v1/jobs?format=csv", content=body, headers={"content-type": content_type})
    assert (created.status_code, created.json()["lines"]) == (202, 4)
    await work_off(application)
    at = created.headers["location"]
    assert (await client.get(f"{at}/result")).content == await batch_output(application, "7\n3\n")
    report = [json.loads(line)["line"] for line in (await client.get(f"{at}/report")).text.splitlines()]
    # The header of CSV counts in the numbers of lines.
    assert report == ([4, 5] if content_type == "text/csv" else [3, 4])


async def test_an_unknown_format_is_refused(client: Client) -> None:
    for result_format in ("parquet", "xml"):
        assert (await post(client, result_format=result_format)).status_code == 422


async def test_the_same_key_gives_the_same_job(client: Client) -> None:
    first = await post(client, idempotency_key="order-1")
    again = await post(client, idempotency_key="order-1")
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.headers["location"] == first.headers["location"]
    other = await post(client, "1\n", idempotency_key="order-1")
    assert (other.status_code, other.json()["title"]) == (422, "Idempotency key reused")
    assert len((await client.get("/v1/jobs")).json()["jobs"]) == 1


async def test_the_same_key_while_the_lines_arrive_is_a_conflict(client: Client) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"1\n"
        arrived.set()
        await go_on.wait()

    headers = {"content-type": "text/plain", "idempotency-key": "order-1"}
    task = asyncio.create_task(client.post("/v1/jobs", content=slow(), headers=headers))
    await arrived.wait()
    while not (await client.get("/v1/jobs")).json()["jobs"]:
        await asyncio.sleep(0.01)
    conflict = await post(client, "1\n", idempotency_key="order-1")
    assert (conflict.status_code, conflict.headers["retry-after"]) == (409, "10")
    go_on.set()
    assert (await task).status_code == 202


@asynccontextmanager
async def limited(settings: ServiceSettings, limits: JobLimits, client: Client) -> AsyncIterator[Client]:
    """Open a client of a service with other limits."""
    application = create_application(replace(settings, job_limits=limits))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with Client(transport=transport, base_url="http://localhost", headers=client.headers) as other:
            yield other


async def test_limits_are_problems(settings: ServiceSettings, client: Client) -> None:
    async with limited(settings, JobLimits(jobs_at_once=1, lines=3), client) as other:
        long = await post(other, "1\n2\n3\n4\n")
        assert (long.status_code, long.json()["title"]) == (413, "Too many lines")
        assert (await post(other, "1\n2\n3\n")).status_code == 202
        many = await post(other, "1\n")
        assert (many.status_code, many.json()["title"], many.headers["retry-after"]) == (
            429,
            "Too many jobs at once",
            "10",
        )
    async with limited(settings, JobLimits(stored_bytes=5), client) as other:
        stored = await post(other, "1\n")
        assert (stored.status_code, stored.json()["title"]) == (409, "Too much stored")


# The result


async def test_the_result_is_that_of_a_batch(application: FastAPI, client: Client) -> None:
    at = await done_job(application, client)
    job = (await client.get(at)).json()
    expected = await batch_output(application, TEXT)
    assert (job["state"], job["lines_done"], job["size"]) == ("done", 57, len(expected))
    assert (job["products"], job["skus"], job["unknown"], job["malformed"], job["repeated"]) == (50, 1_000, 1, 1, 5)
    answer = await client.get(job["links"]["result"])
    assert (answer.status_code, answer.content) == (200, expected)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) < len(expected)
    plain = await client.get(job["links"]["result"], headers={"accept-encoding": "identity"})
    assert plain.content == expected
    assert (int(plain.headers["content-length"]), plain.headers.get("content-encoding")) == (len(expected), None)


async def test_parts_joined_are_the_result(application: FastAPI, client: Client) -> None:
    at = await done_job(application, client, part_size=1, window=1)
    parts = (await client.get(f"{at}/parts")).json()
    assert parts["complete"]
    assert len(parts["parts"]) > 5
    contents = []
    for number, part in enumerate(parts["parts"], start=1):
        assert part["part"] == number
        contents.append((await client.get(part["href"])).content)
        assert len(contents[-1]) == part["size"]
    assert b"".join(contents) == await batch_output(application, TEXT)
    missing = await client.get(f"{at}/parts/999")
    assert (missing.status_code, missing.json()["title"]) == (404, "Unknown part")


@pytest.mark.parametrize("name", ["result", "report"])
async def test_a_compressed_answer_is_one_member_of_gzip(application: FastAPI, client: Client, name: str) -> None:
    at = await done_job(application, client, part_size=1, window=1)
    plain = await client.get(f"{at}/{name}", headers={"accept-encoding": "identity"})
    async with client.stream("GET", f"{at}/{name}", headers={"accept-encoding": "gzip"}) as answer:
        sent = b"".join([piece async for piece in answer.aiter_raw()])
    # Many clients, such as curl and httpx, read no more than the first member.
    member = zlib.decompressobj(16 + zlib.MAX_WBITS)
    assert member.decompress(sent) == plain.content
    assert (member.eof, member.unused_data) == (True, b"")


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_a_download_that_was_broken_off_is_continued(application: FastAPI, client: Client, encoding: str) -> None:
    at = await done_job(application, client, part_size=2_000, window=1)
    result = f"{at}/result"

    async def raw(**headers: str) -> tuple[httpx.Response, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with client.stream("GET", result, headers={"accept-encoding": encoding, **named}) as answer:
            return answer, b"".join([piece async for piece in answer.aiter_raw()])

    whole, content = await raw()
    size, etag = len(content), whole.headers["etag"]
    for first, last in (
        (0, 0),
        (0, size - 1),
        (1, 5_000),
        (size // 2, size - 1),
        (size - 1, size - 1),
        (10, size + 99),
    ):
        answer, piece = await raw(range=f"bytes={first}-{last}", if_range=etag)
        assert (answer.status_code, piece) == (206, content[first : last + 1])
        assert answer.headers["content-range"] == f"bytes {first}-{min(last, size - 1)}/{size}"
        assert int(answer.headers["content-length"]) == len(piece)
    assert (await raw(range="bytes=100-"))[1] == content[100:]
    assert (await raw(range="bytes=-100"))[1] == content[-100:]
    # A range of something else is not a part of this.
    assert (await raw(range="bytes=100-", if_range='"other"'))[0].status_code == 200
    for ignored in ("bytes=5-2", "bytes=0-1,5-6", "lines=1-2", "bytes=-", "bytes=a-b"):
        answer, piece = await raw(range=ignored)
        assert (answer.status_code, piece) == (200, content)
    behind, _ = await raw(range=f"bytes={size}-")
    assert (behind.status_code, behind.headers["content-range"]) == (416, f"bytes */{size}")
    assert (await raw(range="Bytes=100-"))[1] == content[100:]
    # A proxy that compresses makes the tag a weak one.
    for known in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        assert (await raw(if_none_match=known))[0].status_code == 304
    assert (await raw(if_none_match='"other"'))[0].status_code == 200
    assert (await raw(range="bytes=100-", if_range=f"W/{etag}"))[0].status_code == 200
    other = await client.head(result, headers={"accept-encoding": "gzip" if encoding == "identity" else "identity"})
    assert other.headers["etag"] != etag


async def test_a_head_tells_the_size(application: FastAPI, client: Client) -> None:
    at = await done_job(application, client)
    answer = await client.head(f"{at}/result", headers={"accept-encoding": "identity"})
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(await batch_output(application, TEXT))


async def test_a_result_in_ndjson_is_lines_of_json(application: FastAPI, client: Client) -> None:
    created = await post(client, "7\n3\n", result_format="ndjson")
    await work_off(application)
    answer = await client.get(f"{created.headers['location']}/result")
    assert answer.headers["content-type"] == "application/x-ndjson"
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert list(rows[0]) == list(COLUMNS)
    assert [row["product_id"] for row in rows] == sorted((row["product_id"] for row in rows), reverse=True)


async def test_a_result_that_is_not_complete_is_a_problem(application: FastAPI, client: Client) -> None:
    at = (await post(client)).headers["location"]
    answer = await client.get(f"{at}/result")
    assert (answer.status_code, answer.json()["title"], answer.json()["state"]) == (409, "Job is not done", "queued")
    await client.post(f"{at}/cancel")
    answer = await client.get(f"{at}/result")
    assert (answer.status_code, answer.json()["state"]) == (409, "cancelled")


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
async def test_the_report_has_the_lines_without_rows(application: FastAPI, client: Client, encoding: str) -> None:
    at = await done_job(application, client)
    answer = await client.get(f"{at}/report", headers={"accept-encoding": encoding})
    assert answer.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [each["line"] for each in lines] == [3, 4, 5, 8, 51, 55, 57]
    assert lines[1] == {
        "line": 4,
        "problem": "unknown",
        "product_id": 999,
        "text": "no product has the id 999",
    }


# Ending


async def test_a_job_is_cancelled(application: FastAPI, client: Client) -> None:
    at = (await post(client)).headers["location"]
    cancelled = await client.post(f"{at}/cancel")
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    await work_off(application)
    assert (await client.get(at)).json() == cancelled.json()


async def test_a_job_is_deleted(application: FastAPI, client: Client) -> None:
    at = await done_job(application, client)
    assert (await client.delete(at)).status_code == 204
    assert (await client.get(at)).status_code == 404
    assert (await client.delete(at)).status_code == 404


async def test_jobs_are_listed_in_pages(client: Client) -> None:
    ids = [(await post(client, "1\n")).json()["job_id"] for _ in range(3)]
    first = (await client.get("/v1/jobs?limit=2")).json()
    second = (await client.get(first["next"])).json()
    assert [job["job_id"] for job in first["jobs"] + second["jobs"]] == list(reversed(ids))
    assert second["next"] is None


# Who may


async def test_a_partner_sees_nothing_of_anothers_jobs(
    application: FastAPI, client: Client, new_partner: Callable[..., Any]
) -> None:
    at = await done_job(application, client)
    other = await new_partner("Boreas")
    headers = {"authorization": f"Bearer {other.key}"}
    strange = str(uuid4())
    for method, address in (
        ("GET", at),
        ("GET", f"{at}/parts"),
        ("GET", f"{at}/parts/1"),
        ("HEAD", f"{at}/parts/1"),
        ("GET", f"{at}/result"),
        ("HEAD", f"{at}/result"),
        ("GET", f"{at}/report"),
        ("POST", f"{at}/cancel"),
        ("DELETE", at),
    ):
        answer = await client.request(method, address, headers=headers)
        assert answer.status_code == 404
        # The answer is that for a job that does not exist.
        unknown = await client.request(method, address.replace(at.rsplit("/", 1)[1], strange), headers=headers)
        assert answer.text.replace(at.rsplit("/", 1)[1], strange) == unknown.text
    assert (await client.get("/v1/jobs", headers=headers)).json()["jobs"] == []
    assert (await client.get(f"/v1/jobs?before={at.rsplit('/', 1)[1]}", headers=headers)).json()["jobs"] == []
    assert (await client.get(f"{at}/result")).status_code == 200


async def test_without_a_key_there_are_no_jobs(client: Client) -> None:
    at = (await post(client)).headers["location"]
    del client.headers["authorization"]
    for method, address in (("GET", "/v1/jobs"), ("POST", "/v1/jobs"), ("GET", at), ("DELETE", at)):
        answer = await client.request(method, address)
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")


async def test_a_revoked_key_ends_an_upload(application: FastAPI, client: Client) -> None:
    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"1\n"
        arrived.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(client.post("/v1/jobs", content=endless(), headers={"content-type": "text/plain"}))
    await arrived.wait()
    pool = service_of(application).pool
    async with asyncio.timeout(60):
        while not await pool.fetchval("SELECT count(*) FROM job"):
            await asyncio.sleep(0.01)
    await revoke_partner(pool, "Aurora")
    async with asyncio.timeout(60):
        assert (await task).status_code == 401
    assert await pool.fetchval("SELECT count(*) FROM job") == 0


async def test_a_body_that_comes_too_slowly_is_refused(settings: ServiceSettings, client: Client) -> None:
    application = create_application(replace(settings, body_timeout=0.0))
    async with application.router.lifespan_context(application):
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        async with Client(transport=transport, base_url="http://localhost", headers=client.headers) as other:

            async def never() -> AsyncIterator[bytes]:
                await asyncio.Event().wait()
                yield b""

            answer = await other.post("/v1/jobs", content=never(), headers={"content-type": "text/plain"})
            assert (answer.status_code, answer.json()["title"]) == (408, "Request timeout")
            assert (await other.get("/v1/jobs")).json()["jobs"] == []


# Workers inside the service


async def test_a_service_works_off_jobs_itself(settings: ServiceSettings, client: Client) -> None:
    application = create_application(replace(settings, workers=1, job_limits=JobLimits(keep=timedelta(days=1))))
    async with application.router.lifespan_context(application):
        at = (await post(client)).headers["location"]
        async with asyncio.timeout(60):
            while (job := (await client.get(at)).json())["state"] != "done":
                await asyncio.sleep(0.01)
        assert (await client.get(job["links"]["result"])).content == await batch_output(application, TEXT)


async def test_the_description_names_every_address(client: Client) -> None:
    description = (await client.get("/v1/openapi.json")).json()
    paths = {path: sorted(methods) for path, methods in description["paths"].items() if path.startswith("/v1/jobs")}
    assert paths == {
        "/v1/jobs": ["get", "post"],
        "/v1/jobs/{job_id}": ["delete", "get"],
        "/v1/jobs/{job_id}/cancel": ["post"],
        "/v1/jobs/{job_id}/parts": ["get"],
        "/v1/jobs/{job_id}/parts/{part}": ["get"],
        "/v1/jobs/{job_id}/report": ["get"],
        "/v1/jobs/{job_id}/result": ["get"],
    }
