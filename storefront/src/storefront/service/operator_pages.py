"""The operator's page: throughput, latency and the state of the pools, second by second.

The operator signs in with the operator's token. Without one, the page answers requests from the same machine alone.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from storefront.database import host_address
from storefront.service.activity import Sample
from storefront.service.authentication import get_operator
from storefront.service.events import ACTIVITY_CHANNEL, EventStream, Subscription, encode_event
from storefront.service.pages.forms import read_form, text_field
from storefront.service.pages.rendering import render
from storefront.service.pages.session import (
    VisitorDependency,
    cookie_name,
    delete_cookie,
    serializer,
    set_cookie,
    signed_value,
)
from storefront.service.problems import ProblemError
from storefront.service.service import Service, ServiceDependency

router = APIRouter(prefix="/operator", include_in_schema=False)

OPERATOR_COOKIE: Final = "storefront_operator"

SECONDS: Final = 60
"""The width of the curves."""

FRESH: Final = 3.0
"""Seconds for which the last sample of a process stands for the present."""

GAUGES: Final = (
    ("skus", "SKUs of batches and jobs", "a second"),
    ("ids", "Ids answered", "a second"),
    ("requests", "Requests answered", "a second"),
    ("request_ms", "Time of a request", "ms, mean"),
    ("database_ms", "Database, round trip", "ms"),
    ("running", "Answers being sent", "now"),
)
COLUMNS: Final = (
    ("size", "Open"),
    ("max_size", "Limit"),
    ("idle", "Idle"),
    ("leased", "Leased"),
    ("in_flight", "In flight"),
    ("queued", "Queued"),
    ("waiting", "Waiting"),
)
_OF_JOBS: Final = ("skus", "ids")
"""Figures that workers add to. A part of a job that was answered counts in the second in which that was heard."""

_SUMMED: Final = ("skus", "ids", "requests", "running")


def _token_digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()[:32]


async def get_operator_of_page(request: Request, service: ServiceDependency, visitor: VisitorDependency) -> bool:
    """Return whether the operator has signed in by the token. Raises ProblemError 401 or 403 for anybody else."""
    token = service.settings.operator_token
    if token is None:
        await get_operator(request, service, None)
        return False
    signed = signed_value(service, "operator", request.cookies.get(cookie_name(request, OPERATOR_COOKIE)))
    if not isinstance(signed, str) or not hmac.compare_digest(signed, _token_digest(token)):
        raise ProblemError(401, "Sign-in required", "sign in with the operator's token first", login="/operator/login")
    return True


OperatorOfPage = Annotated[bool, Depends(get_operator_of_page)]


@router.get("")
async def operator(request: Request, service: ServiceDependency, signed_in: OperatorOfPage) -> Response:
    """Show the activity of all processes. It is kept up to date by events, or reloads itself without JavaScript."""
    return render(
        request,
        "operator.html",
        view=view_of(service),
        gauges=GAUGES,
        columns=COLUMNS,
        seconds=SECONDS,
        signed_in=signed_in,
    )


@router.get("/events")
async def operator_events(request: Request, service: ServiceDependency, signed_in: OperatorOfPage) -> Response:
    """Stream the activity: with each sample of a process, and every few seconds without one."""
    seen = request.headers.get("last-event-id")

    async def produce(subscription: Subscription) -> AsyncIterator[bytes]:
        if (latest := service.activity.latest_id) is None or latest != seen:
            yield encode_event("update", view_of(service), latest)
        while not subscription.is_closed:
            await subscription.take(service.events.heartbeat)
            if not subscription.is_closed:
                yield encode_event("update", view_of(service), service.activity.latest_id)

    return EventStream(service.events, ACTIVITY_CHANNEL, produce)


@router.get("/login")
async def login(request: Request, service: ServiceDependency, visitor: VisitorDependency) -> Response:
    """Show the form for the operator's token."""
    if service.settings.operator_token is None:
        return RedirectResponse("/operator", 303)
    return render(request, "operator_login.html", problem=None)


@router.post("/login")
async def sign_in(request: Request, service: ServiceDependency, visitor: VisitorDependency) -> Response:
    """Sign the operator in."""
    async with read_form(request, visitor) as form:
        given = text_field(form, "operator_token").strip()
    token = service.settings.operator_token
    if token is None or not hmac.compare_digest(given.encode(), token.encode()):
        return render(request, "operator_login.html", status=403, problem="This is not the operator's token.")
    response = RedirectResponse("/operator", 303, headers={"Cache-Control": "no-store"})
    set_cookie(request, response, OPERATOR_COOKIE, serializer(service, "operator").dumps(_token_digest(token)))
    return response


@router.post("/logout")
async def sign_out(request: Request, visitor: VisitorDependency) -> Response:
    """Sign the operator out."""
    async with read_form(request, visitor):
        pass
    response = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
    delete_cookie(request, response, OPERATOR_COOKIE)
    return response


def view_of(service: Service, now: float | None = None) -> dict[str, Any]:
    """Return the texts and curves of the page. `now` is the time in seconds since 1970."""
    now = time.time() if now is None else now
    by_process = service.activity.by_process()
    fields = {"at": datetime.fromtimestamp(now, UTC).strftime("%H:%M:%S")}
    curves = {}
    for name, _, _ in GAUGES:
        values = series(by_process, name, now)
        for step in service.activity.job_steps:
            place = SECONDS - 1 - math.floor(now - step.at)
            if name in _OF_JOBS and 0 <= place < SECONDS:
                values[place] += getattr(step, name)
        top = max(values)
        present = _present(by_process, name, now)
        if name in _OF_JOBS:
            recent = [getattr(step, name) for step in service.activity.job_steps if now - step.at <= FRESH]
            present = (present or 0.0) + sum(recent) / FRESH
        fields[name] = _shown(present)
        fields[f"{name}_peak"] = _shown(top)
        curves[name] = points(values, top)
    processes = sorted({*by_process, service.sampler.process})
    for index, process in enumerate(processes):
        if process == service.sampler.process:
            pool = service.sampler.pool_state()
        else:
            pool = by_process[process][-1].pool
        fields.update({f"{name}_{index}": f"{value:,}" for name, value in asdict(pool).items()})
    hosts = service.database.hosts()
    for index, info in enumerate(hosts):
        fields[f"host_role_{index}"] = info.role or "\N{EN DASH}"
        fields[f"host_state_{index}"] = info.state
        fields[f"host_lag_{index}"] = "\N{EN DASH}" if info.role != "replica" else _shown(info.lag)
        fields[f"host_in_flight_{index}"] = f"{info.in_flight:,}"
    addresses = [host_address(info) for info in hosts]
    return {
        "fields": fields,
        "curves": curves,
        "processes": processes,
        "hosts": addresses,
        "layout": " ".join([*processes, *addresses]),
    }


def series(by_process: dict[str, list[Sample]], name: str, now: float) -> list[float]:
    """Return a figure for each of the last seconds: the sum over the processes, or the largest of the times.

    A sample stands for the time since the one before. A busy process takes it a little late.
    """
    values = [0.0] * SECONDS
    for samples in by_process.values():
        before = -math.inf
        for sample in samples:
            place = SECONDS - 1 - math.floor(now - sample.at)
            first = place if sample.at - before > FRESH else SECONDS - math.floor(now - before)
            value = getattr(sample, name) or 0.0
            for each in range(max(first, 0), min(place + 1, SECONDS)):
                values[each] = values[each] + value if name in _SUMMED else max(values[each], value)
            before = sample.at
    return values


def points(values: list[float], top: float) -> str:
    """Return the points of a curve in a picture that is 32 high. The largest value is at the top."""
    scale = 28 / top if top else 0
    return " ".join(f"{place},{31 - value * scale:.1f}" for place, value in enumerate(values))


def _present(by_process: dict[str, list[Sample]], name: str, now: float) -> float | None:
    """Return a figure of the last sample of each process, if that is recent: their sum, or the largest of the times."""
    values: list[float] = [
        value
        for samples in by_process.values()
        if now - samples[-1].at <= FRESH and (value := getattr(samples[-1], name)) is not None
    ]
    if name in _SUMMED:
        return sum(values)
    return max(values, default=None)


def _shown(value: float | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:,.1f}"
