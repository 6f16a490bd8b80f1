"""The service keeps what its description promises, for requests that are made of the description at random.

Schemathesis makes requests that are valid, and requests with a mistake in them. The same ones are made in each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import httpx
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from storefront import open_connection
from storefront.jobs import JobLimits, Worker
from storefront.partners import add_partner
from storefront.service.application import create_application
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables

# Schemathesis takes two seconds to import. Runs that leave these tests out are spared them.
if TYPE_CHECKING:
    from schemathesis import Case, Response
    from schemathesis.schemas import APIOperation

EXAMPLES = 15
"""Requests of each operation that are valid, and as many that are not."""

TEXT = ("text/plain", "text/csv", "application/x-ndjson")

DESCRIPTION = create_application(ServiceSettings("postgresql:///none")).openapi()

INPUTS = {
    f"{method.upper()} {path}": "parameters" in operation or "requestBody" in operation
    for path, methods in DESCRIPTION["paths"].items()
    for method, operation in methods.items()
}
"""The operations, and whether there can be a mistake in a request of each."""


@pytest.fixture(scope="module")
def operations() -> dict[str, APIOperation]:
    """The operations of the description."""
    import schemathesis
    from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

    # The key of a partner is added to every request.
    project = ProjectConfig(generation=GenerationConfig(with_security_parameters=False))
    schema = schemathesis.openapi.from_dict(
        DESCRIPTION, config=SchemathesisConfig(projects=ProjectsConfig(default=project))
    )
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


class Shop:
    """The service in this process, and a client with a partner's key."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()

    def open(self, dsn: str) -> None:
        self._runner.run(self._open(dsn))

    async def _open(self, dsn: str) -> None:
        async with open_connection(dsn) as connection:
            await create_service_tables(connection)
            key = (await add_partner(connection, "Aurora", requests_per_minute=1_000_000, batches_at_once=1_000)).key
        limits = JobLimits(jobs_at_once=1_000_000)
        application = create_application(ServiceSettings(dsn, workers=0, query_timeout=3_600.0, job_limits=limits))
        await self._stack.enter_async_context(application.router.lifespan_context(application))
        self._pool = application.state.service.pool
        self._client = await self._stack.enter_async_context(
            httpx.AsyncClient(
                transport=httpx.ASGITransport(application, raise_app_exceptions=False),
                base_url="http://localhost",
                headers={"Authorization": f"Bearer {key}"},
            )
        )

    def send(self, case: Case) -> Response:
        """Send a request, and return the response for the checks."""
        from schemathesis import Response

        request = requests.Request(**case.as_transport_kwargs(base_url="http://localhost")).prepare()
        assert request.method is not None
        sent = self._client.request(request.method, str(request.url), headers=request.headers, content=request.body)
        return Response.from_any(self._runner.run(sent))

    def new_job(self) -> str:
        """Create a job, work it off, and return its id."""
        return self._runner.run(self._new_job())

    async def _new_job(self) -> str:
        answer = await self._client.post("/v1/jobs", content="1\n999\n", headers={"Content-Type": "text/plain"})
        await Worker(self._pool).run(until_idle=True)
        job_id: str = answer.json()["job_id"]
        return job_id

    def close(self) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()


@pytest.fixture
def shop(dsn: str) -> Iterator[Shop]:
    """The service on the small catalogue."""
    shop = Shop()
    try:
        shop.open(dsn)
        yield shop
    finally:
        shop.close()


@pytest.mark.parametrize("label", INPUTS)
def test_a_valid_request_is_answered_as_described(shop: Shop, operations: dict[str, APIOperation], label: str) -> None:
    check_responses(shop, operations[label], "positive")


@pytest.mark.parametrize("label", [label for label, has_input in INPUTS.items() if has_input])
def test_a_request_with_a_mistake_is_refused_as_described(
    shop: Shop, operations: dict[str, APIOperation], label: str
) -> None:
    check_responses(shop, operations[label], "negative")


def check_responses(shop: Shop, operation: APIOperation, mode: str) -> None:
    """Send requests of an operation, and check the responses."""
    from schemathesis import GenerationMode
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    always = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_headers_conformance,
        checks.response_schema_conformance,
    ]
    # A number is a text, too; and that a text is CSV with a column of ids is more than a schema can say.
    unless_text = [checks.negative_data_rejection, checks.positive_data_acceptance]
    # A random id is that of no job.
    of_a_job = mode == "positive" and "{job_id}" in operation.label
    done_job = shop.new_job() if of_a_job else None

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        case=operation.as_strategy(generation_mode=GenerationMode(mode)),
        known=st.booleans() if of_a_job else st.just(False),
    )
    def check(case: Case, known: bool) -> None:
        if known:
            case.path_parameters["job_id"] = shop.new_job() if case.method == "DELETE" else done_job
        chosen = always if case.media_type in TEXT else always + unless_text
        case.validate_response(shop.send(case), checks=chosen)

    check()
