"""Read the forms and the parameters that browsers send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import Request
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.types import Message

from storefront.catalogue import MAX_WHOLE_NUMBER
from storefront.service.body import read_body
from storefront.service.pages.session import Visitor
from storefront.service.problems import ProblemError
from storefront.service.service import Service

MOST_FIELDS = 20
"""The number of fields of a form."""


@asynccontextmanager
async def read_form(request: Request, visitor: Visitor) -> AsyncIterator[FormData]:
    """Read a form that the visitor has got from this service. Its files are closed at the end of the block.

    Raises ProblemError 400 if it is malformed, 403 if it is not the visitor's, 408 if it comes too slowly, and 413 if
    it is too large.
    """
    assert visitor.service is not None
    settings = visitor.service.settings
    body = await read_body(request, settings)

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(body), "more_body": False}

    whole = Request(request.scope, receive)
    try:
        form = await whole.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=settings.body_limit)
    except HTTPException as error:
        raise ProblemError(400, "Malformed form", f"the form cannot be read: {error.detail}") from error
    try:
        visitor.check_form(request, form)
        yield form
    finally:
        await form.close()


def text_field(form: FormData, name: str) -> str:
    """Return the text of a field, or an empty text if the form does not have it."""
    value = form.get(name)
    return value if isinstance(value, str) else ""


def number_of(text: str | None) -> int | None:
    """Return the number in an address, or None if it has none. Raises ProblemError 404 for anything but a number."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 19 and int(text) <= MAX_WHOLE_NUMBER):
        raise not_found()
    return int(text)


def id_of(text: str) -> int:
    """Return the id in an address. Raises ProblemError 404 for anything but a number."""
    number = number_of(text)
    if number is None:
        raise not_found()
    return number


def name_of(text: str | None) -> str | None:
    """Return a name in an address, or None if it has none. Raises ProblemError 404 for one that no row can have."""
    if text is not None and "\0" in text:
        raise not_found()
    return text


def not_found(detail: str = "there is nothing at this address") -> ProblemError:
    """Return the problem of an address that leads nowhere."""
    return ProblemError(404, "Not found", detail)


def in_time(service: Service) -> AbstractAsyncContextManager[object]:
    """Limit the time of the queries of a page. Raises TimeoutError, which becomes a problem with status 503."""
    return asyncio.timeout(service.settings.query_timeout)
