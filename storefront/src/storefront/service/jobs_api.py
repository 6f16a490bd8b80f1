"""The addresses below /v1/jobs: batches that are too large for one request.

A partner sees only jobs of its own. Another partner's job is answered as one that does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar, cast
from uuid import UUID

from fastapi import APIRouter, Header, Path, Query, Request, Response

from storefront.errors import UsageError
from storefront.formats import Format
from storefront.jobs import (
    Job,
    JobConflictError,
    JobInput,
    JobRefusedError,
    JobState,
    UnknownJobError,
    Worker,
    WorkerSettings,
    cancel_job,
    create_job,
    delete_job,
    get_job,
    list_jobs,
    list_parts,
    read_report,
)
from storefront.jobs.members import joined
from storefront.service.authentication import PartnerDependency, watch_revocation
from storefront.service.batch_ids import BodyFormat, body_format
from storefront.service.body import stream_body
from storefront.service.job_results import PartsResponse, gunzipped, parts_response
from storefront.service.problems import PROBLEM_TYPE, ProblemError, RefusedBodyError
from storefront.service.schemas import LINES_OF_IDS, Described, problems
from storefront.service.service import Service, ServiceDependency
from storefront.service.streaming import accepts_gzip

log = logging.getLogger(__name__)

router = APIRouter(prefix="/v1/jobs", tags=["jobs"], responses=problems(401, 422, 429, 503))

T = TypeVar("T")

ResultFormat: TypeAlias = Literal["ndjson", "csv"]
"""The formats of a result, as the description names them. They are those of storefront.jobs.queue.FORMATS."""

LONGEST_BODY: Final = 2**30
"""The largest body in bytes, before and after it is decompressed."""

RETRY_JOB: Final = 10
"""After how many seconds a partner may ask again if it has too many jobs, or if the same job is still arriving."""


_INPUTS: Final = {
    BodyFormat.PLAIN: JobInput.IDS,
    BodyFormat.CSV: JobInput.CSV,
    BodyFormat.NDJSON: JobInput.NDJSON,
}
_TYPES: Final = ", ".join(_INPUTS)


class JobLinks(Described):
    """Addresses that belong to a job. `result` is null until the job is done."""

    self: str
    parts: str
    report: str
    cancel: str
    result: str | None


class JobAnswer(Described):
    """A job: its state, and the counts of its lines and SKUs.

    `lines` is the number of lines of the input, and `lines_done` how many of them are answered. `attempts` counts how
    often a worker has begun at the next part. `size` is the number of bytes of the result before compression.
    """

    job_id: UUID
    state: JobState
    format: ResultFormat
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None
    attempts: int
    error: str | None
    lines: int
    lines_done: int
    products: int
    skus: int
    without_skus: int
    unknown: int
    malformed: int
    repeated: int
    parts: int
    size: int
    stored_bytes: int
    links: JobLinks


class JobList(Described):
    """Jobs, the newest first. `next` is the address of older ones, if there are."""

    jobs: list[JobAnswer]
    next: str | None


class JobPart(Described):
    """A part of a result. All parts joined in their order are the result."""

    part: int
    skus: int
    size: int
    stored_size: int
    href: str


class JobParts(Described):
    """The parts of a result that are stored so far. `complete` tells whether there will be no more."""

    complete: bool
    parts: list[JobPart]


def address(job_id: UUID) -> str:
    """Return the address of a job."""
    return f"/v1/jobs/{job_id}"


def answer_of(job: Job) -> JobAnswer:
    """Return a job as it is answered."""
    at = address(job.job_id)
    return JobAnswer(
        job_id=job.job_id,
        state=job.state,
        format=cast(ResultFormat, job.result_format.value),
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        expires_at=job.expires_at,
        attempts=job.attempts,
        error=job.error,
        lines=job.lines,
        lines_done=job.tally.lines,
        products=job.tally.products,
        skus=job.tally.skus,
        without_skus=job.tally.without_skus,
        unknown=job.tally.unknown,
        malformed=job.tally.malformed,
        repeated=job.tally.repeated,
        parts=job.parts,
        size=job.result_size,
        stored_bytes=job.stored_bytes,
        links=JobLinks(
            self=at,
            parts=f"{at}/parts",
            report=f"{at}/report",
            cancel=f"{at}/cancel",
            result=f"{at}/result" if job.state is JobState.DONE else None,
        ),
    )


async def _or_problem(work: Awaitable[T]) -> T:
    """Await something. Raises the errors of jobs as ProblemError."""
    try:
        return await work
    except UnknownJobError as error:
        raise ProblemError(404, "Unknown job", str(error), job_id=str(error.job_id)) from None
    except UsageError as error:
        raise ProblemError(422, "Invalid request", str(error)) from None
    except JobConflictError as error:
        if error.arriving:
            raise ProblemError(409, "Job is arriving", str(error), retry_after=RETRY_JOB) from None
        raise ProblemError(422, "Idempotency key reused", str(error)) from None
    except JobRefusedError as error:
        match error.limit:
            case "jobs_at_once":
                raise ProblemError(429, "Too many jobs at once", str(error), retry_after=RETRY_JOB) from None
            case "lines":
                raise ProblemError(413, "Too many lines", str(error)) from None
            case _:
                raise ProblemError(409, "Too much stored", str(error)) from None


def _problem(description: str) -> dict[str, Any]:
    return {"description": description, "content": {PROBLEM_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


_UNKNOWN: Final[dict[int | str, dict[str, Any]]] = {404: _problem("There is no such job.")}
_BYTES: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The rows.", "content": {"application/x-ndjson": {}, "text/csv": {}}},
    206: {"description": "The range of bytes that was asked for."},
    304: {"description": "The client has the rows already."},
    **_UNKNOWN,
    416: _problem("The range begins behind the end."),
}


@router.post(
    "",
    status_code=202,
    responses={
        200: {"description": "The job that was created before with this Idempotency-Key.", "model": JobAnswer},
        409: _problem("The same job is still arriving, or too much is stored."),
        **problems(400, 408, 413, 415),
    },
    openapi_extra={"requestBody": {"required": True, "content": LINES_OF_IDS}},
)
async def create(
    request: Request,
    response: Response,
    service: ServiceDependency,
    partner: PartnerDependency,
    result_format: Annotated[
        ResultFormat, Query(alias="format", description="The format of the result: ndjson or csv.")
    ] = "ndjson",
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=1,
            max_length=200,
            pattern="^[!-~]+$",
            description="A name of the partner's choice. The same request with the same key creates no second job.",
        ),
    ] = None,
) -> JobAnswer:
    """Create a job from product ids. Its lines are answered in the background, in their order.

    The ids are one on each line, in the column product_id of CSV, or in the member product_id of objects.
    """
    body = body_format(request.headers.get("content-type", ""))
    if body not in _INPUTS:
        raise RefusedBodyError(
            415,
            "Unsupported media type",
            f"the lines of a job are read as they come, so the Content-Type cannot be {body}: expected {_TYPES}",
            headers={"Accept-Post": _TYPES},
        )
    async with watch_revocation(service, partner):
        created = await _or_problem(
            create_job(
                service.pool,
                partner.partner_id,
                stream_body(request, service.settings, LONGEST_BODY, "jobs"),
                job_input=_INPUTS[body],
                result_format=Format(result_format),
                idempotency_key=idempotency_key,
                limits=service.settings.job_limits,
            )
        )
    response.headers["Location"] = address(created.job.job_id)
    if not created.is_new:
        response.status_code = 200
    return answer_of(created.job)


@router.get("")
async def list_all(
    service: ServiceDependency,
    partner: PartnerDependency,
    limit: Annotated[int, Query(ge=1, le=100, description="The largest number of jobs.")] = 50,
    before: Annotated[UUID | None, Query(description="Leave out this job and those that are newer.")] = None,
) -> JobList:
    """Return the partner's jobs, the newest first."""
    # One more than asked for tells that there are older ones.
    jobs = await list_jobs(service.pool, partner.partner_id, limit=limit + 1, before=before)
    shown = jobs[:limit]
    more = len(jobs) > limit
    return JobList(
        jobs=[answer_of(job) for job in shown],
        next=f"/v1/jobs?limit={limit}&before={shown[-1].job_id}" if more else None,
    )


@router.get("/{job_id}", responses=_UNKNOWN)
async def get(job_id: UUID, service: ServiceDependency, partner: PartnerDependency) -> JobAnswer:
    """Return a job: its state and its progress."""
    return answer_of(await _or_problem(get_job(service.pool, partner.partner_id, job_id)))


@router.post("/{job_id}/cancel", responses=_UNKNOWN)
async def cancel(job_id: UUID, service: ServiceDependency, partner: PartnerDependency) -> JobAnswer:
    """End a job. The parts that are stored are kept until it expires. A job that has ended is not changed."""
    keep = service.settings.job_limits.keep
    return answer_of(await _or_problem(cancel_job(service.pool, partner.partner_id, job_id, keep=keep)))


@router.delete("/{job_id}", status_code=204, responses=_UNKNOWN)
async def delete(job_id: UUID, service: ServiceDependency, partner: PartnerDependency) -> None:
    """Delete a job and its result. If it has not ended, it ends now."""
    await _or_problem(delete_job(service.pool, partner.partner_id, job_id))


@router.get("/{job_id}/parts", responses=_UNKNOWN)
async def parts(job_id: UUID, service: ServiceDependency, partner: PartnerDependency) -> JobParts:
    """Return the parts of a job's result that are stored so far."""
    job = await _or_problem(get_job(service.pool, partner.partner_id, job_id))
    return JobParts(
        complete=job.state.has_ended,
        parts=[
            JobPart(
                part=info.part,
                skus=info.row_count,
                size=info.size,
                stored_size=info.stored_size,
                href=f"{address(job_id)}/parts/{info.part}",
            )
            for info in await list_parts(service.pool, job_id)
        ],
    )


@router.get("/{job_id}/parts/{part}", response_class=Response, responses=_BYTES)
async def one_part(
    request: Request,
    job_id: UUID,
    part: Annotated[int, Path(ge=1, le=2**31 - 1)],
    service: ServiceDependency,
    partner: PartnerDependency,
) -> Response:
    """Send a part of a job's result, also while the job is running. Ranges of bytes are possible."""
    job = await _or_problem(get_job(service.pool, partner.partner_id, job_id))
    infos = await list_parts(service.pool, job_id, part=part)
    if not infos:
        raise ProblemError(
            404, "Unknown part", f"the job has no part {part} (yet): it has {job.parts}", job_id=str(job_id)
        )
    return parts_response(request, service, partner, job, infos, name=f"part-{part}")


@router.get("/{job_id}/result", response_class=Response, responses={**_BYTES, 409: _problem("The job is not done.")})
async def result(request: Request, job_id: UUID, service: ServiceDependency, partner: PartnerDependency) -> Response:
    """Send the whole result of a job that is done. A download that was broken off is continued by a range of bytes."""
    job = await _or_problem(get_job(service.pool, partner.partner_id, job_id))
    if job.state is not JobState.DONE:
        raise ProblemError(
            409,
            "Job is not done",
            f"the job is {job.state}: the parts that are stored are at {address(job_id)}/parts",
            state=job.state,
            job_id=str(job_id),
        )
    return parts_response(request, service, partner, job, await list_parts(service.pool, job_id), name="result")


@router.get(
    "/{job_id}/report",
    response_class=Response,
    responses={
        200: {
            "description": "An object for each line, with its number and its problem.",
            "content": {"application/x-ndjson": {}},
        },
        **_UNKNOWN,
    },
)
async def report(request: Request, job_id: UUID, service: ServiceDependency, partner: PartnerDependency) -> Response:
    """Send the lines that gave no SKUs: malformed and unknown ids, products without SKUs, and repeated ids."""
    await _or_problem(get_job(service.pool, partner.partner_id, job_id))
    compressed = accepts_gzip(request.headers.get("accept-encoding", ""))
    headers = {"Cache-Control": "private, no-cache", "Vary": "Accept-Encoding, Authorization"}
    if compressed:
        headers["Content-Encoding"] = "gzip"
    pieces = read_report(service.pool, job_id)
    return PartsResponse(
        service,
        partner,
        joined(pieces) if compressed else _gunzipped(pieces),
        status=200,
        headers=headers,
        media_type=Format.NDJSON.media_type,
    )


async def _gunzipped(members: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for member in members:
        for piece in gunzipped(member):
            yield piece


async def work_jobs(service: Service) -> None:
    """Work off jobs in this process until it ends, if it has workers."""
    if service.settings.workers:
        settings = WorkerSettings(limits=service.settings.job_limits)
        await Worker(service.database, count=service.settings.workers, settings=settings).run()
