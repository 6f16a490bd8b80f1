"""Render templates, serve the static files that they refer to, and show problems as pages."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final
from urllib.parse import quote

import jinja2
from fastapi import APIRouter, Request
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from storefront.service.headers import SECURITY_HEADERS
from storefront.service.pages.session import Visitor, visitor_of
from storefront.service.problems import ProblemError

router = APIRouter()

TEMPLATES: Final = jinja2.Environment(
    loader=jinja2.PackageLoader("storefront.service.pages"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

NAMED_COLOURS: Final = frozenset(
    "aqua aquamarine azure beige black blue brown coral crimson cyan fuchsia gold gray green grey indigo ivory khaki"
    " lavender lime linen magenta maroon mint navy olive orange orchid pink plum purple red salmon sienna silver tan"
    " teal tomato turquoise violet wheat white yellow".split()
) - {"mint"}
"""Names of colours that are also colours of CSS. A swatch is shown for them."""

HEADINGS: Final = {
    400: "The request was not understood",
    403: "This is not allowed",
    404: "There is nothing here",
    405: "This does not work that way",
    413: "That is too large",
    422: "The request was not understood",
    429: "Too many requests",
    500: "Something went wrong",
    503: "The shop is back in a moment",
}
"""Headings of pages that show a problem, by its status."""


def named_colour(name: str) -> str | None:
    """Return the colour of CSS that a colour of the catalogue is called after, or None."""
    colour = name.strip().lower()
    return colour if colour in NAMED_COLOURS else None


# -- static files ----------------------------------------------------------------------------------------------------


@cache
def static_files() -> Mapping[str, tuple[str, bytes]]:
    """Return the static files by name, each with a part of the SHA-256 of its content."""
    files = {}
    for each in (resources.files("storefront.service.pages") / "static").iterdir():
        content = each.read_bytes()
        files[each.name] = (hashlib.sha256(content).hexdigest()[:16], content)
    return files


def static_url(name: str) -> str:
    """Return the address of a static file. It changes with the content, so browsers may keep the file for ever."""
    digest, _ = static_files()[name]
    return f"/static/{digest}/{name}"


@router.get("/static/{digest}/{name}")
async def static_file(digest: str, name: str) -> Response:
    """Return a static file. A page of another version of the service gets the file of this one, and may not keep it."""
    if name not in static_files():
        raise ProblemError(404, "Not found", "there is no such file")
    current, content = static_files()[name]
    kept = "public, max-age=31536000, immutable" if digest == current else "no-store"
    media_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(content, media_type=media_type, headers={"Cache-Control": kept})


# -- pages -----------------------------------------------------------------------------------------------------------


def address(path: str, **parameters: object) -> str:
    """Return an address with those parameters that are not None."""
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in parameters.items() if value is not None)
    return f"{path}?{query}" if query else path


def render(
    request: Request,
    template: str,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    visitor: Visitor | None = None,
    section: str | None = None,
    **values: object,
) -> HTMLResponse:
    """Return a page. `section` is the entry of the main navigation that the page belongs to.

    Every value is escaped. A form that is sent by POST calls `token()` in its template.
    """
    visitor = visitor or visitor_of(request)

    def token() -> Markup:
        return Markup('<input type="hidden" name="token" value="{}">').format(visitor.form_token())

    text = TEMPLATES.get_template(template).render(
        partner=visitor.partner,
        section=section or request.url.path,
        token=token,
        **values,
    )
    # The pages show who is signed in.
    response = HTMLResponse(
        text, status, {**SECURITY_HEADERS, "Cache-Control": "private, no-cache", "Vary": "Cookie", **(headers or {})}
    )
    visitor.remember(request, response)
    return response


TEMPLATES.globals.update(static=static_url, named_colour=named_colour, address=address)


def problem_page(request: Request, problem: ProblemError) -> Response:
    """Return the page for a problem, or the problem itself to a program.

    A visitor who has to sign in is led there, and back afterwards.
    """
    if "text/html" not in request.headers.get("accept", ""):
        return problem.response()
    if problem.status == 401 and "login" in problem.extra:
        login = str(problem.extra["login"])
        return RedirectResponse(address(login, next=_way_back(request)), 303, headers={"Cache-Control": "no-store"})
    detail = problem.detail[:1].upper() + problem.detail[1:]
    return render(
        request,
        "problem.html",
        status=problem.status,
        headers={**problem.headers, "Cache-Control": "no-store"},
        number=problem.status,
        heading=HEADINGS.get(problem.status, problem.title),
        detail=detail if detail.endswith((".", "!", "?")) else f"{detail}.",
        again=_way_back(request) if problem.status in (429, 503) else None,
    )


def _way_back(request: Request) -> str:
    """Return the page of a request, or the one with the form that it came from."""
    url = request.url
    if request.method != "GET":
        return "/" + url.path.split("/")[1]
    return f"{url.path}?{url.query}" if url.query else url.path
