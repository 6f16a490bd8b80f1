"""The pages of jobs: the list, progress, the result, and that they are the partner's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi import FastAPI
from httpx import AsyncClient

from storefront import Tally, open_connection
from storefront.formats import Format
from storefront.jobs import Job, JobState, Worker, create_job, get_job
from storefront.partners import revoke_partner
from storefront.service.pages.job_pages import view_of
from storefront.service.service import Service
from tools.event_client import EventClient
from tools.html_page import Page, check_page

SignedIn = Callable[..., Any]
IDS = "".join(f"{number}\n" for number in range(1, 31)) + "x\n999\n1\n"


@pytest.fixture
def service(application: FastAPI) -> Service:
    """The service behind the pages."""
    found: Service = application.state.service
    return found


async def new_job(service: Service, text: str = IDS, partner_id: int = 1) -> UUID:
    """Create a job of the first partner."""

    async def body() -> AsyncIterator[bytes]:
        yield text.encode()

    created = await create_job(service.pool, partner_id, body(), result_format=Format.CSV)
    return created.job.job_id


async def work_off(service: Service) -> None:
    """Work off all jobs."""
    await Worker(service.pool).run(until_idle=True)


async def show(browser: AsyncClient, address: str, status: int = 200) -> Page:
    answer = await browser.get(address)
    assert answer.status_code == status, answer.text
    return check_page(answer.text)


async def test_a_partner_without_jobs_is_led_to_the_form(partner_browser: AsyncClient) -> None:
    page = await show(partner_browser, "/jobs")
    assert "There are no jobs yet." in page.text
    assert "/batch?answer=job" in page.links()


async def test_the_list_has_the_newest_job_first_and_older_ones_on_other_pages(
    partner_browser: AsyncClient, service: Service
) -> None:
    jobs = []
    for _ in range(32):
        jobs.append(str(await new_job(service, "1\n")))
        await work_off(service)
    page = await show(partner_browser, "/jobs")
    links = [link.removeprefix("/jobs/") for link in page.links() if link.startswith("/jobs/")]
    assert links == jobs[:1:-1]
    assert page.text.count("Done") == 30
    page = await show(partner_browser, page.all("a", rel="next")[0]["href"])
    assert [link.removeprefix("/jobs/") for link in page.links() if link.startswith("/jobs/")] == [jobs[1], jobs[0]]


async def test_a_job_that_waits_shows_its_progress_and_can_be_cancelled(
    partner_browser: AsyncClient, service: Service
) -> None:
    job_id = await new_job(service)
    page = await show(partner_browser, f"/jobs/{job_id}")
    assert "Queued" in page.text
    assert float(page.all("progress")[0]["value"]) == 0
    # Without JavaScript the page reloads itself; with it, events keep it up to date.
    assert page.all("meta", http_equiv="refresh")
    assert page.all("div", data_events=f"/jobs/{job_id}/events")
    answer = await partner_browser.post(f"/jobs/{job_id}/cancel", data={"token": page.field("token")})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/jobs/{job_id}")
    page = await show(partner_browser, f"/jobs/{job_id}")
    assert "Cancelled" in page.text
    assert page.all("meta", http_equiv="refresh") == page.all("script") == []


async def test_a_job_that_is_done_offers_its_result_and_is_deleted(
    partner_browser: AsyncClient, service: Service
) -> None:
    job_id = await new_job(service)
    await work_off(service)
    page = await show(partner_browser, f"/jobs/{job_id}")
    assert "Lines answered: 33 of 33" in page.text
    assert "Unknown 1 Malformed 1 Repeated 1" in page.text
    answer = await partner_browser.get(f"/jobs/{job_id}/result")
    assert answer.headers["content-disposition"] == f'attachment; filename="job-{job_id}.csv"'
    assert answer.headers["content-type"].startswith("text/csv")
    skus = (await get_job(service.pool, 1, job_id)).tally.skus
    assert len(answer.text.splitlines()) == skus + 1
    report = await partner_browser.get(f"/jobs/{job_id}/report")
    assert [json.loads(line)["line"] for line in report.text.splitlines()] == [31, 32, 33]
    answer = await partner_browser.post(f"/jobs/{job_id}/delete", data={"token": page.field("token")})
    assert (answer.status_code, answer.headers["location"]) == (303, "/jobs")
    await show(partner_browser, f"/jobs/{job_id}", 404)


async def test_a_download_that_was_broken_off_is_continued(partner_browser: AsyncClient, service: Service) -> None:
    job_id = await new_job(service)
    await work_off(service)
    plain = {"Accept-Encoding": "identity"}
    whole = await partner_browser.get(f"/jobs/{job_id}/result", headers=plain)
    headers = {**plain, "Range": "bytes=100-", "If-Range": whole.headers["etag"]}
    rest = await partner_browser.get(f"/jobs/{job_id}/result", headers=headers)
    assert rest.status_code == 206
    assert rest.content == whole.content[100:]


async def test_the_reason_of_a_failure_is_shown_and_escaped(
    partner_browser: AsyncClient, service: Service, dsn: str
) -> None:
    job_id = await new_job(service)
    async with open_connection(dsn) as connection:
        await connection.execute(
            "UPDATE job SET state = 'failed', error = '<i>disk</i> full', started_at = now(), finished_at = now(),"
            " expires_at = now() WHERE job_id = $1",
            job_id,
        )
    page = await show(partner_browser, f"/jobs/{job_id}")
    assert "<i>disk</i> full" in page.text
    assert page.all("i") == []


@pytest.mark.parametrize("action", ["", "/events", "/result", "/report", "/cancel", "/delete"])
async def test_a_partner_sees_nothing_of_another_partners_jobs(
    signed_in: SignedIn, service: Service, action: str
) -> None:
    one, other = await signed_in("Aurora"), await signed_in("Boreal")
    job_id = await new_job(service)
    await work_off(service)
    token = check_page((await other.get("/batch")).text).field("token")
    assert str(job_id) not in (await other.get("/jobs")).text
    assert "There are no jobs yet." not in (await one.get("/jobs")).text
    for unknown in (job_id, uuid4(), "x", "1' OR true"):
        address = f"/jobs/{unknown}{action}"
        if action in ("/cancel", "/delete"):
            answer = await other.post(address, data={"token": token})
        else:
            answer = await other.get(address)
        assert answer.status_code == 404
        assert "There is no such job" in check_page(answer.text).text
    assert (await get_job(service.pool, 1, job_id)).state is JobState.DONE


@pytest.mark.parametrize("action", ["cancel", "delete"])
async def test_a_job_is_changed_by_its_form_alone(partner_browser: AsyncClient, service: Service, action: str) -> None:
    job_id = await new_job(service)
    assert (await partner_browser.get(f"/jobs/{job_id}/{action}")).status_code == 405
    assert (await partner_browser.post(f"/jobs/{job_id}/{action}")).status_code == 403
    assert (await get_job(service.pool, 1, job_id)).state is JobState.QUEUED


# -- events ----------------------------------------------------------------------------------------------------------


async def open_events(application: FastAPI, browser: AsyncClient, job_id: UUID, **headers: str) -> EventClient:
    cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await EventClient(application, f"/jobs/{job_id}/events", cookie=cookie, **named).open()


async def test_events_tell_the_progress_until_the_end(
    partner_browser: AsyncClient, application: FastAPI, service: Service
) -> None:
    job_id = await new_job(service)
    events = await open_events(application, partner_browser, job_id)
    assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert events.headers["cache-control"] == "no-store"
    first = await events.next()
    assert (first.name, first.data["fields"]["state"], first.data["fields"]["lines_done"]) == ("update", "Queued", "0")
    await work_off(service)
    seen = [first]
    while (event := await events.next()) is not None:
        seen.append(event)
    assert [event.name for event in seen[-2:]] == ["update", "end"]
    assert seen[-2].data["fields"]["lines_done"] == "33"
    assert seen[-2].data["values"] == {"percent": 100.0}
    ids = [event.event_id for event in seen[:-1]]
    assert len(set(ids)) == len(ids)
    assert len(service.events) == 0


async def test_a_browser_that_comes_back_is_told_only_what_is_new(
    partner_browser: AsyncClient, application: FastAPI, service: Service
) -> None:
    job_id = await new_job(service)
    events = await open_events(application, partner_browser, job_id)
    first = await events.next()
    assert first is not None
    await events.leave()
    events = await open_events(application, partner_browser, job_id, last_event_id=first.event_id)
    # Nothing is new, so there is a comment after the silence.
    service.events.heartbeat = 0.01
    service.events.publish(f"job {job_id}", "{}")
    assert await events.next_raw() == ": still here"
    await work_off(service)
    second = await events.next()
    while second.data["fields"]["state"] != "Done":
        second = await events.next()
    await events.leave()
    # It has seen the end: 204 tells a browser not to connect again.
    events = await open_events(application, partner_browser, job_id, last_event_id=second.event_id)
    assert events.status == 204


async def test_the_stream_of_a_deleted_job_ends(
    partner_browser: AsyncClient, application: FastAPI, service: Service
) -> None:
    job_id = await new_job(service)
    events = await open_events(application, partner_browser, job_id)
    assert (await events.next()).name == "update"
    page = await show(partner_browser, f"/jobs/{job_id}")
    await partner_browser.post(f"/jobs/{job_id}/delete", data={"token": page.field("token")})
    assert (await events.next()).name == "end"
    assert await events.next() is None


async def test_a_revoked_key_ends_the_stream(
    partner_browser: AsyncClient, application: FastAPI, service: Service, dsn: str
) -> None:
    job_id = await new_job(service)
    events = await open_events(application, partner_browser, job_id)
    await events.next()
    async with open_connection(dsn) as connection:
        await revoke_partner(connection, "Aurora")
    # At the latest with the next heartbeat, when the key is not believed any more.
    assert await events.next() is None


async def test_a_stream_without_a_session_is_refused(
    browser: AsyncClient, service: Service, signed_in: SignedIn
) -> None:
    await signed_in()
    job_id = await new_job(service)
    answer = await browser.get(f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 401
    assert len(service.events) == 0


# -- what is said of the time ----------------------------------------------------------------------------------------


def job(state: JobState, lines_done: int, seconds: float | None = None) -> Job:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    ended = None if seconds is None else datetime.fromtimestamp(began.timestamp() + seconds, UTC)
    return Job(
        job_id=uuid4(),
        partner_id=1,
        result_format=Format.CSV,
        state=state,
        created_at=began,
        started_at=None if state is JobState.QUEUED else began,
        finished_at=ended,
        expires_at=None,
        attempts=1,
        error=None,
        lines=1_000,
        tally=Tally(lines=lines_done),
        parts=1,
        result_size=0,
        stored_bytes=0,
    )


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (job(JobState.QUEUED, 0), "It waits for a worker."),
        (job(JobState.RUNNING, 0), "A worker has begun."),
        (job(JobState.RUNNING, 100), "About 90 s left."),
        (job(JobState.RUNNING, 10), "About 16 min left."),
        (job(JobState.RUNNING, 1), "About 3 h left."),
        (job(JobState.DONE, 1_000, 3.2), "It took 3 s."),
    ],
)
def test_the_time_left_is_estimated_from_the_lines_done(shown: Job, text: str) -> None:
    now = shown.created_at.timestamp() + 10
    assert view_of(shown, now)["fields"]["time_left"] == text
