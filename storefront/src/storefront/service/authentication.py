"""Find out who sent a request: a partner, by its key, or the operator.

The dependencies raise problems: 401 without a valid key, 403 without the operator's token.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from storefront.partners import REVOKED_CHANNEL, Partner, valid_prefixes
from storefront.service.problems import ProblemError, unavailable
from storefront.service.running import RunningStream
from storefront.service.service import Service, ServiceDependency

log = logging.getLogger(__name__)

_partner_key = HTTPBearer(
    scheme_name="partnerKey", description="The key that `storefront partners add` has shown.", auto_error=False
)
_operator_token = HTTPBearer(
    scheme_name="operatorToken", description="The token that `storefront serve` was given.", auto_error=False
)

PartnerKey = Annotated[HTTPAuthorizationCredentials | None, Depends(_partner_key)]
OperatorToken = Annotated[HTTPAuthorizationCredentials | None, Depends(_operator_token)]


def _unauthorized(detail: str, *, error: str | None = None) -> ProblemError:
    challenge = 'Bearer realm="storefront"' + (f', error="{error}"' if error else "")
    return ProblemError(401, "Unauthorized", detail, headers={"WWW-Authenticate": challenge})


def refuse_while_draining(service: Service) -> None:
    """Raise ProblemError 503 if the service is ending."""
    if service.draining:
        problem = unavailable("the service is shutting down")
        problem.headers["Connection"] = "close"
        raise problem


async def get_partner(service: ServiceDependency, credentials: PartnerKey) -> Partner:
    """Return the partner whose key the request has, and count the request. Raises ProblemError 401, 429 or 503."""
    refuse_while_draining(service)
    if credentials is None:
        raise _unauthorized("a partner's key is expected: Authorization: Bearer sf_...")
    partner = await service.partners.by_key(credentials.credentials)
    if partner is None:
        raise _unauthorized("the key is unknown or was revoked", error="invalid_token")
    await service.limits.count_request(partner)
    return partner


PartnerDependency = Annotated[Partner, Depends(get_partner)]


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return host is not None and ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def get_operator(request: Request, service: ServiceDependency, credentials: OperatorToken) -> None:
    """Raise ProblemError 401 or 403 unless the request is the operator's.

    With an operator's token, the request must have it. Otherwise it must come from this machine, directly: a proxy on
    this machine would make every request look so. The request must also name this machine, because a page of another
    site may have its own name resolved to 127.0.0.1.
    """
    token = service.settings.operator_token
    if token is not None:
        if credentials is None:
            raise _unauthorized("the operator's token is expected: Authorization: Bearer TOKEN")
        if not hmac.compare_digest(credentials.credentials.encode(), token.encode()):
            raise ProblemError(403, "Forbidden", "this is not the operator's token")
        return
    forwarded = service.settings.proxies or any(
        name in request.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip")
    )
    client = request.client.host if request.client else None
    if forwarded or not _is_loopback(client) or not _is_loopback(request.url.hostname):
        raise ProblemError(
            403, "Forbidden", "only the operator may see this: set an operator's token, or ask from the same machine"
        )


OperatorDependency = Annotated[None, Depends(get_operator)]


@asynccontextmanager
async def watch_revocation(service: Service, partner: Partner) -> AsyncIterator[RunningStream]:
    """Raise ProblemError in the block if the partner's key is revoked or the service ends. The block is a stream."""
    async with service.running_batches.run(partner) as stream:
        yield stream


async def end_revoked_streams(service: Service) -> None:
    """End the streams to partners whose key is not valid any more."""
    running = service.running_batches
    prefixes = running.key_prefixes()
    if not prefixes:
        return
    valid = await valid_prefixes(service.pool, prefixes)
    for prefix in set(prefixes) - valid:
        running.end(
            _unauthorized("the key was revoked", error="invalid_token"),
            lambda partner, prefix=prefix: partner.key_prefix == prefix,  # type: ignore[misc]
        )


async def watch_partners(service: Service) -> None:
    """Notice revoked keys at once, by their notification."""
    async with service.pool.listen(REVOKED_CHANNEL) as events:
        async for _ in events:
            service.partners.forget()
            await end_revoked_streams(service)


async def poll_partners(service: Service) -> None:
    """Notice revoked keys whose notification was missed, by a look at the table every few seconds."""
    while True:
        await asyncio.sleep(service.settings.poll_interval)
        await end_revoked_streams(service)


async def keep_leases(service: Service) -> None:
    """Renew the leases of running batches."""
    await service.limits.keep_leases()
