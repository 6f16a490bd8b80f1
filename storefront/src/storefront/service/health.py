"""Health, readiness and metrics, for the machines that watch the service."""

from __future__ import annotations

import logging

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

import headrace
from storefront.jobs import job_statistics
from storefront.service.authentication import OperatorDependency, refuse_while_draining
from storefront.service.service import ServiceDependency
from storefront.wording import counted

log = logging.getLogger(__name__)

router = APIRouter(tags=["operation"])

PROMETHEUS_TYPE = "text/plain; version=1.0.0; charset=utf-8"


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Answer that the process is alive. The database is not asked."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse)
async def readyz(service: ServiceDependency) -> str:
    """Answer that requests can be served: the database answers, and the service is not shutting down.

    Of several servers the primary has to answer. The others are counted, but not named: anybody may ask.
    """
    refuse_while_draining(service)
    await service.pool.fetchval("SELECT 1", timeout=service.settings.query_timeout)
    if not service.database.has_replicas:
        return "ok\n"
    hosts = service.database.hosts()
    replicas = sum(info.role == "replica" and info.state == "up" for info in hosts)
    return f"ok: the primary and {replicas} of {counted(len(hosts) - 1, 'other host')}\n"


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: ServiceDependency, _operator: OperatorDependency) -> Response:
    """Return the metrics in Prometheus's text format. Those of jobs are left out if the database does not answer."""
    try:
        jobs = await job_statistics(service.pool, timeout=service.settings.query_timeout)
    except (headrace.PostgresError, headrace.InterfaceError, OSError, TimeoutError) as error:
        log.warning("the metrics have no jobs: %s: %s", type(error).__name__, error)
        jobs = None
    return Response(service.metrics.text(jobs), media_type=PROMETHEUS_TYPE)
