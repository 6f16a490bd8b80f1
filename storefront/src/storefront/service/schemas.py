"""The description of requests and responses: OpenAPI 3.1."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, TypeAdapter

from storefront.formats import Format
from storefront.service.problems import PROBLEM_TYPE

_COMPONENTS: Final = "#/components/schemas/{model}"


class Described(BaseModel):
    """A JSON object without members that are not described."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """A problem: RFC 9457. Some kinds have further members, such as the limit that was exceeded."""

    type: str
    title: str
    status: int
    detail: str


class Sku(Described):
    """A stock keeping unit of a product."""

    sku_id: int
    product_color_name: str
    product_size_name: str


class ProductSkus(Described):
    """A product with its SKUs, ordered by sku_id."""

    product_id: int
    product_name: str
    brand_id: int
    skus: list[Sku]
    next: int | None
    """The value of `after` for the next SKUs; null if these are the last."""


class FoundProduct(Described):
    """A product that was found by a search."""

    product_id: int
    product_name: str
    brand_id: int
    brand_name: str
    skus: int
    similar: bool


class FoundProducts(Described):
    """The products that were found, the best first."""

    products: list[FoundProduct]


class SkuRow(Described):
    """A SKU of a product in the answer to a batch."""

    product_id: int
    product_name: str
    brand_id: int
    sku_id: int
    product_color_name: str
    product_size_name: str


class CatalogueRow(Described):
    """A SKU of the catalogue."""

    sku_id: int
    product_id: int
    product_name: str
    brand_id: int
    brand_name: str
    product_color_name: str
    product_size_name: str


class IdWithoutRows(Described):
    """An id that has no rows. `line` is the line of the body, or the position in the array, from 1."""

    outcome: Literal["unknown", "repeated", "without_skus"]
    line: int
    product_id: int


class MalformedId(Described):
    """A line that is not an id."""

    outcome: Literal["malformed"]
    line: int
    text: str


class Counts(Described):
    """The lines of a batch, by outcome."""

    lines: int
    products: int
    skus: int
    without_skus: int
    unknown: int
    malformed: int
    repeated: int


class CompleteBatch(Counts):
    """The last object of an answer that is complete."""

    outcome: Literal["complete"]


class FailedBatch(Counts):
    """The last object of an answer that is not complete, with the counts so far."""

    outcome: Literal["failed"]
    problem: Problem


class CompleteExport(Described):
    """The last object of an export that is complete. `last` is the value of `after` for SKUs that are added later."""

    outcome: Literal["complete"]
    skus: int
    last: int


class FailedExport(Described):
    """The last object of an export that is not complete."""

    outcome: Literal["failed"]
    problem: Problem


BATCH_LINE: Final = TypeAdapter[Any](SkuRow | IdWithoutRows | MalformedId | CompleteBatch | FailedBatch)
EXPORT_LINE: Final = TypeAdapter[Any](CatalogueRow | CompleteExport | FailedExport)

LINES_OF_IDS: Final[dict[str, Any]] = {
    "text/plain": {"schema": {"type": "string", "minLength": 1}, "example": "1\n2\n3\n"},
    "text/csv": {
        "schema": {
            "type": "string",
            "minLength": 1,
            "description": "The ids are in the column product_id or id or, without a header, in the first column.",
        },
        "example": "product_id\n1\n2\n3\n",
    },
    "application/x-ndjson": {"schema": {"type": "string", "minLength": 1}, "example": '{"product_id": 1}\n2\n'},
}
"""The description of a body that has an id on each line."""

_PROBLEMS: Final = {
    400: "The body is not as its headers say.",
    401: "The key is missing, unknown or revoked.",
    403: "Only the operator may do this.",
    404: "There is no such product.",
    406: "None of the media types that the client accepts is on offer.",
    408: "The client was too slow.",
    413: "The body or the batch is too large.",
    415: "The body's Content-Type or Content-Encoding is not supported.",
    422: "The request makes no sense.",
    429: "A limit of the partner is reached.",
    503: "The service cannot answer now.",
}
_RETRY: Final = {"Retry-After": {"description": "Seconds until a request may succeed.", "schema": {"type": "integer"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the descriptions of responses that are problems."""
    content = {PROBLEM_TYPE: {"schema": {"$ref": _COMPONENTS.format(model="Problem")}}}
    return {
        status: {
            "description": _PROBLEMS[status],
            "content": content,
            **({"headers": _RETRY} if status in (429, 503) else {}),
        }
        for status in statuses
    }


def streamed(
    description: str, line: TypeAdapter[Any], csv: str, *, parquet: bool = False
) -> dict[int | str, dict[str, Any]]:
    """Return the description of a response that is a stream. The schema of NDJSON is that of each line."""
    schema = line.json_schema(ref_template=_COMPONENTS)
    schema.pop("$defs", None)
    content: dict[str, Any] = {
        "application/x-ndjson": {"schema": {**schema, "description": "One line. Each line is an object."}},
        "text/csv": {"schema": {"type": "string", "description": csv}},
    }
    if parquet:
        # A file of bytes has no schema (OpenAPI 3.1, "Considerations for File Uploads").
        content[Format.PARQUET.media_type] = {}
    return {200: {"description": description, "content": content}}


def describe(application: FastAPI) -> None:
    """Have the application add to its description the schemas that its streams and problems refer to."""

    def openapi() -> dict[str, Any]:
        if application.openapi_schema is None:
            description = get_openapi(
                title=application.title,
                version=application.version,
                summary=application.summary,
                description=application.description,
                routes=application.routes,
            )
            schemas = description.setdefault("components", {}).setdefault("schemas", {})
            for adapter in (BATCH_LINE, EXPORT_LINE, TypeAdapter(Problem)):
                schema = adapter.json_schema(ref_template=_COMPONENTS)
                schemas.update(schema.pop("$defs", {}))
            schemas["Problem"] = Problem.model_json_schema(ref_template=_COMPONENTS)
            application.openapi_schema = description
        return application.openapi_schema

    application.openapi = openapi  # type: ignore[method-assign]
