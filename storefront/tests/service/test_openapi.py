"""The description of the service is true: every response is as its schema says."""

from __future__ import annotations

import json
import re
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI
from httpx import AsyncClient, Response

PLAIN = {"Content-Type": "text/plain"}

REQUESTS: list[tuple[str, str, dict[str, Any], int]] = [
    ("GET", "/v1/products/1/skus", {}, 200),
    ("GET", "/v1/products/1/skus?limit=3&after=5", {}, 200),
    ("GET", "/v1/products/999/skus", {}, 404),
    ("GET", "/v1/products/2147483648/skus", {}, 404),
    ("GET", "/v1/products/9223372036854775808/skus", {}, 422),
    ("GET", "/v1/products/0/skus", {}, 422),
    ("GET", "/v1/products/abc/skus", {}, 422),
    ("GET", "/v1/products?search=a&limit=5", {}, 200),
    ("GET", "/v1/products?search=%27%3B+DROP+TABLE+sku%3B--", {}, 200),
    ("GET", "/v1/products?search=%3Cscript%3E", {}, 200),
    ("GET", "/v1/products?search=%00", {}, 200),
    ("GET", "/v1/products?search=+", {}, 422),
    ("GET", "/v1/products", {}, 422),
    ("GET", "/v1/products?search=a&limit=101", {}, 422),
    ("GET", "/v1/export", {}, 200),
    ("GET", "/v1/export?after=999", {"headers": {"Accept": "text/csv"}}, 200),
    ("GET", "/v1/export", {"headers": {"Accept": "application/vnd.apache.parquet"}}, 200),
    ("GET", "/v1/export?after=-1", {}, 422),
    ("GET", "/v1/export", {"headers": {"Accept": "image/png"}}, 406),
    ("POST", "/v1/batches", {"content": "1\nabc\n999\n1\n", "headers": PLAIN}, 200),
    ("POST", "/v1/batches", {"content": "1\n", "headers": {**PLAIN, "Accept": "text/csv"}}, 200),
    ("POST", "/v1/batches", {"content": "1\n", "headers": {**PLAIN, "Accept": "image/png"}}, 406),
    ("POST", "/v1/batches", {"content": "", "headers": PLAIN}, 422),
    ("POST", "/v1/batches", {"content": "[", "headers": {"Content-Type": "application/json"}}, 400),
    ("POST", "/v1/batches", {"content": "1\n"}, 415),
    ("POST", "/v1/batches", {"content": "1\n" * 5_000_000, "headers": PLAIN}, 413),
    ("GET", "/v1/products/1/skus", {"headers": {"Authorization": "Bearer wrong"}}, 401),
    ("GET", "/healthz", {}, 200),
    ("GET", "/readyz", {}, 200),
    ("GET", "/metrics", {}, 200),
]


def operation_of(description: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """Return the description of an operation. A path without parameters is tried first."""
    for template in sorted(description["paths"], key=lambda each: each.count("{")):
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
            operation: dict[str, Any] = description["paths"][template][method.lower()]
            return operation
    raise AssertionError(f"{path} is not described")


def check(description: dict[str, Any], schema: dict[str, Any], value: object) -> None:
    jsonschema.Draft202012Validator({**schema, "components": description["components"]}).validate(value)


def check_response(description: dict[str, Any], answer: Response) -> None:
    operation = operation_of(description, answer.request.method, answer.request.url.path)
    assert str(answer.status_code) in operation["responses"], answer.text
    content = operation["responses"][str(answer.status_code)]["content"]
    media_type = answer.headers["content-type"].split(";")[0]
    assert media_type in content
    schema = content[media_type].get("schema", {})
    if media_type == "application/x-ndjson":
        for line in answer.text.splitlines():
            check(description, schema, json.loads(line))
    elif media_type.endswith("json"):
        check(description, schema, answer.json())


@pytest.fixture
async def description(client: AsyncClient) -> dict[str, Any]:
    answer: dict[str, Any] = (await client.get("/v1/openapi.json")).json()
    return answer


async def test_every_response_is_as_described(client: AsyncClient, description: dict[str, Any]) -> None:
    seen: set[tuple[str, str]] = set()
    for method, path, options, status in REQUESTS:
        answer = await client.request(method, path, **options)
        assert answer.status_code == status, (method, path, answer.text[:500])
        check_response(description, answer)
        operation = operation_of(description, method, answer.request.url.path)
        seen.add((operation["operationId"], str(status)))
    described = {
        (operation["operationId"], status)
        for path, methods in description["paths"].items()
        for operation in methods.values()
        for status in operation["responses"]
        if path in {"/v1/batches", "/v1/export", "/v1/products", "/v1/products/{product_id}/skus"}
    }
    # These need another state of the service; other tests see them.
    assert {status for _, status in described - seen} <= {"401", "408", "413", "429", "503"}


async def test_the_description_is_openapi_itself(description: dict[str, Any]) -> None:
    assert description["openapi"].startswith("3.1.")
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(description)))
    schemas = description["components"]["schemas"]
    assert {reference.removeprefix("#/components/schemas/") for reference in references} <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    assert all(re.fullmatch(r"[a-zA-Z0-9._-]+", name) for name in description["components"]["securitySchemes"])
    for path, methods in description["paths"].items():
        if path.startswith("/v1/"):
            assert all(operation["security"] == [{"partnerKey": []}] for operation in methods.values())


async def test_unknown_addresses_and_methods_are_problems(client: AsyncClient) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("DELETE", "/v1/batches", 405)):
        answer = await client.request(method, path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json()["status"] == status


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/batches", "POST"),
        ("/v1/jobs", "GET, HEAD, POST"),
        ("/v1/jobs/0d9902b5-4a38-46d8-8af9-26589cfc69b7", "GET, HEAD, DELETE"),
        ("/login", "GET, HEAD, POST"),
    ],
)
async def test_an_address_tells_every_method_that_it_supports(client: AsyncClient, path: str, allowed: str) -> None:
    answer = await client.put(path)
    assert (answer.status_code, answer.headers["allow"]) == (405, allowed)


async def test_a_mistake_of_the_service_is_a_problem_without_details(
    client: AsyncClient, application: FastAPI, caplog: pytest.LogCaptureFixture
) -> None:
    await application.state.service.pool.execute("ALTER TABLE product RENAME COLUMN product_name TO title")
    answer = await client.get("/v1/products/1/skus")
    assert (answer.status_code, answer.json()["title"]) == (500, "Internal error")
    assert "product_name" not in answer.text
    assert "product_name" in caplog.text
