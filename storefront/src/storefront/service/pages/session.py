"""Recognise visitors, and the forms that were made for them.

A partner signs in with its key. The session is a signed cookie with the partner's id and the public part of the key.
The database is asked about it as about a key, so it ends when the key is revoked. A form has a signed token that
belongs to the session or, before the sign-in, to a cookie of its own, so another site cannot send it.
"""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from itsdangerous import BadData, URLSafeTimedSerializer
from starlette.datastructures import FormData
from starlette.responses import Response

from storefront.partners import Partner
from storefront.service.authentication import refuse_while_draining
from storefront.service.problems import ProblemError
from storefront.service.service import Service, ServiceDependency

SESSION_COOKIE: Final = "storefront_session"
VISITOR_COOKIE: Final = "storefront_visitor"

SESSION_SECONDS: Final = 12 * 3_600
"""How long a session and a form last."""

_LOCAL: Final = re.compile(r"/(?![/\\])[^\x00-\x20\\\x7f]{0,2000}")


def cookie_name(request: Request, name: str) -> str:
    """Return the name of a cookie. With https, browsers guarantee that a cookie of this name is of this host alone."""
    return f"__Host-{name}" if request.url.scheme == "https" else name


def set_cookie(request: Request, response: Response, name: str, value: str) -> None:
    """Set a cookie that scripts cannot read and that other sites' forms do not send, until the browser is closed."""
    response.set_cookie(
        cookie_name(request, name),
        value,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def delete_cookie(request: Request, response: Response, name: str) -> None:
    """Delete a cookie."""
    response.delete_cookie(
        cookie_name(request, name), path="/", secure=request.url.scheme == "https", httponly=True, samesite="lax"
    )


def serializer(service: Service, purpose: str) -> URLSafeTimedSerializer:
    """Return what signs values of one purpose. A value of another purpose is not valid."""
    return URLSafeTimedSerializer(service.settings.cookie_secret, salt=f"storefront {purpose}")


def signed_value(service: Service, purpose: str, text: str | None) -> Any:
    """Return the value that was signed for a purpose, or None if it is not valid or too old."""
    if text is None:
        return None
    try:
        return serializer(service, purpose).loads(text, max_age=SESSION_SECONDS)
    except BadData:
        return None


@dataclass(slots=True)
class Visitor:
    """The sender of a request: a partner that has signed in, or anybody."""

    service: Service | None
    partner: Partner | None = None
    nonce: str | None = None
    """The random part of the session or of the visitor's cookie, which the tokens of forms are bound to."""
    is_new: bool = False

    def form_token(self) -> str:
        """Return the token for a form."""
        assert self.service is not None
        if self.nonce is None:
            self.nonce, self.is_new = secrets.token_urlsafe(16), True
        return serializer(self.service, "form").dumps(self.nonce)

    def remember(self, request: Request, response: Response) -> None:
        """Set the cookie of a visitor who has just got the token of a form and is not signed in."""
        if self.is_new:
            assert self.service is not None
            set_cookie(request, response, VISITOR_COOKIE, serializer(self.service, "visitor").dumps(self.nonce))

    def check_form(self, request: Request, form: FormData) -> None:
        """Raise ProblemError 403 unless the form was made by this service for this visitor."""
        assert self.service is not None
        token = form.get("token")
        nonce = signed_value(self.service, "form", token if isinstance(token, str) else None)
        own = isinstance(nonce, str) and self.nonce is not None and hmac.compare_digest(nonce, self.nonce)
        if not own or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise ProblemError(
                403, "Form not accepted", "the form is too old, or is not one of this service: open its page again"
            )


def visitor_of(request: Request) -> Visitor:
    """Return the visitor that `get_visitor` has found, or one who is not signed in."""
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    return visitor or Visitor(getattr(request.app.state, "service", None))


async def get_visitor(request: Request, service: ServiceDependency) -> Visitor:
    """Return the visitor. Raises ProblemError 503 if the service is ending."""
    refuse_while_draining(service)
    visitor = Visitor(service)
    session = signed_value(service, "session", request.cookies.get(cookie_name(request, SESSION_COOKIE)))
    match session:
        case [int(partner_id), str(key_prefix), str(nonce)]:
            visitor.partner = await service.partners.by_session(partner_id, key_prefix)
            if visitor.partner is not None:
                visitor.nonce = nonce
    if visitor.partner is None:
        nonce = signed_value(service, "visitor", request.cookies.get(cookie_name(request, VISITOR_COOKIE)))
        visitor.nonce = nonce if isinstance(nonce, str) else None
    request.state.visitor = visitor
    return visitor


VisitorDependency = Annotated[Visitor, Depends(get_visitor)]


async def get_session_partner(visitor: VisitorDependency) -> Partner:
    """Return the partner that has signed in. Raises ProblemError 401, which leads a browser to the sign-in."""
    if visitor.partner is None:
        raise ProblemError(401, "Sign-in required", "sign in with a partner's key first", login="/login")
    return visitor.partner


SessionPartner = Annotated[Partner, Depends(get_session_partner)]


def begin_session(request: Request, response: Response, service: Service, partner: Partner) -> None:
    """Sign a partner in. The tokens of forms that were made before are not valid any more."""
    value = [partner.partner_id, partner.key_prefix, secrets.token_urlsafe(16)]
    set_cookie(request, response, SESSION_COOKIE, serializer(service, "session").dumps(value))
    delete_cookie(request, response, VISITOR_COOKIE)


def local_path(text: str | None, otherwise: str) -> str:
    """Return a path of this service that a form has sent, or `otherwise` if it leads elsewhere."""
    return text if text is not None and _LOCAL.fullmatch(text) else otherwise
