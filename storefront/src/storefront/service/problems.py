"""Errors of the service as problem details: RFC 9457, application/problem+json.

An address outside of /v1 is a page for a browser, and shows a page for an error. `application.state.problem_page` makes
it, if there is one.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

import headrace
from storefront.errors import UsageError, reason

log = logging.getLogger(__name__)

PROBLEM_TYPE: Final = "application/problem+json"

RETRY_UNAVAILABLE: Final = 2
"""After how many seconds a client may ask again if the database does not answer."""


class ProblemError(Exception):
    """A request that is refused or has failed: the members of a problem object.

    `extra` are further members. `retry_after` is the number of seconds after which the client may ask again.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str,
        *,
        retry_after: int | None = None,
        headers: Mapping[str, str] | None = None,
        **extra: object,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.extra = extra
        self.headers = dict(headers or {})
        if retry_after is not None:
            self.headers["Retry-After"] = str(retry_after)
            self.extra["retry_after"] = retry_after

    @property
    def type(self) -> str:
        """A URI that identifies the kind of problem."""
        return f"urn:storefront:problem:{re.sub('[^a-z0-9]+', '-', self.title.lower()).strip('-')}"

    def members(self) -> dict[str, Any]:
        """Return the problem object."""
        return {
            "type": self.type,
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            **self.extra,
        }

    def response(self) -> Response:
        """Return the response that tells the problem."""
        return JSONResponse(self.members(), self.status, self.headers, media_type=PROBLEM_TYPE)


class RefusedBodyError(ProblemError):
    """A request whose body is refused before all of it was read. The connection is closed."""

    def response(self) -> Response:
        """Return the response, which reads on for a moment."""
        return _LingeringResponse(
            self.members(), self.status, {**self.headers, "Connection": "close"}, media_type=PROBLEM_TYPE
        )


class _LingeringResponse(JSONResponse):
    """Reads and drops what the client is still sending, for a moment, before the connection is closed.

    Data that arrive at a closed socket reset the connection, and the client may never read the response.
    """

    SECONDS = 2.0
    BYTES = 4 * 2**20

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response, then drop the rest of the request's body."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(self.SECONDS):
                dropped = 0
                while dropped < self.BYTES:
                    message = await receive()
                    if message["type"] != "http.request" or not message.get("more_body", False):
                        break
                    dropped += len(message.get("body", b""))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def unavailable(detail: str) -> ProblemError:
    """Return the problem of a service that cannot answer now."""
    return ProblemError(503, "Service unavailable", detail, retry_after=RETRY_UNAVAILABLE)


_LATER: Final = (
    headrace.PostgresConnectionError,
    headrace.CannotConnectNowError,
    headrace.AdminShutdownError,
    headrace.CrashShutdownError,
    headrace.TooManyConnectionsError,
    headrace.ReadOnlySQLTransactionError,
    headrace.InterfaceError,
    TimeoutError,
    OSError,
)
"""Errors that go away when the database is back. A server that was demoted refuses writes as read-only."""


def problem_of(error: Exception) -> ProblemError:
    """Return the problem that an error of the database is to the client. The log has the details of a mistake."""
    if isinstance(error, ProblemError):
        return error
    if isinstance(error, UsageError):
        return ProblemError(422, "Invalid request", str(error))
    if isinstance(error, ClientDisconnect):
        return ProblemError(400, "Client closed request", "the client went away")
    if isinstance(error, headrace.UndefinedTableError | headrace.InvalidCatalogNameError):
        log.error("the catalogue is incomplete: %s: run `storefront init`", reason(error))
        return unavailable("the catalogue has not been created yet")
    if isinstance(error, headrace.NoPrimaryError):
        log.warning("the database takes no writes: %s", error)
        return unavailable("the database has no primary at the moment, so only pages of the catalogue are answered")
    if isinstance(error, _LATER):
        log.warning("the database does not answer: %s: %s", type(error).__name__, error)
        return unavailable("the database does not answer at the moment")
    log.error("a request has failed", exc_info=error)
    return ProblemError(500, "Internal error", "the request has failed; the log of the service has the reason")


def install_handlers(application: FastAPI) -> None:
    """Have every error of a request answered by a problem."""

    async def answer(request: Request, error: Exception) -> Response:
        problem = _problem_of_request(error)
        if problem.status == HTTPStatus.METHOD_NOT_ALLOWED:
            problem.headers["Allow"] = ", ".join(_allowed_methods(request))
        page = getattr(request.app.state, "problem_page", None)
        if page is not None and not request.url.path.startswith("/v1/"):
            response: Response = page(request, problem)
            return response
        return problem.response()

    for kind in (
        ProblemError,
        HTTPException,
        RequestValidationError,
        headrace.PostgresError,
        UsageError,
        ClientDisconnect,
        *_LATER,
    ):
        application.add_exception_handler(kind, answer)
    application.add_exception_handler(Exception, answer)


def _allowed_methods(request: Request) -> list[str]:
    """Return the methods that an address supports (RFC 9110, section 10.2.1). There may be a route for each."""
    routes = request.app.router.routes
    found = [
        method
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE")
        if any(route.matches({**request.scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found


def _problem_of_request(error: Exception) -> ProblemError:
    match error:
        case HTTPException():
            status = HTTPStatus(error.status_code)
            detail = {404: "there is nothing at this address", 405: "this address does not support the method"}.get(
                error.status_code, str(error.detail)
            )
            return ProblemError(error.status_code, status.phrase.capitalize(), detail, headers=error.headers)
        case RequestValidationError():
            mistakes = [
                {"at": ".".join(str(part) for part in each["loc"]), "problem": each["msg"]} for each in error.errors()
            ]
            first = mistakes[0]
            return ProblemError(422, "Invalid request", f"{first['at']}: {first['problem']}", errors=mistakes)
        case _:
            return problem_of(error)
