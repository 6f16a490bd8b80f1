"""Jobs of the partner that has signed in: the list, the progress of one, and its result."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from storefront.formats import Format
from storefront.jobs import (
    Job,
    JobState,
    UnknownJobError,
    cancel_job,
    delete_job,
    get_job,
    list_jobs,
    list_parts,
    read_report,
)
from storefront.partners import Partner
from storefront.service.events import COMMENT, EventStream, Subscription, encode_event, job_topic
from storefront.service.job_results import PartsResponse, gunzipped, parts_response
from storefront.service.pages.forms import in_time, not_found, read_form
from storefront.service.pages.rendering import address, render
from storefront.service.pages.session import SessionPartner, VisitorDependency
from storefront.service.service import Service, ServiceDependency

router = APIRouter(prefix="/jobs")

JOBS_A_PAGE = 30


@router.get("")
async def jobs(
    request: Request, service: ServiceDependency, partner: SessionPartner, before: str | None = None
) -> Response:
    """Show the partner's jobs, the newest first."""
    last = None if before is None else job_id_of(before)
    async with in_time(service):
        found = await list_jobs(service.pool, partner.partner_id, limit=JOBS_A_PAGE + 1, before=last)
    shown = found[:JOBS_A_PAGE]
    has_more = len(found) > JOBS_A_PAGE
    return render(
        request,
        "jobs.html",
        jobs=shown,
        paged=last is not None,
        next=address("/jobs", before=shown[-1].job_id) if has_more else None,
    )


@router.get("/{job}")
async def job_page(request: Request, service: ServiceDependency, partner: SessionPartner, job: str) -> Response:
    """Show how far a job has come. The page is kept up to date by events or, without JavaScript, reloads itself."""
    found = await find_job(service, partner, job)
    return render(request, "job.html", section="/jobs", job=found, view=view_of(found))


@router.get("/{job}/events")
async def job_events(request: Request, service: ServiceDependency, partner: SessionPartner, job: str) -> Response:
    """Stream the progress of a job, until it has ended. A browser that has seen its end is told not to come again."""
    found = await find_job(service, partner, job)
    seen = request.headers.get("last-event-id")
    if found.state.has_ended and seen == version_of(found):
        return Response(status_code=204)

    async def produce(subscription: Subscription) -> AsyncIterator[bytes]:
        last = seen
        while not subscription.is_closed:
            # A session that was ended by the revocation of its key gets nothing more.
            if await service.partners.by_session(partner.partner_id, partner.key_prefix) is None:
                return
            try:
                now = await get_job(service.pool, partner.partner_id, found.job_id)
            except UnknownJobError:
                yield encode_event("end", {})
                return
            if (version := version_of(now)) != last:
                last = version
                yield encode_event("update", view_of(now), version)
            if now.state.has_ended:
                yield encode_event("end", {})
                return
            # After some silence the job is looked at all the same, in case a notification was missed.
            if not await subscription.take(service.events.heartbeat):
                yield COMMENT

    return EventStream(service.events, job_topic(found.job_id), produce)


@router.get("/{job}/result")
async def result(request: Request, service: ServiceDependency, partner: SessionPartner, job: str) -> Response:
    """Send the result of a job, or as much of it as is stored. A browser continues a download that was broken off."""
    found = await find_job(service, partner, job)
    async with in_time(service):
        parts = await list_parts(service.pool, found.job_id)
    # More parts may be stored later, and then it is another file.
    name = "result" if found.state.has_ended else f"first-{len(parts)}"
    response = parts_response(request, service, partner, found, parts, name=name)
    response.headers["Content-Disposition"] = f'attachment; filename="job-{found.job_id}.{found.result_format}"'
    response.headers["Vary"] = "Accept-Encoding, Cookie"
    return response


@router.get("/{job}/report")
async def report(request: Request, service: ServiceDependency, partner: SessionPartner, job: str) -> Response:
    """Send the lines of a job that gave no SKUs, with the reasons."""
    found = await find_job(service, partner, job)

    async def pieces() -> AsyncIterator[bytes]:
        async for member in read_report(service.pool, found.job_id):
            for piece in gunzipped(member):
                yield piece

    headers = {
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="job-{found.job_id}-report.ndjson"',
        "Vary": "Cookie",
    }
    return PartsResponse(service, partner, pieces(), status=200, headers=headers, media_type=Format.NDJSON.media_type)


@router.post("/{job}/cancel")
async def cancel(
    request: Request, service: ServiceDependency, visitor: VisitorDependency, partner: SessionPartner, job: str
) -> Response:
    """Cancel a job, and show it."""
    async with read_form(request, visitor):
        found = await find_job(service, partner, job)
        await cancel_job(service.pool, partner.partner_id, found.job_id, keep=service.settings.job_limits.keep)
    return RedirectResponse(f"/jobs/{found.job_id}", 303)


@router.post("/{job}/delete")
async def delete(
    request: Request, service: ServiceDependency, visitor: VisitorDependency, partner: SessionPartner, job: str
) -> Response:
    """Delete a job with its result, and show the others."""
    async with read_form(request, visitor):
        found = await find_job(service, partner, job)
        await delete_job(service.pool, partner.partner_id, found.job_id)
    return RedirectResponse("/jobs", 303)


def job_id_of(text: str) -> UUID:
    """Return the id of a job in an address. Raises ProblemError 404 for anything else."""
    try:
        return UUID(text)
    except ValueError:
        raise not_found("there is no such job") from None


async def find_job(service: Service, partner: Partner, text: str) -> Job:
    """Return the partner's job with an id. Raises ProblemError 404 if the partner has no such job."""
    try:
        async with in_time(service):
            return await get_job(service.pool, partner.partner_id, job_id_of(text))
    except UnknownJobError:
        raise not_found("there is no such job") from None


def version_of(job: Job) -> str:
    """Return the id of the event that tells the present state of a job."""
    return f"{job.state}-{job.tally.lines}-{job.parts}-{job.attempts}"


def view_of(job: Job, now: float | None = None) -> dict[str, Any]:
    """Return the texts and numbers that a job's page shows. `now` is the time in seconds since 1970."""
    tally = job.tally
    counts = {
        "lines": job.lines,
        "lines_done": tally.lines,
        "skus": tally.skus,
        "products": tally.products,
        "unknown": tally.unknown,
        "malformed": tally.malformed,
        "repeated": tally.repeated,
        "without_skus": tally.without_skus,
    }
    fields = {name: f"{value:,}" for name, value in counts.items()}
    fields["state"] = job.state.capitalize()
    fields["time_left"] = _time_left(job, time.time() if now is None else now)
    return {
        "fields": fields,
        "values": {"percent": round(100 * tally.lines / job.lines, 1) if job.lines else 0},
        "kinds": {"state": str(job.state)},
        "problems": bool(tally.unknown or tally.malformed or tally.repeated or tally.without_skus),
    }


def _time_left(job: Job, now: float) -> str:
    """Return what is known about the time that a job still takes."""
    match job.state:
        case JobState.RECEIVING:
            return "Its lines are arriving."
        case JobState.QUEUED:
            return "It waits for a worker."
        case JobState.RUNNING:
            done = job.tally.lines
            if not done or job.started_at is None:
                return "A worker has begun."
            seconds = max(now - job.started_at.timestamp(), 0.001) / done * (job.lines - done)
            return f"About {_duration(seconds)} left."
        case _:
            if job.started_at is None or job.finished_at is None:
                return "It was not begun."
            return f"It took {_duration((job.finished_at - job.started_at).total_seconds())}."


def _duration(seconds: float) -> str:
    whole = max(round(seconds), 1)
    if whole < 120:
        return f"{whole} s"
    if whole < 7_200:
        return f"{round(whole / 60)} min"
    return f"{round(whole / 3_600)} h"
