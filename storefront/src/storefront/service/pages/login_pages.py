"""Sign in with a partner's key, and sign out."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from storefront.service.pages.forms import in_time, read_form, text_field
from storefront.service.pages.rendering import render
from storefront.service.pages.session import (
    SESSION_COOKIE,
    VisitorDependency,
    begin_session,
    delete_cookie,
    local_path,
)
from storefront.service.service import ServiceDependency

router = APIRouter()

AFTER_LOGIN = "/batch"


@router.get("/login")
async def login(request: Request, visitor: VisitorDependency, next: str | None = None) -> Response:
    """Show the form for the key."""
    return render(request, "login.html", next=local_path(next, AFTER_LOGIN), problem=None)


@router.post("/login")
async def sign_in(request: Request, service: ServiceDependency, visitor: VisitorDependency) -> Response:
    """Sign a partner in, and go to the page that it came for."""
    async with read_form(request, visitor) as form:
        key = text_field(form, "key").strip()
        target = local_path(text_field(form, "next"), AFTER_LOGIN)
    async with in_time(service):
        partner = await service.partners.by_key(key)
    if partner is None:
        problem = "This key is unknown or was revoked." if key else "A key is needed."
        return render(request, "login.html", status=403, next=target, problem=problem)
    response = RedirectResponse(target, 303, headers={"Cache-Control": "no-store"})
    begin_session(request, response, service, partner)
    return response


@router.post("/logout")
async def sign_out(request: Request, visitor: VisitorDependency) -> Response:
    """Sign the partner out."""
    async with read_form(request, visitor):
        pass
    response = RedirectResponse("/", 303, headers={"Cache-Control": "no-store"})
    delete_cookie(request, response, SESSION_COOKIE)
    return response
