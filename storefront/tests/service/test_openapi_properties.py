"""The service keeps what its description promises, for requests that are made of the description at random.

Schemathesis makes requests that are valid, and requests with a mistake in them. The same ones are made in each run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode, Response
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks

from storefront import open_connection
from storefront.jobs import JobLimits, Worker
from storefront.partners import add_partner
from storefront.service.application import create_application
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables

EXAMPLES = 15
"""Requests of each operation that are valid, and as many that are not."""

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
    checks.positive_data_acceptance,
]

TEXT = ("text/plain", "text/csv", "application/x-ndjson")

# The key of a partner is added to every request.
CONFIG = SchemathesisConfig(
    projects=ProjectsConfig(default=ProjectConfig(generation=GenerationConfig(with_security_parameters=False)))
)

OPERATIONS = {
    operation.label: operation
    for operation in (
        result.ok()
        for result in schemathesis.openapi.from_dict(
            create_application(ServiceSettings("postgresql:///none")).openapi(), config=CONFIG
        ).get_all_operations()
    )
}


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


def takes_input(operation: APIOperation) -> bool:
    """Return whether there can be a mistake in a request of the operation."""
    return bool([*operation.iter_parameters(), *operation.body])


@pytest.mark.parametrize(
    ("label", "mode"),
    [(label, GenerationMode.POSITIVE) for label in OPERATIONS]
    + [(label, GenerationMode.NEGATIVE) for label, operation in OPERATIONS.items() if takes_input(operation)],
)
def test_every_response_is_as_described(shop: Shop, label: str, mode: GenerationMode) -> None:
    of_a_job = "{job_id}" in label
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
        case=OPERATIONS[label].as_strategy(generation_mode=mode), known=st.booleans() if of_a_job else st.just(False)
    )
    def check(case: Case, known: bool) -> None:
        if known and mode is GenerationMode.POSITIVE:
            case.path_parameters["job_id"] = shop.new_job() if label.startswith("DELETE") else done_job
        # A number is a text, too; and that a text is CSV with a column of ids is more than a schema can say.
        loose = {checks.negative_data_rejection, checks.positive_data_acceptance} if case.media_type in TEXT else set()
        case.validate_response(shop.send(case), checks=[each for each in CHECKS if each not in loose])

    check()
