"""The limits of partners, counted in the database so that they hold for all processes of the service together."""

from __future__ import annotations

import asyncio
import logging
import math
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from storefront.catalogue import Executor
from storefront.partners import Partner
from storefront.service.problems import ProblemError
from storefront.wording import counted

log = logging.getLogger(__name__)

GRANT_PARTS: Final = 100
"""A process takes this part of a limit at once. So it asks the database once for several requests."""

DENIAL: Final = 1.0
"""How long a process refuses a partner whose limit is reached before it asks the database again."""

_TAKE_REQUESTS: Final = """\
INSERT INTO partner_usage AS u (partner_id, minute_began, requests, granted)
VALUES ($1, now(), $2, $2)
ON CONFLICT (partner_id) DO UPDATE SET
    minute_began = CASE WHEN u.minute_began > now() - interval '1 minute' THEN u.minute_began ELSE now() END,
    granted = CASE WHEN u.minute_began > now() - interval '1 minute'
                   THEN greatest(least($2, $3 - u.requests), 0) ELSE $2 END,
    requests = CASE WHEN u.minute_began > now() - interval '1 minute'
                    THEN greatest(least(u.requests + $2, $3), u.requests) ELSE $2 END
RETURNING granted, extract(epoch FROM minute_began + interval '1 minute' - now())::float8"""

_TAKE_SLOT: Final = """\
WITH free AS (
    SELECT slot FROM generate_series(1, $2::int) AS slot
    WHERE NOT EXISTS (
        SELECT FROM partner_batch AS b WHERE b.partner_id = $1 AND b.slot = slot.slot AND b.expires_at > now()
    )
    LIMIT 1
), taken AS (
    INSERT INTO partner_batch AS b (partner_id, slot, lease, expires_at)
    SELECT $1, slot, $3, now() + $4 * interval '1 second' FROM free
    ON CONFLICT (partner_id, slot) DO UPDATE SET lease = excluded.lease, expires_at = excluded.expires_at
    WHERE b.expires_at <= now()
    RETURNING slot
)
SELECT (SELECT count(*) FROM free), (SELECT count(*) FROM taken)"""
"""A slot that another process takes at the same time is not taken twice, because its key is unique."""

_RENEW: Final = "UPDATE partner_batch SET expires_at = now() + $2 * interval '1 second' WHERE lease = ANY($1)"
_RELEASE: Final = "DELETE FROM partner_batch WHERE lease = $1"


@dataclass(slots=True)
class _Grant:
    """Requests that the database has granted to this process, until the minute is over."""

    left: int
    until: float
    denied_until: float


class Limits:
    """Counts the requests of partners, and the batches that they have running at once.

    A minute begins with the first request after the minute before. A batch is a lease in the database. This process
    renews its leases; those of a process that was killed expire.
    """

    def __init__(self, executor: Executor, lease_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._executor = executor
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._grants: dict[int, _Grant] = {}
        self._leases: set[uuid.UUID] = set()
        self._ending: set[asyncio.Future[None]] = set()

    async def count_request(self, partner: Partner) -> None:
        """Count a request. Raises ProblemError 429 if the partner has made too many in this minute."""
        grant = self._grants.get(partner.partner_id)
        now = self._clock()
        if grant is not None and now < grant.until:
            if grant.left:
                grant.left -= 1
                return
            if now < grant.denied_until:
                raise self._too_many_requests(partner, grant.until - now)
        limit = partner.requests_per_minute
        wanted = max(1, limit // GRANT_PARTS)
        ((granted, seconds),) = await self._executor.fetch(_TAKE_REQUESTS, partner.partner_id, wanted, limit)
        # The time is that of the question, so that nothing granted outlives its minute.
        grant = _Grant(granted, now + seconds, now + DENIAL if not granted else 0.0)
        before = self._grants.get(partner.partner_id)
        if before is not None and now < before.until:
            # Other requests have asked at the same time.
            grant.left += before.left
        self._grants[partner.partner_id] = grant
        if not grant.left:
            raise self._too_many_requests(partner, seconds)
        grant.left -= 1

    @staticmethod
    def _too_many_requests(partner: Partner, seconds: float) -> ProblemError:
        limit = partner.requests_per_minute
        return ProblemError(
            429,
            "Too many requests",
            f"the limit is {counted(limit, 'request')} a minute",
            retry_after=max(1, math.ceil(seconds)),
            limit=limit,
        )

    @asynccontextmanager
    async def batch(self, partner: Partner) -> AsyncIterator[None]:
        """Count the block as a batch of the partner. Raises ProblemError 429 if it has too many running."""
        lease = await self.begin_batch(partner)
        try:
            yield
        except ProblemError:
            await asyncio.wait([self._end_later(lease)])
            raise
        except BaseException:
            # The client is gone or the database is down: nobody waits for the end of the lease.
            self._end_later(lease)
            raise
        await asyncio.wait([self._end_later(lease)])

    def _end_later(self, lease: uuid.UUID) -> asyncio.Future[None]:
        """Give a lease back in a task, which a cancellation of the caller does not end."""
        ending = asyncio.ensure_future(self.end_batch(lease))
        self._ending.add(ending)
        ending.add_done_callback(self._ended)
        return ending

    def _ended(self, ending: asyncio.Future[None]) -> None:
        self._ending.discard(ending)
        if not ending.cancelled() and (error := ending.exception()) is not None:
            log.warning("a batch counts until its lease expires: %s: %s", type(error).__name__, error)

    async def begin_batch(self, partner: Partner) -> uuid.UUID:
        """Take a lease for a batch. Raises ProblemError 429 if the partner has too many batches running."""
        lease = uuid.uuid4()
        self._leases.add(lease)
        try:
            while True:
                ((free, taken),) = await self._executor.fetch(
                    _TAKE_SLOT, partner.partner_id, partner.batches_at_once, lease, self._lease_seconds
                )
                if taken:
                    return lease
                if not free:
                    raise ProblemError(
                        429,
                        "Too many batches at once",
                        f"the limit is {counted(partner.batches_at_once, 'batch', 'batches')} at once",
                        retry_after=1,
                        limit=partner.batches_at_once,
                    )
        except BaseException:
            # A cancelled statement may have taken the lease all the same. It is not renewed, so it expires.
            self._leases.discard(lease)
            raise

    async def end_batch(self, lease: uuid.UUID) -> None:
        """Give a lease back. If the database does not answer, the lease expires by itself."""
        self._leases.discard(lease)
        await self._executor.execute(_RELEASE, lease)

    async def keep_leases(self) -> None:
        """Renew the leases of this process until the task is cancelled."""
        while True:
            await asyncio.sleep(self._lease_seconds / 4)
            if self._leases:
                await self._executor.execute(_RENEW, list(self._leases), self._lease_seconds)
