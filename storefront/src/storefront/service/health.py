"""Health, readiness and metrics, for the machines that watch the service."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from storefront.service.authentication import OperatorDependency, refuse_while_draining
from storefront.service.service import ServiceDependency

router = APIRouter(tags=["operation"])

PROMETHEUS_TYPE = "text/plain; version=1.0.0; charset=utf-8"


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """Answer that the process is alive. The database is not asked."""
    return "ok\n"


@router.get("/readyz", response_class=PlainTextResponse)
async def readyz(service: ServiceDependency) -> str:
    """Answer that requests can be served: the database answers, and the service is not shutting down."""
    refuse_while_draining(service)
    await service.pool.fetchval("SELECT 1", timeout=service.settings.query_timeout)
    return "ok\n"


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(service: ServiceDependency, _operator: OperatorDependency) -> Response:
    """Return the metrics in Prometheus's text format."""
    return Response(service.metrics.text(), media_type=PROMETHEUS_TYPE)
