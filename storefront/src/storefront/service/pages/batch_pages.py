"""A batch that is sent by a form: answered on a page, as CSV, or as a job."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.datastructures import FormData, UploadFile
from starlette.responses import RedirectResponse, Response

from storefront.checkpoint import Tally
from storefront.formats import Format
from storefront.jobs import JobInput, JobRefusedError, create_job
from storefront.orders import BYTE_ORDER_MARK, InputFormat, recognise
from storefront.partners import Partner
from storefront.service.batch_ids import BatchIds, BodyFormat, read_ids
from storefront.service.batches import AnswerEncoder, BatchOutcome, CsvAnswer, Write, answer_batch
from storefront.service.pages.forms import read_form, text_field
from storefront.service.pages.rendering import render
from storefront.service.pages.session import SessionPartner, VisitorDependency
from storefront.service.problems import ProblemError
from storefront.service.service import Service, ServiceDependency
from storefront.service.streaming import StreamedAnswer
from storefront.wording import counted

router = APIRouter(prefix="/batch")

MOST_SHOWN: Final = 200
"""The number of ids that are answered on a page."""

MOST_ROWS: Final = 2_000
"""The number of SKUs that are shown on a page."""

ANSWERS: Final = ("auto", "page", "csv", "job")

_FORMATS: Final = {
    InputFormat.IDS: (BodyFormat.PLAIN, JobInput.IDS),
    InputFormat.CSV: (BodyFormat.CSV, JobInput.CSV),
    InputFormat.NDJSON: (BodyFormat.NDJSON, JobInput.NDJSON),
}
"""How the ids are read. The first line says which, as for the command `batch`."""


@router.get("")
async def batch(
    request: Request, service: ServiceDependency, partner: SessionPartner, answer: str = "auto"
) -> Response:
    """Show the form."""
    return _form(request, service, partner, chosen=answer)


@router.post("")
async def send_batch(
    request: Request, service: ServiceDependency, visitor: VisitorDependency, partner: SessionPartner
) -> Response:
    """Answer a batch in the way that was chosen. A mistake in the form shows it again, with what was typed."""
    async with read_form(request, visitor) as form:
        chosen = text_field(form, "answer")
        body = await _ids_of(form)
    typed = text_field(form, "ids") if len(body) <= 100_000 else ""
    await service.limits.count_request(partner)
    if not body.strip():
        return _form(request, service, partner, chosen=chosen, problem="Type some ids, or choose a file with them.")
    count = body.count(b"\n") + 1
    body_format, job_input = _FORMATS[recognise(body.removeprefix(BYTE_ORDER_MARK).split(b"\n", 1)[0])]
    if chosen not in ANSWERS or chosen == "auto":
        chosen = "page" if count <= MOST_SHOWN else "csv" if count <= partner.batch_ids else "job"
    limit = {"page": MOST_SHOWN, "csv": partner.batch_ids}.get(chosen)
    if limit is not None and count > limit:
        problem = f"This answer is for {counted(limit, 'id')} at most, and there are {count:,}. Choose another one."
        return _form(request, service, partner, chosen=chosen, ids=typed, problem=problem, status=422)
    if chosen == "job":
        try:
            created = await create_job(
                service.pool,
                partner.partner_id,
                _pieces(body),
                job_input=job_input,
                result_format=Format.CSV,
                limits=service.settings.job_limits,
            )
        except JobRefusedError as error:
            problem = f"The job was not accepted: {error}."
            return _form(request, service, partner, chosen=chosen, ids=typed, problem=problem, status=429)
        return RedirectResponse(f"/jobs/{created.job.job_id}", 303)
    ids = await read_ids(bytearray(body), body_format, limit or MOST_SHOWN)
    if chosen == "csv":
        return _download(service, partner, ids)
    return await _page(request, service, partner, ids, body.decode(errors="replace"))


def _form(
    request: Request,
    service: Service,
    partner: Partner,
    *,
    chosen: str,
    ids: str = "",
    problem: str | None = None,
    status: int = 200,
) -> Response:
    return render(
        request,
        "batch.html",
        status=status,
        section="/batch",
        chosen=chosen if chosen in ANSWERS else "auto",
        ids=ids,
        problem=problem,
        most_shown=MOST_SHOWN,
        most_ids=partner.batch_ids,
        most_bytes=service.settings.body_limit,
    )


async def _ids_of(form: FormData) -> bytes:
    """Return the lines of the form: those that were typed or, if there are none, those of the file."""
    typed = text_field(form, "ids").strip()
    if typed:
        return typed.encode(errors="replace")
    file = form.get("file")
    return (await file.read()).rstrip() if isinstance(file, UploadFile) else b""


async def _pieces(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 2**16):
        yield body[start : start + 2**16]


def _download(service: Service, partner: Partner, ids: BatchIds) -> Response:
    """Return the answer as a file of CSV, which is sent as it is made."""
    encoder, tally = CsvAnswer(), Tally()

    async def produce(answer: StreamedAnswer) -> None:
        async with answer.while_connected():
            await _answer(service, partner, ids, encoder, answer.write, tally)
        await answer.write(encoder.end(tally, None))
        service.metrics.count_batch(tally, BatchOutcome.COMPLETE)

    def failure(problem: ProblemError) -> bytes:
        service.metrics.count_batch(tally, BatchOutcome.FAILED)
        return encoder.end(tally, problem)

    response = StreamedAnswer(service, partner, produce, failure, media_type=CsvAnswer.media_type)
    response.headers["Content-Disposition"] = 'attachment; filename="skus.csv"'
    return response


class _Shown:
    """Collects the rows of an answer, and the lines without one, for a page. It encodes nothing."""

    media_type = "text/html"

    def __init__(self) -> None:
        self.products: list[tuple[int, str, list[Sequence[Any]]]] = []
        self.rows = 0
        self.problems: list[tuple[int, str]] = []

    def header(self) -> bytes:
        return b""

    def product(self, rows: Sequence[Sequence[Any]]) -> bytes:
        shown = list(rows[: MOST_ROWS - self.rows])
        self.rows += len(shown)
        if self.products and self.products[-1][0] == rows[0][0]:
            self.products[-1][2].extend(shown)
        elif shown:
            self.products.append((rows[0][0], rows[0][1], shown))
        return b""

    def without_rows(self, line: int, product_id: int | None, outcome: BatchOutcome, text: str | None) -> bytes:
        problem = {
            BatchOutcome.UNKNOWN: f"no product has the id {product_id}",
            BatchOutcome.MALFORMED: f"“{text}” is not a product id",
            BatchOutcome.REPEATED: f"product {product_id} is repeated; its SKUs are listed where it first appears",
            BatchOutcome.WITHOUT_SKUS: f"product {product_id} has no SKUs",
        }[outcome]
        self.problems.append((line, problem))
        return b""

    def end(self, tally: Tally, problem: ProblemError | None) -> bytes:
        return b""


async def _page(request: Request, service: Service, partner: Partner, ids: BatchIds, typed: str) -> Response:
    shown, tally = _Shown(), Tally()

    async def write(data: bytes) -> None:
        pass

    async with service.running_batches.run(partner):
        await _answer(service, partner, ids, shown, write, tally)
    service.metrics.count_batch(tally, BatchOutcome.COMPLETE)
    return render(
        request,
        "batch_answer.html",
        section="/batch",
        tally=tally,
        products=shown.products,
        shown=shown.rows,
        problems=shown.problems,
        ids=typed,
    )


async def _answer(
    service: Service, partner: Partner, ids: BatchIds, encoder: AnswerEncoder, write: Write, tally: Tally
) -> None:
    """Answer a batch within the limits of the partner."""
    async with service.limits.batch(partner):
        with service.throughput.count(tally):
            await answer_batch(
                service.reads,
                ids,
                encoder,
                write,
                tally,
                strategy=await service.strategy(),
                timeout=service.settings.query_timeout,
            )
