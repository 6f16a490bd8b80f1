"""The application: routes, errors, and what is opened and closed with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI

import storefront
from storefront.database import open_database
from storefront.service import api, health, jobs_api, operator_pages, pages
from storefront.service.activity import report_activity
from storefront.service.authentication import keep_leases, poll_partners, watch_partners
from storefront.service.events import listen_for_pages
from storefront.service.head import HeadRequests
from storefront.service.headers import SecurityHeaders
from storefront.service.metrics import RequestMetrics
from storefront.service.problems import install_handlers
from storefront.service.schemas import describe
from storefront.service.service import Background, Service, follow_catalogue
from storefront.service.settings import ServiceSettings
from storefront.service_schema import create_service_tables

ROUTERS: Final[tuple[APIRouter, ...]] = (
    health.router,
    api.router,
    jobs_api.router,
    pages.router,
    operator_pages.router,
)
BACKGROUND: Final[tuple[Background, ...]] = (
    follow_catalogue,
    watch_partners,
    poll_partners,
    keep_leases,
    jobs_api.work_jobs,
    listen_for_pages,
    report_activity,
)


def create_application(settings: ServiceSettings) -> FastAPI:
    """Make the application. Its lifespan opens the database, creates missing tables and starts the background tasks.

    The lifespan raises the driver's errors if the database does not answer. The requests find the service as
    `application.state.service`.
    """

    @asynccontextmanager
    async def lifespan(application: FastAPI) -> AsyncIterator[None]:
        async with open_database(
            settings.dsn, size=settings.pool_size, command_timeout=settings.query_timeout
        ) as database:
            async with database.primary.acquire() as connection:
                await create_service_tables(connection)
            service = Service(settings, database)
            service.background.extend(BACKGROUND)
            application.state.service = service
            tasks = [asyncio.create_task(service.keep_running(part)) for part in service.background]
            try:
                yield
            finally:
                service.events.close()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    application = FastAPI(
        title="The storefront",
        summary="A catalogue of products and their stock keeping units (SKUs), for partners of the shop.",
        version=storefront.__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/v1/openapi.json",
    )
    application.add_middleware(SecurityHeaders)
    application.state.problem_page = pages.problem_page
    install_handlers(application)
    application.add_middleware(RequestMetrics)
    application.add_middleware(HeadRequests)
    for router in ROUTERS:
        application.include_router(router)
    describe(application)
    return application
