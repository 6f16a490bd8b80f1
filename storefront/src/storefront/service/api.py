"""The addresses below /v1, for partners' programs."""

from __future__ import annotations

from json.encoder import encode_basestring
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from storefront.catalogue import LOOK_UP_PAGE, MAX_ID, MAX_WHOLE_NUMBER, PAGE
from storefront.checkpoint import Tally
from storefront.searching import LIMIT, search
from storefront.service.authentication import PartnerDependency
from storefront.service.batch_ids import body_format, read_ids
from storefront.service.batches import AnswerEncoder, BatchOutcome, CsvAnswer, NdjsonAnswer, answer_batch
from storefront.service.body import read_body
from storefront.service.export import ExportEncoder, ParquetExport, encoders, stream_pages
from storefront.service.problems import ProblemError
from storefront.service.schemas import (
    BATCH_LINE,
    EXPORT_LINE,
    LINES_OF_IDS,
    FoundProducts,
    ProductSkus,
    problems,
    streamed,
)
from storefront.service.service import ServiceDependency
from storefront.service.streaming import StreamedAnswer, preferred

router = APIRouter(prefix="/v1", tags=["partner"], responses=problems(401, 429, 503))

_JSON: Final = "application/json"

_IDS: Final = {
    **LINES_OF_IDS,
    "application/json": {"schema": {"type": "array", "minItems": 1}, "example": [1, 2, 3]},
}


@router.post(
    "/batches",
    response_class=Response,
    responses={
        **streamed(
            "The rows of each id in the order of the ids, and the counts at the end.",
            BATCH_LINE,
            "The columns of a row, and `outcome`. The last line has only an outcome: complete or failed.",
        ),
        **problems(400, 406, 408, 413, 415, 422),
    },
    openapi_extra={"requestBody": {"required": True, "content": _IDS}},
)
async def batches(request: Request, service: ServiceDependency, partner: PartnerDependency) -> Response:
    """Look up a batch of product ids, and stream the SKUs of each back as they are found.

    An id that is unknown, malformed or repeated does not fail the batch: it has an object with an `outcome` in the
    place of rows. The last object has the outcome `complete` and the counts. If it is missing, or if its outcome is
    `failed`, the answer is not complete.
    """
    encoder: AnswerEncoder = _accepted(request, {"application/x-ndjson": NdjsonAnswer, "text/csv": CsvAnswer})()
    content_type = body_format(request.headers.get("content-type", ""))
    tally = Tally()

    async def produce(answer: StreamedAnswer) -> None:
        async with service.limits.batch(partner):
            body = await read_body(request, service.settings)
            batch = await read_ids(body, content_type, partner.batch_ids)
            del body
            async with answer.while_connected():
                with service.throughput.count(tally):
                    await answer_batch(
                        service.reads,
                        batch,
                        encoder,
                        answer.write,
                        tally,
                        strategy=await service.strategy(),
                        timeout=service.settings.query_timeout,
                    )
        # The lease was given back, so that a partner with one batch at once may send the next.
        await answer.write(encoder.end(tally, None))
        service.metrics.count_batch(tally, BatchOutcome.COMPLETE)

    def failure(problem: ProblemError) -> bytes:
        service.metrics.count_batch(tally, BatchOutcome.FAILED)
        return encoder.end(tally, problem)

    return StreamedAnswer(
        service,
        partner,
        produce,
        failure,
        media_type=encoder.media_type,
        accept_encoding=request.headers.get("accept-encoding", ""),
    )


@router.get(
    "/export",
    response_class=Response,
    responses={
        **streamed(
            "Every SKU of the catalogue, ordered by sku_id.",
            EXPORT_LINE,
            "The columns of a row, and a last line that has only an outcome: complete or failed.",
            parquet=True,
        ),
        **problems(406, 422),
    },
)
async def export(
    request: Request,
    service: ServiceDependency,
    partner: PartnerDependency,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="Leave out the SKUs up to this id.")] = 0,
) -> Response:
    """Stream the whole catalogue, or the SKUs after one. It counts as a batch.

    The last object has the outcome `complete`. A Parquet file that is not complete has no footer, and cannot be read.
    An export that was broken off can be continued after the last SKU that has arrived.
    """
    encoder: ExportEncoder = _accepted(request, encoders())()
    # Parquet is compressed inside.
    accept_encoding = "" if isinstance(encoder, ParquetExport) else request.headers.get("accept-encoding", "")

    async def produce(answer: StreamedAnswer) -> None:
        async with service.limits.batch(partner), answer.while_connected():
            count, last = await stream_pages(
                service.reads, encoder, answer.write, after=after, timeout=service.settings.query_timeout
            )
        await answer.write(await encoder.complete(count, last))

    return StreamedAnswer(
        service, partner, produce, encoder.failed, media_type=encoder.media_type, accept_encoding=accept_encoding
    )


@router.get(
    "/products/{product_id}/skus", response_model=ProductSkus, responses=problems(404, 422), response_class=JSONResponse
)
async def product_skus(
    product_id: Annotated[int, Path(ge=1, le=MAX_WHOLE_NUMBER)],
    service: ServiceDependency,
    _partner: PartnerDependency,
    after: Annotated[int, Query(ge=0, le=MAX_ID, description="Leave out the SKUs up to this id.")] = 0,
    limit: Annotated[int, Query(ge=1, le=10 * PAGE, description="The largest number of SKUs.")] = PAGE,
) -> Response:
    """Return the SKUs of a product, ordered by sku_id."""
    rows = []
    if product_id <= MAX_ID:
        timeout = service.settings.query_timeout
        # One more row than asked for tells that there is a next page.
        rows = await service.reads.fetch(LOOK_UP_PAGE, product_id, after, limit + 1, timeout=timeout)
    if not rows:
        raise ProblemError(404, "Unknown product", f"no product has the id {product_id}", product_id=product_id)
    _, name, brand_id, *_ = rows[0]
    more = len(rows) > limit
    skus = ",".join(
        [
            f'{{"sku_id":{sku_id},"product_color_name":{encode_basestring(color)},'
            f'"product_size_name":{encode_basestring(size)}}}'
            for _, _, _, sku_id, color, size in (rows[:limit] if more else rows)
            if sku_id is not None
        ]
    )
    content = (
        f'{{"product_id":{product_id},"product_name":{encode_basestring(name)},"brand_id":{brand_id},'
        f'"skus":[{skus}],"next":{rows[limit - 1][3] if more else "null"}}}'
    )
    # Checking it once more against the model would take longer than the query.
    return Response(content, media_type=_JSON)


@router.get("/products", responses=problems(422))
async def products(
    service: ServiceDependency,
    _partner: PartnerDependency,
    text: Annotated[
        str, Query(alias="search", min_length=1, description="Words of the name of a product or of its brand.")
    ],
    limit: Annotated[int, Query(ge=1, le=100, description="The largest number of products.")] = LIMIT,
    offset: Annotated[int, Query(ge=0, le=10_000, description="The number of products to leave out.")] = 0,
) -> FoundProducts:
    """Find products by words of their name or their brand's name, the best first."""
    found = await search(service.reads, text, limit=limit, offset=offset)
    return FoundProducts.model_validate({"products": [dict(row) for row in found]})


def _accepted(request: Request, offered: dict[str, Any]) -> Any:
    """Return what is offered under the media type that the client prefers. Raises ProblemError 406 if there is none."""
    accepted = preferred(request.headers.get("accept", ""), offered)
    if accepted is None:
        raise ProblemError(406, "Not acceptable", f"the answer can be {' or '.join(offered)}")
    return accepted
